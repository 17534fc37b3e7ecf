"""One host's allowance: requests in flight, requests a second, pauses it asked for, and outages.

Made by `limits`, one a host, shared by all workers and the catalog; the router tells it what came of every request.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from random import random as _random

from stacmirror import shortage
from stacmirror.errors import SourceLost, TransferError
from stacmirror.health import Change, Health
from stacmirror.pace import REFUSED, UNAVAILABLE, Allowance
from stacmirror.units import format_duration

REFUSALS = {429: REFUSED, 503: UNAVAILABLE}
"""What hosts say when too much is asked at once; a 503 may mean other things as well."""
_PAUSE_WITHOUT_HINT_S = 1.0
_PAUSE_SAID_S = 10.0
_CROWD_SHARE, _CROWD_ANSWERS = 0.04, 200
"""More refusals than this share of the last answers are meant for all of us; fewer are strays, for the asset alone."""


class HostBudget:
    """One host's allowance. `acquire` before a request; then `answered`, `refused` or `broke`, and `release`."""

    __slots__ = (
        "_heard", "_in_flight", "_later", "_next_s", "_paused_until_s", "_refused_in_a_row", "_sleep", "_spacing_s",
        "_streams", "_waiting", "allowance", "asked", "health", "name", "now", "on_pause", "on_shortage",
        "retry_after_max_s", "witness",
    )  # fmt: skip

    def __init__(
        self,
        allowance: Allowance,
        rate_per_s: float | None,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        health: Health | None = None,
        retry_after_max_s: float = 600.0,
    ) -> None:
        """`health` notices outages; without it the host counts as well whatever it says."""
        self.allowance = allowance
        self.health = health or Health(now, math.inf, _random, _ignore)
        self.retry_after_max_s = retry_after_max_s
        self.on_shortage: Callable[[], object] = _nothing
        """Called when no more files or connections may be open here."""
        self.name = ""
        """The host's, for words."""
        self.on_pause: Callable[[float], object] = _ignore_pause
        """Called with the seconds when everybody is to wait for so long that a person would wonder."""
        self.asked = False
        """Whether it was asked since somebody set this to False."""
        self._spacing_s = 1.0 / rate_per_s if rate_per_s else 0.0
        self.now = now
        self._sleep = sleep
        self._in_flight = 0
        self._next_s = 0.0
        self._paused_until_s = 0.0
        self.witness = ""
        """A URL that it answered: asked first when it was down, so that no bad objects pass for a bad host."""
        self._refused_in_a_row = 0
        self._streams = 0
        """Requests under way whose answers have begun: large bodies."""
        self._heard, self._later = 0.0, 0.0
        """Answers of late, and those of them that said: later."""
        self._waiting: deque[asyncio.Future[bool]] = deque()

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self._in_flight

    @property
    def _limit(self) -> int:
        return min(self.allowance.limit, self.health.most)

    def wait_s(self) -> float:
        """Return for how long the host is paused, or left alone because it is down."""
        if not self._paused_until_s and not self.health.down:
            return 0.0
        return max(0.0, self._paused_until_s - self.now(), self.health.wait_s())

    def pause(self, seconds: float) -> None:
        """Ask nothing more for `seconds`; a longer pause already set stays."""
        now_s = self.now()
        if seconds >= _PAUSE_SAID_S and now_s >= self._paused_until_s:
            self.on_pause(seconds)
        self._paused_until_s = max(self._paused_until_s, now_s + seconds)

    def try_acquire(self) -> int:
        """Return what `acquire` would, where that takes no waiting, else 0: most requests are spared a coroutine."""
        place = self._in_flight + 1
        if place > self.allowance.limit or place > self.health.most or self._spacing_s or self._paused_until_s:
            return 0
        self.asked = True
        self._in_flight = place
        self.allowance.asked(place)
        return place

    async def acquire(self, pause_max_s: float = math.inf) -> int:
        """Wait for a place, for the rate, and for the end of a pause or an outage; return the requests under way.

        Raises: TransferError, kind `paused`, when the host is to be left alone for longer than `pause_max_s`; the
                error of the outage for a host that has been given up; SourceLost after an outage without end.
        Cancel: safe; a place that was handed over is handed on.
        """
        await self._take_place(pause_max_s)
        if self._spacing_s:
            try:
                await self._wait_turn()
            except BaseException:
                self.release()
                raise
        place = self._in_flight
        self.allowance.asked(place)
        return place

    async def _take_place(self, pause_max_s: float) -> None:
        self.asked = True
        while True:
            await self._wait_out(pause_max_s)
            if self.health.down:
                if self.health.may_probe():
                    self._in_flight += 1
                    return
                if self.health.given_up:
                    raise TransferError(self.health.kind, f"{self.health.reason}; given up", retryable=False)
            elif self._in_flight < self._limit:
                self._in_flight += 1
                return
            elif await self._queue_up():
                if self.wait_s() <= 0:
                    return
                self.release()  # a pause was set while we stood in line

    async def _wait_out(self, pause_max_s: float) -> None:
        while (pause_s := self.wait_s()) > 0:
            if self.health.lost:
                raise self._lost()
            if pause_s > pause_max_s:
                raise TransferError("paused", "the host asked for a pause", retry_after_s=pause_s)
            await self._sleep(pause_s)
        if self._paused_until_s:
            self._paused_until_s = 0.0
            self.health.ease_in()

    def answered(self, place: int, asked_s: float, refusal: int = 0, requests: int = 1) -> float:
        """Hear of the end of a request that `acquire` gave `place`, asked at `asked_s` by `now`; return the time.

        `refusal`: how surely the host had too many at once, see `pace`. `requests`: sent in one go, in that one place.
        """
        now_s = self.now()
        self._heard += requests
        self._refused_in_a_row = 0
        self.allowance.answered(place, (now_s - asked_s) / requests, refusal)
        if not self.health.quiet and not refusal:
            self._good()
        return now_s

    def goes_on(self) -> int:
        """Return which place a further request has, where `acquire` gave one before; 0 where that is to be given back.

        It is not: after a pause, in doubt, and above an allowance that has become smaller.
        """
        place = self._in_flight
        if self._paused_until_s or place > self.allowance.limit or place > self.health.most:
            return 0
        self.allowance.asked(place)
        return place

    def refused(self, place: int, asked_s: float, url: str, error: TransferError) -> None:
        """Hear of an answer that says "later" (408, 425, 429, 5xx), and mark in `error` what it means for the asset."""
        if not self.health.down:  # an outage says nothing of how many at once are too many
            self.allowance.answered(place, self.now() - asked_s, REFUSALS.get(error.status, 0))
        wait_s = error.retry_after_s
        if wait_s is not None:
            wait_s = min(wait_s, self.retry_after_max_s)
        crowd = error.status in REFUSALS and self._is_crowd()
        if crowd and (wait_s is not None or error.status == 429):
            # The server speaks to us all, not of this one asset: everyone waits.
            self.pause(_PAUSE_WITHOUT_HINT_S if wait_s is None else wait_s)
        self._bad(url, asked_s, error, wait_s)
        self._refused_in_a_row += 1
        if crowd and self._refused_in_a_row <= self._in_flight:
            error.by_host = True  # else not one of those under way got a good answer: no crowd explains that

    def broke(self, asked_s: float, url: str, error: TransferError) -> None:
        """Hear of a request that got no answer, and mark in `error` whether the host (or this machine) is to blame."""
        if error.kind == shortage.KIND:
            error.by_host = True  # says nothing of the host, and is nobody's attempt
            self.on_shortage()
            return
        self._bad(url, asked_s, error, None)

    def hold_fewer(self) -> None:
        """Ask for less at once from now on, and for little at first: this machine has no room for so many."""
        if self._in_flight:
            self.allowance.too_many(self._in_flight)
            self.health.ease_in()

    def _is_crowd(self) -> bool:
        """Count a refusal; return whether there are too many of them to be strays."""
        self._heard += 1
        if self._heard > _CROWD_ANSWERS:
            self._later *= _CROWD_ANSWERS / self._heard
            self._heard = _CROWD_ANSWERS
        self._later += 1
        return self._later > _CROWD_SHARE * self._heard

    def _bad(self, url: str, asked_s: float, error: TransferError, wait_s: float | None) -> None:
        if not error.retryable:
            return
        health = self.health
        reason = f"it answers {error.status}" if error.status else error.message
        error.by_host = health.bad(error.kind, error.status, url, asked_s, reason, wait_s)
        if health.lost:
            raise self._lost() from error

    def _lost(self) -> SourceLost:
        health = self.health
        return SourceLost(
            f"no answer for {format_duration(health.seconds)}{self.name and f' from {self.name}'}: {health.reason}",
            hint="nothing that came is lost: resume when the host is back, or bear more with --max-outage",
        )

    def _good(self) -> None:
        self.health.good(self.allowance.limit)
        self._let_in()

    def streams(self) -> None:
        """Hear that a large body begins: the host has answered. `stream_ended` follows, then `release`."""
        self._streams += 1
        if not self.health.quiet:
            self._good()

    def stream_ended(self) -> None:
        """Hear that a large body is over."""
        self._streams -= 1

    async def _queue_up(self) -> bool:
        """Wait in line; return True with a place, False to look again."""
        place: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            return await place  # `release` counts us before it wakes us
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.result():
                self.release()
            raise

    async def _wait_turn(self) -> None:
        now_s = self.now()
        turn_s = max(now_s, self._next_s)
        self._next_s = turn_s + self._spacing_s
        if turn_s > now_s:
            await self._sleep(turn_s - now_s)

    def release(self) -> None:
        """Give the place back; let in who waits, as many as the allowance has room for by now."""
        self._in_flight -= 1
        if self.health.doubted and self._in_flight <= self._streams and self.health.nothing_under_way():
            self.allowance.outage()
        if self._waiting:
            self._let_in()

    def _let_in(self) -> None:
        if self.health.down:
            waiting, self._waiting = self._waiting, deque()
            for place in waiting:
                if not place.done():
                    place.set_result(False)
        while self._waiting and self._in_flight < self._limit:
            place = self._waiting.popleft()
            if not place.done():
                self._in_flight += 1
                place.set_result(True)


def _ignore(change: Change) -> None:
    pass


def _ignore_pause(seconds: float) -> None:
    pass


def _nothing() -> None:
    pass
