"""Fetch one asset once: open, read, check, and say what came. Retrying is the worker's business.

Sees an Opener and a Sink; a body above the small-file limit goes to the sink as it comes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from stacmirror.errors import TransferError
from stacmirror.interfaces import Clock, Opener, Reply, Sink
from stacmirror.limits import origin_of
from stacmirror.model import Receipt, Transfer, Unit
from stacmirror.pipeline.check import Checks, Expected
from stacmirror.pipeline.signatures import WINDOW_BYTES, Form, form_of, refuse_other
from stacmirror.pipeline.unpack import unpacked
from stacmirror.retry import error_for_status


class Fetched(NamedTuple):
    """A body that passed its checks. `body` is None when its bytes are in the sink already."""

    receipt: Receipt
    body: bytes | None


class Fetcher:
    """One for the run, used by all workers."""

    def __init__(self, opener: Opener, sink: Sink, clock: Clock, *, any_content: bool = False) -> None:
        """`any_content`: take a body whatever it begins with."""
        self._opener = opener
        self._sink = sink
        self._clock = clock
        self._checks = Checks()
        self._any_content = any_content

    async def fetch(
        self, transfer: Transfer, unit: Unit, name_for: Callable[[str], str], reply: Reply | None = None
    ) -> Fetched:
        """Ask for the asset, where it is not answered by `reply` already, and return its bytes and receipt.

        `name_for` gives the file's name for the URL that answered, where the layout leaves it to the target.
        Raises: TransferError; LoginRefused from a transport; TargetUnwritable for a large body.
        Cancel: safe; a large body's part is dropped.
        """
        if reply is None:
            if not transfer.asset.href:
                raise TransferError("no-href", "the catalog gives no address", retryable=False)
            reply = await self._opener.open(transfer.asset.href)
        if reply.status != 200:
            if reply.stream is not None:
                reply.stream.close()
            raise error_for_status(reply.status, reply.headers, "the asset's address", self._clock.wall())
        name = transfer.name or name_for(reply.url)
        form = None if self._any_content else form_of(transfer.asset, reply.url)
        origin = origin_of(reply.url)
        expected = self._checks.expected(origin, reply.headers, reply.length_bytes)
        if "content-encoding" in reply.headers:
            reply = unpacked(reply, form_of(transfer.asset, reply.url), expected)
            expected = self._checks.expected(origin, reply.headers, reply.length_bytes)
        if reply.body is not None:
            hasher = expected.hasher()
            hasher.update(reply.body)
            digest = hasher.digest()
            expected.check(len(reply.body), digest)
            refuse_other(form, reply.body[:WINDOW_BYTES])
            verified = reply.framed or expected.proven
            receipt = Receipt(transfer.asset.key, name, len(reply.body), expected.kind, digest, verified)
            return Fetched(receipt, reply.body)
        return await self._fetch_large(transfer, unit, name, reply, expected, form)

    async def _fetch_large(
        self, transfer: Transfer, unit: Unit, name: str, reply: Reply, expected: Expected, form: Form | None
    ) -> Fetched:
        stream = reply.stream
        if stream is None:
            raise TransferError("protocol", "an answer without a body")
        hasher = expected.hasher()
        size_bytes = 0
        start = b""
        try:
            async with self._sink.part(unit, name) as part:
                async for chunk in stream.chunks():
                    if len(start) < WINDOW_BYTES and form is not None:
                        start += chunk[:WINDOW_BYTES]
                        if len(start) >= WINDOW_BYTES:
                            refuse_other(form, start)  # now: what is of another kind may be long
                    hasher.update(chunk)
                    size_bytes += len(chunk)
                    await part.write(chunk)
                digest = hasher.digest()
                expected.check(size_bytes, digest)
                refuse_other(form, start)
                await part.keep()
        finally:
            stream.close()
        verified = reply.framed or expected.proven
        return Fetched(Receipt(transfer.asset.key, name, size_bytes, expected.kind, digest, verified), None)
