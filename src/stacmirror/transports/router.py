"""Open an href wherever it leads: by scheme, hop by hop, within each host's budget.

The one place where redirects are followed and requests are counted. Redirects are taken by hand, because the
catalog's links lead to `s3://` as often as to `https://`, because a signed URL must be kept byte for byte, and
because no header of one host may reach another: an asset request carries none but our User-Agent.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable, Mapping

from stacmirror.budget import HostBudget
from stacmirror.errors import LoginRefused, TransferError
from stacmirror.gate import Gate
from stacmirror.interfaces import Reply, SeveralTransport, Transport
from stacmirror.limits import HostLimits, origin_of
from stacmirror.redact import redact_url
from stacmirror.retry import REDIRECT_STATUSES, RETRYABLE_STATUSES, error_for_status
from stacmirror.transports.budgeted import Budgeted
from stacmirror.transports.hops import DEAD_STATUSES, TARGET_OLD_S, is_plain, is_secure, target_of
from stacmirror.transports.posting import Posting, PostTransport
from stacmirror.transports.whole import HELD_MAX_BYTES, gunzip, read_whole

ASSET_HEADERS = {"Accept-Encoding": "identity"}
"""An asset is stored as the origin has it, so no encoding on the way."""
CAP = "cap"
"""The kind of error of a request that was not sent, since no more may be."""
PAUSE_IN_PLACE_S = 1.0
"""A longer pause of a host is the caller's to wait out: it has other work meanwhile."""
_ROUTES_MAX = 1000


