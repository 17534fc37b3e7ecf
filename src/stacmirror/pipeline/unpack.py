"""Undo a Content-Encoding that nobody asked for: a coding on the way is not the object's, whose bytes are wanted.

Called by the transfer stage. Assets are asked for as they are (`Accept-Encoding: identity`); some servers pack them
all the same, and storage says it of what was stored with that header. gzip is undone, piece by piece and under a cap;
other codings are a failure. What the answer promises (length, MD5, ETag) is of the packed bytes, and is held against
them here.
Source: RFC 9110, section 8.4 (Content-Encoding); RFC 1952 (gzip: members, its own checksum).
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator

from stacmirror.errors import TransferError
from stacmirror.interfaces import Body, Reply
from stacmirror.pipeline.check import Expected
from stacmirror.pipeline.signatures import GZIP, Form

HELD_MAX_BYTES = 1 << 20
"""Up to this size an unpacked body is held; a larger one goes to the sink as it comes."""
_PIECE_BYTES = 1 << 18
_BOMB_BYTES = 64 << 20
_BOMB_RATIO = 100
"""More than both of them, out of so many bytes, and it is a bomb. gzip's most is 1,032; scenes pack to a half."""
_OF_THE_PACKED = ("content-encoding", "content-length", "content-md5", "etag", "last-modified")
"""What says something of the packed bytes; validators too, by which a cut body would be gone on with."""


def unpacked(reply: Reply, form: Form | None, expected: Expected) -> Reply:
    """Return `reply` with the body that the origin has; the same where it came as it is.

    `form` is the kind of file it should be: one that is gzip by itself is often served with that coding as well.
    Raises: TransferError, kinds `encoding`, `short`, `bomb`; from the new stream too.
    """
    coding = reply.headers.get("content-encoding", "").strip().lower()
    if coding in ("", "identity"):
        return reply
    if coding not in ("gzip", "x-gzip"):
        if reply.stream is not None:
            reply.stream.close()
        raise TransferError("encoding", f"the server sent it as {coding[:20]!r}, which nobody asked for")
    headers = {name: value for name, value in reply.headers.items() if name not in _OF_THE_PACKED}
    if reply.stream is None:
        packed = reply.body or b""
        if form is GZIP and not _begins_with_gzip(packed):
            return reply
        held = _unpack_held(packed, expected)
        if held is not None:
            return Reply(reply.url, reply.status, headers, held, None, framed=True)
    body = _Unpacked(reply.stream or _Held(packed), form, expected)
    return Reply(reply.url, reply.status, headers, None, body, framed=True)


def _begins_with_gzip(packed: bytes) -> bool:
    """Return whether what is inside is gzip, so that the outer one is the server's."""
    try:
        return GZIP.fits(zlib.decompressobj(wbits=31).decompress(packed, 2))
    except zlib.error:
        return False


def _unpack_held(packed: bytes, expected: Expected) -> bytes | None:
    """Return the unpacked body; None where it is too large to be held."""
    gunzip, held = _Gunzip(expected), bytearray()
    for piece in gunzip.feed(packed):
        held += piece
        if len(held) > HELD_MAX_BYTES:
            return None
    gunzip.finish()
    return bytes(held)


class _Gunzip:
    """Packed bytes in, pieces of what they hold out."""

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        self._hasher = expected.hasher()
        self._decoder = zlib.decompressobj(wbits=31)
        self._packed_bytes = self._given_bytes = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what is new. Raises: TransferError (`encoding`, `bomb`)."""
        self._hasher.update(data)
        self._packed_bytes += len(data)
        while data:
            if self._decoder.eof:  # another member: gzip files may be joined
                self._decoder = zlib.decompressobj(wbits=31)
            try:
                piece = self._decoder.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                raise TransferError("encoding", "damaged gzip, which nobody asked for") from error
            self._given_bytes += len(piece)
            if self._given_bytes > max(_BOMB_BYTES, _BOMB_RATIO * self._packed_bytes):
                message = f"{self._packed_bytes:,} bytes of gzip hold more than {self._given_bytes:,}"
                raise TransferError("bomb", message, retryable=False)
            if piece:
                yield piece
            data = self._decoder.unused_data if self._decoder.eof else self._decoder.unconsumed_tail

    def finish(self) -> None:
        """Hear that nothing more comes. Raises: TransferError (`short` and what `Expected.check` raises)."""
        self._expected.check(self._packed_bytes, self._hasher.digest())
        if not self._decoder.eof:
            raise TransferError("short", "gzip cut short")


class _Unpacked:
    """The body of a packed stream. Implements `interfaces.Body`."""

    def __init__(self, packed: Body, form: Form | None, expected: Expected) -> None:
        self._packed = packed
        self._form = form
        self._expected = expected

    async def chunks(self) -> AsyncIterator[bytes]:
        gunzip = _Gunzip(self._expected)
        as_is, first = False, True
        async for chunk in self._packed.chunks():
            if first:
                as_is, first = self._form is GZIP and not _begins_with_gzip(chunk), False
            if as_is:
                yield chunk
                continue
            for piece in gunzip.feed(chunk):
                yield piece
        if not as_is:
            gunzip.finish()

    def close(self) -> None:
        self._packed.close()


class _Held:
    """A body that has come already. Implements `interfaces.Body`."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._body

    def close(self) -> None:
        pass
