"""Ask for the assets of one item in turn: one place at each host, one connection, request after request.

Called by the workers for a fresh item's small assets, beside the router, whose budgets it keeps. The redirects of all
come first, then what they lead to; where that gets no answer the redirect is handed over, so that it is not asked for
twice. Nothing is decided here: a worker settles each asset as if it had asked for it itself, with the answer or the
error that is here for it, and asks for what has neither. It saves what asking costs a task by itself: a place, a future
and a turn of the event loop for each request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from stacmirror.budget import HostBudget
from stacmirror.errors import LoginRefused, TransferError
from stacmirror.gate import Gate
from stacmirror.interfaces import Reply, SeveralTransport
from stacmirror.limits import origin_of
from stacmirror.redact import redact_url
from stacmirror.retry import GONE_STATUSES, REDIRECT_STATUSES, RETRYABLE_STATUSES
from stacmirror.transports.budgeted import Budgeted
from stacmirror.transports.hops import DEAD_STATUSES, TARGET_OLD_S, is_secure
from stacmirror.transports.router import ASSET_HEADERS, PAUSE_IN_PLACE_S, Router

_GOOD = REDIRECT_STATUSES | {200}
_GOOD_BEHIND = _GOOD | GONE_STATUSES
"""Answers after which it goes on. A link that is not found may be dead, and so are those after it; behind a redirect
that is good it is this one file that is missing."""
Came = Reply | TransferError | None
"""What came of a request: None where it was not sent, or where what came is of no use."""


class InTurn:
    """Implements `interfaces.SeveralOpener`."""

    def __init__(self, router: Router, small_max_bytes: int, redirects_max: int) -> None:
        self._router = router
        self._small_max_bytes = small_max_bytes
        self._redirects_max = redirects_max

    async def open_several(self, hrefs: Sequence[str]) -> list[Came]:
        """See `interfaces.SeveralOpener.open_several`."""
        urls = list(hrefs)
        found: list[Came] = [None] * len(urls)
        waiting: Sequence[int] = range(len(urls))
        held_bytes = 0
        now = asyncio.get_running_loop().time
        hop_s = now()
        for hop in range(self._redirects_max + 1):
            led_s, hop_s = hop_s, now()
            by_origin: dict[str, list[int]] = {}
            for number in waiting:
                by_origin.setdefault(origin_of(urls[number]), []).append(number)
            further: list[int] = []
            for origin, numbers in by_origin.items():
                came = await self._ask(origin, [urls[number] for number in numbers], hop)
                for number, reply in zip(numbers, came, strict=False):
                    if reply is None:
                        continue  # what a redirect said stays: the worker goes on from there
                    found[number] = reply
                    if isinstance(reply, TransferError):
                        continue
                    if reply.status not in REDIRECT_STATUSES:
                        if hop and reply.status in DEAD_STATUSES and now() - led_s > TARGET_OLD_S:
                            found[number] = None
                            if reply.stream is not None:
                                reply.stream.close()
                        elif reply.stream is not None:
                            return found  # a large body is on its way: nothing must hold it up
                        held_bytes += len(reply.body or b"")
                        continue
                    url = urls[number]
                    try:
                        urls[number] = self._router.next_hop(
                            reply, url, secure=is_secure(url) or is_secure(hrefs[number])
                        )
                    except TransferError as error:
                        error.host = redact_url(origin)
                        found[number] = error
                    else:
                        reply.led_s, reply.hops = hop_s, hop
                        further.append(number)
                if held_bytes >= self._small_max_bytes:
                    return found
            waiting = further
            if not waiting:
                return found
        for number in waiting:
            found[number] = self._router.too_many_redirects(hrefs[number])
        return found

    async def _ask(self, origin: str, urls: list[str], hop: int) -> Sequence[Came]:
        """Ask `urls` of one host, `hop` redirects behind the links; return what came of the first so many of them."""
        return await self._ask_in_turn(origin, urls, hop)

    async def _ask_in_turn(self, origin: str, urls: list[str], hop: int) -> Sequence[Came]:
        transport = self._transport(origin)
        if transport is None:
            try:
                self._router.transport(urls[0])
            except TransferError as error:
                error.host = redact_url(origin)
                return [error] * len(urls)
            return []
        budget = self._router.budget(urls[0])
        place = await take_place(budget)
        if not place or (budget.health.down and not await self._router.is_back(budget, place, transport)):
            return []
        gate = self._router.gate
        came: list[Came] = []
        turn = _Turn(budget, place, _GOOD_BEHIND if hop else _GOOD, gate)
        try:
            if gate.shut:
                await gate.passed()
                turn.asked_s = budget.now()
            requests = [(url, ASSET_HEADERS) for url in urls]
            came = list(await transport.fetch_several(requests, self._small_max_bytes, turn.heard))
        except TransferError as error:
            came = [error]
        except BaseException as error:
            # The one under way when the end came was sent as well.
            self._router.requests += turn.answers + isinstance(error, asyncio.CancelledError)
            budget.release()
            if isinstance(error, LoginRefused):
                raise gate.end(error) from error
            raise
        return self._judged(origin, urls, turn, came)

    def _judged(self, origin: str, urls: list[str], turn: _Turn, came: list[Came]) -> list[Came]:
        """Tell the host's budget what ended the series, give the place back, and return what is of use."""
        self._router.requests += max(turn.answers, len(came))
        budget, streams = turn.budget, False
        try:
            if came and isinstance(last := came[-1], Reply) and last.stream is not None:
                streams = self._stream_began(turn, last)
            answered = turn.answers - (turn.later is not None)
            if answered:
                budget.witness = urls[answered - 1]
            if turn.later is not None:
                error = self._router.said_later(turn.later, urls[answered])
                error.host = redact_url(origin)
                came[answered:] = [error]
                budget.refused(turn.place, turn.asked_s, urls[answered], error)
            elif came and isinstance(last := came[-1], TransferError):
                last.host = last.host or redact_url(origin)
                budget.broke(turn.asked_s, urls[len(came) - 1], last)
        finally:
            if not streams:
                budget.release()
        return came

    def _stream_began(self, turn: _Turn, last: Reply) -> bool:
        """Judge the head of a large body; True where it goes on, and with it the place at the host."""
        if last.stream is None:
            return False
        if last.status not in RETRYABLE_STATUSES and last.status not in REDIRECT_STATUSES:
            last.stream = Budgeted(last.stream, turn.budget, turn.place, turn.asked_s)
            turn.budget.streams()
            return True
        last.stream.close()
        last.stream = None
        turn.heard(last)
        return False

    def _transport(self, origin: str) -> SeveralTransport | None:
        return self._router.several.get(origin.partition("://")[0])


