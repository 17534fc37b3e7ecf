"""Is this body what the server meant to send? Size, and an MD5 where the server gives one.

Called by the transfer stage for every body. An ETag is an MD5 only on hosts whose ETags have matched often
enough; multipart and encrypted objects have ETags that never do.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Literal

import xxhash

from stacmirror.errors import TransferError
from stacmirror.interfaces import Hasher

ETAG_TRUSTED_AFTER = 20
_MD5_ETAG = re.compile(r'^"?([0-9a-fA-F]{32})"?$')
DigestKind = Literal["md5", "xxh3"]


def digest_of(kind: DigestKind, body: bytes) -> bytes:
    """Return the digest that a receipt of `kind` has for `body`."""
    return hashlib.md5(body, usedforsecurity=False).digest() if kind == "md5" else xxhash.xxh3_128_digest(body)


class Expected:
    """What the headers of one answer promise of its body."""

    __slots__ = ("_host", "etag_md5", "kind", "length_bytes", "md5", "proven")

    def __init__(self, headers: Mapping[str, str], length_bytes: int | None, host: _HostTrust) -> None:
        self.length_bytes = length_bytes
        self.md5 = _content_md5(headers.get("content-md5"))
        self._host = host
        match = _MD5_ETAG.match(headers.get("etag", "")) if host.worth_trying else None
        self.etag_md5 = bytes.fromhex(match[1]) if match else None
        self.kind: DigestKind = "md5" if self.md5 or self.etag_md5 else "xxh3"
        self.proven = False
        """Whether a digest of the server's has agreed; so after `check`."""

    def hasher(self) -> Hasher:
        """Return the digest to compute for this body: MD5 where it can be compared, else xxh3_128."""
        return hasher_of(self.kind)

    def promise_md5(self, md5: bytes) -> None:
        """Add the MD5 that an earlier answer, of the whole, gave."""
        self.md5 = md5
        self.kind = "md5"

    def as_hashed(self, kind: DigestKind) -> Expected:
        """Return it for a body that was begun in another run: what its digest of `kind` cannot show is not asked."""
        if kind != self.kind:
            self.kind = kind
            if kind != "md5":
                self.md5 = self.etag_md5 = None
        return self

    def check(self, size_bytes: int, digest: bytes) -> None:
        """Hold the body against the promise.

        Raises: TransferError, kinds `short`, `long`, `digest`.
        """
        if self.length_bytes is not None and size_bytes != self.length_bytes:
            kind = "short" if size_bytes < self.length_bytes else "long"
            raise TransferError(kind, f"{size_bytes} of {self.length_bytes} bytes")
        if self.md5 is not None and digest != self.md5:
            raise TransferError("digest", "the bytes do not match Content-MD5")
        self.proven = self.md5 is not None
        if self.etag_md5 is not None:
            agrees = digest == self.etag_md5
            self.proven = self.proven or agrees
            if not agrees and self._host.trusted and self.md5 is None:
                raise TransferError("digest", "the bytes do not match the ETag")
            self._host.saw(agrees)


class _HostTrust:
    """Whether a host's ETags are MD5s: unknown, trusted after enough matches, never after one early mismatch."""

    __slots__ = ("_matches", "trusted", "worth_trying")

    def __init__(self) -> None:
        self._matches = 0
        self.trusted = False
        self.worth_trying = True

    def saw(self, agrees: bool) -> None:
        if agrees:
            self._matches += 1
            self.trusted = self.trusted or self._matches >= ETAG_TRUSTED_AFTER
        elif not self.trusted:
            self.worth_trying = False


class Checks:
    """What is known of all hosts' digests in a run."""

    def __init__(self) -> None:
        self._hosts: dict[str, _HostTrust] = {}

    def expected(self, origin: str, headers: Mapping[str, str], length_bytes: int | None) -> Expected:
        """Return what an answer from `origin` promises."""
        host = self._hosts.get(origin)
        if host is None:
            host = self._hosts[origin] = _HostTrust()
        return Expected(headers, length_bytes, host)


def hasher_of(kind: DigestKind) -> Hasher:
    """Return a digest with nothing in it."""
    return hashlib.md5(usedforsecurity=False) if kind == "md5" else xxhash.xxh3_128()


def _content_md5(value: str | None) -> bytes | None:
    if not value:
        return None
    try:
        digest = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest if len(digest) == 16 else None
