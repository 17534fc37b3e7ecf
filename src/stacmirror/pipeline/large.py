"""Bring large bodies in: streamed to the sink, gone on with where an earlier attempt or run ended, held against a cap.

Called by `transfer` for bodies above the small-file limit. Whether a range may be joined to what is there is `ranges`'
business. What is there is run through the digest again before the rest is asked for, so a receipt is always of the
bytes on disk; a change at the origin, a server that ignores ranges, or anything odd means to begin again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from stacmirror import shortage
from stacmirror.errors import NoOpenFile, TransferError
from stacmirror.interfaces import Body, Clock, Opener, Part, Reply, Sink
from stacmirror.limits import origin_of
from stacmirror.model import AssetKey, ItemKey, PartState, Receipt, Transfer, Unit
from stacmirror.pipeline.check import Checks, Expected, hasher_of
from stacmirror.pipeline.listed import Listed
from stacmirror.pipeline.progress import Progress
from stacmirror.ranges import is_resumable, range_headers, total_if_joins, version_of
from stacmirror.retry import error_for_status
from stacmirror.units import format_size

_WORTH_GOING_ON_BYTES = 4 << 20
"""An attempt that brought so much was no failure: the rest is asked for at once, and it counts for nothing."""
_CUT = frozenset({"short", "reset", "timeout"})
_REFUSED_RANGES = frozenset({412, 416})
_WHAT = "the asset's address"


class Fetched(NamedTuple):
    """A body that passed its checks. `body` is None when its bytes are in the sink already."""

    receipt: Receipt
    body: bytes | None


class Errand:
    """One asset to be brought: which, where it goes, and its file's name for the URL that answers."""

    __slots__ = ("_furthest_bytes", "asset", "name_for", "offset_bytes", "transfer", "unit")

    def __init__(self, item: ItemKey, transfer: Transfer, unit: Unit, name_for: Callable[[str], str]) -> None:
        self.asset = AssetKey(item, transfer.asset.key)
        self.transfer = transfer
        self.unit = unit
        self.name_for = name_for
        self.offset_bytes = 0
        """How far it is."""
        self._furthest_bytes = 0

    def goes_on(self, error: TransferError) -> bool:
        """Return whether an attempt that ended with `error` got so much further that asking on at once is right."""
        further = self.offset_bytes - self._furthest_bytes
        self._furthest_bytes = max(self._furthest_bytes, self.offset_bytes)
        return error.kind in _CUT and further >= _WORTH_GOING_ON_BYTES


