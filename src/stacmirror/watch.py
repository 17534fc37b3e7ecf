"""How a mirror grows, seen from outside: its ledger and its lock, look after look, with rates.

A composition root beside `status`; knows no terminal and takes no lock of its own that lasts.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable

from msgspec import Struct

from stacmirror.errors import TargetInUse
from stacmirror.ledger.home import LEDGER, state_folder
from stacmirror.ledger.lock import owner
from stacmirror.ledger.tally import Tallied, Tally
from stacmirror.record import STATE_FOLDER, read_record

WINDOW_S = 15.0
"""Rates are of the last so many seconds: commits come once a second or so."""
_STARTING_S = 30.0
"""So long a run may have the lock and no ledger yet."""


class Look(Struct):
    """One look. `running` is "" or who works; rates are None until there are two looks."""

    source: str
    running: str
    held: Tallied
    wanted: int | None
    """`--max-items` of the mirror."""
    files_per_s: float | None = None
    bytes_per_s: float | None = None
    eta_s: float | None = None

    @property
    def total(self) -> int | None:
        """Items that there will be, as far as anyone said."""
        bounds = [bound for bound in (self.held.total, self.wanted) if bound is not None]
        return max(min(bounds), self.settled) if bounds else None

    @property
    def settled(self) -> int:
        """Items that need nothing more: with a row, or filtered out where the server's total counts them."""
        return self.held.items + (self.held.filtered if self.wanted is None else 0)


class Watch:
    """Of the mirror in `target`. Raises: UsageError when there is none."""

    def __init__(self, target: str, clock: Callable[[], float] = time.monotonic) -> None:
        record = read_record(target)
        self._source = str(record.get("source", ""))
        wanted = record.get("limit", {}).get("max_items")
        self._wanted = wanted if isinstance(wanted, int) else None
        self._state = state_folder(os.path.join(target, STATE_FOLDER))
        self._tally = Tally(os.path.join(self._state, LEDGER))
        self._clock = clock
        self._began_s = clock()
        self._marks: deque[tuple[float, int, int, int]] = deque()

    def look(self) -> Look:
        """Return how far it is now. Raises: TargetInUse when its ledger is foreign or unreadable."""
        running = owner(self._state)  # before the counts: once nobody works, they are the last
        try:
            held = self._tally.look()
        except TargetInUse:
            if not running or self._marks or self._clock() - self._began_s > _STARTING_S:
                raise
            return Look(self._source, running, Tallied(), self._wanted)
        look = Look(self._source, running, held, self._wanted)
        self._rate(look)
        return look

    def _rate(self, look: Look) -> None:
        now_s, held = self._clock(), look.held
        self._marks.append((now_s, held.files, held.size_bytes, look.settled))
        while len(self._marks) > 2 and now_s - self._marks[1][0] >= WINDOW_S:
            self._marks.popleft()
        then_s, files, size_bytes, settled = self._marks[0]
        span_s = now_s - then_s
        if span_s <= 0:
            return
        look.files_per_s = (held.files - files) / span_s
        look.bytes_per_s = (held.size_bytes - size_bytes) / span_s
        total = look.total
        if total is not None and look.settled > settled:
            look.eta_s = (total - look.settled) * span_s / (look.settled - settled)
