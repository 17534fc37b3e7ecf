"""How a run is asked to end early: once (finish what is in hand), twice (now)."""

from __future__ import annotations

import asyncio


class Stop:
    """Set by signals (or a limit), read by the run. Use on the event loop's thread."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        """Walk no further; finish the items in hand."""
        self.now = asyncio.Event()
        """Drop what is in hand; commit what is whole."""
        self.exit_code = 130
        self.reason = "interrupted"

    def ask(self, exit_code: int = 130, reason: str = "interrupted") -> None:
        """Stop softly at the first call, at once at the second."""
        if self.asked.is_set():
            self.now.set()
            return
        self.exit_code = exit_code
        self.reason = reason
        self.asked.set()
