"""What a run has around it: time, and someone who listens."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Time and sleep, passed in so that no test waits."""

    def monotonic(self) -> float:
        """Return seconds that never jump; for waits and durations."""
        ...

    def wall(self) -> float:
        """Return seconds since the epoch; for the age of links."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait `seconds`. Cancel: safe."""
        ...


class Observer(Protocol):
    """Hears what a person should know, as it happens. Never raises, never blocks."""

    def note(self, message: str) -> None:
        """Say one line (already free of secrets)."""
        ...
