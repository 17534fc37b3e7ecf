"""Planetary Computer: Azure blobs are asked for with a signature (SAS) that is good for a container for an hour or so.

One token a storage account and container, fetched once however many wait, renewed before it ends. What is signed
already is left alone: two signatures are a 403. Source: planetarycomputer.microsoft.com/docs/concepts/sas.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import msgspec

from stacmirror.errors import TransferError
from stacmirror.interfaces import Clock, Transport
from stacmirror.redact import redact_url
from stacmirror.retry import GONE_STATUSES, RETRYABLE_STATUSES, error_for_status
from stacmirror.transports.authorized import Learns, nothing_learned

SAS_ROOT = "https://planetarycomputer.microsoft.com/api/sas/v1"
_PUBLIC_ACCOUNTS = frozenset({"ai4edatasetspublicassets"})
_MARGIN_S = 300.0
_SIGNED = frozenset({"st", "se", "sp", "sig"})
_ANSWER_MAX_BYTES = 1 << 16
_WAIT = re.compile(rb"in (\d{1,4}) seconds?")


class _Token(NamedTuple):
    query: str
    ends_s: float


class PlanetaryComputer:
    """Signs blob URLs; implements `authorized.Login`."""

    lacks = ""

    def __init__(self, root: str, http: Transport, clock: Clock, learns: Learns = nothing_learned) -> None:
        self._root = root.rstrip("/")
        self._http = http
        self._learns = learns
        self._clock = clock
        self._tokens: dict[tuple[str, str], _Token] = {}
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}

    async def dress(self, url: str, headers: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
        """See `authorized.Login`."""
        parts = urlsplit(url)
        account = (parts.hostname or "").partition(".")[0]
        container = parts.path.lstrip("/").partition("/")[0]
        names = {part.partition("=")[0].lower() for part in parts.query.split("&")}
        if not container or account in _PUBLIC_ACCOUNTS or len(names & _SIGNED) > 2:
            return url, headers
        place = account, container
        token = self._tokens.get(place)
        if token is None or token.ends_s <= self._clock.wall():
            async with self._locks.setdefault(place, asyncio.Lock()):
                token = self._tokens.get(place)
                if token is None or token.ends_s <= self._clock.wall():
                    token = self._tokens[place] = await self._ask(place)
        return f"{url}{'&' if parts.query else '?'}{token.query}" if token.query else url, headers

    def refused(self, sent: Mapping[str, str]) -> bool:
        """See `authorized.Login`: a token that is refused before its time is as good as a new one would be."""
        return False

    async def _ask(self, place: tuple[str, str]) -> _Token:
        url = f"{self._root}/token/{place[0]}/{place[1]}"
        reply = await self._http.fetch(url, {"Accept": "application/json"}, _ANSWER_MAX_BYTES)
        if reply.stream is not None:
            reply.stream.close()
        if reply.status in GONE_STATUSES:  # an account that it does not know: such blobs may be open to all
            return _Token("", self._clock.wall() + 3600.0)
        if reply.status != 200:
            error = error_for_status(reply.status, reply.headers, redact_url(url), self._clock.wall())
            found = _WAIT.search(reply.body or b"")
            if reply.status in RETRYABLE_STATUSES and error.retry_after_s is None and found is not None:
                error.retry_after_s = float(found[1])
            raise error
        try:
            said = msgspec.json.decode(reply.body or b"")
            token, until = said["token"], datetime.fromisoformat(said["msft:expiry"]).timestamp()
        except (ValueError, KeyError, TypeError) as error:
            raise TransferError("protocol", f"no token from {redact_url(url)}") from error
        for signature in parse_qs(str(token).lstrip("?&")).get("sig", ()):
            self._learns(signature, passing=True)
        left_s = until - self._clock.wall()
        return _Token(str(token).lstrip("?&"), until - min(_MARGIN_S, max(0.0, left_s) / 5))
