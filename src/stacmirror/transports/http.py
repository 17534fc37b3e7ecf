"""`http://` and `https://` by aiohttp: pages, items, redirects, assets.

Built by the composition root, called by the router. It asks once, follows nothing, retries nothing; it knows
neither keys nor catalogs. aiohttp's exceptions are mapped here and go no further.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from stacmirror.errors import LoginRefused, TransferError
from stacmirror.gate import Gate
from stacmirror.interfaces import Reply
from stacmirror.redact import redact_url
from stacmirror.transports.address import Origin, parse_origin, split
from stacmirror.transports.aiohttp_answer import Pace, Response, heard_by, read_reply
from stacmirror.transports.aiohttp_errors import map_error
from stacmirror.transports.guard import Admits, Anywhere
from stacmirror.transports.listening import Listening

_HEAD_MAX_BYTES = 64 << 10
_SLOW_WINDOW_S = 30.0
_LOOKED_AT_MAX = 1000
_NONE_KEPT_S = 15.0


class AiohttpTransport:
    """One session for the whole run: kept connections, no cookies, no redirects, no decompression."""

    def __init__(
        self,
        *,
        user_agent: str,
        connect_timeout_s: float,
        stall_timeout_s: float,
        proxies: Mapping[str, str] | None = None,
        slowest_bytes_per_s: float = 100.0,
        head_max_bytes: int = _HEAD_MAX_BYTES,
        tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        guard: Admits | None = None,
        gate: Gate | None = None,
    ) -> None:
        """`proxies` maps a scheme (`http`, `https`, or `all`) to a proxy's URL.

        `slowest_bytes_per_s` over half a minute (or over the stall timeout, if that is longer), or a body is given up.
        `guard` says which of a name's addresses may be connected to; without it: all. While `gate` is shut nothing is
        sent.
        """
        self._gate = gate or Gate()
        self._guard = guard or Anywhere()
        self._head_max_bytes = head_max_bytes
        self._looked_at: set[Origin] = set()
        self._pace = Pace(max(_SLOW_WINDOW_S, stall_timeout_s), slowest_bytes_per_s)
        self._make_tls = tls
        self._user_agent = user_agent
        self._proxies = proxies or {}
        # No total: a large scene may take an hour. What must not happen is an answer without a byte, and not by
        # aiohttp's `sock_read`: that takes a standstill of our own for the server's silence.
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s)
        self._listening = Listening(stall_timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._none_kept_until_s = 0.0

    def _open_session(self) -> aiohttp.ClientSession:
        # limit=0: how many requests a host gets is the host budget's business, in one place.
        connector = _Connector(
            self._gate, limit=0, ttl_dns_cache=300, ssl=self._make_tls(), resolver=_Resolver(self._guard)
        )
        return aiohttp.ClientSession(
            connector=connector,
            response_class=heard_by(self._listening),
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            requote_redirect_url=False,
            # Not trust_env: it reads netrc in a thread at every request (twice the CPU), and would send its passwords.
            trust_env=False,
            max_line_size=self._head_max_bytes,
            max_field_size=self._head_max_bytes,  # of one line; at most 128 of them
            headers={"User-Agent": self._user_agent, "Accept": "*/*"},
        )

    async def fetch(self, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
        """See `interfaces.Transport.fetch`."""
        return await self._send("GET", url, headers, None, small_max_bytes)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, small_max_bytes: int) -> Reply:
        """As `fetch`, with POST and a body: searches, and logins."""
        return await self._send("POST", url, headers, body, small_max_bytes)

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, small_max_bytes: int
    ) -> Reply:
        if self._session is None:
            self._session = self._open_session()
        spelled, target = split(url)
        origin = parse_origin(spelled)
        if origin not in self._looked_at:
            self._look_at(origin)
        proxy = self._proxy_for(url)
        if self._none_kept_until_s and time.monotonic() < self._none_kept_until_s:
            headers = {**headers, "Connection": "close"}
        try:
            asked = URL(f"http{'s' if origin.tls else ''}://{origin.host}{target}", encoded=True)
            response = cast(
                "Response",
                await self._session.request(
                    method, asked, headers=headers, data=body, allow_redirects=False, proxy=proxy
                ),
            )
        except LoginRefused:
            raise
        except Exception as error:
            raise _of_proxy(map_error(error), proxy) from error
        try:
            return await read_reply(url, response, small_max_bytes, self._pace)
        except BaseException:
            response.close()
            raise

    def _look_at(self, origin: Origin) -> None:
        """Refuse what aiohttp connects to without asking its resolver: a number. Raises: TransferError (`host`)."""
        self._guard.admit_spelled(origin.name, origin.port)
        if len(self._looked_at) >= _LOOKED_AT_MAX:
            self._looked_at.clear()
        self._looked_at.add(origin)

    def _proxy_for(self, url: str) -> str | None:
        if not self._proxies:
            return None
        parts = urlsplit(url)
        if proxy_bypass(parts.netloc):
            return None
        return self._proxies.get(parts.scheme) or self._proxies.get("all")

    def close_idle(self) -> None:
        """Keep no connection for a while: no more files may be open here, and aiohttp takes the kept ones in turn."""
        self._none_kept_until_s = time.monotonic() + _NONE_KEPT_S

    async def close(self) -> None:
        """Close all connections."""
        self._listening.close()
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()


def _of_proxy(error: TransferError, proxy: str | None) -> TransferError:
    """Return the error that names the proxy, where there is one: whoever does not connect is the proxy then."""
    if proxy is None or error.kind not in ("connect", "dns", "proxy"):
        return error
    said = error.message if error.kind == "proxy" else f"no connection to the proxy ({error.message})"
    found = TransferError("proxy", f"{said}: {redact_url(proxy)}", retryable=error.retryable)
    found.hint = "HTTPS_PROXY and HTTP_PROXY name it; NO_PROXY names hosts to ask without it"
    return found


class _Connector(aiohttp.TCPConnector):
    """Hands over no connection while the gate is shut: what is sent on it is written at once."""

    def __init__(self, gate: Gate, **options: Any) -> None:
        super().__init__(**options)
        self._gate = gate

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        if self._gate.shut:
            try:
                await self._gate.passed()
            except BaseException:
                connection.release()
                raise
        return connection


class _Resolver(AbstractResolver):
    """The system's names, without the addresses that the guard does not admit."""

    def __init__(self, guard: Admits) -> None:
        self._guard = guard
        self._names = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._names.resolve(host, port, family)
        admitted = set(self._guard.admit(host, port, [result["host"] for result in found]))
        return [result for result in found if result["host"] in admitted]

    async def close(self) -> None:
        await self._names.close()
