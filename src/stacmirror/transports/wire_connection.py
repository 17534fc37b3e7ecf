"""One HTTP/1.1 connection: sends a GET (or several), feeds the answer, and says when it is free or gone.

Made by `wire_dial`, used by `wire`. It knows one answer (or one series of them) at a time, not pools, URLs or timeouts.

Two invariants, on which nothing may wait for ever: an answer under way is ended before its connection is let go,
in one place (`_take_answer`); and whoever ends an answer names it, since the connection may be another's by then.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, cast

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply
from stacmirror.transports.wire_answer import Answer
from stacmirror.transports.wire_series import Series
from stacmirror.transports.wire_turns import Turns

_Asked = TypeVar("_Asked", Answer, Series, Turns)


class Keeper(Protocol):
    """Who owns connections: hears of each one's making, freedom and end."""

    @property
    def head_max_bytes(self) -> int:
        """Largest head of an answer."""

    def made(self, connection: Connection) -> None: ...

    def free(self, connection: Connection) -> None: ...

    def gone(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    __slots__ = (
        "_answer", "_closed_properly", "_going", "_head_max", "_keeper", "_loop", "_transport", "last_s",
        "window_bytes", "window_s",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, keeper: Keeper) -> None:
        self._loop = loop
        self._keeper = keeper
        self._head_max = keeper.head_max_bytes
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | Series | Turns | None = None
        self._going = False
        self._closed_properly = False
        self.last_s = loop.time()
        """Loop time of the last sign of life, for the timeouts."""
        self.window_s = 0.0
        """Since when `window_bytes` are counted: from the request, then from the answer's first byte."""
        self.window_bytes = 0

    # -- what wire calls -----------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether a request may be sent: idle, and neither lost nor about to be."""
        transport = self._transport
        return self._answer is None and not self._going and transport is not None and not transport.is_closing()

    @property
    def busy(self) -> bool:
        """Whether an answer is under way."""
        return self._answer is not None

    @property
    def reading(self) -> bool:
        """Whether an answer is under way and its server is expected to send."""
        return self._answer is not None and self._answer.reading

    def ask(self, request: bytes, url: str, small_max_bytes: int) -> Answer:
        """Send `request` and return its answer. Raises: TransferError (`reset`) when the connection is gone."""
        return self._send(request, Answer(url, small_max_bytes, self._head_max, self._loop.create_future(), self))

    def ask_several(self, requests: bytes, urls: Sequence[str], small_max_bytes: int) -> Series:
        """Send `requests` for `urls` in one write; as `ask`."""
        return self._send(requests, Series(urls, small_max_bytes, self._head_max, self._loop.create_future()))

    def ask_in_turn(
        self, requests: Sequence[bytes], urls: Sequence[str], small_max_bytes: int, heard: Callable[[Reply], bool]
    ) -> Turns:
        """Send `requests` for `urls`, each once `heard` has taken the answer to the one before; as `ask`."""
        turns = Turns(requests, urls, small_max_bytes, self._head_max, heard, self._loop.create_future(), self)
        return self._send(requests[0], turns)

    def send_next(self, request: bytes) -> None:
        """Send the next request of those that go out in turn."""
        self.last_s = self.window_s = self._loop.time()
        self.window_bytes = 0
        if self._transport is not None:
            self._transport.write(request)

    def _send(self, request: bytes, answer: _Asked) -> _Asked:
        transport = self._transport
        if transport is None or not self.usable:
            raise TransferError("reset", "the server closed the connection before it was asked")
        self._answer = answer
        self.last_s = self.window_s = self._loop.time()
        self.window_bytes = 0
        transport.write(request)
        return answer

    async def reply(self, answer: Answer) -> Reply:
        """Wait for the answer that `ask` returned. See `replies`."""
        try:
            return await answer.waiter
        except asyncio.CancelledError:
            self._leave(answer)
            raise

    async def replies(self, answer: Series | Turns) -> list[Reply]:
        """Wait for the answers to what `ask_several` sent, or `ask_in_turn` sends.

        Raises: TransferError.
        Cancel: safe; the connection is dropped if the answer is still under way, and left alone if it is not:
                by then it may carry another's.
        """
        try:
            return await answer.waiter
        except asyncio.CancelledError:
            self._leave(answer)
            raise

    def _leave(self, answer: Answer | Series | Turns) -> None:
        waiter: asyncio.Future[Any] = answer.waiter
        if waiter.done() and not waiter.cancelled():
            waiter.exception()  # seen, if nobody else does
        self.drop(answer, TransferError("reset", "nobody waits for the answer"))

    def drop(self, answer: Answer | Series | Turns, error: TransferError) -> None:
        """End `answer` with `error` and drop the connection; nothing happens if it has ended before."""
        if self._answer is answer:
            self.abort(error)

    def abort(self, error: TransferError) -> None:
        """Drop the connection at once; an answer under way ends with `error`. May be called twice."""
        self._going = True
        answer = self._take_answer()
        if self._transport is not None:
            self._transport.abort()
        if answer is not None:
            answer.fail(error)

    def end(self) -> None:
        """Close an idle connection properly: over TLS with a farewell."""
        self._going = True
        if self._transport is not None:
            self._transport.close()

    def pause(self) -> None:
        """Read no more from the socket."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self.last_s = self.window_s = self._loop.time()
        self.window_bytes = 0
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def not_listened_to(self, seconds: float, now_s: float) -> None:
        """Count so much time until now as none: bytes may have come, and nobody was there to take them."""
        self.last_s = min(now_s, self.last_s + seconds)
        self.window_s = min(now_s, self.window_s + seconds)

    def _take_answer(self) -> Answer | Series | Turns | None:
        answer, self._answer = self._answer, None
        return answer

    # -- what the event loop calls -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._keeper.made(self)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            # Nobody asked: whatever this is, it must not answer the next request.
            self.abort(TransferError("protocol", "bytes that nobody asked for"))
            return
        self.last_s = self._loop.time()
        if not answer.begun:
            self.window_s = self.last_s
        self.window_bytes += len(data)
        try:
            answer.feed(data)
        except TransferError as error:
            self.drop(answer, error)
        else:
            if answer.complete:
                self._over(answer, keep=answer.keeps)

    def eof_received(self) -> None:
        transport = self._transport
        self._closed_properly = transport is not None and _has_said_goodbye(transport.get_extra_info("ssl_object"))
        # None is returned: the transport closes itself.

    def connection_lost(self, exc: Exception | None) -> None:
        self._going = True
        self._keeper.gone(self)
        answer = self._answer
        if answer is not None:
            error = answer.closed(properly=self._closed_properly and exc is None)
            if error is None:
                self._over(answer, keep=False)
            else:
                self.drop(answer, error)

    def _over(self, answer: Answer | Series | Turns, *, keep: bool) -> None:
        """The answer has ended well; `keep` says whether the connection may be used again."""
        paused = not answer.reading
        self._take_answer()
        answer.succeed()
        if not keep:
            self.abort(TransferError("reset", "not kept"))
            return
        if paused:
            self.resume()
        if self.usable:
            self._keeper.free(self)


def _has_said_goodbye(tls: ssl.SSLObject | None) -> bool:
    """Whether a close is the server's own: over TLS anyone on the way can cut, and only a close_notify is no cut.

    asyncio tells of both in the same way, uvloop of the close_notify only.
    """
    if tls is None:
        return True
    try:
        return tls.read(1) == b""
    except ssl.SSLZeroReturnError:
        return True
    except ssl.SSLError:
        return False
