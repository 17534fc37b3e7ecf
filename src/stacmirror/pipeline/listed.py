"""Is a body what the catalog says of it? The file extension's `file:size` and `file:checksum` (a multihash).

Called by the transfer stage for assets that have either; all others cost one look. A kind of digest that is not known
here says nothing. Source: STAC file extension 2.1; multiformats' table of multihashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from stacmirror.errors import TransferError
from stacmirror.interfaces import Hasher
from stacmirror.model import Asset

_MULTIHASHES: dict[str, Callable[[], Any]] = {
    "d50110": lambda: hashlib.md5(usedforsecurity=False),
    "1114": lambda: hashlib.sha1(usedforsecurity=False),
    "1220": hashlib.sha256,
    "1340": hashlib.sha512,
    "2030": hashlib.sha384,
    "1620": hashlib.sha3_256,
    "1530": hashlib.sha3_384,
    "1440": hashlib.sha3_512,
    "a0e40220": lambda: hashlib.blake2b(digest_size=32),
    "c0e40240": hashlib.blake2b,
}
"""How digests begin: their code and their length, both as varints."""


class Listed:
    """What the catalog says of one asset's bytes. `asset` is None where that is not to be asked for."""

    __slots__ = ("_digest", "_hasher", "_size_bytes")

    def __init__(self, asset: Asset | None) -> None:
        self._size_bytes = asset.size_bytes if asset is not None else None
        self._hasher: Any = None
        self._digest = b""
        if asset is not None and asset.checksum:
            self._hasher, self._digest = _expected(asset.checksum)

    def beside(self, hasher: Hasher) -> Hasher:
        """Return a digest that computes `hasher` and what the catalog gives at once."""
        return hasher if self._hasher is None else _Both(hasher, self._hasher)

    def check(self, size_bytes: int, body: bytes = b"") -> bool:
        """Hold size and digest of a body against the catalog; `body` is what `beside` has not seen.

        Returns whether a digest agreed. Raises: TransferError (`listed`).
        """
        if self._size_bytes is not None and size_bytes != self._size_bytes:
            message = f"{size_bytes} bytes, and the catalog says {self._size_bytes} (file:size)"
            raise TransferError("listed", message, retryable=False)
        if self._hasher is None:
            return False
        self._hasher.update(body)
        if self._hasher.digest() != self._digest:
            raise TransferError("listed", "the bytes do not match the catalog's file:checksum")
        return True


class _Both:
    """Two digests of one body; its own is the first one's."""

    def __init__(self, first: Hasher, second: Hasher) -> None:
        self._first = first
        self._second = second

    def update(self, data: Any, /) -> None:
        self._first.update(data)
        self._second.update(data)

    def digest(self) -> bytes:
        return self._first.digest()


def _expected(multihash: str) -> tuple[Any, bytes]:
    for begin, make in _MULTIHASHES.items():
        if multihash.startswith(begin):
            try:
                digest = bytes.fromhex(multihash[len(begin) :])
            except ValueError:
                continue
            hasher = make()
            if len(digest) == hasher.digest_size:
                return hasher, digest
    return None, b""
