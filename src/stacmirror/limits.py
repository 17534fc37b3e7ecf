"""The budgets of all hosts: what each is asked at most, so that all workers together ask no more.

One `HostLimits` for the whole run, shared by all workers and the catalog. Hosts are told apart by origin
(scheme, host, port), so that an API and the storage behind it have budgets of their own.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from random import random as _random

from stacmirror.budget import HostBudget
from stacmirror.health import Change, Health
from stacmirror.pace import START, Allowance, Fixed, Pace

_ALLOWANCE_LIFE_S = 0.25
_HOLD_S = 0.5
_PAUSE_SHOWN_S = 1.0
"""A shorter pause is over before it is read."""


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
        *,
        outage_max_s: float = math.inf,
        retry_after_max_s: float = 600.0,
        random: Callable[[], float] = _random,
        on_change: Callable[[str, Change], None] = lambda origin, change: None,
        on_shortage: Callable[[], None] = lambda: None,
        on_pause: Callable[[str, float], None] = lambda host, seconds: None,
        name: Callable[[str], str] = str,
    ) -> None:
        """`on_change` hears of hosts that go down and come back, by origin; `on_shortage` of `hold_fewer`; `on_pause`
        of hosts that ask to be left alone for long. `name` is how people are told of an origin.
        """

        def make(origin: str) -> HostBudget:
            def told(change: Change) -> None:
                on_change(origin, change)

            if make_allowance is not None:
                allowance = make_allowance()
            else:
                allowance = Fixed(in_flight_max) if busy is None else Pace(in_flight_max, now, busy)
            health = Health(now, outage_max_s, random, told)
            budget = HostBudget(allowance, rate_per_s, now, sleep, health, retry_after_max_s)
            budget.on_shortage = self.hold_fewer
            budget.name = name(origin)
            budget.on_pause = lambda seconds: on_pause(budget.name, seconds)
            return budget

        self._make = make
        self._now = now
        self._budgets: dict[str, HostBudget] = {}
        self._useful = START
        self._useful_until_s = 0.0
        self._on_shortage = on_shortage
        self._held_until_s = 0.0

    def of(self, origin: str) -> HostBudget:
        """Return the budget of `origin`, such as `https://host:443` or `s3://bucket`."""
        budget = self._budgets.get(origin)
        if budget is None:
            budget = self._budgets[origin] = self._make(origin)
        return budget

    def waited_for(self) -> list[str]:
        """Return the origins that are down, or have asked for a pause that lasts."""
        return [
            origin for origin, budget in self._budgets.items() if budget.health.down or budget.wait_s() > _PAUSE_SHOWN_S
        ]

    def hold_fewer(self) -> None:
        """Hear that no more files or connections may be open: every host is asked for less at once, and slowly more."""
        now_s = self._now()
        if now_s >= self._held_until_s:  # all who met it in one instant met one thing
            self._held_until_s = now_s + _HOLD_S
            for budget in self._budgets.values():
                budget.hold_fewer()
            self._on_shortage()

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
