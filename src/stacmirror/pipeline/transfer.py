"""Fetch one asset once: open, read, check, and say what came. Retrying is the worker's business.

Small bodies are checked here; one above the small-file limit is `large`'s business.
"""

from __future__ import annotations

from collections.abc import Callable

from stacmirror.errors import TransferError
from stacmirror.interfaces import Clock, Opener, Reply, Sink
from stacmirror.limits import origin_of
from stacmirror.model import AssetKey, ItemKey, Receipt, Transfer, Unit
from stacmirror.pipeline.check import Checks, digest_of
from stacmirror.pipeline.large import Errand, Fetched, LargeBodies
from stacmirror.pipeline.listed import Listed
from stacmirror.pipeline.progress import Progress
from stacmirror.pipeline.signatures import Form, Judged, form_of, refuse_other
from stacmirror.pipeline.unpack import unpacked
from stacmirror.redact import redact_url
from stacmirror.retry import REDIRECT_STATUSES, error_for_status


class LargeMet(Exception):
    """Not an error: the body is large, and the caller asked to hear of it before it is brought. `reply` is open."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


class Fetcher:
    """One for the run, used by all workers."""

    def __init__(
        self,
        opener: Opener,
        sink: Sink,
        clock: Clock,
        progress: Progress,
        *,
        file_max_bytes: int = 0,
        any_content: bool = False,
        file_info: bool = True,
    ) -> None:
        """`any_content`: take a body whatever it begins with. `file_info`: check what the catalog says of sizes."""
        self._opener = opener
        self._sink = sink
        self._clock = clock
        self._checks = Checks()
        self._any_content = any_content
        self._file_info = file_info
        self._large = LargeBodies(opener, sink, clock, self._checks, progress, file_max_bytes, file_info=file_info)

    def waits(self, item: ItemKey, transfer: Transfer) -> bool:
        """Return whether a part of it is there already."""
        waiting = self._sink.waiting
        return bool(waiting) and AssetKey(item, transfer.asset.key) in waiting

    async def fetch(
        self,
        item: ItemKey,
        transfer: Transfer,
        unit: Unit,
        name_for: Callable[[str], str],
        reply: Reply | None = None,
        *,
        tells_large: bool = False,
    ) -> Fetched:
        """Ask for the asset, where it is not answered by `reply` already, and return its bytes and receipt.

        `name_for` gives the file's name for the URL that answered, where the layout leaves it to the target.
        `reply` may be a redirect that is still to be followed.
        `tells_large`: raise LargeMet for a large body, which is to be given back as `reply`.
        Raises: TransferError; LoginRefused from a transport; TargetUnwritable for a large body.
        Cancel: safe; what came of a large body waits for the next run.
        """
        if reply is None or reply.status in REDIRECT_STATUSES:
            if not transfer.asset.href:
                raise TransferError("no-href", "the catalog gives no address", retryable=False)
            if self._sink.waiting and self.waits(item, transfer):
                errand = Errand(item, transfer, unit, name_for)
                return await self._large.go_on(errand, lambda found: self._take(errand, found))
            href = transfer.asset.href
            reply = await (self._opener.open(href) if reply is None else self._opener.follow(reply, href))
            if tells_large and reply.stream is not None and reply.status == 200:
                raise LargeMet(reply)
        try:
            if reply.status == 200 and reply.body is not None and "content-encoding" not in reply.headers:
                return self.take_small(transfer, transfer.name or name_for(reply.url), reply, reply.body)
            return await self._take(Errand(item, transfer, unit, name_for), reply)
        except TransferError as error:
            error.host = error.host or redact_url(origin_of(reply.url))
            raise

    async def _take(self, errand: Errand, reply: Reply) -> Fetched:
        """Bring an answer's body from its first byte."""
        if reply.status != 200:
            if reply.stream is not None:
                reply.stream.close()
            error = error_for_status(reply.status, reply.headers, redact_url(reply.url), self._clock.wall())
            error.host = redact_url(origin_of(reply.url))
            raise error
        reply = self._as_the_origin_has_it(errand.transfer, reply)
        if reply.body is not None:
            name = errand.transfer.name or errand.name_for(reply.url)
            return self.take_small(errand.transfer, name, reply, reply.body)
        form = self._form(errand.transfer, reply)
        if form is not None and reply.stream is not None:
            reply.stream = Judged(reply.stream, form)
        return await self._large.receive(errand, reply, lambda found: self._take(errand, found))

    def take_small(self, transfer: Transfer, name: str, reply: Reply, body: bytes) -> Fetched:
        """Check a whole small body; return it with its receipt, under `name`. Raises: TransferError."""
        expected = self._checks.expected(origin_of(reply.url), reply.headers, reply.length_bytes)
        digest = digest_of(expected.kind, body)
        expected.check(len(body), digest)
        refuse_other(self._form(transfer, reply), body)
        verified = reply.framed or expected.proven
        asset = transfer.asset
        if (asset.size_bytes is not None or asset.checksum) and self._file_info:
            verified = Listed(asset).check(len(body), body) or verified
        return Fetched(Receipt(transfer.asset.key, name, len(body), expected.kind, digest, verified), body)

    def _form(self, transfer: Transfer, reply: Reply) -> Form | None:
        return None if self._any_content else form_of(transfer.asset, reply.url)

    def _as_the_origin_has_it(self, transfer: Transfer, reply: Reply) -> Reply:
        if "content-encoding" not in reply.headers:
            return reply
        expected = self._checks.expected(origin_of(reply.url), reply.headers, reply.length_bytes)
        return unpacked(reply, form_of(transfer.asset, reply.url), expected)
