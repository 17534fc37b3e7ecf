"""The kinds of login: headers, bearer, basic, netrc, a token command, OAuth2 grants, query keys, Planetary Computer.

`make_rules` reads `HOST=SCHEME` as typed. Secrets come from variables that the command line hands in, or from files;
they are read when a host is first asked, so that a source can be listed without the login that only its assets want.
"""

from __future__ import annotations

import asyncio
import base64
import netrc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from stacmirror.errors import LoginRefused, UsageError
from stacmirror.interfaces import Clock, Transport
from stacmirror.transports.authorized import LOOPBACK, Learns, Login, Rule, nothing_learned
from stacmirror.transports.oauth import ClientGrant, PasswordGrant, TokenLogin
from stacmirror.transports.planetary import SAS_ROOT, PlanetaryComputer
from stacmirror.transports.posting import PostTransport

SCHEMES = {
    "bearer:env:NAME": "the token in the variable NAME; bearer:file:PATH: in a file",
    "basic:env:NAME": "user:password in the variable NAME; basic:file:PATH: in a file",
    "netrc": "user and password of the host in ~/.netrc; netrc:PATH: in another file; cookies are kept (Earthdata)",
    "command:PROGRAM ...": "a program prints the token; it is run again when the token is refused",
    "oauth2-client:URL": "a token of this endpoint, for STACMIRROR_CLIENT_ID and STACMIRROR_CLIENT_SECRET",
    "oauth2-password:ID@URL": "the same for the client ID, with STACMIRROR_USERNAME and STACMIRROR_PASSWORD; refreshed",
    "query:KEY:env:NAME": "the query parameter KEY with the value of the variable NAME; or KEY:file:PATH",
    "planetary-computer": "Azure blobs signed by a token a container, renewed before it ends",
}
"""How `--auth HOST=SCHEME` is spelled, and what each means."""
_HINT = "`stacmirror sources --auth` lists the schemes"
_COMMAND_S = 60.0
_NOBODY: Any = None
"""In place of clients, where nothing is asked."""

Secrets = Callable[[str], str]
"""Gives the value of a variable, "" where it is not set."""


def make_rules(
    auth: Sequence[str],
    headers: Sequence[str],
    secrets: Secrets,
    http: Transport,
    posts: PostTransport,
    clock: Clock,
    learns: Learns = nothing_learned,
) -> list[Rule]:
    """Return who logs in where; `http` and `posts` fetch tokens, `learns` hears of each secret before it is sent.

    Raises: UsageError for what cannot be read.
    """
    rules = [_header_rule(text, learns) for text in headers]
    makes = _Makes(secrets, http, posts, clock, learns)
    for text in auth:
        hosts, equals, scheme = text.strip().partition("=")
        kind, _, rest = scheme.partition(":")
        if not equals or not hosts or "/" in hosts:
            raise UsageError(f"--auth {hosts[:60]!r}: HOST=SCHEME is wanted", hint=_HINT)
        login = makes.login(kind, rest, hosts)
        rules.append(Rule(hosts.lower(), login, keeps_cookies=kind == "netrc"))
    return rules


def check_rules(auth: Sequence[str], headers: Sequence[str]) -> None:
    """Refuse what is no rule before any of it is shown or kept: a secret may stand there. Raises: UsageError."""
    make_rules(auth, headers, lambda name: "", _NOBODY, _NOBODY, _NOBODY)


class _Makes(NamedTuple):
    """What logins are made of."""

    secrets: Secrets
    http: Transport
    posts: PostTransport
    clock: Clock
    learns: Learns

    def login(self, kind: str, rest: str, hosts: str) -> Login:
        """Return the login of one rule. Raises: UsageError."""
        secrets, posts, clock, learns = self.secrets, self.posts, self.clock, self.learns
        if kind == "bearer":
            return _Held(_secret(rest, secrets, learns), lambda token: {"authorization": f"Bearer {token}"})
        if kind == "basic":
            read = _secret(rest, secrets, learns)
            return _Held(read, lambda pair: {"authorization": f"Basic {_base64(_pair(pair, learns))}"})
        if kind == "netrc":
            return _Netrc(Path(rest or "~/.netrc").expanduser(), learns)
        if kind == "command" and rest.strip():
            return TokenLogin(_Command(rest), clock, learns)
        if kind == "oauth2-client" and _is_url(rest):
            return TokenLogin(ClientGrant(rest, secrets, posts, learns), clock, learns)
        if kind == "oauth2-password" and "@" in rest and _is_url(rest.partition("@")[2]):
            client, _, url = rest.partition("@")
            return TokenLogin(PasswordGrant(url, client, secrets, posts, learns), clock, learns)
        if kind == "query" and ":" in rest:
            name, _, where = rest.partition(":")
            return _Query(name, _secret(where, secrets, learns))
        if kind == "planetary-computer" and (not rest or _is_url(rest)):
            return PlanetaryComputer(rest or SAS_ROOT, self.http, clock, learns)
        raise UsageError(f"--auth {hosts}={kind[:20]}: no such scheme, or not all of it", hint=_HINT)


def _pair(pair: str, learns: Learns) -> str:
    learns(pair.partition(":")[2])  # the password by itself, too
    return pair


