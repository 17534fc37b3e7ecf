"""The answers to several GETs that go out one after another on one connection: each once the one before is whole.

Made and fed by `wire_connection`, to which all of them look like one answer. On the wire it is what a kept
connection always does; here a request costs neither a task's turn nor a future, since nobody is woken between two.
What a server leaves unanswered, a large body, and an error end it early: the caller asks for the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import httptools

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply
from stacmirror.transports.wire_body import BodyLine, WireBody
from stacmirror.transports.wire_message import Message, too_long


class Line(BodyLine, Protocol):
    """The connection, as its requests see it."""

    def send_next(self, request: bytes) -> None: ...


class _SurplusError(Exception):
    """Bytes that nobody asked for."""


class Turns(Message):
    """`waiter` gets the replies, as many as came, from the first on; `error` is what the one after them met.

    `heard` hears of each reply, and says whether to send the next request; but for a large body, which is the last.
    """

    __slots__ = (
        "_heard", "_held_bytes", "_idle_bytes", "_line", "_replies", "_requests", "_started", "_urls", "_whole",
        "begun", "error", "stream", "waiter",
    )  # fmt: skip

    def __init__(
        self,
        requests: Sequence[bytes],
        urls: Sequence[str],
        small_max_bytes: int,
        head_max_bytes: int,
        heard: Callable[[Reply], bool],
        waiter: asyncio.Future[list[Reply]],
        line: Line,
    ) -> None:
        super().__init__(urls[0], small_max_bytes, head_max_bytes, httptools.HttpResponseParser(self))
        self.waiter = waiter
        self.error: TransferError | None = None
        self.begun = False
        """Whether a byte of any answer has come."""
        self.stream: WireBody | None = None
        self._requests = requests
        self._urls = urls
        self._heard = heard
        self._line = line
        self._replies: list[Reply] = []
        self._held_bytes = 0
        self._idle_bytes = 0
        self._started = False
        """Whether a byte of the answer under way has come."""
        self._whole = False
        """Whether the answer under way has come to its end."""

    @property
    def reading(self) -> bool:
        """Whether the server is expected to send: not while our own reader is behind."""
        return self.stream is None or not self.stream.paused

    # -- what the connection calls -------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take bytes. Raises: TransferError when they are no answer."""
        self.begun = self._started = True
        size = self._size
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, _SurplusError):
                raise error.__context__ or error from None  # ours: what a method below has raised
            self._keep = False  # the answer is whole; what came after it is not ours
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._whole:
                short = bool(self._status)
                message = "the body is damaged" if short else "not an HTTP answer"
                raise TransferError("short" if short else "protocol", message) from error
            self._keep = False
        if self._whole:
            self._next()
        elif self._size == size:
            # Interim answers, trailers and chunk extensions without end are heads in disguise.
            self._idle_bytes += len(data)
            if self._idle_bytes > self._head_max:
                raise too_long(self._head_max)
        else:
            self._idle_bytes = 0

    def _next(self) -> None:
        """Tell of the answer that is whole, and send the next request, or end."""
        if self.stream is not None:
            self.complete = True
            return
        replies = self._replies
        answered = len(replies)
        goes_on = self._heard(replies[-1])
        if not goes_on or not self._keep or answered == len(self._urls) or self._held_bytes >= self._small_max:
            self.complete = True
            return
        self._begin_anew(self._urls[answered])
        self._started = self._whole = False
        self._idle_bytes = 0
        self._line.send_next(self._requests[answered])

    def closed(self, *, properly: bool) -> TransferError | None:
        """Hear that no byte will come; return the error of the answer under way, None where there is none.

        `properly`: the server has said so itself; over TLS, a cut is not told from an end otherwise.
        """
        if self.until_close and properly:
            self._keep = False
            self._take()
            self._next()
            return None
        if self._status:
            return TransferError("short", "the body ended early")
        if self._started:
            return TransferError("reset", "the connection broke in the head")
        if self._replies:
            self.complete = True  # closed between two: whoever asks for the rest will see why
            return None
        return TransferError("reset", "the server closed the connection before it answered")

    def succeed(self) -> None:
        """Hand over what has come."""
        if self.stream is not None:
            self.stream.end(None)
        elif not self.waiter.done():
            self.waiter.set_result(self._replies)
        self._let_go()

    def fail(self, error: TransferError) -> None:
        """End it with `error`; what came before is handed over all the same."""
        self.error = error
        if not self.waiter.done():
            if self.begun:
                self.waiter.set_result(self._replies)
            else:
                self.waiter.set_exception(error)
        if self.stream is not None:
            self.stream.end(error)
        self._let_go()

    def _let_go(self) -> None:
        self._parser = self.stream = None  # they know us: a cycle
        self._body = []

    # -- what the parser calls -----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._whole:
            raise _SurplusError  # another answer, which nobody asked for and which must answer nobody

    def on_body(self, chunk: bytes) -> None:
        if self.stream is not None:
            self._size += len(chunk)
            self.stream.feed(chunk)
        else:
            super().on_body(chunk)

    def on_message_complete(self) -> None:
        if not self._status:
            self._headers = {}  # an interim answer's
            return
        self._keep = bool(self._parser.should_keep_alive())
        self._take()

    def _take(self) -> None:
        self._whole = True
        if self.stream is None:
            self._held_bytes += self._size
            self._replies.append(self.reply())

    def too_large(self) -> None:
        """See `Message.too_large`: hand over what came, with this one as a stream."""
        self.stream = WireBody(self, self._line)
        for chunk in self._body:
            self.stream.feed(chunk)
        self._body = []
        self._replies.append(Reply(self._url, self._status, self._headers, None, self.stream))
        if not self.waiter.done():
            self.waiter.set_result(self._replies)
