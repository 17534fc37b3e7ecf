"""Bodies that must come whole (pages, items), held against a cap before they fill memory.

Used by the router for what catalogs ask. Nearly all pages are small: those are held as they come, and unpacked at once.
What is larger is counted first, on disk or in pieces, so that a bomb costs no more memory than a page does.
"""

from __future__ import annotations

import tempfile
import zlib

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply
from stacmirror.redact import redact_url

HELD_MAX_BYTES = 8 << 20
"""Pages up to this size are held as they come. 100 items are about 1 MB."""
_PIECE_BYTES = 1 << 18


async def read_whole(reply: Reply, max_bytes: int, url: str) -> None:
    """Give a reply that is a stream its body. Raises: TransferError (`too-large`, and what a body raises)."""
    stream = reply.stream
    if stream is None:
        return
    try:
        if (reply.length_bytes or 0) > max_bytes:
            raise too_large(max_bytes, url)
        with tempfile.TemporaryFile() as file:
            size_bytes = 0
            async for chunk in stream.chunks():
                size_bytes += len(chunk)
                if size_bytes > max_bytes:
                    raise too_large(max_bytes, url)
                file.write(chunk)
            file.seek(0)
            reply.body, reply.stream = file.read(), None
    finally:
        stream.close()


def gunzip(packed: bytes, max_bytes: int, url: str) -> bytes:
    """Return the decoded body, never more than `max_bytes` of it. Raises: TransferError (cut, damaged, too large)."""
    try:
        held_max_bytes = min(max_bytes, HELD_MAX_BYTES)
        decoder = zlib.decompressobj(wbits=31)
        body = decoder.decompress(packed, held_max_bytes + 1)
        if len(body) > held_max_bytes:
            del body
            if max_bytes <= HELD_MAX_BYTES or _size_of(packed, max_bytes) > max_bytes:
                raise too_large(max_bytes, url)
            decoder = zlib.decompressobj(wbits=31)
            body = decoder.decompress(packed, max_bytes + 1)
    except zlib.error as error:
        raise TransferError("encoding", f"damaged gzip from {redact_url(url)}") from error
    if not decoder.eof:
        raise TransferError("short", f"gzip cut short from {redact_url(url)}")
    return body


def _size_of(packed: bytes, max_bytes: int) -> int:
    """Return how large a packed body is, or something above `max_bytes`."""
    decoder, size_bytes = zlib.decompressobj(wbits=31), 0
    left = packed
    while left and size_bytes <= max_bytes and not decoder.eof:
        size_bytes += len(decoder.decompress(left, _PIECE_BYTES))
        left = decoder.unconsumed_tail
    return size_bytes


def too_large(max_bytes: int, url: str) -> TransferError:
    """Return the error for a body above the cap."""
    return TransferError("too-large", f"more than {max_bytes} bytes from {redact_url(url)}", retryable=False)
