"""How many requests one host gets at once: more while more brings more, fewer when the host says no.

One `Pace` a host, told of every answer by the host's budget. Additive and multiplicative steps on what was seen in
a window: refusals (429, 503) shrink the allowance and mark an edge, which is probed again later and later; growth that
brings no throughput is taken back; an allowance that nobody needs, or a loop of ours that is busy itself, says
nothing and changes nothing. Pure: time and busyness are passed in.

Throughput is reckoned from the median time of an answer (requests at once = throughput x time): counted answers tell
of our own hiccups as much as of the host, and a step of a sixteenth drowns in them.
Source: Chiu and Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance" (1989).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol

START = 32
_WINDOW_MIN_S, _WINDOW_MAX_S = 0.5, 10.0
_START_FACTOR = 1.5
_STEP = 1 / 16
_SHRINK, _SHRINK_AGAIN = 0.85, 0.95
_BELOW_EDGE = 0.98
_SAME_EDGE = 0.1
"""Refusals this near to the edge, as a share of it, have met the same one."""
_WORTH = 0.3
"""Growth is kept when throughput grew by this share of it: all of it on a host at ease, none of it on a full one."""
_EASY = 64
"""Up to so many at once growth is not judged: near by, most of an answer's time is our own, and says nothing."""
_HOLD_FIRST_S, _HOLD_MAX_S = 15.0, 240.0
_BUSY = 0.8
UNAVAILABLE, REFUSED = 1, 6
"""How much evidence a 503 and a 429 are."""
_EVIDENCE, _EVIDENCE_ANSWERS = 16, 200
"""So much of it among so many answers means that the host has too many at once: 8 % of 503, or a third 429."""
_STRAY_FLOOR = 8
"""Where most answers are good, no evidence brings the allowance below this: then it is not our number that matters."""


class Allowance(Protocol):
    """How many requests a host gets at once, now, and what it is told of them."""

    @property
    def limit(self) -> int:
        """Requests at once."""
        ...

    def asked(self, place: int) -> None:
        """Hear that a request begins, as number `place` of those under way."""
        ...

    def answered(self, place: int, seconds: float, refusal: int = 0) -> None:
        """Hear of the end, after `seconds`, of a request that began as number `place`.

        `refusal` says how surely the host had too many at once: 0, UNAVAILABLE or REFUSED.
        """
        ...

    def outage(self) -> None:
        """Hear that the refusals of late were an outage: they say nothing of how many at once are too many."""
        ...

    def too_many(self, place: int) -> None:
        """Hear that `place` requests at once are more than this machine has room for."""
        ...


class Fixed:
    """An allowance that nothing changes."""

    __slots__ = ("limit",)

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def asked(self, place: int) -> None:
        """See `Allowance.asked`."""

    def answered(self, place: int, seconds: float, refusal: int = 0) -> None:
        """See `Allowance.answered`."""

    def outage(self) -> None:
        """See `Allowance.outage`."""

    def too_many(self, place: int) -> None:
        """See `Allowance.too_many`: what is not to be changed comes back step by step, by the host's health."""


