"""The real clock; tests pass their own."""

from __future__ import annotations

import asyncio
import time


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
