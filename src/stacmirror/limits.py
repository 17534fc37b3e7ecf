"""What each host is asked at most: requests in flight, requests a second, and pauses it asked for.

One `HostLimits` for the whole run, shared by all workers and the catalog. Hosts are told apart by origin
(scheme, host, port), so that an API and the storage behind it have budgets of their own.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable

from stacmirror.errors import TransferError
from stacmirror.pace import START, Allowance, Fixed, Pace

_ALLOWANCE_LIFE_S = 0.25


class HostBudget:
    """One host's allowance. `acquire` before a request; after its body `answered`, if there was one, and `release`."""

    __slots__ = (
        "_in_flight", "_next_s", "_paused_until_s", "_sleep", "_spacing_s", "_waiting", "allowance", "asked", "now",
    )  # fmt: skip

    def __init__(
        self,
        allowance: Allowance,
        rate_per_s: float | None,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.allowance = allowance
        self.asked = False
        """Whether it was asked since somebody set this to False."""
        self._spacing_s = 1.0 / rate_per_s if rate_per_s else 0.0
        self.now = now
        self._sleep = sleep
        self._in_flight = 0
        self._next_s = 0.0
        self._paused_until_s = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self._in_flight

    def wait_s(self) -> float:
        """Return for how long the host is paused."""
        return max(0.0, self._paused_until_s - self.now())

    def pause(self, seconds: float) -> None:
        """Ask nothing more for `seconds`; a longer pause already set stays."""
        self._paused_until_s = max(self._paused_until_s, self.now() + seconds)

    def try_acquire(self) -> int:
        """Return what `acquire` would, where that takes no waiting, else 0: most requests are spared a coroutine."""
        place = self._in_flight + 1
        if place > self.allowance.limit or self._spacing_s or (self._paused_until_s and self.wait_s() > 0):
            return 0
        self.asked = True
        self._in_flight = place
        self.allowance.asked(place)
        return place

    async def acquire(self, pause_max_s: float = math.inf) -> int:
        """Wait for a place, for the rate and for the end of a pause; return the number of requests under way.

        Raises: TransferError, kind `paused`, when the host is paused for longer than `pause_max_s`.
        Cancel: safe; a place that was handed over is handed on.
        """
        self._refuse_long_pause(pause_max_s)
        self.asked = True
        if self._in_flight < self.allowance.limit:
            self._in_flight += 1
        else:
            await self._queue_up()
        if self._spacing_s or self._paused_until_s:
            try:
                self._refuse_long_pause(pause_max_s)  # it may have been set while we stood in line
                await self._wait_turn()
            except BaseException:
                self.release()
                raise
        place = self._in_flight
        self.allowance.asked(place)
        return place

    def _refuse_long_pause(self, pause_max_s: float) -> None:
        if self._paused_until_s and (pause_s := self.wait_s()) > pause_max_s:
            raise TransferError("paused", "the host asked for a pause", retry_after_s=pause_s)

    def answered(self, place: int, asked_s: float, refusal: int = 0, requests: int = 1) -> None:
        """Hear of the end of a request that `acquire` gave `place`, asked at `asked_s` by `now`.

        `refusal`: how surely the host had too many at once, see `pace`. `requests`: sent in one go, in that one place.
        """
        self.allowance.answered(place, (self.now() - asked_s) / requests, refusal)

    async def _queue_up(self) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place  # `release` counts us before it wakes us
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.release()
            raise

    async def _wait_turn(self) -> None:
        while (pause_s := self.wait_s()) > 0:
            await self._sleep(pause_s)
        if self._spacing_s:
            now_s = self.now()
            turn_s = max(now_s, self._next_s)
            self._next_s = turn_s + self._spacing_s
            if turn_s > now_s:
                await self._sleep(turn_s - now_s)

    def release(self) -> None:
        """Give the place back; let in who waits, as many as the allowance has room for by now."""
        self._in_flight -= 1
        while self._waiting and self._in_flight < self.allowance.limit:
            place = self._waiting.popleft()
            if not place.done():
                self._in_flight += 1
                place.set_result(None)


class HostLimits:
    """The budgets of all hosts of a run.

    `busy` returns the share of time for which our own loop works; without it every host gets `in_flight_max` at once,
    with it as many, up to that, as proves useful. `make_allowance` gives each host one of the caller's own instead.
    """

    def __init__(
        self,
        in_flight_max: int,
        rate_per_s: float | None,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        busy: Callable[[], float] | None = None,
        make_allowance: Callable[[], Allowance] | None = None,
    ) -> None:
        def make() -> HostBudget:
            if make_allowance is not None:
                return HostBudget(make_allowance(), rate_per_s, now, sleep)
            allowance: Allowance = Fixed(in_flight_max) if busy is None else Pace(in_flight_max, now, busy)
            return HostBudget(allowance, rate_per_s, now, sleep)

        self._make = make
        self._now = now
        self._budgets: dict[str, HostBudget] = {}
        self._useful = START
        self._useful_until_s = 0.0

    def of(self, origin: str) -> HostBudget:
        """Return the budget of `origin`, such as `https://host:443` or `s3://bucket`."""
        budget = self._budgets.get(origin)
        if budget is None:
            budget = self._budgets[origin] = self._make()
        return budget

    def useful_at_once(self) -> int:
        """Return how many askers, of one request at a time each, can be of use: the sum over hosts asked lately."""
        now_s = self._now()
        if now_s >= self._useful_until_s:
            self._useful_until_s = now_s + _ALLOWANCE_LIFE_S
            recent = [budget for budget in self._budgets.values() if budget.asked]
            for budget in recent:
                budget.asked = budget.in_flight > 0
            self._useful = max(START, sum(budget.allowance.limit for budget in recent))
        return self._useful


_ORIGINS_MAX = 1000
_origins: dict[str, str] = {}
"""Of origins as spelled: a run asks this three times a file, of a handful of hosts."""


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL as one key (`s3://bucket` for S3)."""
    end = url.find("/", url.find("://") + 3)
    spelled = url if end < 0 else url[:end]
    origin = _origins.get(spelled)
    if origin is None:
        if len(_origins) >= _ORIGINS_MAX:
            _origins.clear()
        origin = _origins[spelled] = spelled.partition("?")[0].partition("#")[0].lower()
    return origin
