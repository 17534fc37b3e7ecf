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
    """The share of time for which this thread's event loop works rather than waits. Call it in that thread."""

    def __init__(self) -> None:
        self._wall_s = time.monotonic()
        self._worked_s = time.thread_time()
        self._load = 0.0

    def __call__(self) -> float:
        """Return the load, from 0 to 1, over the last quarter of a second or longer."""
        wall_s = time.monotonic()
        if wall_s - self._wall_s >= _LOAD_WINDOW_S:
            worked_s = time.thread_time()
            self._load = (worked_s - self._worked_s) / (wall_s - self._wall_s)
            self._wall_s, self._worked_s = wall_s, worked_s
        return self._load
