"""Hand bundles to workers: a bounded queue, and those put aside that are due again.

Fed by the walk or a sweep, emptied by the workers, all on one event loop.
"""

from __future__ import annotations

import asyncio
import heapq
import sys
from collections import deque
from collections.abc import Callable

from stacmirror.pipeline.bundle import Bundle


class Dispatch:
    """At most `size` bundles wait in line; those put aside are at most as many as there are workers times four.

    `at_once` says how many bundles may be in hand now: more workers than that wait, as if the line were empty.
    """

    def __init__(
        self, size: int, parked_max: int, now: Callable[[], float], at_once: Callable[[], int] = lambda: sys.maxsize
    ) -> None:
        self._size = size
        self._parked_max = parked_max
        self._now = now
        self._line: deque[Bundle] = deque()
        self._parked: list[tuple[float, int, Bundle]] = []
        self._number = 0
        self._at_once = at_once
        self._in_hand = 0
        self._closed = False
        self._dropped = False
        self._takers: deque[asyncio.Future[None]] = deque()
        self._putters: deque[asyncio.Future[None]] = deque()

    @property
    def queued(self) -> int:
        """Bundles in line."""
        return len(self._line)

    @property
    def parked(self) -> int:
        """Bundles put aside."""
        return len(self._parked)

    async def put(self, bundle: Bundle) -> None:
        """Line a bundle up; waits while the line is full. Cancel: safe; the bundle is not in line."""
        while len(self._line) >= self._size and not self._closed:
            await self._wait(self._putters, None)
        if not self._closed:
            self._line.append(bundle)
            self._wake(self._takers)

    def can_park(self) -> bool:
        """Return whether there is room to put another bundle aside."""
        return len(self._parked) < self._parked_max

    def park(self, bundle: Bundle, until_s: float) -> None:
        """Put a bundle aside until the monotonic time `until_s`."""
        if self._dropped:
            return
        self._number += 1
        heapq.heappush(self._parked, (until_s, self._number, bundle))
        self._wake(self._takers)

    async def take(self) -> Bundle | None:
        """Return the next bundle that can go on, or None when there is and will be none.

        The caller has a bundle in hand until it calls `let_go`. Cancel: safe; no bundle is lost.
        """
        while True:
            if self._closed and not self._parked and not self._line:
                self._wake_all()
                return None
            room = self._in_hand < self._at_once()
            if room and (bundle := self._next()) is not None:
                self._in_hand += 1
                return bundle
            due_s = self._parked[0][0] - self._now() if self._parked and room else None
            await self._wait(self._takers, due_s)

    def let_go(self) -> None:
        """Say that a bundle is in hand no longer: done, or put aside."""
        self._in_hand -= 1
        # No more than there is to take: a wake-up for nothing costs as much as one for something. Where bundles are put
        # aside, one taker for all of them: it takes one and wakes the next, or waits for the time.
        useful = min(len(self._takers), self._at_once() - self._in_hand, len(self._line) + bool(self._parked))
        for _ in range(useful):
            self._wake(self._takers)

    def _next(self) -> Bundle | None:
        if self._parked and self._parked[0][0] <= self._now():
            bundle = heapq.heappop(self._parked)[2]
            if self._parked:
                self._wake(self._takers)
            return bundle
        if self._line:
            self._wake(self._putters)
            return self._line.popleft()
        return None

    def close(self) -> None:
        """Say that nothing more will be put; takers go on with what is left."""
        self._closed = True
        self._wake_all()

    def drop(self) -> None:
        """Forget all that waits and all that would be put aside, and close."""
        self._dropped = True
        self._line.clear()
        self._parked.clear()
        self.close()

    async def _wait(self, waiters: deque[asyncio.Future[None]], seconds: float | None) -> None:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        waiters.append(waiter)
        timer = loop.call_later(max(0.0, seconds), _set, waiter) if seconds is not None else None
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake(waiters)  # a wake-up that this one got and cannot use
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _wake(self, waiters: deque[asyncio.Future[None]]) -> None:
        while waiters:
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _wake_all(self) -> None:
        for waiters in (self._takers, self._putters):
            while waiters:
                _set(waiters.popleft())


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
