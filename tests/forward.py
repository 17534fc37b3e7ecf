"""A loop's clock that a test puts forward: to all timers of a client that is what a standstill is."""

from __future__ import annotations

import asyncio

import pytest

STEP_S = 0.25
"""Shorter than any sweep of the tests: a clock that goes on, and does not stand still."""


class Forward:
    """The running loop's clock, and how far it was put forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        self._time = loop.time
        self._forward_s = 0.0
        monkeypatch.setattr(loop, "time", self.time)

    def time(self) -> float:
        return self._time() + self._forward_s

    def put_unseen(self, seconds: float) -> None:
        """Put it forward, before any timer hears of it."""
        self._forward_s += seconds

    async def put(self, seconds: float) -> None:
        """Put it forward, and let everything happen that is due then."""
        self.put_unseen(seconds)
        for _ in range(10):
            await asyncio.sleep(0)

    async def go_on(self, seconds: float) -> None:
        """Let so much time pass in which the loop turns."""
        for _ in range(int(seconds / STEP_S)):
            await self.put(STEP_S)
