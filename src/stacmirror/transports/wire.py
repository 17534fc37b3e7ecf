"""`http://` and `https://` by our own lean HTTP/1.1 client: GET only, for redirects, assets and items.

A tenth of a general client's CPU: no URL objects, no session, no cookie jar, one timer for all timeouts. It asks
once, follows nothing, decodes nothing. Whatever is odd about a connection drops it: a surplus byte, an error, a
close. What it cannot do (proxies) stays with `http`.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from urllib.parse import quote

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply
from stacmirror.transports.wire_connection import Connection

_SWEEP_S = 1.0
_IDLE_MAX_S = 15.0
"""A connection kept longer may be closed by the server just as we write; most close at 60 to 75 s, some at 5."""
_DNS_LIFE_S = 300.0
_SLOW_WINDOW_S = 30.0
_CLOSING_TURNS, _CLOSING_TURN_S = 20, 0.01
_ODD = re.compile(r"[^\x21-\x7e]")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


class WireTransport:
    """Kept connections per origin. Implements `interfaces.Transport`."""

    def __init__(
        self,
        *,
        user_agent: str,
        connect_timeout_s: float,
        stall_timeout_s: float,
        slowest_bytes_per_s: float = 100.0,
        tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        """`slowest_bytes_per_s` over half a minute, or the answer is given up."""
        self._fixed = f"User-Agent: {user_agent}\r\nAccept: */*\r\n"
        self._connect_timeout_s = connect_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._slowest_bytes_per_s = slowest_bytes_per_s
        self._make_tls = tls
        self._tls: ssl.SSLContext | None = None
        self._origins: dict[str, _Origin] = {}
        self._heads: dict[int, tuple[Mapping[str, str], str]] = {}
        self._connections: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._addresses: dict[tuple[str, int], tuple[float, list[tuple[str, int]]]] = {}

    async def fetch(self, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
        """See `interfaces.Transport.fetch`."""
        url_sent = _quoted(url) if _ODD.search(url) else url
        scheme, _, host, target = _split(url_sent)
        origin = self._origins.get(scheme + host)
        if origin is None:
            origin = self._origins[scheme + host] = _Origin(scheme, host)
        request = f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{self._head(headers)}\r\n".encode("latin-1")
        while True:
            connection = origin.kept()
            fresh = connection is None
            if connection is None:
                connection = await self._connect(origin)
            reply = connection.get(request, url, small_max_bytes)
            try:
                return await reply
            except asyncio.CancelledError:
                connection.busy = False
                connection.abort()
                raise
            except TransferError as error:
                # The server may have closed a kept connection just before we wrote: nobody has seen the request.
                if fresh or connection.answered or error.kind != "reset":
                    raise

    async def close(self) -> None:
        """Close all connections. May be called twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._origins.clear()
        for connection in self._connections:
            connection.abort() if connection.busy else connection.end()
        await self._see_off()
        for connection in self._connections:
            connection.abort()
        self._connections.clear()
        await asyncio.sleep(0)

    async def _see_off(self) -> None:
        """Let the loop close the sockets; over TLS that takes a word from the other side."""
        for _ in range(_CLOSING_TURNS):
            if all(connection.disconnected for connection in self._connections):
                return
            await asyncio.sleep(_CLOSING_TURN_S)

    def _head(self, headers: Mapping[str, str]) -> str:
        known = self._heads.get(id(headers))
        if known is not None and known[0] is headers:
            return known[1]
        if any(_HEADER_BREAK.search(name + value) for name, value in headers.items()):
            raise TransferError("url", "a header holds a line break", retryable=False)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = self._fixed + lines
        if len(self._heads) < 16:
            self._heads[id(headers)] = (headers, head)
        return head

    # -- connecting ----------------------------------------------------------------------------------------

    async def _connect(self, origin: _Origin) -> Connection:
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._timer = loop.call_later(self._sweep_s, self._sweep, loop)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                connection = await self._connect_to_one(origin, loop)
        except TimeoutError as error:
            raise TransferError("connect", f"no connection in time: {origin.name}:{origin.port}") from error
        self._connections.add(connection)
        return connection

    async def _connect_to_one(self, origin: _Origin, loop: asyncio.AbstractEventLoop) -> Connection:
        last: OSError | None = None
        for address, port in await self._resolve(origin, loop):
            try:
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, origin.keep),
                    address,
                    port,
                    ssl=self._context() if origin.tls else None,
                    server_hostname=origin.name if origin.tls else None,
                )
            except ssl.SSLError as error:
                trusted = not isinstance(error, ssl.SSLCertVerificationError)
                reason = "the TLS handshake failed" if trusted else "the server's certificate is not trusted"
                raise TransferError("tls", f"{reason}: {origin.name}", retryable=trusted) from error
            except OSError as error:
                last = error
            else:
                return connection
        reason = (last.strerror if last is not None else None) or "no connection"
        raise TransferError("connect", f"{reason}: {origin.name}:{origin.port}") from last

    async def _resolve(self, origin: _Origin, loop: asyncio.AbstractEventLoop) -> list[tuple[str, int]]:
        key = (origin.name, origin.port)
        known = self._addresses.get(key)
        if known is not None and known[0] > loop.time():
            return known[1]
        try:
            found = await loop.getaddrinfo(origin.name, origin.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise TransferError("dns", f"host name not found: {origin.name}") from error
        addresses = list(dict.fromkeys((str(info[4][0]), int(info[4][1])) for info in found))
        self._addresses[key] = (loop.time() + _DNS_LIFE_S, addresses)
        return addresses

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = self._make_tls()
        return self._tls

    # -- one timer for all timeouts ------------------------------------------------------------------------

    @property
    def _sweep_s(self) -> float:
        return min(_SWEEP_S, self._stall_timeout_s / 4)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now_s = loop.time()
        for connection in list(self._connections):
            if connection.lost:
                self._connections.discard(connection)
            elif connection.reading:
                self._judge(connection, now_s)
            elif not connection.busy and now_s - connection.last_s > _IDLE_MAX_S:
                connection.end()
        self._timer = loop.call_later(self._sweep_s, self._sweep, loop)

    def _judge(self, connection: Connection, now_s: float) -> None:
        if now_s - connection.last_s > self._stall_timeout_s:
            connection.fail(TransferError("timeout", f"no byte for {self._stall_timeout_s:g} s"))
        elif now_s - connection.window_s > _SLOW_WINDOW_S:
            if connection.window_bytes < self._slowest_bytes_per_s * _SLOW_WINDOW_S:
                connection.fail(TransferError("slow", f"{connection.window_bytes} bytes in {_SLOW_WINDOW_S:g} s"))
            connection.window_s, connection.window_bytes = now_s, 0


class _Origin:
    """Scheme, host and port, and the connections kept there."""

    __slots__ = ("_idle", "name", "port", "tls")

    def __init__(self, scheme: str, host: str) -> None:
        self.tls = scheme == "https"
        self.name, self.port = _host_and_port(host, 443 if self.tls else 80)
        self._idle: list[Connection] = []

    def keep(self, connection: Connection) -> None:
        self._idle.append(connection)

    def kept(self) -> Connection | None:
        """Return a kept connection, the one used last: the others may be let go."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.lost:
                return connection
        return None


_HEADER_BREAK = re.compile(r"[\r\n\0]")


def _split(url: str) -> tuple[str, str, str, str]:
    """Return scheme, "", host (with port) and target. Raises: TransferError for what is no URL, or names a user."""
    parts = url.split("/", 3)
    if len(parts) < 3 or parts[1] or not parts[0].endswith(":"):
        raise TransferError("url", "not a URL that can be asked", retryable=False)
    host, query = parts[2], ""
    for mark in ("?", "#"):
        if mark in host:  # https://host?query
            host, _, rest = host.partition(mark)
            query = mark + rest
    path = "/" + (parts[3] if len(parts) > 3 else "")
    target = (path if not query else "/" + query + path[1:]).partition("#")[0]
    if not host or "@" in host:
        raise TransferError("url", "not a URL that can be asked", retryable=False)
    return parts[0][:-1].lower(), "", host, target


def _host_and_port(host: str, default: int) -> tuple[str, int]:
    name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not colon:
        name, port = host, str(default)
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise TransferError("url", "not a URL that can be asked", retryable=False)
    return name.strip("[]").lower(), int(port)


def _quoted(url: str) -> str:
    """Quote what no server would accept (spaces, controls, other alphabets), and nothing else."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    if _ODD.search(host):
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise TransferError("url", "not a URL that can be asked", retryable=False) from error
    return f"{scheme}{separator}{host}{slash}{quote(path, safe=_PRINTABLE)}"
