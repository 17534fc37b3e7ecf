"""The time of the server that issues links: a machine whose clock is wrong must not ask with dead ones.

Made by the composition root; told the `Date` of the catalog's answers, read by catalog and renewal.
"""

from __future__ import annotations

from stacmirror.interfaces import Clock
from stacmirror.retry import parse_date

_SET_BACK_S = 5.0
"""A date so much older than the last one is a clock that was set back, and no answer that took its time."""


class ServerClock:
    """A clock whose `wall` is the server's: by the `Date` of its answers, carried on by time that never jumps.

    So a machine whose clock is wrong, or set while a run goes on, reckons the age of links all the same. Before the
    first answer, and where no answer has a date, it is this machine's wall clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_s: float | None = None
        """The server's wall clock less our monotonic one."""
        self._heard = ""

    def monotonic(self) -> float:
        """See `interfaces.Clock.monotonic`."""
        return self._clock.monotonic()

    def wall(self) -> float:
        """See `interfaces.Clock.wall`."""
        return self._clock.wall() if self._ahead_s is None else self._clock.monotonic() + self._ahead_s

    async def sleep(self, seconds: float) -> None:
        """See `interfaces.Clock.sleep`."""
        await self._clock.sleep(seconds)

    def heard(self, date: str) -> None:
        """Hear of the `Date` of an answer that came just now: cut to whole seconds, so the latest is the best."""
        if not date or date == self._heard:
            return
        self._heard = date
        then_s = parse_date(date)
        if then_s is None:
            return
        ahead_s = then_s - self._clock.monotonic()
        if self._ahead_s is None or ahead_s > self._ahead_s or self._ahead_s - ahead_s > _SET_BACK_S:
            self._ahead_s = ahead_s
