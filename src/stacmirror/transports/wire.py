"""`http://` and `https://` by our own lean HTTP/1.1 client: GET only, for redirects, assets and items.

For less CPU than a general client's: no URL objects, no session, no cookie jar, one timer for all timeouts. It asks
once, follows nothing, decodes nothing. Whatever is odd about a connection drops it: a surplus byte, an error, a
close. What it cannot do (proxies) stays with `http`.

Every wait has an end: connecting by the dialer's time, an answer and a body by the sweep, which fails whoever
waits on a connection without a byte for too long, or with too few; a lost connection fails its answer itself.
While this process stood still (stopped, or on a machine that did) nobody listened: that is no server's silence.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence

from stacmirror.errors import TransferError
from stacmirror.gate import Gate
from stacmirror.interfaces import Reply
from stacmirror.transports.address import Origin, header_lines, parse_origin, split
from stacmirror.transports.guard import Admits, Anywhere
from stacmirror.transports.wire_connection import Connection
from stacmirror.transports.wire_dial import Dialer
from stacmirror.transports.wire_series import Series
from stacmirror.transports.wire_turns import Turns

_SWEEP_S = 1.0
_IDLE_MAX_S = 15.0
"""A connection kept longer may be closed by the server just as we write; most close at 60 to 75 s, some at 5."""
_SLOW_WINDOW_S = 30.0
_CLOSING_TURNS, _CLOSING_TURN_S = 20, 0.01
_ORIGINS_MAX = 1000
_HEADS_MAX = 64
_HEAD_MAX_BYTES = 64 << 10


class WireTransport:
    """Kept connections per origin. Implements `interfaces.Transport`."""

    def __init__(
        self,
        *,
        user_agent: str,
        connect_timeout_s: float,
        stall_timeout_s: float,
        kept_max: int = 64,
        slowest_bytes_per_s: float = 100.0,
        head_max_bytes: int = _HEAD_MAX_BYTES,
        tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        guard: Admits | None = None,
        gate: Gate | None = None,
    ) -> None:
        """`kept_max` idle connections an origin; how many are busy is the host budget's business, in one place.

        `slowest_bytes_per_s` over half a minute (or over the stall timeout, if that is longer), or the answer is
        given up. `guard` says which of a name's addresses may be connected to; without it: all. While
        `gate` is shut nothing is sent.
        """
        self._gate = gate or Gate()
        self._fixed = {"User-Agent": user_agent, "Accept": "*/*"}
        self._stall_timeout_s = stall_timeout_s
        # Never shorter than the stall timeout, which alone counts until the first byte.
        self._slow_window_s = max(_SLOW_WINDOW_S, stall_timeout_s)
        self._kept_max = kept_max
        self._head_max_bytes = head_max_bytes
        self._slowest_bytes_per_s = slowest_bytes_per_s
        self._dialer = Dialer(connect_timeout_s, tls, guard or Anywhere())
        self._pools: dict[str, _Pool] = {}
        self._heads: dict[tuple[tuple[str, str], ...], str] = {}
        self._connections: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._sweep_at_s = 0.0
        """When the next sweep is due, in loop time."""
        self._closed = False

    async def fetch(self, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
        """See `interfaces.Transport.fetch`."""
        if self._gate.shut:
            await self._gate.passed()
        spelled, target = split(url)
        pool = self._pools.get(spelled) or self._open_pool(spelled)
        request = f"GET {target} HTTP/1.1\r\nHost: {pool.origin.host}\r\n{self._head(headers)}".encode("latin-1")
        connection = pool.kept()
        if connection is not None:
            answer = connection.ask(request, url, small_max_bytes)
            try:
                return await connection.reply(answer)
            except TransferError as error:
                # The server may have closed a kept connection just before we wrote: asked once more, on a new one.
                if answer.begun or error.kind != "reset":
                    raise
        connection = await self._connect(pool)
        return await connection.reply(connection.ask(request, url, small_max_bytes))

    async def fetch_several(
        self,
        requests: Sequence[tuple[str, Mapping[str, str]]],
        small_max_bytes: int,
        heard: Callable[[Reply], bool] | None = None,
    ) -> Sequence[Reply | TransferError]:
        """See `interfaces.SeveralTransport.fetch_several`."""
        if self._gate.shut:
            await self._gate.passed()
        pool, lines = None, []
        for url, headers in requests:
            try:
                spelled, target = split(url)
            except TransferError:
                if pool is None:
                    raise
                break  # its error is for who asks for it
            pool = pool or self._pools.get(spelled) or self._open_pool(spelled)
            lines.append(
                f"GET {target} HTTP/1.1\r\nHost: {pool.origin.host}\r\n{self._head(headers)}".encode("latin-1")
            )
        if pool is None:
            return []
        urls = [url for url, _ in requests[: len(lines)]]

        def ask(connection: Connection) -> Series | Turns:
            if heard is None:
                return connection.ask_several(b"".join(lines), urls, small_max_bytes)
            return connection.ask_in_turn(lines, urls, small_max_bytes, heard)

        connection = pool.kept()
        if connection is not None:
            asked = ask(connection)
            try:
                return _with_error(await connection.replies(asked), asked)
            except TransferError as error:
                if asked.begun or error.kind != "reset":
                    raise
        connection = await self._connect(pool)
        asked = ask(connection)
        return _with_error(await connection.replies(asked), asked)

    def close_idle(self) -> None:
        """Close the connections that nobody uses: no more files may be open here."""
        for connection in list(self._connections):
            if connection.usable and not connection.busy:
                connection.end()

    async def close(self) -> None:
        """Close all connections, for good. Whoever still waits gets a TransferError. May be called twice."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._pools.clear()
        for connection in list(self._connections):
            if connection.busy:
                connection.abort(_closed())
            else:
                connection.end()
        await self._see_off()
        for connection in list(self._connections):
            connection.abort(_closed())
        await self._see_off()

    async def _see_off(self) -> None:
        """Let the loop close the sockets; over TLS that takes a word from the other side."""
        for _ in range(_CLOSING_TURNS):
            if not self._connections:
                return
            await asyncio.sleep(_CLOSING_TURN_S)

    def _head(self, headers: Mapping[str, str]) -> str:
        if "authorization" in headers:  # signed: no two are alike
            return header_lines({**self._fixed, **headers}) + "\r\n"
        key = tuple(headers.items())
        head = self._heads.get(key)
        if head is None:
            head = header_lines({**self._fixed, **headers}) + "\r\n"
            if len(self._heads) >= _HEADS_MAX:
                self._heads.clear()
            self._heads[key] = head
        return head

    def _open_pool(self, spelled: str) -> _Pool:
        """Return the pool of an origin not met in this spelling before. Raises: TransferError (`url`)."""
        origin = parse_origin(spelled)
        if len(self._pools) >= _ORIGINS_MAX:
            self._pools.clear()  # their idle connections end with the next sweeps
        canonical = f"http{'s' if origin.tls else ''}://{origin.host}"
        pool = self._pools.setdefault(canonical, _Pool(origin, self._kept_max, self._head_max_bytes, self._connections))
        self._pools[spelled] = pool
        return pool

    async def _connect(self, pool: _Pool) -> Connection:
        if self._closed:
            raise _closed()
        if self._timer is None:
            self._sweep_later(asyncio.get_running_loop())
        connection = await self._dialer.connect(pool.origin, pool)
        if self._closed:
            connection.abort(_closed())
            raise _closed()
        if self._gate.shut:
            try:
                await self._gate.passed()
            except BaseException:
                connection.abort(_closed())
                raise
        return connection

    # -- one timer for all timeouts ------------------------------------------------------------------------

    @property
    def _sweep_s(self) -> float:
        return min(_SWEEP_S, self._stall_timeout_s / 4)

    def _sweep_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweep_at_s = loop.time() + self._sweep_s
        self._timer = loop.call_later(self._sweep_s, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now_s, due_s = loop.time(), self._sweep_at_s
        self._sweep_later(loop)  # first: no error below may end it
        stood_still_s = now_s - due_s if now_s - due_s > self._sweep_s else 0.0
        for connection in list(self._connections):
            if connection.reading:
                if stood_still_s:
                    connection.not_listened_to(stood_still_s, now_s)
                self._judge(connection, now_s)
            elif connection.usable and now_s - connection.last_s > _IDLE_MAX_S:
                connection.end()

    def _judge(self, connection: Connection, now_s: float) -> None:
        if now_s - connection.last_s > self._stall_timeout_s:
            connection.abort(TransferError("timeout", f"no byte for {self._stall_timeout_s:g} s"))
        elif now_s - connection.window_s > self._slow_window_s:
            if connection.window_bytes < self._slowest_bytes_per_s * self._slow_window_s:
                message = f"{connection.window_bytes} bytes in {self._slow_window_s:g} s"
                connection.abort(TransferError("slow", message))
            connection.window_s, connection.window_bytes = now_s, 0


class _Pool:
    """The connections of one origin: all in `connections`, and those that are kept for the next request."""

    __slots__ = ("_connections", "_idle", "_kept_max", "head_max_bytes", "origin")

    def __init__(self, origin: Origin, kept_max: int, head_max_bytes: int, connections: set[Connection]) -> None:
        self.origin = origin
        self.head_max_bytes = head_max_bytes
        self._kept_max = kept_max
        self._connections = connections
        self._idle: list[Connection] = []

    def kept(self) -> Connection | None:
        """Return a kept connection that can be used, the one used last: the others may be let go."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    def made(self, connection: Connection) -> None:
        self._connections.add(connection)

    def free(self, connection: Connection) -> None:
        if len(self._idle) < self._kept_max:
            self._idle.append(connection)
        else:
            connection.end()

    def gone(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


def _with_error(replies: list[Reply], asked: Series | Turns) -> Sequence[Reply | TransferError]:
    return replies if asked.error is None else [*replies, asked.error]


def _closed() -> TransferError:
    return TransferError("reset", "the client is closed", retryable=False)
