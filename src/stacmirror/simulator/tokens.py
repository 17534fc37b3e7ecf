"""Download tokens: what they hold, how they look in each generation, whether one is ours.

Called by `items` (issue) and `api` (read). A token names the file and carries its issue time and a proof, so
nothing is stored. It must not know how long a link lives, nor HTTP.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import struct
from dataclasses import dataclass

from .world import BANDS, LABELS, PHANTOM

_ASSETS = (LABELS, *BANDS, PHANTOM)
_ORDINALS = {asset: ordinal for ordinal, asset in enumerate(_ASSETS)}
_FERNET = re.compile(r"[A-Za-z0-9_-]{332}", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CIPHER_BYTES = 192  # version 1 + time 8 + IV 16 + this + proof 32 = 249 bytes: 332 characters without padding


@dataclass(frozen=True, slots=True)
class Link:
    """What a token stands for: item number, asset key, time of issue (seconds since 1970)."""

    index: int
    asset: str
    issued_at: float


class Tokens:
    """Issues and reads the tokens of one key.

    2021 and 2022: shaped as Fernet tokens (version 0x80, issue time in bytes 1-8, IV, text, proof), sealed
    with the standard library only, so no Fernet key opens them. 2020: 64 hexadecimal characters whose issue
    time is hidden.
    """

    def __init__(self, key: str, generation: int) -> None:
        self._secret = hashlib.blake2b(key.encode(), digest_size=32, person=b"links").digest()
        self._fernet = generation >= 2021

    def issue(self, index: int, asset: str, issued_at: float) -> str:
        """Return a new token; two calls never give the same one."""
        if not self._fernet:
            plain = struct.pack("<IIB7s", int(issued_at), index, _ORDINALS[asset], os.urandom(7))
            proof = self._proof(plain, 16)
            return (_xor(plain, self._proof(proof, 16)) + proof).hex()
        nonce = os.urandom(16)
        plain = struct.pack("<IB", index, _ORDINALS[asset]).ljust(_CIPHER_BYTES, b"\0")
        sealed = b"\x80" + struct.pack(">Q", int(issued_at)) + nonce + _xor(plain, self._stream(nonce))
        return base64.urlsafe_b64encode(sealed + self._proof(sealed, 32)).decode()

    def read(self, token: str) -> Link | None:
        """Return what the token stands for; None if it was not issued with this key."""
        return self._read_fernet(token) if self._fernet else self._read_hex(token)

    def _read_fernet(self, token: str) -> Link | None:
        if not _FERNET.fullmatch(token):
            return None
        raw = base64.urlsafe_b64decode(token)
        sealed, proof = raw[:-32], raw[-32:]
        if not hmac.compare_digest(self._proof(sealed, 32), proof):
            return None
        (issued_at,) = struct.unpack_from(">Q", sealed, 1)
        index, ordinal = struct.unpack_from("<IB", _xor(sealed[25:], self._stream(sealed[9:25])))
        return Link(index, _ASSETS[ordinal], issued_at)

    def _read_hex(self, token: str) -> Link | None:
        if not _HEX.fullmatch(token):
            return None
        raw = binascii.unhexlify(token)
        plain = _xor(raw[:16], self._proof(raw[16:], 16))
        if not hmac.compare_digest(self._proof(plain, 16), raw[16:]):
            return None
        issued_at, index, ordinal, _ = struct.unpack("<IIB7s", plain)
        return Link(index, _ASSETS[ordinal], issued_at)

    def _proof(self, data: bytes, size: int) -> bytes:
        return hashlib.blake2b(data, digest_size=size, key=self._secret).digest()

    def _stream(self, nonce: bytes) -> bytes:
        return hashlib.shake_128(self._secret + nonce).digest(_CIPHER_BYTES)


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left, "little") ^ int.from_bytes(right, "little")).to_bytes(len(left), "little")
