"""One answer to one GET: its bytes in, a Reply out; a small body is held, a large one is a stream.

Made and fed by `wire_connection`, one for each request. It knows bytes, not sockets, pools or timeouts; that nothing
comes after an answer's end is judged here, what a head may say in `wire_message`.
Source: RFC 9112, sections 9.3 (persistence), 9.8 (TLS closure).
"""

from __future__ import annotations

import asyncio

import httptools

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply
from stacmirror.transports.wire_body import BodyLine, WireBody
from stacmirror.transports.wire_message import Message, too_long


class Answer(Message):
    """`waiter` gets the Reply, or the TransferError. What comes after `complete` is surplus, and belongs to nobody."""

    __slots__ = ("_idle_bytes", "_line", "_surplus", "begun", "stream", "waiter")

    def __init__(
        self, url: str, small_max_bytes: int, head_max_bytes: int, waiter: asyncio.Future[Reply], line: BodyLine
    ) -> None:
        super().__init__(url, small_max_bytes, head_max_bytes, httptools.HttpResponseParser(self))
        self.waiter = waiter
        self.stream: WireBody | None = None
        self.begun = False
        """Whether a byte of it has come."""
        self._line = line
        self._idle_bytes = 0
        self._surplus = False

    @property
    def keeps(self) -> bool:
        """Whether the connection can take another request once this answer is complete."""
        return self._keep and not self._surplus

    @property
    def reading(self) -> bool:
        """Whether the server is expected to send: not while our own reader is behind."""
        return self.stream is None or not self.stream.paused

    # -- what the connection calls -------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take bytes. Raises: TransferError when they are no answer."""
        self.begun = True
        size = self._size
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            raise error.__context__ or error from None  # ours: what a method below has raised
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                raise self._damaged(error) from error
            self._surplus = True  # the answer is whole; what came after it is not ours
        # Interim answers, trailers and chunk extensions without end are heads in disguise.
        self._idle_bytes = self._idle_bytes + len(data) if self._size == size and not self.complete else 0
        if self._idle_bytes > self._head_max:
            raise too_long(self._head_max)

    def _damaged(self, error: Exception) -> TransferError:
        if isinstance(error, httptools.HttpParserUpgrade):
            return TransferError("protocol", "the server changed the protocol")
        if self._status:
            return TransferError("short", "the body is damaged")
        return TransferError("protocol", "not an HTTP answer")

    def closed(self, *, properly: bool) -> TransferError | None:
        """Hear that no byte will come; return the error, or None where the close is the answer's end.

        `properly` says that the server has said so itself: over TLS, a cut is not told from an end otherwise.
        """
        if self._status:
            if self.until_close and properly:
                self.complete = True
                return None
            return TransferError("short", "the body ended early")
        if self.begun:
            return TransferError("reset", "the connection broke in the head")
        return TransferError("reset", "the server closed the connection before it answered")

    def succeed(self) -> None:
        """Hand over a complete answer."""
        if self.stream is not None:
            self.stream.end(None)
        elif not self.waiter.done():
            self.waiter.set_result(self.reply())
        self._let_go()

    def fail(self, error: TransferError) -> None:
        """End it with `error`, whoever waits."""
        if not self.waiter.done():
            self.waiter.set_exception(error)
        if self.stream is not None:
            self.stream.end(error)
        self._let_go()

    def _let_go(self) -> None:
        # Parser and stream know us: without this, bodies would stay until the cycle collector comes.
        self._parser = self.stream = None
        self._body = []

    # -- what the parser calls -----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        # More after the answer's end: another answer, which nobody asked for and which must answer nobody.
        self._surplus = self.complete

    def on_body(self, chunk: bytes) -> None:
        if self._surplus:
            return
        if self.stream is not None:
            self._size += len(chunk)
            self.stream.feed(chunk)
        else:
            super().on_body(chunk)

    def on_message_complete(self) -> None:
        if not self._surplus:
            super().on_message_complete()

    def too_large(self) -> None:
        """See `Message.too_large`: hand it over as a stream."""
        self.stream = WireBody(self, self._line)
        for chunk in self._body:
            self.stream.feed(chunk)
        self._body = []
        if not self.waiter.done():
            self.waiter.set_result(Reply(self._url, self._status, self._headers, None, self.stream))
