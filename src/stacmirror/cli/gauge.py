"""What a person sees of a running mirror: a snapshot of the counters, and its words.

Called by whatever says or draws it: display.py, drawing.py, bar.py, watch.py. Pure: it knows neither terminal nor time.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from stacmirror.pipeline.progress import Progress
from stacmirror.units import format_count, format_duration, format_size

WINDOW_S = 10.0
"""Rates are of the last so many seconds: long enough to be calm, short enough to show a stall."""
PHASES = {
    "starting": "reading the listing",
    "fetching": "fetching",
    "sweeping": "asking again for what failed",
    "finishing": "finishing",
    "done": "done",
}


class Snapshot(Struct, frozen=True):
    """The counters at one moment, with rates over the last seconds."""

    phase: str
    elapsed_s: float
    settled: int
    """Walked items that need nothing more: done, or filtered out."""
    listed: int
    there: int
    total: int | None
    files: int
    size_bytes: int
    files_per_s: float
    bytes_per_s: float
    eta_s: float | None
    in_flight: int
    queued: int
    parked: int
    retries: int
    failures: int
    absent: int
    slowest: tuple[str, float] | None
    hosts: tuple[str, ...] = ()
    """Down or paused."""


class Meter:
    """Takes snapshots and remembers enough of the last seconds to say how fast it goes."""

    def __init__(self, started_s: float, expected_items: int | None = None) -> None:
        self._started_s = started_s
        self._expected_items = expected_items
        self._marks: deque[tuple[float, int, int, int]] = deque()

    def read(self, progress: Progress, now_s: float) -> Snapshot:
        """Return the counters at `now_s`, a monotonic time."""
        wanted = progress.items_wanted
        settled = progress.items_done if wanted is not None else progress.items_done + progress.items_filtered
        total = _total(progress, self._expected_items)
        fresh = settled - progress.items_there
        held_bytes = progress.bytes_stored + progress.bytes_on_the_way
        came_bytes = held_bytes - progress.bytes_there
        self._marks.append((now_s, progress.files_stored, came_bytes, fresh))
        while len(self._marks) > 2 and now_s - self._marks[1][0] >= WINDOW_S:
            self._marks.popleft()
        then_s, files, size_bytes, items = self._marks[0]
        span_s = max(now_s - then_s, 1e-9)
        items_per_s = (fresh - items) / span_s if now_s > then_s else 0.0
        return Snapshot(
            phase=progress.phase,
            elapsed_s=now_s - self._started_s,
            settled=settled,
            listed=progress.items_listed,
            there=progress.items_there,
            total=total,
            files=progress.files_stored,
            size_bytes=held_bytes,
            files_per_s=(progress.files_stored - files) / span_s if now_s > then_s else 0.0,
            bytes_per_s=max(0, came_bytes - size_bytes) / span_s if now_s > then_s else 0.0,
            eta_s=(total - settled) / items_per_s if total is not None and items_per_s > 0 else None,
            in_flight=progress.in_flight,
            queued=progress.queued,
            parked=progress.parked,
            retries=progress.retries,
            failures=progress.failures,
            absent=progress.absent + progress.assumed_absent,
            slowest=progress.slowest(now_s),
            hosts=tuple(progress.hosts),
        )


def _total(progress: Progress, expected_items: int | None) -> int | None:
    listed = progress.items_total if progress.items_total is not None else expected_items
    bounds = [bound for bound in (listed, progress.items_wanted) if bound is not None]
    # A server's total can be stale: never show more than all.
    return max(min(bounds), progress.items_done) if bounds else None


def plain_line(now: Snapshot) -> str:
    """Return the snapshot as one line for a log."""
    parts = [
        f"{items(now.settled, now.total, now.listed)}, {format_count(now.files)} files, {format_size(now.size_bytes)}",
        f"{now.files_per_s:.0f} files/s",
        f"{now.in_flight} in flight",
    ]
    parts += troubles(now)
    if now.eta_s is not None:
        parts.append(f"{format_duration(now.eta_s)} left")
    parts += waited_for(now)
    return f"[{format_duration(now.elapsed_s)}] {PHASES[now.phase]}: " + ", ".join(parts)


def items(settled: int, total: int | None, listed: int) -> str:
    """Return how many items are settled, of how many."""
    if total is None:
        return f"{format_count(settled)} items of {format_count(listed)} listed so far"
    return f"{format_count(settled)} of {format_count(total)} items"


def troubles(now: Snapshot) -> list[str]:
    """Return what a calm run has none of, but for what was there before."""
    counts = {
        "there before": now.there,
        "waiting": now.parked,
        "absent": now.absent,
        "retries": now.retries,
        "failed": now.failures,
    }
    return [f"{format_count(count)} {word}" for word, count in counts.items() if count]


def waited_for(now: Snapshot) -> list[str]:
    """Return which hosts are down or paused, in one part; nothing where none is."""
    if not now.hosts:
        return []
    more = f" and {len(now.hosts) - 1} more" if len(now.hosts) > 1 else ""
    return [f"waiting for {now.hosts[0]}{more}"]
