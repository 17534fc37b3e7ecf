"""The real clock; tests pass their own."""

from __future__ import annotations

import asyncio
import time

_LOAD_WINDOW_S = 0.25


class SystemClock:
    """Implements `interfaces.Clock`."""

    def monotonic(self) -> float:
        """See `interfaces.Clock.monotonic`."""
        return time.monotonic()

    def wall(self) -> float:
        """See `interfaces.Clock.wall`."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """See `interfaces.Clock.sleep`."""
        await asyncio.sleep(seconds)


class LoopLoad:
    """The share of time for which this thread's event loop works, or would if it got a core. Call it in that thread.

    A loop that waits for a core looks idle by its own CPU time, and would take on more than it can do.
    """

    def __init__(self) -> None:
        self._wall_s = time.monotonic()
        self._worked_s = _busy_s()
        self._load = 0.0

    def __call__(self) -> float:
        """Return the load, from 0 to 1, over the last quarter of a second or longer."""
        wall_s = time.monotonic()
        if wall_s - self._wall_s >= _LOAD_WINDOW_S:
            worked_s = _busy_s()
            self._load = min(1.0, (worked_s - self._worked_s) / (wall_s - self._wall_s))
            self._wall_s, self._worked_s = wall_s, worked_s
        return self._load


def _busy_s() -> float:
    """Return for how many seconds this thread has run or stood in line for a core; where that is not told, has run."""
    try:
        with open("/proc/thread-self/schedstat", "rb") as file:
            ran, waited, *_ = file.read().split()
        return (int(ran) + int(waited)) / 1e9
    except (OSError, ValueError):
        return time.thread_time()
