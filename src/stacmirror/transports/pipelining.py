"""Ask for the assets of one item at once: one write, one connection, answers in order (`--pipeline`).

Takes the place of `in_turn` where the settings ask for it, and saves syscalls beyond it. Servers and the proxies before
them break pipelining in silence, so each host is held against single requests at first, and now and then; one
that cuts series short too often, or mixes answers up, is asked in turn from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stacmirror.budget import HostBudget
from stacmirror.errors import LoginRefused, TransferError
from stacmirror.interfaces import Reply
from stacmirror.limits import origin_of
from stacmirror.redact import redact_url
from stacmirror.retry import REDIRECT_STATUSES, RETRYABLE_STATUSES
from stacmirror.transports.in_turn import Came, InTurn, take_place
from stacmirror.transports.router import ASSET_HEADERS, Router

SEVERAL_MAX = 32
"""Requests in one write: an item's assets, not a file list; answers to all of them are held at once."""
CHECKED_EVERY = 500
"""Series of a host until it is held against single requests again."""
_BROKEN_MAX = 5.0
_FORGIVEN = 0.25
"""What a whole series takes off the count of broken ones: servers close connections after 100 or 1,000 requests."""


class _Host:
    """What is known of one host: whether it takes several requests at once."""

    __slots__ = ("broken", "refused", "since_check", "under_check")

    def __init__(self) -> None:
        self.since_check = CHECKED_EVERY
        self.under_check = False
        self.broken = 0.0
        self.refused = False

    @property
    def usable(self) -> bool:
        return not self.refused and not (self.under_check and self.since_check >= CHECKED_EVERY)


class Pipelining(InTurn):
    """Implements `interfaces.SeveralOpener`."""

    def __init__(
        self,
        router: Router,
        small_max_bytes: int,
        redirects_max: int,
        note: Callable[[str], None],
    ) -> None:
        """`note` hears of hosts that cannot."""
        super().__init__(router, small_max_bytes, redirects_max)
        self._note = note
        self._hosts: dict[str, _Host] = {}

    async def _ask(self, origin: str, urls: list[str], hop: int) -> Sequence[Came]:
        host = self._hosts.get(origin) or self._hosts.setdefault(origin, _Host())
        if len(urls) < 2 or not host.usable or self._transport(origin) is None:
            return await self._ask_in_turn(origin, urls, hop)
        checked = host.since_check >= CHECKED_EVERY
        host.under_check = host.under_check or checked
        try:
            replies: list[Came] = []
            for start in range(0, len(urls), SEVERAL_MAX):
                replies += await self._series(origin, host, urls[start : start + SEVERAL_MAX])
            if checked and not host.refused:
                return await self._check(origin, host, urls, replies)
            return replies
        finally:
            if checked:
                host.under_check = False

    async def _series(self, origin: str, host: _Host, urls: list[str]) -> list[Came]:
        """Ask for `urls` in one write; None for what got no answer of use."""
        transport = self._transport(origin)
        budget = self._router.budget(urls[0])
        place = 0 if transport is None else await take_place(budget)
        if transport is None or not place:
            return [None] * len(urls)
        try:
            if self._router.gate.shut:
                await self._router.gate.passed()
            self._router.requests += len(urls)
            asked_s = budget.now()
            came = await transport.fetch_several([(url, ASSET_HEADERS) for url in urls], self._small_max_bytes)
            answers = [reply if isinstance(reply, Reply) else None for reply in came]
            useful = self._heard(host, budget, place, asked_s, urls, answers)
        except TransferError as error:
            budget.broke(asked_s, urls[0], error)
            self._broke(origin, host, refused=error.kind == "protocol")
            return [None] * len(urls)
        except LoginRefused as error:
            raise self._router.gate.end(error) from error
        finally:
            budget.release()
        if len(answers) < len(urls):
            self._broke(origin, host)
        else:
            host.broken = max(0.0, host.broken - _FORGIVEN)
        return useful + [None] * (len(urls) - len(answers))

    def _heard(
        self,
        host: _Host,
        budget: HostBudget,
        place: int,
        asked_s: float,
        urls: Sequence[str],
        answers: Sequence[Reply | None],
    ) -> list[Came]:
        """Tell the host's budget of the answers; return them, with the error that each is that says "later"."""
        host.since_check += 1
        useful: list[Came] = list(answers)
        later = [n for n, reply in enumerate(answers) if reply is not None and reply.status in RETRYABLE_STATUSES]
        if len(later) < len(answers) or not later:
            budget.answered(place, asked_s, requests=max(1, len(answers) - len(later)))
        for number in later:
            reply = answers[number]
            if reply is not None:
                error = useful[number] = self._router.said_later(reply, urls[number])
                error.host = redact_url(origin_of(urls[number]))
                budget.refused(place, asked_s, urls[number], error)
        return useful

    async def _check(self, origin: str, host: _Host, urls: list[str], replies: list[Came]) -> Sequence[Came]:
        """Hold a series against single requests; return the single ones' answers where they differ."""
        single = [await self._one(url) for url in urls]
        pairs = [
            (several, one) for several, one in zip(replies, single, strict=True) if isinstance(several, Reply) and one
        ]
        if any(not _same(several, one) for several, one in pairs):
            self._broke(origin, host, refused=True)
            return single
        if pairs:
            host.since_check = 0
        return replies

    async def _one(self, url: str) -> Reply | None:
        try:
            reply = await self._router.ask_asset(url)
        except TransferError:
            return None
        if reply.stream is not None:
            reply.stream.close()
            return None
        return reply

    def _broke(self, origin: str, host: _Host, *, refused: bool = False) -> None:
        host.broken += 1.0
        if not host.refused and (refused or host.broken >= _BROKEN_MAX):
            host.refused = True
            self._note(
                f"{redact_url(origin)} does not take several requests at once: asked one after another from here on"
            )


def _same(several: Reply, one: Reply) -> bool:
    """Whether two answers are to one question: the same body, or the same place, whatever its signature."""
    if several.status != one.status:
        return False
    if several.status in REDIRECT_STATUSES:
        places = (reply.headers.get("location", "").partition("?")[0] for reply in (several, one))
        return next(places) == next(places)
    return several.body == one.body
