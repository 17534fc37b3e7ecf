"""The answers to several GETs that were sent in one write (HTTP pipelining): small bodies, in the order of asking.

Made and fed by `wire_connection`, to which a series looks like one answer. Whatever the server leaves
unanswered, and more bytes than are to be held, end the series early: the caller asks for what is missing by itself.
Source: RFC 9112, section 9.3.2 (pipelining).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httptools

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply
from stacmirror.transports.wire_message import Message, too_long


class _TooLargeError(Exception):
    """More bytes than are to be held."""


class _Link(Message):
    """One answer of a series."""

    __slots__ = ()

    def too_large(self) -> None:
        raise _TooLargeError


class Series:
    """`waiter` gets the replies, as many as came, from the first on; or the TransferError that spoiled them all."""

    __slots__ = (
        "_head_max", "_idle_bytes", "_keep", "_left_bytes", "_link", "_parser", "_replies", "_urls", "begun",
        "complete", "error", "reading", "waiter",
    )  # fmt: skip

    def __init__(
        self, urls: Sequence[str], small_max_bytes: int, head_max_bytes: int, waiter: asyncio.Future[list[Reply]]
    ) -> None:
        self.waiter = waiter
        self.error: TransferError | None = None
        """None: an error spoils all of them."""
        self.begun = False
        self.complete = False
        """Whether nothing more is expected: all have come, or no more will."""
        self.reading = True
        self._urls = urls
        self._left_bytes = small_max_bytes
        self._head_max = head_max_bytes
        self._replies: list[Reply] = []
        self._parser = httptools.HttpResponseParser(self)
        self._link = _Link(urls[0], small_max_bytes, head_max_bytes, self._parser)
        self._keep = False
        self._idle_bytes = 0

    @property
    def keeps(self) -> bool:
        """Whether the connection can take another request: all was answered, and nothing else was said."""
        return self._keep

    # -- what the connection calls -------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take bytes. Raises: TransferError when they are not the answers to what was asked."""
        self.begun = True
        replies, size = len(self._replies), self._link.size_bytes
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, _TooLargeError):
                raise error.__context__ or error from None
            self._end()
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                raise TransferError("protocol", "not an HTTP answer in a series of them") from error
            self._keep = False  # the answers are whole; what came after them is not ours
        moved = len(self._replies) > replies or self._link.size_bytes > size or self.complete
        self._idle_bytes = 0 if moved else self._idle_bytes + len(data)
        if self._idle_bytes > self._head_max:
            raise too_long(self._head_max)

    def closed(self, *, properly: bool) -> TransferError | None:
        """Hear that no byte will come; return the error where that leaves nothing, None where it leaves something."""
        if self._link.until_close and properly:
            self._replies.append(self._link.reply())
        if self._replies:
            self._end()
            return None
        if self.begun:
            return TransferError("reset", "the connection broke in the first answer of a series")
        return TransferError("reset", "the server closed the connection before it answered")

    def succeed(self) -> None:
        """Hand over what has come."""
        if not self.waiter.done():
            self.waiter.set_result(self._replies)
        self._let_go()

    def fail(self, error: TransferError) -> None:
        """End it with `error`."""
        if not self.waiter.done():
            self.waiter.set_exception(error)
        self._let_go()

    def _end(self) -> None:
        self.complete, self._keep = True, False

    def _let_go(self) -> None:
        del self._parser, self._link  # they know us: a cycle

    # -- what the parser calls -----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.complete:
            self._keep = False  # another answer, which nobody asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.complete:
            self._link.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self.complete:
            self._link.on_headers_complete()

    def on_body(self, chunk: bytes) -> None:
        if not self.complete:
            self._link.on_body(chunk)

    def on_message_complete(self) -> None:
        link = self._link
        if self.complete:
            return
        link.on_message_complete()
        if not link.complete:
            return  # an interim answer
        self._replies.append(link.reply())
        answered = len(self._replies)
        if answered == len(self._urls) or not link.keeps:
            self.complete, self._keep = True, link.keeps
        else:
            self._left_bytes -= link.size_bytes
            self._link = _Link(self._urls[answered], self._left_bytes, self._head_max, self._parser)
