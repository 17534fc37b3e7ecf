"""How many requests one host gets at once: more while more brings more, fewer when the host says no.

One `Pace` a host, told of every answer by the host's budget. Additive and multiplicative steps on what was seen in
a window: refusals (429, 503) shrink the allowance and mark an edge, which is probed again later and later; growth that
brings no throughput is taken back; an allowance that nobody needs, or a loop of ours that is busy itself, says
nothing and changes nothing. Pure: time and busyness are passed in.
Source: Chiu and Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance" (1989).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

START = 16
_WINDOW_MIN_S, _WINDOW_MAX_S = 0.5, 10.0
_START_FACTOR = 1.5
_STEP = 1 / 16
_SHRINK = 0.85
_BELOW_EDGE = 0.98
_WORTH = 0.3
"""Growth is kept when throughput grew by this share of it: all of it on a host at ease, none of it on a full one."""
_HOLD_FIRST_S, _HOLD_MAX_S = 15.0, 240.0
_BUSY = 0.8


class Allowance(Protocol):
    """How many requests a host gets at once, now, and what it is told of them."""

    @property
    def limit(self) -> int:
        """Requests at once."""
        ...

    def asked(self, place: int) -> None:
        """Hear that a request begins, as number `place` of those under way."""
        ...

    def answered(self, place: int, *, refused: bool) -> None:
        """Hear of the answer to a request that began as number `place`; `refused`: the host had too many."""
        ...


class Fixed:
    """An allowance that nothing changes."""

    __slots__ = ("limit",)

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def asked(self, place: int) -> None:
        """See `Allowance.asked`."""

    def answered(self, place: int, *, refused: bool) -> None:
        """See `Allowance.answered`."""


class Pace:
    """`limit` is the allowance now: from 1 to `ceiling`."""

    __slots__ = (
        "_answers", "_before", "_busy", "_ceiling", "_edge", "_full", "_hold_s", "_hold_until_s", "_now",
        "_rate_before", "_since_s", "_starting", "limit",
    )  # fmt: skip

    def __init__(self, ceiling: int, now: Callable[[], float], busy: Callable[[], float]) -> None:
        """`now` is monotonic, in seconds; `busy` is the share of time since it was last asked that our loop worked."""
        self._ceiling = ceiling
        self._now = now
        self._busy = busy
        self.limit = min(START, ceiling)
        self._starting = True
        self._before = self.limit
        """The allowance before the last growth, and the throughput that it had; 0.0 when the last step was none."""
        self._rate_before = 0.0
        self._edge = 0
        """Requests at once that the host refused, or 0."""
        self._hold_s = _HOLD_FIRST_S
        self._hold_until_s = 0.0
        self._open_window(now())

    def _open_window(self, now_s: float) -> None:
        self._since_s = now_s
        self._answers = 0
        self._full = False

    def asked(self, place: int) -> None:
        """See `Allowance.asked`."""
        if place >= self.limit:
            self._full = True

    def answered(self, place: int, *, refused: bool) -> None:
        """See `Allowance.answered`."""
        if refused:
            if place <= self.limit:  # else it was asked before the last shrink, which has answered it already
                self._shrink(place)
            return
        self._answers += 1
        if self._answers >= self.limit or self._answers & 7 == 0:
            now_s = self._now()
            elapsed_s = now_s - self._since_s
            if elapsed_s >= (_WINDOW_MIN_S if self._answers >= self.limit else _WINDOW_MAX_S):
                self._step(now_s, elapsed_s)

    def _step(self, now_s: float, elapsed_s: float) -> None:
        busy = self._busy()
        if self._full and busy <= _BUSY:
            self._grow(now_s, self._answers / elapsed_s)
        else:
            self._rate_before = 0.0
        self._open_window(now_s)

    def _shrink(self, place: int) -> None:
        """Step below the place that was refused: an edge, which is probed again later each time it is met."""
        now_s = self._now()
        again = self._edge and place >= self._edge * 0.9
        self._hold_s = min(_HOLD_MAX_S, self._hold_s * 2) if again else _HOLD_FIRST_S
        self._hold_until_s = now_s + self._hold_s
        self._edge = place
        self._starting = False
        self._rate_before = 0.0
        self.limit = max(1, int(place * _SHRINK))
        self._open_window(now_s)

    def _grow(self, now_s: float, rate: float) -> None:
        if self._rate_before:
            gained, hoped = rate / self._rate_before - 1, self.limit / self._before - 1
            if gained < hoped * _WORTH:
                self.limit, self._rate_before, self._starting = self._before, 0.0, False
                self._edge, self._hold_until_s = 0, now_s + _HOLD_FIRST_S
                return
        top = self._ceiling
        if now_s < self._hold_until_s:
            top = min(top, int(self._edge * _BELOW_EDGE) if self._edge else self.limit)
        step = self.limit * (_START_FACTOR - 1 if self._starting else _STEP)
        wanted = min(top, self.limit + max(1, int(step)))
        self._before, self._rate_before = self.limit, rate if wanted > self.limit else 0.0
        self.limit = max(1, self.limit, wanted)