class Router:
    """Implements `interfaces.Opener` for assets and the catalogs' `Asker` for pages and items."""

    def __init__(
        self,
        transports: Mapping[str, Transport],
        limits: HostLimits,
        *,
        redirects_max: int,
        small_max_bytes: int,
        wall: Callable[[], float],
        several: Mapping[str, SeveralTransport] | None = None,
        allow_http: bool = False,
        gate: Gate | None = None,
    ) -> None:
        """`gate` is shut while nothing may be asked, by whoever knows of it."""
        self.gate = gate or Gate()
        self._transports = transports
        self.several = several or {}
        """By scheme: who can send several requests at once."""
        self._limits = limits
        self._redirects_max = redirects_max
        self._small_max_bytes = small_max_bytes
        self._wall = wall
        self.allow_http = allow_http
        """Whether a redirect may lead from https to http."""
        self.posts: PostTransport | None = None
        """Who sends POST requests, for catalogs that are searched that way."""
        self._routes: dict[str, tuple[Transport, HostBudget]] = {}
        """By origin: who asks it, and its budget."""
        self.on_date: Callable[[str], None] = _ignore
        """Hears of the `Date` of the catalog's answers."""
        self.requests = 0
        self.requests_max = sys.maxsize
        """Where requests end, for who must not ask for more: TransferError, kind `cap`, nothing sent."""

    async def open(
        self, href: str, first: Mapping[str, str] = ASSET_HEADERS, others: Mapping[str, str] = ASSET_HEADERS
    ) -> Reply:
        """See `interfaces.Opener.open`. `first` are the headers for `href` itself, `others` those behind a redirect."""
        return await self._open(href, first, others, href, 0)

    async def _open(self, url: str, first: Mapping[str, str], others: Mapping[str, str], href: str, hops: int) -> Reply:
        """Open `url`, which is so many redirects behind `href`."""
        headers, secure = first, False
        for _ in range(hops, self._redirects_max + 1):
            secure = secure or is_secure(url)
            reply = await self._ask_once(url, headers, self._small_max_bytes, PAUSE_IN_PLACE_S)
            if reply.status not in REDIRECT_STATUSES:
                return reply
            if reply.stream is not None:
                reply.stream.close()
            url, headers = self.next_hop(reply, url, secure=secure), others
        raise self.too_many_redirects(href)

    async def follow(self, reply: Reply, href: str) -> Reply:
        """See `interfaces.Opener.follow`."""
        url = self.next_hop(reply, reply.url, secure=is_secure(reply.url))
        found = await self._open(url, ASSET_HEADERS, ASSET_HEADERS, href, reply.hops + 1)
        if found.status not in DEAD_STATUSES or asyncio.get_running_loop().time() - reply.led_s < TARGET_OLD_S:
            return found
        if found.stream is not None:
            found.stream.close()
        return await self.open(href)

    def next_hop(self, reply: Reply, url: str, *, secure: bool) -> str:
        """Return where a redirect from `url` leads; `secure` says that the way there was https.

        Raises: TransferError, kind `redirect`, where it does not say, leads down to http, or to no address.
        """
        target = target_of(reply, url)
        if not target:
            raise _redirected(url, f"{reply.status} without Location from {redact_url(url)}", reply.status)
        if secure and is_plain(target) and not self.allow_http:
            raise _redirected(url, f"{redact_url(url)} leads down to http", reply.status, retryable=False)
        return target

    def too_many_redirects(self, href: str) -> TransferError:
        """Return the error for a link that leads on and on."""
        return _redirected(href, f"more than {self._redirects_max} redirects from {redact_url(href)}", retryable=False)

    async def open_rest(self, href: str, headers: Mapping[str, str], *, redirected: bool) -> Reply:
        """See `interfaces.Opener.open_rest`."""
        headers = {**ASSET_HEADERS, **headers}
        return await self.open(href, ASSET_HEADERS if redirected else headers, headers)

    async def ask_asset(self, url: str) -> Reply:
        """Ask one URL once, as for an asset; a redirect is a Reply. Raises: TransferError, as `open`."""
        return await self._ask_once(url, ASSET_HEADERS, self._small_max_bytes, PAUSE_IN_PLACE_S)

    async def ask(self, url: str, headers: Mapping[str, str], max_bytes: int) -> Reply:
        """Ask for a page or an item: one GET, its body whole and decoded, at most `max_bytes`.

        Raises: TransferError, kind `too-large` above `max_bytes`.
        """
        held_max_bytes = min(max_bytes, HELD_MAX_BYTES)
        reply = await self._ask_once(url, {"Accept-Encoding": "gzip", **headers}, held_max_bytes)
        return await self._whole(reply, url, max_bytes)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, max_bytes: int) -> Reply:
        """As `ask`, with POST and a body."""
        origin = origin_of(url)
        if self.posts is None or origin.partition("://")[0] not in ("http", "https"):
            raise TransferError("scheme", f"cannot POST to {redact_url(origin)}", retryable=False)
        budget, transport = self._limits.of(origin), Posting(self.posts, body)
        try:
            place = budget.try_acquire() or await budget.acquire(math.inf)
            sent, held_max_bytes = {"Accept-Encoding": "gzip", **headers}, min(max_bytes, HELD_MAX_BYTES)
            reply = await self._ask_in(budget, place, transport, url, sent, held_max_bytes, is_witness=False)
        except TransferError as error:
            error.host = error.host or redact_url(origin)
            raise
        return await self._whole(reply, url, max_bytes)

    async def _whole(self, reply: Reply, url: str, max_bytes: int) -> Reply:
        self.on_date(reply.headers.get("date", ""))
        try:
            await read_whole(reply, max_bytes, url)
            coding = reply.headers.get("content-encoding", "").strip().lower()
            if coding in ("gzip", "x-gzip"):
                reply.body = gunzip(reply.body or b"", max_bytes, url)
            elif coding not in ("", "identity"):
                raise TransferError("encoding", f"{redact_url(url)} came as {coding[:20]!r}, which nobody asked for")
        except TransferError:
            if reply.status in (200, 206):
                raise
            reply.body, reply.stream = b"", None  # a refusal is one, whatever is said of its body
        return reply

    def transport(self, url: str) -> Transport:
        """Return who asks URLs of this scheme. Raises: TransferError, kind `scheme`."""
        scheme = url.partition("://")[0].lower()
        transport = self._transports.get(scheme)
        if transport is None:
            known = ", ".join(self._transports)
            raise TransferError("scheme", f"cannot open `{scheme[:20]}:` addresses (only {known})", retryable=False)
        return transport

    def budget(self, url: str) -> HostBudget:
        """Return the budget of the URL's host."""
        return self._limits.of(origin_of(url))

    def wait_s(self, href: str) -> float:
        """See `interfaces.Opener.wait_s`."""
        return self._limits.of(origin_of(href)).wait_s()

    def is_down(self, href: str) -> bool:
        """See `interfaces.Opener.is_down`."""
        return self._limits.of(origin_of(href)).health.down

    def waited_for(self) -> list[str]:
        """Return the hosts that are down or paused, for who shows what a run waits for."""
        return [redact_url(origin) for origin in self._limits.waited_for()]

    def useful_at_once(self) -> int:
        """See `interfaces.Opener.useful_at_once`."""
        return self._limits.useful_at_once()

    def said_later(self, reply: Reply, url: str) -> TransferError:
        """Return the error that an answer from `url` with one of RETRYABLE_STATUSES is."""
        return error_for_status(reply.status, reply.headers, redact_url(url), self._wall())

    def hold_fewer(self) -> None:
        """Hear that no more files may be open here: hold fewer connections."""
        self._limits.hold_fewer()

    async def close(self) -> None:
        """Close all transports."""
        for transport in set(self._transports.values()):
            await transport.close()
        if self.posts is not None:
            await self.posts.close()

    async def _ask_once(
        self, url: str, headers: Mapping[str, str], small_max_bytes: int, pause_max_s: float = math.inf
    ) -> Reply:
        origin = origin_of(url)
        try:
            transport, budget = self._routes.get(origin) or self._route(url, origin)
            if self.gate.shut and self.gate.is_asking:  # out of turn: who waits for its answer may hold all places
                return await self._send(transport, url, headers, small_max_bytes)
            while True:
                place = budget.try_acquire() or await budget.acquire(pause_max_s)
                if not budget.health.down or await self.is_back(budget, place, transport):
                    break
            return await self._ask_in(budget, place, transport, url, headers, small_max_bytes)
        except TransferError as error:
            error.host = error.host or redact_url(origin)
            raise

    async def is_back(self, budget: HostBudget, place: int, transport: Transport) -> bool:
        """Ask a host that was down for what it had before; True when it answers. Else the place is given back.

        True as well where it never answered: whatever is wanted is the question then.
        """
        if not budget.witness:
            return True
        url, asked_s, back = budget.witness, budget.now(), False
        try:
            reply = await self._send(transport, url, ASSET_HEADERS, self._small_max_bytes)
            if reply.stream is not None:
                reply.stream.close()
            back = reply.status not in RETRYABLE_STATUSES
            if back:
                budget.answered(place, asked_s)
            else:
                budget.refused(place, asked_s, url, self.said_later(reply, url))
        except TransferError as error:
            if error.kind == CAP:
                raise
            budget.broke(asked_s, url, error)
        finally:
            if not back:
                budget.release()
        return back

    async def _ask_in(
        self,
        budget: HostBudget,
        place: int,
        transport: Transport,
        url: str,
        headers: Mapping[str, str],
        small_max_bytes: int,
        *,
        is_witness: bool = True,
    ) -> Reply:
        """Ask in a place that the host has given, and tell its budget what came."""
        streaming = False
        try:
            if self.gate.shut:
                await self.gate.passed()
            asked_s = budget.now()
            try:
                reply = await self._send(transport, url, headers, small_max_bytes)
            except TransferError as error:
                if error.kind == CAP:
                    raise
                budget.broke(asked_s, url, error)
                raise
            if reply.status in RETRYABLE_STATUSES:
                if reply.stream is not None:
                    reply.stream.close()
                later = self.said_later(reply, url)
                budget.refused(place, asked_s, url, later)
                raise later
            if reply.stream is not None:
                reply.stream = Budgeted(reply.stream, budget, place, asked_s)
                streaming = True
                budget.streams()
            else:
                budget.answered(place, asked_s)
            if is_witness:
                budget.witness = url
            return reply
        finally:
            if not streaming:
                budget.release()

    async def _send(self, transport: Transport, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
        """Send one request and count it; the clients look once more whether anything may be sent."""
        if self.requests >= self.requests_max:
            raise TransferError(CAP, f"{self.requests_max} requests were sent", retryable=False)
        self.requests += 1
        try:
            return await transport.fetch(url, headers, small_max_bytes)
        except LoginRefused as error:
            raise self.gate.end(error) from error

    def _route(self, url: str, origin: str) -> tuple[Transport, HostBudget]:
        transport = self.transport(url)
        if len(self._routes) >= _ROUTES_MAX:
            self._routes.clear()
        route = self._routes[origin] = (transport, self._limits.of(origin))
        return route


def _redirected(url: str, message: str, status: int = 0, *, retryable: bool = True) -> TransferError:
    """Return the error for a redirect from `url` that nobody follows."""
    error = TransferError("redirect", message, status=status, retryable=retryable)
    error.host = redact_url(origin_of(url))
    return error


def _ignore(date: str) -> None:
    pass
