"""Requests dressed with what their host wants: headers, tokens, signatures, cookies; each host its own, and no other.

Stands before an HTTP transport where the settings name hosts that want a login, and nowhere else. The router asks hop
by hop, so what one host gets never follows a redirect to another. An answer of 401 makes a login renew itself, once.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from stacmirror.errors import LoginRefused, TransferError
from stacmirror.gate import DOUBTED_AFTER, REFUSALS_MAX, Gate, Standing
from stacmirror.interfaces import Reply, SeveralTransport, Transport
from stacmirror.limits import origin_of
from stacmirror.redact import redact_url
from stacmirror.transports.address import parse_origin, split
from stacmirror.transports.posting import PostTransport

_REFUSED = (401, 403)
_COOKIES_MAX = 50
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Login(Protocol):
    """What one kind of login does to a request."""

    async def dress(self, url: str, headers: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
        """Return the URL and headers to send. Raises: LoginRefused, TransferError where a token cannot be had."""
        ...

    def refused(self, sent: Mapping[str, str]) -> bool:
        """Hear that `sent` was refused; return whether asking again, dressed anew, may be answered otherwise."""
        ...

    @property
    def lacks(self) -> str:
        """What is missing for this login, in words: then requests go out without it. "" where nothing is."""
        ...


class Learns(Protocol):
    """Hears of a secret before it is sent, so that it is taken out of all that is said and kept."""

    def __call__(self, secret: str, *, passing: bool = False) -> None: ...


def nothing_learned(secret: str, *, passing: bool = False) -> None:
    """For who says and keeps nothing."""


class Rule(NamedTuple):
    """Which hosts a login is for: a glob over `host` or `host:port`; see `Logins`."""

    hosts: str
    login: Login
    keeps_cookies: bool = False


class _Answer(NamedTuple):
    """An answer, the headers that it is an answer to, and whether it refuses a login."""

    reply: Reply
    sent: Mapping[str, str]
    refuses: bool


class Logins:
    """All rules of a run, bound to origins; what all that fit one want is sent.

    A rule that names no port is for the scheme's own port, and for the origin that the user named as source (`home`).
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        *,
        allow_http: bool = False,
        home: str = "",
        learns: Learns = nothing_learned,
        gate: Gate | None = None,
    ) -> None:
        """`gate` is shut while a login is in doubt."""
        self._gate = gate or Gate()
        self._standings: dict[str, Standing[Callable[[], Awaitable[_Answer]]]] = {}
        self._rules = rules
        self._home = parse_origin(split(home)[0]) if home.startswith(("http://", "https://")) else None
        self._learns = learns
        self._allow_http = allow_http
        self._by_origin: dict[str, tuple[Rule, ...]] = {}
        self._cookies: dict[str, dict[str, str]] = {}

    def of(self, url: str) -> tuple[Rule, ...]:
        """Return the rules for the host of a URL. Raises: TransferError where it would be asked without TLS."""
        origin = origin_of(url)
        found = self._by_origin.get(origin)
        if found is None:
            tls, host, port, _ = asked = parse_origin(split(url)[0])  # as the clients read it, whatever it looks like
            names = {f"{host}:{port}"}
            if port == (443 if tls else 80) or asked == self._home:
                names.add(host)
            fits = (rule for rule in self._rules if any(fnmatch.fnmatchcase(name, rule.hosts) for name in names))
            found = self._by_origin[origin] = tuple(fits)
            if found and not tls and host not in LOOPBACK and not self._allow_http:
                del self._by_origin[origin]
                raise TransferError("tls", f"no login is sent to {origin} without TLS (--allow-http)", retryable=False)
        return found

    async def send(
        self, url: str, headers: Mapping[str, str], send: Callable[[str, Mapping[str, str]], Awaitable[Reply]]
    ) -> Reply:
        """Send one request as its host wants it; the Reply has the URL as it was asked for.

        Raises: LoginRefused where a login lacks something; and where it is refused (401), for what it was good for as
                well, or three times with no good answer before. A 403 may be about the one object.
        """
        rules = self.of(url)
        if not rules:
            return await send(url, headers)
        origin = origin_of(url)
        standing = self._standings.get(origin) or self._standings.setdefault(origin, Standing(self._gate))
        ask = partial(self._send_dressed, rules, origin, url, headers, send)

        async def find_out() -> Reply | None:
            answer = await (standing.witness or ask)()
            standing.in_a_row = standing.in_a_row + 1 if answer.refuses else 0
            if answer.refuses and (standing.witness is not None or standing.in_a_row >= REFUSALS_MAX):
                _close(answer.reply)
                raise self._refused(origin)
            if standing.witness is None:
                return answer.reply
            _close(answer.reply)
            return None

        for attempt in range(2):
            proofs = standing.proofs
            answer = await ask()
            reply = answer.reply
            if reply.status < 400:
                standing.good(ask)
            renewed = [rule.login.refused(answer.sent) for rule in rules] if reply.status in _REFUSED else []
            if answer.refuses and not (any(renewed) and standing.has_moved(proofs)):
                standing.in_a_row += 1
                if standing.witness is None and standing.in_a_row >= REFUSALS_MAX:
                    _close(reply)
                    raise self._refused(origin)
            in_doubt = any(renewed) or (answer.refuses and standing.in_a_row >= DOUBTED_AFTER and standing.witness)
            if attempt or not in_doubt:
                break
            _close(reply)
            again = await standing.prove(proofs, find_out)
            if again is not None:
                reply = again
                break
        return Reply(url, reply.status, reply.headers, reply.body, reply.stream, framed=reply.framed)

    def _refused(self, origin: str) -> LoginRefused:
        return self._gate.end(LoginRefused(f"{redact_url(origin)} refuses the login (401)", hint=_HINT))

    async def _send_dressed(
        self,
        rules: Sequence[Rule],
        origin: str,
        url: str,
        headers: Mapping[str, str],
        send: Callable[[str, Mapping[str, str]], Awaitable[Reply]],
    ) -> _Answer:
        """Send it dressed."""
        address, sent = url, dict(headers)
        for rule in rules:
            address, more = await rule.login.dress(address, sent)
            sent = dict(more)
        has_login = address != url or sent != headers
        cookies = self._cookies.get(origin)
        if cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        reply = await send(address, sent)
        if any(rule.keeps_cookies for rule in rules):
            self._keep(origin, reply)
        lacks = next((rule.login.lacks for rule in rules if rule.login.lacks), "")
        if lacks and reply.status in _REFUSED:
            _close(reply)
            raise LoginRefused(f"{redact_url(origin)} wants a login ({reply.status}): {lacks}", hint=_HINT)
        return _Answer(reply, sent, refuses=has_login and reply.status == 401)

    def _keep(self, origin: str, reply: Reply) -> None:
        # Transports join several headers of one name with commas, which dates have as well: a pair begins each cookie.
        for part in reply.headers.get("set-cookie", "").split(","):
            name, equals, value = part.partition(";")[0].strip().partition("=")
            if equals and name.replace("-", "").replace("_", "").isalnum():
                jar = self._cookies.setdefault(origin, {})
                if len(jar) < _COOKIES_MAX:
                    jar[name] = value
                    self._learns(value, passing=True)


