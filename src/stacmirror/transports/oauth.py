"""Tokens that end: OAuth2's client and password grants with refresh, and whatever else gives a token.

`TokenLogin` holds one token for all requests: fetched once however many wait for it, renewed before it ends and once
when it is refused. Source: RFC 6749, sections 4.3, 4.4, 5 and 6.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import urlencode

import msgspec

from stacmirror.errors import LoginRefused, TransferError
from stacmirror.interfaces import Clock
from stacmirror.redact import redact_url
from stacmirror.transports.authorized import Learns, nothing_learned
from stacmirror.transports.posting import PostTransport

_ANSWER_MAX_BYTES = 1 << 20
_MARGIN_S = 60.0
_FORM = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
_NAMES = frozenset({"STACMIRROR_CLIENT_ID", "STACMIRROR_USERNAME"})
"""Variables that are no secrets, and may be words of other texts."""
_LOCKED_S = 10.0
"""A token that was refused within so many seconds of its birth is not at fault."""


class TokenSource(Protocol):
    """Gives tokens."""

    async def token(self) -> tuple[str, float | None]:
        """Return a token, and how many seconds it lives, if that is known. Raises: LoginRefused, TransferError."""
        ...

    def forget(self) -> None:
        """Hear that what was given last is refused: do not refresh, log in."""
        ...


class TokenLogin:
    """A bearer token; implements `authorized.Login`."""

    def __init__(self, source: TokenSource, clock: Clock, learns: Learns = nothing_learned) -> None:
        self._source = source
        self._learns = learns
        self._clock = clock
        self._token = ""
        self._born_s = -math.inf
        self._ends_s = -math.inf
        self._getting = asyncio.Lock()
        self._error: LoginRefused | None = None
        """Why no token is given: whoever waits with others for one does not ask again."""
        self.lacks = ""

    async def dress(self, url: str, headers: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
        """See `authorized.Login`."""
        if not self.lacks and self._clock.monotonic() >= self._ends_s:
            async with self._getting:  # who comes second finds what the first one got
                if self._clock.monotonic() >= self._ends_s and not self.lacks:
                    await self._get()
        return url, {**headers, "authorization": f"Bearer {self._token}"} if self._token else headers

    async def _get(self) -> None:
        if self._error is not None:
            raise LoginRefused(self._error.message, hint=self._error.hint)
        try:
            self._token, life_s = await self._source.token()
        except MissingSecret as error:
            self.lacks = error.message
            return
        except LoginRefused as error:
            self._error = error
            raise
        self._learns(self._token, passing=True)
        self._born_s = self._clock.monotonic()
        margin_s = _MARGIN_S if life_s is None else min(_MARGIN_S, life_s / 5)
        self._ends_s = math.inf if life_s is None else self._born_s + life_s - margin_s

    def refused(self, sent: Mapping[str, str]) -> bool:
        """See `authorized.Login`."""
        if sent.get("authorization") != f"Bearer {self._token}":
            return True  # another request has renewed it meanwhile
        if self._clock.monotonic() - self._born_s < _LOCKED_S:
            return False  # a new one: it is the request that is refused
        self._ends_s = -math.inf
        self._source.forget()
        return True


class MissingSecret(LoginRefused):
    """A variable that a login needs is not set."""


class _Grant:
    """What both grants share: one POST of a form."""

    def __init__(
        self, url: str, secrets: Callable[[str], str], posts: PostTransport, learns: Learns = nothing_learned
    ) -> None:
        self._url = url
        self._learns = learns
        self._secrets = secrets
        self._posts = posts

    def secret(self, name: str) -> str:
        """Return a variable's value. Raises: MissingSecret."""
        found = self._secrets(name).strip()
        if not found:
            raise MissingSecret(f"the variable {name} is not set", hint="set it, or leave that --auth out")
        if name not in _NAMES:
            self._learns(found)
        return found

    async def ask(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Return what the endpoint says. Raises: LoginRefused, TransferError."""
        shown = redact_url(self._url)
        reply = await self._posts.post(self._url, _FORM, urlencode(form).encode(), _ANSWER_MAX_BYTES)
        if reply.stream is not None:
            reply.stream.close()
        if reply.status in (429, 500, 502, 503, 504):
            raise TransferError("5xx", f"{reply.status} from {shown}", status=reply.status)
        try:
            found = msgspec.json.decode(reply.body or b"")
        except ValueError:
            found = None
        if reply.status != 200 or not isinstance(found, dict) or not isinstance(found.get("access_token"), str):
            code = found.get("error") if isinstance(found, dict) else None
            said = f": {code}" if isinstance(code, str) and code.replace("_", "").isalnum() else ""
            raise LoginRefused(
                f"{shown} gave no token ({reply.status}{said})", hint="are user, password or client right?"
            )
        return found


class ClientGrant(_Grant):
    """The client's own credentials."""

    async def token(self) -> tuple[str, float | None]:
        """See `TokenSource`."""
        found = await self.ask(
            {
                "grant_type": "client_credentials",
                "client_id": self.secret("STACMIRROR_CLIENT_ID"),
                "client_secret": self.secret("STACMIRROR_CLIENT_SECRET"),
            }
        )
        return str(found["access_token"]), _life_s(found, "expires_in")

    def forget(self) -> None:
        """Nothing is kept."""


class PasswordGrant(_Grant):
    """A user's name and password; then the refresh token, for as long as it is taken."""

    def __init__(
        self,
        url: str,
        client: str,
        secrets: Callable[[str], str],
        posts: PostTransport,
        learns: Learns = nothing_learned,
    ) -> None:
        super().__init__(url, secrets, posts, learns)
        self._client = client
        self._refresh = ""

    async def token(self) -> tuple[str, float | None]:
        """See `TokenSource`."""
        found: dict[str, Any] | None = None
        if self._refresh:
            form = {"grant_type": "refresh_token", "client_id": self._client, "refresh_token": self._refresh}
            try:
                found = await self.ask(form)
            except LoginRefused:
                self._refresh = ""  # it has ended, too
        if found is None:
            user, password = self.secret("STACMIRROR_USERNAME"), self.secret("STACMIRROR_PASSWORD")
            found = await self.ask(
                {"grant_type": "password", "client_id": self._client, "username": user, "password": password}
            )
        refresh = found.get("refresh_token")
        self._refresh = refresh if isinstance(refresh, str) else self._refresh
        self._learns(self._refresh, passing=True)
        return str(found["access_token"]), _life_s(found, "expires_in")

    def forget(self) -> None:
        """See `TokenSource`."""
        self._refresh = ""


def _life_s(found: Mapping[str, Any], name: str) -> float | None:
    value = found.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 else None
