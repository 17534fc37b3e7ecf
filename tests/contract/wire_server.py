"""A server that says, byte for byte, what a script tells it to: for answers that no proper server would give."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar, cast

RESET = "reset"
"""End the connection with RST."""
STALL = "stall"
"""Say nothing more until the client goes."""
DRIP = "drip"
"""Say a byte every 20 ms until the client goes."""
KEEP = "keep"
"""Leave the connection open for another request."""

Server = TypeVar("Server", bound="WireServer")
Step = bytes | str | Callable[[], Awaitable[object]]
"""Bytes to send, one of the words above, or what to wait for. A script without KEEP ends with a plain close."""


class WireServer:
    """Answers each path by its script. `heard` has the request heads as they came, `gone` counts closed connections."""

    def __init__(self) -> None:
        self.scripts: dict[str, Sequence[Step]] = {}
        self.heard: list[str] = []
        self.connections = 0
        self.gone = 0
        self.url = ""

    def say(self, path: str, *steps: Step) -> str:
        """Set the script of `path` (as it must come on the wire); return its URL."""
        self.scripts[path] = steps
        return self.url + path

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take requests from one connection."""
        self.connections += 1
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.transport.abort()  # the client has gone: over TLS a close would wait for its farewell
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            self.gone += 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.heard.append(request)
        path = request.split(" ", 2)[1]
        return await self._say(self.scripts.get(path, [head(404, "Content-Length: 0"), KEEP]), reader, writer)

    async def _say(self, script: Sequence[Step], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        for step in script:
            if callable(step):
                await step()
                continue
            if step == RESET:
                sock: socket.socket = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return False
            if step == STALL:
                await reader.read()
                return False
            if step == DRIP:
                while not reader.at_eof():
                    writer.write(b".")
                    await writer.drain()
                    await asyncio.sleep(0.02)
                return False
            if step == KEEP:
                return True
            assert isinstance(step, bytes)
            writer.write(step)
            await writer.drain()
        return False

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds."""
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.005)


@asynccontextmanager
async def wire_server(tls: ssl.SSLContext | None = None, wire: Server | None = None) -> AsyncIterator[Server]:
    """Run a WireServer (a new one, or `wire`) on loopback, with TLS where a context is given."""
    wire = wire or cast("Server", WireServer())
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0, limit=1 << 20, ssl=tls)
    wire.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield wire
    finally:
        server.close()
        # The handlers of connections that the client still holds open end with their tasks.
        for task in asyncio.all_tasks():
            coroutine = task.get_coro()
            if coroutine is not None and getattr(coroutine, "__qualname__", "") == "WireServer.serve":
                task.cancel()
        await asyncio.sleep(0)


def ok(body: bytes, *headers: str) -> bytes:
    """Return a proper 200 with a length."""
    return head(200, f"Content-Length: {len(body)}", *headers) + body


def head(status: int, *headers: str) -> bytes:
    """Return a status line and headers, ended."""
    return "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status} Some Words", *headers, "")).encode("latin-1")


def chunked(*chunks: bytes, end: bool = True) -> bytes:
    """Return chunks as they go over the wire."""
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + (b"0\r\n\r\n" if end else b"")