_HINT = "`stacmirror sources --auth` says how to log in"


class AuthorizedTransport:
    """Implements `interfaces.SeveralTransport` before another transport."""

    def __init__(self, inner: Transport, several: SeveralTransport | None, logins: Logins) -> None:
        self._inner = inner
        self._several = several
        self._logins = logins

    async def fetch(self, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
        """See `interfaces.Transport.fetch`."""
        return await self._logins.send(url, headers, lambda at, sent: self._inner.fetch(at, sent, small_max_bytes))

    async def fetch_several(
        self,
        requests: Sequence[tuple[str, Mapping[str, str]]],
        small_max_bytes: int,
        heard: Callable[[Reply], bool] | None = None,
    ) -> Sequence[Reply | TransferError | None]:
        """See `interfaces.SeveralTransport.fetch_several`; hosts that want a login are asked one by one."""
        if self._several is None or self._logins.of(requests[0][0]):
            return []
        return await self._several.fetch_several(requests, small_max_bytes, heard)

    async def close(self) -> None:
        """Close all connections."""
        await self._inner.close()


class AuthorizedPosts:
    """Implements `PostTransport` before another one."""

    def __init__(self, inner: PostTransport, logins: Logins) -> None:
        self._inner = inner
        self._logins = logins

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, small_max_bytes: int) -> Reply:
        """See `PostTransport`."""
        return await self._logins.send(url, headers, lambda at, sent: self._inner.post(at, sent, body, small_max_bytes))

    async def close(self) -> None:
        """See `PostTransport`."""
        await self._inner.close()


def _close(reply: Reply) -> None:
    if reply.stream is not None:
        reply.stream.close()