class LargeBodies:
    """One for the run. `file_max_bytes`: larger files are refused (0: none is)."""

    def __init__(
        self,
        opener: Opener,
        sink: Sink,
        clock: Clock,
        checks: Checks,
        progress: Progress,
        file_max_bytes: int = 0,
        *,
        file_info: bool = True,
    ) -> None:
        self._opener = opener
        self._sink = sink
        self._clock = clock
        self._checks = checks
        self._progress = progress
        self._file_max_bytes = file_max_bytes
        self._file_info = file_info

    async def receive(self, errand: Errand, reply: Reply, take: Callable[[Reply], Awaitable[Fetched]]) -> Fetched:
        """Bring a body from its first byte. `take` is asked to bring another answer from its first byte.

        Raises: TransferError, TargetUnwritable. Cancel: safe; what came waits for the next run.
        """
        try:
            return await self._from_start(errand, reply)
        except TransferError as error:
            if not errand.goes_on(error):
                raise
        return await self.go_on(errand, take)

    async def go_on(self, errand: Errand, take: Callable[[Reply], Awaitable[Fetched]]) -> Fetched:
        """Bring what is missing of a part that waits; ask nothing where nothing is. As `receive`."""
        while True:
            try:
                found = await self._from_part(errand)
                break
            except TransferError as error:
                if not errand.goes_on(error):
                    raise
        return found if isinstance(found, Fetched) else await take(found)

    # -- one attempt ---------------------------------------------------------------------------------------

    async def _from_start(self, errand: Errand, reply: Reply) -> Fetched:
        stream = reply.stream
        if stream is None:
            raise TransferError("protocol", "an answer without a body")
        try:
            self._refuse_too_large(reply.length_bytes or 0)
            transfer = errand.transfer
            name = transfer.name or errand.name_for(reply.url)
            expected = self._checks.expected(origin_of(reply.url), reply.headers, reply.length_bytes)
            version = version_of(reply.headers, reply.length_bytes)
            redirected = reply.url != transfer.asset.href
            async with self._sink.part(errand.asset) as part:
                state = PartState(errand.asset, version, name, expected.kind, redirected, verified=reply.framed)
                listed = self._listed(errand)
                await opened(part.begin(state, listed.beside(expected.hasher())))
                self._began(errand, 0)
                await self._pour(errand, stream, part)
                return await self._finish(errand, part, name, expected, listed)
        finally:
            stream.close()

    async def _from_part(self, errand: Errand) -> Fetched | Reply:
        """Return the file, or an answer that begins it again."""
        async with self._sink.part(errand.asset) as part:
            state = part.state
            if state is not None:
                self._began(errand, state.offset)
            if state is not None and state.digest:  # whole since an earlier run
                return await self._keep(errand, part, state, state.digest)
            if state is None or not is_resumable(state.version):
                part.drop()
            else:
                listed = self._listed(errand)
                await opened(part.go_on(listed.beside(hasher_of(state.kind))))
                if state.offset == state.version.length:
                    expected = self._expected("", state, state.offset)
                    return await self._finish(errand, part, state.name, expected, listed)
                reply = await self._ask_for_rest(errand, state)
                if reply is None:
                    part.drop()
                else:
                    total = total_if_joins(state, reply.headers) if reply.status == 206 else None
                    if total is not None:
                        return await self._join(errand, part, state, reply, total, listed)
                    part.drop()
                    if reply.status == 200 and "content-range" not in reply.headers:
                        return reply  # the server knows no ranges, or has another version: this is all of it
                    _close(reply)
        return await self._opener.open(errand.transfer.asset.href)

    async def _ask_for_rest(self, errand: Errand, state: PartState) -> Reply | None:
        """Return an answer of status 200 or 206; None where a refusal says that this range is no more.

        Raises: TransferError for all else.
        """
        href = errand.transfer.asset.href
        reply = await self._opener.open_rest(href, range_headers(state), redirected=state.redirected)
        if state.redirected and reply.status == 200 and reply.url == href:
            _close(reply)  # the link has the bytes itself by now, and was not told of a range
            reply = await self._opener.open_rest(href, range_headers(state), redirected=False)
        if reply.status in (200, 206):
            return reply
        _close(reply)
        if reply.status in _REFUSED_RANGES:
            return None
        raise error_for_status(reply.status, reply.headers, _WHAT, self._clock.wall())

    async def _join(
        self, errand: Errand, part: Part, state: PartState, reply: Reply, total: int, listed: Listed
    ) -> Fetched:
        try:
            self._refuse_too_large(total)
            if reply.stream is not None:
                await self._pour(errand, reply.stream, part)
            else:
                self._came(errand, len(reply.body or b""))
                await part.write(reply.body or b"")
            return await self._finish(errand, part, state.name, self._expected(reply.url, state, total), listed)
        except TransferError as error:
            if error.kind == "too-large":
                part.drop()
            raise
        finally:
            _close(reply)

    def _expected(self, url: str, state: PartState, total: int) -> Expected:
        known = state.version
        expected = self._checks.expected(origin_of(url), {"etag": known.etag}, total)
        if known.md5:
            expected.promise_md5(bytes.fromhex(known.md5))
        return expected.as_hashed(state.kind)

    def _began(self, errand: Errand, offset_bytes: int) -> None:
        errand.offset_bytes = offset_bytes
        self._progress.large_began(errand.asset, offset_bytes)

    def _came(self, errand: Errand, size_bytes: int) -> None:
        errand.offset_bytes += size_bytes
        self._progress.large_came(errand.asset, size_bytes)

    async def _pour(self, errand: Errand, stream: Body, part: Part) -> None:
        async for chunk in stream.chunks():
            if self._file_max_bytes and errand.offset_bytes + len(chunk) > self._file_max_bytes:
                part.drop()
                self._refuse_too_large(errand.offset_bytes + len(chunk))
            self._came(errand, len(chunk))
            await part.write(chunk)

    def _refuse_too_large(self, size_bytes: int) -> None:
        limit = self._file_max_bytes
        if limit and size_bytes > limit:
            raise TransferError("too-large", f"more than {format_size(limit)} (--max-file-size)", retryable=False)

    async def _finish(self, errand: Errand, part: Part, name: str, expected: Expected, listed: Listed) -> Fetched:
        size_bytes, digest = await part.finish()
        try:
            expected.check(size_bytes, digest)
            proven = listed.check(size_bytes)
        except TransferError as error:
            if error.kind != "short":  # what came is wrong, not too little
                part.drop()
            raise
        state = part.state
        if state is None:
            raise RuntimeError("a finished part without a state")
        state.verified = state.verified or proven or expected.proven or expected.length_bytes is not None
        return await self._keep(errand, part, state, digest, name)

    def _listed(self, errand: Errand) -> Listed:
        return Listed(errand.transfer.asset if self._file_info else None)

    async def _keep(self, errand: Errand, part: Part, state: PartState, digest: bytes, name: str = "") -> Fetched:
        name = name or errand.transfer.name or state.name
        receipt = Receipt(errand.transfer.asset.key, name, state.offset, state.kind, digest, state.verified)
        await part.keep(errand.unit, name, digest)
        self._progress.large_ended(errand.asset)
        return Fetched(receipt, None)


async def opened(opening: Awaitable[None]) -> None:
    """Wait for a part to be opened. Where no file can be, the connection is not to be held for it, either: asked later.

    Raises: TransferError, which is nobody's attempt; TargetUnwritable.
    """
    try:
        await opening
    except NoOpenFile as error:
        later = TransferError(shortage.KIND, error.message)
        later.by_host = True
        raise later from error


def _close(reply: Reply) -> None:
    if reply.stream is not None:
        reply.stream.close()
