"""What each host is asked at most: requests in flight, requests a second, and pauses it asked for.

One `HostLimits` for the whole run, shared by all workers and the catalog. Hosts are told apart by origin
(scheme, host, port), so that an API and the storage behind it have budgets of their own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable


class HostBudget:
    """One host's allowance. `acquire` before a request, `release` after its body."""

    __slots__ = ("_in_flight", "_max", "_next_s", "_now", "_paused_until_s", "_sleep", "_spacing_s", "_waiting")

    def __init__(
        self,
        in_flight_max: int,
        rate_per_s: float | None,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._max = in_flight_max
        self._spacing_s = 1.0 / rate_per_s if rate_per_s else 0.0
        self._now = now
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
        return max(0.0, self._paused_until_s - self._now())

    def pause(self, seconds: float) -> None:
        """Ask nothing more for `seconds`; a longer pause already set stays."""
        self._paused_until_s = max(self._paused_until_s, self._now() + seconds)

    async def acquire(self) -> None:
        """Wait for a place, for the rate and for the end of a pause.

        Cancel: safe; a place that was handed over is handed on.
        """
        if self._in_flight < self._max:
            self._in_flight += 1
        else:
            await self._queue_up()
        if self._spacing_s or self._paused_until_s:
            try:
                await self._wait_turn()
            except BaseException:
                self.release()
                raise

    async def _queue_up(self) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place  # `release` keeps the count and hands its place over
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.release()
            raise

    async def _wait_turn(self) -> None:
        while (pause_s := self.wait_s()) > 0:
            await self._sleep(pause_s)
        if self._spacing_s:
            now_s = self._now()
            turn_s = max(now_s, self._next_s)
            self._next_s = turn_s + self._spacing_s
            if turn_s > now_s:
                await self._sleep(turn_s - now_s)

    def release(self) -> None:
        """Give the place to the next in line, or back."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._in_flight -= 1


class HostLimits:
    """The budgets of all hosts of a run."""

    def __init__(
        self,
        in_flight_max: int,
        rate_per_s: float | None,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._make: Callable[[], HostBudget] = lambda: HostBudget(in_flight_max, rate_per_s, now, sleep)
        self._budgets: dict[str, HostBudget] = {}

    def of(self, origin: str) -> HostBudget:
        """Return the budget of `origin`, such as `https://host:443` or `s3://bucket`."""
        budget = self._budgets.get(origin)
        if budget is None:
            budget = self._budgets[origin] = self._make()
        return budget


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL as one key (`s3://bucket` for S3)."""
    parts = url.split("/", 3)
    return "/".join(parts[:3]).partition("?")[0].lower() if len(parts) > 2 else url.lower()
