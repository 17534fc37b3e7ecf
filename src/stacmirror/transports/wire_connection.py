"""One HTTP/1.1 connection: send a GET, parse the answer, hold a small body or stream a large one.

Used by `wire` only. It knows bytes and answers, not pools, URLs or timeouts. httptools (llhttp) parses; what it
does not judge is judged here: which body ends with the close, and that nothing comes after an answer's end.
Source: RFC 9112, sections 6.3 (message body length) and 9.3 (persistence).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import httptools

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply

HEAD_MAX_BYTES = 64 << 10
"""All header bytes of one answer; a presigned Location has 2 KiB."""
_STREAM_HIGH_BYTES = 1 << 20
_STREAM_LOW_BYTES = 1 << 18
_BODILESS = frozenset({204, 304})


class Connection(asyncio.Protocol):
    """One connection, one request at a time. `on_free(connection)` is called when it can take the next."""

    __slots__ = (
        "_body",
        "_chunked",
        "_complete",
        "_head_bytes",
        "_headers",
        "_keep",
        "_length",
        "_loop",
        "_on_free",
        "_parser",
        "_size",
        "_small_max",
        "_status",
        "_stream",
        "_surplus",
        "_transport",
        "_url",
        "_waiter",
        "answered",
        "busy",
        "disconnected",
        "last_s",
        "lost",
        "used",
        "window_bytes",
        "window_s",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, on_free: Callable[[Connection], None]) -> None:
        self._loop = loop
        self._on_free = on_free
        self._transport: Any = None
        self._waiter: asyncio.Future[Reply] | None = None
        self._stream: WireBody | None = None
        self.busy = False
        self.lost = False
        self.disconnected = False
        self.used = 0
        """Answers read over it so far."""
        self.answered = False
        """Whether a byte of the answer under way has come."""
        self.last_s = 0.0
        """Loop time of the last sign of life, for the timeouts."""
        self.window_s = 0.0
        self.window_bytes = 0

    # -- what wire calls -----------------------------------------------------------------------------------

    def get(self, request: bytes, url: str, small_max_bytes: int) -> asyncio.Future[Reply]:
        """Send `request` and return the future of its reply."""
        self._parser = httptools.HttpResponseParser(self)
        self._url = url
        self._small_max = small_max_bytes
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._head_bytes = 0
        self._length: int | None = None
        self._chunked = False
        self._complete = False
        self._keep = False
        self._surplus = False
        self._status = 0
        self._stream = None
        self.answered = False
        self.busy = True
        self.last_s = self.window_s = self._loop.time()
        self.window_bytes = 0
        self._waiter = waiter = self._loop.create_future()
        self._transport.write(request)
        return waiter

    def end(self) -> None:
        """Close an idle connection properly: over TLS with a farewell."""
        self.lost = True
        self._transport.close()

    def abort(self) -> None:
        """Drop the connection at once. May be called twice."""
        self.lost = True
        if self._transport is not None:
            self._transport.abort()

    def fail(self, error: TransferError) -> None:
        """End the answer under way with `error`, and drop the connection."""
        self.busy = False
        self.abort()
        self._body = []
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        if self._stream is not None:
            self._stream.end(error)

    @property
    def reading(self) -> bool:
        """Whether the server is expected to send: not while our own reader is behind."""
        return self.busy and not (self._stream is not None and self._stream.paused)

    # -- what the event loop calls -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self.busy:
            self.abort()  # nobody asked: whatever this is, it must not answer the next request
            return
        self.answered = True
        self.last_s = self._loop.time()
        self.window_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.fail(TransferError("protocol", "the server changed the protocol"))
        except httptools.HttpParserError:
            if self._complete:
                self._over(keep=False)  # the answer is whole; what came after it is not ours
            elif self._status:
                self.fail(TransferError("short", "the body is damaged"))
            else:
                self.fail(TransferError("protocol", "not an HTTP answer"))
        else:
            if self._status == 0:
                self._head_bytes += len(data)
                if self._head_bytes > HEAD_MAX_BYTES:
                    self.fail(TransferError("protocol", f"more than {HEAD_MAX_BYTES} bytes of headers"))
            if self._complete:
                self._over(keep=self._keep and not self._surplus)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = self.disconnected = True
        if not self.busy:
            return
        until_close = self._status != 0 and self._length is None and not self._chunked
        if until_close and exc is None:
            self._over(keep=False)
        elif self._status != 0 and exc is None:
            self.fail(TransferError("short", "the body ended early"))
        elif self.answered:
            self.fail(TransferError("reset", "the connection broke midway"))
        else:
            self.fail(TransferError("reset", "the server closed the connection before it answered"))

    # -- what the parser calls -----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        # More after the answer's end: another answer, which nobody asked for and which must answer nobody.
        self._surplus = self._complete

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._surplus:
            return
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._surplus:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            return  # an interim answer: its end is not the end
        self._status = status
        headers = self._headers
        length = headers.get("content-length")
        self._length = int(length) if length is not None else None
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        if status in _BODILESS:
            self._length = 0
        if self._length is not None and self._length > self._small_max and not self._chunked:
            self._open_stream()

    def on_body(self, chunk: bytes) -> None:
        if self._surplus:
            return
        if self._stream is not None:
            self._stream.feed(chunk)
            return
        self._body.append(chunk)
        self._size += len(chunk)
        if self._size > self._small_max:
            self._open_stream()

    def on_message_complete(self) -> None:
        if self._surplus:
            return
        if self._status:
            self._complete = True
            self._keep = bool(self._parser.should_keep_alive())  # asked now: the parser forgets it
        else:
            self._headers = {}  # an interim answer's

    # -- the end -------------------------------------------------------------------------------------------

    def _open_stream(self) -> None:
        self._stream = stream = WireBody(self)
        for chunk in self._body:
            stream.feed(chunk)
        self._body = []
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(Reply(self._url, self._status, self._headers, None, stream))

    def _over(self, *, keep: bool) -> None:
        """The answer has ended well; `keep` says whether the connection may be used again."""
        self.busy = False
        self.used += 1
        if not keep:
            self.abort()
        if self._stream is not None:
            self._stream.end(None)
        elif self._waiter is not None and not self._waiter.done():
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._waiter.set_result(Reply(self._url, self._status, self._headers, body, None))
        self._body = []
        self._stream = None
        self._waiter = None
        if keep and not self.lost:
            self._on_free(self)

    def pause(self) -> None:
        """Read no more from the socket."""
        if not self.lost:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self.last_s = self.window_s = self._loop.time()
        self.window_bytes = 0
        if not self.lost:
            self._transport.resume_reading()


class WireBody:
    """A large body: chunks wait here, at most about a MiB of them. Implements `interfaces.Body`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._chunks: deque[bytes] = deque()
        self._held_bytes = 0
        self._ended = False
        self._error: TransferError | None = None
        self._closed = False
        self._more: asyncio.Future[None] | None = None
        self.paused = False

    def feed(self, chunk: bytes) -> None:
        """Take a chunk from the connection."""
        if self._closed:
            return
        self._chunks.append(chunk)
        self._held_bytes += len(chunk)
        if self._held_bytes > _STREAM_HIGH_BYTES and not self.paused:
            self.paused = True
            self._connection.pause()
        self._tell()

    def end(self, error: TransferError | None) -> None:
        """Hear that nothing more comes."""
        self._ended = True
        self._error = error
        self._tell()

    def _tell(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    async def chunks(self) -> AsyncIterator[bytes]:
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._held_bytes -= len(chunk)
                if self.paused and self._held_bytes < _STREAM_LOW_BYTES:
                    self.paused = False
                    self._connection.resume()
                yield chunk
            if self._error is not None:
                raise self._error
            if self._ended:
                return
            self._more = asyncio.get_running_loop().create_future()
            await self._more

    def close(self) -> None:
        """Drop the connection unless the body came to its end."""
        if not self._closed:
            self._closed = True
            self._chunks.clear()
            if not self._ended:
                self._connection.busy = False
                self._connection.abort()