class _Turn:
    """What the host's budget is told while requests go out in one of its places."""

    __slots__ = ("answers", "asked_s", "budget", "gate", "good", "later", "place")

    def __init__(self, budget: HostBudget, place: int, good: frozenset[int], gate: Gate) -> None:
        self.gate = gate
        self.budget = budget
        self.place = place
        self.good = good
        self.asked_s = budget.now()
        self.answers = 0
        self.later: Reply | None = None
        """The answer that said "later", with which it ends."""

    def heard(self, reply: Reply) -> bool:
        """Tell the budget of an answer; return whether to go on: all is well, and the place is still ours."""
        self.answers += 1
        budget, status = self.budget, reply.status
        if status in RETRYABLE_STATUSES:
            self.later = reply
            return False
        self.asked_s = budget.answered(self.place, self.asked_s)
        if status not in self.good or self.gate.shut or not (place := budget.goes_on()):
            return False
        self.place = place  # as many are under way by now: what a refusal of the next one says of too many
        return True


async def take_place(budget: HostBudget) -> int:
    """Return a place at the host, or 0 where a worker had better wait, or ask whether the host is back."""
    if budget.health.down:
        return 0
    try:
        return budget.try_acquire() or await budget.acquire(PAUSE_IN_PLACE_S)
    except TransferError:
        return 0