class Pace:
    """`limit` is the allowance now: from 1 to `ceiling`."""

    __slots__ = (
        "_before", "_busy", "_ceiling", "_doubted", "_edge", "_edge_until_s", "_evidence", "_flat_until_s", "_full",
        "_heard", "_hold_s", "_lowest", "_now", "_old", "_refused", "_since_s", "_starting", "_took_before_s",
        "_took_s", "_well", "limit",
    )  # fmt: skip

    def __init__(self, ceiling: int, now: Callable[[], float], busy: Callable[[], float]) -> None:
        """`now` is monotonic, in seconds; `busy` is the share of time since it was last asked that our loop worked."""
        self._ceiling = ceiling
        self._now = now
        self._busy = busy
        self.limit = min(START, ceiling)
        self._starting = True
        self._before = self.limit
        """The allowance before the last growth, and the time that an answer took; 0.0 when the last step was none."""
        self._took_before_s = 0.0
        self._edge = 0
        """Requests at once that the host refused, or 0; not to be met again until `_edge_until_s`."""
        self._edge_until_s = 0.0
        self._hold_s = _HOLD_FIRST_S
        self._flat_until_s = 0.0
        """Until then growth is known to bring nothing."""
        self._heard, self._evidence, self._lowest = 0, 0, sys.maxsize
        """Answers of late, what they say of too many at once, and the lowest place that was refused."""
        self._refused = False
        """Whether the last answers were refusals, with no good one since."""
        self._well = (self.limit, 0, 0.0, _HOLD_FIRST_S, True)
        """What was known before those: allowance, edge, its times, and whether it is still the start."""
        self._open_window(now(), 0)

    def _open_window(self, now_s: float, old: int) -> None:
        """Begin anew; the next `old` answers are to requests of the window before."""
        self._since_s = now_s
        self._old = old
        self._took_s: list[float] = []
        self._full = False
        self._doubted = False

    def asked(self, place: int) -> None:
        """See `Allowance.asked`."""
        if place >= self.limit:
            self._full = True

    def answered(self, place: int, seconds: float, refusal: int = 0) -> None:
        """See `Allowance.answered`."""
        self._heard += 1
        if refusal:
            if not self._refused:
                self._refused = True
                self._well = (self.limit, self._edge, self._edge_until_s, self._hold_s, self._starting)
            if place <= self.limit:  # else it was asked before the last shrink, which has answered it already
                self._hear_refusal(place, refusal)
            return
        self._refused = False
        if self._heard >= _EVIDENCE_ANSWERS:
            self._forget_evidence()
        if self._old:
            self._old -= 1
            return
        self._took_s.append(seconds)
        answers = len(self._took_s)
        if answers >= self.limit or answers & 7 == 0:
            now_s = self._now()
            least_s = _WINDOW_MIN_S * (1 + self._doubted) if answers >= self.limit else _WINDOW_MAX_S
            if now_s - self._since_s >= least_s:
                self._step(now_s)

    def outage(self) -> None:
        """See `Allowance.outage`."""
        if self._refused:
            self.limit, self._edge, self._edge_until_s, self._hold_s, self._starting = self._well
            self._refused = False
            self._took_before_s = 0.0
            self._forget_evidence()
            self._open_window(self._now(), 0)

    def too_many(self, place: int) -> None:
        """See `Allowance.too_many`."""
        self._shrink(max(1, min(place, self.limit) // 2), _STRAY_FLOOR)

    def _hear_refusal(self, place: int, refusal: int) -> None:
        """Shrink once there is more than a stray refusal now and then, which some hosts give whatever is asked."""
        self._evidence += refusal
        self._lowest = min(self._lowest, place)
        if self._evidence >= _EVIDENCE:
            stray = self._evidence < self._heard / 2
            lowest = self._lowest
            self._forget_evidence()
            self._shrink(lowest, _STRAY_FLOOR if stray else 1)

    def _forget_evidence(self) -> None:
        self._heard, self._evidence, self._lowest = 0, 0, sys.maxsize

    def _step(self, now_s: float) -> None:
        busy, old = self._busy(), self.limit
        if self._full and busy <= _BUSY:
            from statistics import median  # here: a run that is over in a second never gets so far

            took_s = median(self._took_s)
            if self._took_before_s and not self._paid(took_s) and not self._doubted:
                self._doubted = True  # a window twice as long decides
                return
            self._grow(now_s, took_s)
        else:
            self._took_before_s = 0.0
        self._open_window(now_s, old if self.limit != old else 0)

    def _paid(self, took_s: float) -> bool:
        """Return whether enough of the last growth came back as throughput."""
        grown = self.limit / self._before
        return self.limit <= _EASY or grown * self._took_before_s >= took_s * (1 + _WORTH * (grown - 1))

    def _shrink(self, place: int, floor: int) -> None:
        """Step below the place that was refused: an edge, which is probed again later each time it is met."""
        now_s = self._now()
        again = abs(place - self._edge) <= self._edge * _SAME_EDGE
        self._hold_s = min(_HOLD_MAX_S, self._hold_s * 2) if again else _HOLD_FIRST_S
        self._edge, self._edge_until_s = place, now_s + self._hold_s
        self._starting = False
        self._took_before_s = 0.0
        # A known edge was probed from just below, where the host was content.
        wanted = int(place * (_SHRINK_AGAIN if again else _SHRINK))
        self.limit = max(1, min(self.limit, max(wanted, floor)))
        self._open_window(now_s, self.limit)

    def _grow(self, now_s: float, took_s: float) -> None:
        if self._took_before_s and not self._paid(took_s):
            self.limit, self._took_before_s, self._starting = self._before, 0.0, False
            self._flat_until_s = now_s + _HOLD_FIRST_S
            return
        if self.limit > self._edge * (1 + _SAME_EDGE):
            self._edge = 0
        top = self._ceiling
        if now_s < self._flat_until_s:
            top = self.limit
        elif self._edge and now_s < self._edge_until_s:
            top = min(top, int(self._edge * _BELOW_EDGE))
        step = self.limit * (_START_FACTOR - 1 if self._starting else _STEP)
        wanted = min(top, self.limit + max(1, int(step)))
        if self.limit < _EASY:
            wanted = min(wanted, _EASY)
        self._before, self._took_before_s = self.limit, took_s if wanted > self.limit else 0.0
        self.limit = max(1, self.limit, wanted)
