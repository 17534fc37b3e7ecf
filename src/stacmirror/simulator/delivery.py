"""Answers onto sockets: the one module that knows aiohttp, and how a fault looks on the wire.

Called by `server`. aiohttp parses requests and keeps connections; the answer bypasses its response machinery
and goes out as one write. It must not know what an answer says.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import Iterator
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from .answers import Answer

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
UNSENT_BYTES_MAX = 262_144
_NO_BODY = (204, 304)
_ENDS_CONNECTION = ("reset", "short", "stall", "drip")
_DRIP_S = 0.1


class Delivery(web.StreamResponse):
    """One answer on its way, with the fault it meets if that fault happens on the wire."""

    def __init__(self, answer: Answer, *, head_only: bool, fault: str = "", stall_s: float = 0.0) -> None:
        super().__init__()
        self._answer = answer
        self._head_only = head_only
        self._fault = fault if fault in _ENDS_CONNECTION else ""
        self._stall_s = stall_s
        self._transport: asyncio.Transport | None = None

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Remember the connection; nothing is sent yet."""
        transport = request.transport
        # aiohttp asks `keep_alive` after the answer: HTTP/1.0 and `Connection: close` end it there.
        self._keep_alive = request.keep_alive and not self._fault
        if transport is None:
            raise ConnectionResetError("the client is gone")
        self._transport = transport
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Send the answer, or what its fault leaves of it."""
        transport, body = self._transport, self._answer.body
        assert transport is not None
        if self._fault:
            await self._fail(transport, body)
        elif isinstance(body, bytes):
            head = _head(self._answer, len(body), bool(self._keep_alive))
            no_body = self._head_only or self._answer.status in _NO_BODY
            transport.write(head if no_body else head + body)
            await _drain(transport)
        else:
            await self._stream(transport, body)

    async def _stream(self, transport: asyncio.Transport, body: Iterator[bytes]) -> None:
        length = self._answer.length
        transport.write(_head(self._answer, length, bool(self._keep_alive)))
        if self._head_only:
            return
        if length is not None:
            for piece in body:
                transport.write(piece)
                await _drain(transport)
                await asyncio.sleep(0)  # what is large is nobody's alone
            return
        for piece in body:
            transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await _drain(transport)
            # Writing a slice of a page takes milliseconds: let other requests in between.
            await asyncio.sleep(0)
        transport.write(b"0\r\n\r\n")

    async def _fail(self, transport: asyncio.Transport, body: bytes | Iterator[bytes]) -> None:
        length = self._answer.length
        if self._fault == "drip":
            await self._drip(transport, body)
            return
        if isinstance(body, bytes):
            head, part = _head(self._answer, len(body), keep_alive=True), body[: len(body) // 2]
        elif length is not None:
            head, part = _head(self._answer, length, keep_alive=True), b""
            if not self._head_only:
                head, part = b"", await self._first_half(transport, head, body, length)
        else:
            # A page in slices has no length: half of its first slice, in a chunk that promises all of it.
            piece = next(body)
            head = _head(self._answer, None, keep_alive=True) + b"%x\r\n" % len(piece)
            part = piece[: len(piece) // 2]
        # Without a body (a redirect, HEAD) half of the head has to do.
        bodiless = self._head_only or (bool(head) and not part)
        transport.write(head[: len(head) // 2] if bodiless else head + part)
        if self._fault == "stall":
            await asyncio.sleep(self._stall_s)
        elif self._fault == "reset":
            # One turn of the loop, so that the half is on its way before the reset overtakes it.
            await asyncio.sleep(0.001)
            _reset_on_close(transport)
            transport.abort()
            return
        transport.close()

    async def _first_half(self, transport: asyncio.Transport, head: bytes, body: Iterator[bytes], length: int) -> bytes:
        """Send the first half of a large body but for its last piece, which is returned."""
        transport.write(head)
        left = length // 2
        for piece in body:
            if len(piece) >= left:
                return piece[:left]
            transport.write(piece)
            await _drain(transport)
            left -= len(piece)
        return b""

    async def _drip(self, transport: asyncio.Transport, body: bytes | Iterator[bytes]) -> None:
        length = len(body) if isinstance(body, bytes) else self._answer.length
        first = body if isinstance(body, bytes) else next(body)
        transport.write(_head(self._answer, length, keep_alive=False))
        for number in range(0 if self._head_only else len(first)):
            byte = first[number : number + 1]
            transport.write(byte if length is not None else b"1\r\n" + byte + b"\r\n")
            await asyncio.sleep(_DRIP_S)
            if transport.is_closing():
                return
        transport.close()


async def _drain(transport: asyncio.Transport) -> None:
    """Wait for a client that reads slower than we write. Polled: aiohttp's own way of waiting is private."""
    while transport.get_write_buffer_size() > UNSENT_BYTES_MAX and not transport.is_closing():  # noqa: ASYNC110 - see above
        await asyncio.sleep(0.002)
    if transport.is_closing():
        raise ConnectionResetError("the client is gone")


def _head(answer: Answer, length: int | None, keep_alive: bool) -> bytes:
    return b"%b%b%b%b\r\n" % (
        _status_line(answer.status, int(time.time())),
        answer.headers,
        b"Transfer-Encoding: chunked\r\n" if length is None else b"Content-Length: %d\r\n" % length,
        b"" if keep_alive else b"Connection: close\r\n",
    )


@lru_cache(maxsize=64)
def _status_line(status: int, second: int) -> bytes:
    phrase, date = _PHRASES.get(status, "Unknown"), formatdate(second, usegmt=True)
    return f"HTTP/1.1 {status} {phrase}\r\nDate: {date}\r\n".encode()


def _reset_on_close(transport: asyncio.Transport) -> None:
    """Let closing send RST, not FIN. On a duplicate descriptor: uvloop's socket object refuses options."""
    own = transport.get_extra_info("socket")
    if own is None:
        return
    with socket.socket(fileno=os.dup(own.fileno())) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
