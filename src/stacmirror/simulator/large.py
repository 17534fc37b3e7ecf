"""Large objects: as long as you like, computed where they are asked for, never held.

Called by `files`. Every 64 KiB of an object begin with its name, version and place, so that no two pieces of anything
are alike: what is joined wrongly, or of two versions, is found by any comparison. Not images: the first bytes only say
so. It must not know HTTP.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from functools import lru_cache

BLOCK_BYTES = 65_536
_STRIDE_BYTES = 7_919  # odd, so that all offsets into the pool come up
_PIECE_BLOCKS = 4


class LargeFile:
    """One version of one object."""

    media_type = "image/tiff"

    def __init__(self, seed: int, index: int, asset: str, version: int, size: int) -> None:
        self.size = size
        self._name = hashlib.blake2b(f"{seed}/large/{index}/{asset}/{version}".encode(), digest_size=16).digest()
        self.opaque = hashlib.blake2b(self._name + struct.pack("<Q", size), digest_size=16).digest()
        """What its ETag says: another version, another one. As with objects put in pieces, it is no MD5."""
        self._pool = _pool(seed)

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from `start` to `end`, some hundred kilobytes at a time."""
        while start < end:
            first, skip = divmod(start, BLOCK_BYTES)
            blocks = b"".join(map(self._block, range(first, first + _PIECE_BLOCKS)))
            piece = blocks[skip : skip + end - start]
            yield piece
            start += len(piece)

    def body(self) -> bytes:
        """Return all of it: for tests."""
        return b"".join(self.pieces(0, self.size))

    def _block(self, number: int) -> bytes:
        head = (b"II*\0" if number == 0 else b"    ") + struct.pack("<Q", number) + self._name
        offset = number * _STRIDE_BYTES % BLOCK_BYTES
        return head + self._pool[offset : offset + BLOCK_BYTES - len(head)]


@lru_cache(maxsize=2)
def _pool(seed: int) -> bytes:
    return hashlib.shake_128(f"{seed}/large".encode()).digest(2 * BLOCK_BYTES)
