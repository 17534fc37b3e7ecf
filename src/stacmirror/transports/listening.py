"""A server's silence, told from a standstill of our own: one timer for all who wait for bytes of an answer.

Used by `http`, once a client. It knows neither connections nor answers: who waits says so, and is told to give up.
A sweep that comes late says that this process (or its machine, or its loop) stood still meanwhile, and that nobody
took the bytes that came: such time is no silence, and the clock here does not count it.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

_SWEEP_S = 1.0


class Waiter(Protocol):
    """Who waits for bytes, one wait at a time."""

    waits_since_s: float
    """Since when it waits; set by `Listening`, in its own time."""

    def give_up(self) -> None:
        """Hear that no byte came in time: whoever waits must get an error."""


class Listening:
    """Gives up who waits for longer than `stall_timeout_s` while this process listened."""

    def __init__(self, stall_timeout_s: float) -> None:
        self._stall_timeout_s = stall_timeout_s
        self._sweep_s = min(_SWEEP_S, stall_timeout_s / 4)
        self._waiting: set[Waiter] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        """When the next sweep is due, in loop time."""
        self._stood_still_s = 0.0
        """All the time in which nobody listened."""

    def begin(self, waiter: Waiter) -> None:
        """Take note that `waiter` waits from now on."""
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._sweep_later(loop)
        waiter.waits_since_s = self._now_s(loop)
        self._waiting.add(waiter)

    def end(self, waiter: Waiter) -> float:
        """Take note that it waits no more; return for how many seconds it has waited."""
        self._waiting.discard(waiter)
        return self._now_s(asyncio.get_running_loop()) - waiter.waits_since_s

    def close(self) -> None:
        """Stop the timer; it starts again with the next who waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _now_s(self, loop: asyncio.AbstractEventLoop) -> float:
        """Return the time of a clock that stands still with this process; whoever looks first sees that it did."""
        now_s = loop.time()
        late_s = now_s - self._due_s
        if late_s > self._sweep_s:
            self._stood_still_s += late_s
            self._due_s = now_s
        return now_s - self._stood_still_s

    def _sweep_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due_s = loop.time() + self._sweep_s
        self._timer = loop.call_later(self._sweep_s, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now_s = self._now_s(loop)
        if not self._waiting:
            self._timer = None
            return
        self._sweep_later(loop)  # first: no error below may end it
        for waiter in list(self._waiting):
            if now_s - waiter.waits_since_s > self._stall_timeout_s:
                waiter.give_up()