def _header_rule(text: str, learns: Learns) -> Rule:
    # Not shown: what stands there is likely a secret.
    hosts, colon, header = text.strip().partition(":")
    if header.partition(":")[0].isdigit():  # HOST:PORT:NAME=VALUE
        port, _, header = header.partition(":")
        hosts = f"{hosts}:{port}"
    name, equals, value = header.partition("=")
    usable = colon and equals and hosts and name.replace("-", "").replace("_", "").isalnum()
    if not usable or not (name.isascii() and value.isascii() and value.isprintable()):
        raise UsageError("--header wants HOST:NAME=VALUE, in ASCII", hint="such as --header host.org:X-Api-Key=…")
    learns(value)
    learns(value.rpartition(" ")[2])  # without `Bearer`, `Basic`
    return Rule(hosts.lower(), _Held(lambda: value, lambda held: {name.lower(): held}))


class _Held:
    """One secret, read once, in a header."""

    def __init__(self, read: Callable[[], str], headers_of: Callable[[str], Mapping[str, str]]) -> None:
        self._read = read
        self._headers_of = headers_of
        self._held: str | None = None
        self.lacks = ""

    async def dress(self, url: str, headers: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
        """See `Login`."""
        if self._held is None:
            try:
                self._held = self._read()
            except LoginRefused as error:
                self.lacks, self._held = error.message, ""
        return url, {**headers, **self._headers_of(self._held)} if self._held else headers

    def refused(self, sent: Mapping[str, str]) -> bool:
        """See `Login`."""
        return False


class _Query:
    """One secret in the query."""

    def __init__(self, name: str, read: Callable[[], str]) -> None:
        self._name = name
        self._held = _Held(read, lambda value: {"": value})

    async def dress(self, url: str, headers: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
        """See `Login`."""
        _, found = await self._held.dress(url, {})
        if "" not in found:
            return url, headers
        return f"{url}{'&' if '?' in url else '?'}{quote(self._name)}={quote(found[''], safe='')}", headers

    def refused(self, sent: Mapping[str, str]) -> bool:
        """See `Login`."""
        return False

    @property
    def lacks(self) -> str:
        """See `Login`."""
        return self._held.lacks


class _Netrc:
    """User and password by host, from a netrc file."""

    def __init__(self, path: Path, learns: Learns = nothing_learned) -> None:
        self._path = path
        self._learns = learns
        self._read: netrc.netrc | None = None
        self.lacks = ""

    async def dress(self, url: str, headers: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
        """See `Login`."""
        if self._read is None and not self.lacks:
            try:
                self._read = await asyncio.to_thread(netrc.netrc, str(self._path))
            except FileNotFoundError:
                self.lacks = f"there is no {self._path}"
            except (OSError, netrc.NetrcParseError):  # its words quote the line
                self.lacks = f"{self._path} cannot be read"
        found = self._read.authenticators(urlsplit(url).hostname or "") if self._read is not None else None
        if found is None:
            return url, headers
        self._learns(found[2] or "")
        return url, {**headers, "authorization": f"Basic {_base64(f'{found[0]}:{found[2]}')}"}

    def refused(self, sent: Mapping[str, str]) -> bool:
        """See `Login`."""
        return False


class _Command:
    """A program that prints a token."""

    def __init__(self, line: str) -> None:
        self._line = line

    async def token(self) -> tuple[str, float | None]:
        """Return what it prints first, and no life. Raises: LoginRefused."""
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_shell(self._line, stdout=pipe, stderr=nothing, stdin=nothing)
        try:
            said, _ = await asyncio.wait_for(process.communicate(), _COMMAND_S)
        except TimeoutError:
            said = b""
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        lines = said.decode("ascii", "replace").split("\n")
        token = lines[0].strip()
        if process.returncode or not token or not token.isprintable():
            raise LoginRefused("the token command printed no token", hint="run it by itself: it must print one line")
        return token, None

    def forget(self) -> None:
        """Nothing is kept."""


def _secret(where: str, secrets: Secrets, learns: Learns) -> Callable[[], str]:
    kind, _, name = where.partition(":")
    if kind not in ("env", "file") or not name:
        # Not shown: what stands there is likely the secret itself.
        raise UsageError("--auth: env:NAME or file:PATH is wanted, and no secret itself", hint=_HINT)

    def read() -> str:
        if kind == "env":
            found = secrets(name).strip()
            missing = f"the variable {name} is not set"
        else:
            try:
                with Path(name).expanduser().open(encoding="ascii") as lines:
                    found = lines.readline(10_000).strip()
            except (OSError, ValueError):
                found = ""
            missing = f"{name} has no first line that can be read"
        if not found:
            raise LoginRefused(missing, hint=_HINT)
        if not (found.isascii() and found.isprintable()):
            raise LoginRefused(f"{name} holds characters that no secret has", hint="copy it anew")
        learns(found)
        return found

    return read


def _base64(pair: str) -> str:
    return base64.b64encode(pair.encode()).decode()


def _is_url(text: str) -> bool:
    """Return whether a token may be had there: with TLS or on this machine, and no login is in the address itself."""
    try:
        parts = urlsplit(text)
        local = parts.scheme == "http" and (parts.hostname or "") in LOOPBACK
        return (local or (parts.scheme == "https" and bool(parts.hostname))) and parts.username is None
    except ValueError:
        return False
