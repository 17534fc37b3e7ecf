"""Hold a run against what its target has room for: a mark that stays free, and a guess at what is still to come.

Made and asked by the composition root before anything is fetched, then watched by run.py. The guess rests on the first
items that came in; it is judged once. Knows no file system: the sink says what is free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from stacmirror.errors import TargetUnwritable
from stacmirror.forecast import LEDGER_BYTES, NEARLY, SURELY, on_disk
from stacmirror.interfaces import Clock, Sink
from stacmirror.model import ResumePoint, Space
from stacmirror.pipeline.progress import Progress
from stacmirror.units import format_count, format_size

_EVERY_S = 1.0
_EVERY_UNJUDGED_S = 0.2
_EVERY_LEAST_S = 0.05
_SAMPLE_ITEMS = 20


class Room:
    """Room in one target, for one run. `foretells`: whether a mirror that will not fit is refused."""

    def __init__(
        self,
        sink: Sink,
        progress: Progress,
        clock: Clock,
        note: Callable[[str], None],
        *,
        keep_bytes: int,
        keep_inodes: int,
        foretells: bool,
    ) -> None:
        self._sink = sink
        self._progress = progress
        self._clock = clock
        self._note = note
        self._keep_bytes = keep_bytes
        self._keep_inodes = keep_inodes
        self._judged = not foretells
        self._said_free = not foretells
        self._before = 0

    def check(self, start: ResumePoint | None = None) -> None:
        """Look once. `start` is where the run goes on. Raises: TargetUnwritable when too little is free."""
        if start is not None:
            self._before = start.matched
        self._hold(self._sink.space())

    async def watch(self) -> None:
        """Look for as long as the run lasts. Raises: TargetUnwritable. Cancel: safe."""
        before: Space | None = None
        wait_s = _EVERY_UNJUDGED_S
        while True:
            await self._clock.sleep(wait_s)
            space = await asyncio.to_thread(self._sink.space)
            self._hold(space)
            wait_s = self._next_s(before, space, wait_s)
            before = space

    def _next_s(self, before: Space | None, space: Space | None, waited_s: float) -> float:
        """Return when to look again: in a second, or after a quarter of the time that the disk lasts at this pace."""
        wait_s = _EVERY_S if self._judged or self._said_free else _EVERY_UNJUDGED_S
        if before is None or space is None or before.free_bytes <= space.free_bytes:
            return wait_s
        lasts_s = waited_s * (space.free_bytes - self._keep_bytes) / (before.free_bytes - space.free_bytes)
        return max(_EVERY_LEAST_S, min(wait_s, lasts_s / 4))

    def _hold(self, space: Space | None) -> None:
        if space is None:
            return
        low = []
        if space.free_bytes < self._keep_bytes:
            low.append(
                f"{format_size(space.free_bytes)} are free, and --keep-free keeps {format_size(self._keep_bytes)}"
            )
        if space.free_inodes is not None and space.free_inodes < self._keep_inodes:
            low.append(
                f"{format_count(space.free_inodes)} inodes are free, and keep_free_inodes keeps"
                f" {format_count(self._keep_inodes)}"
            )
        if low:
            wanted = self._wanted(space)
            more = f"; {_shown(wanted, space)} more are wanted, by the items so far" if wanted else ""
            raise TargetUnwritable(
                f"{space.place} is nearly full: {' and '.join(low)}{more}",
                hint="make room, then `stacmirror resume`; or lower the mark (--keep-free 0)",
            )
        if not self._judged and (wanted := self._wanted(space)) is not None:
            self._judged = True
            self._judge(space, wanted)
        elif not self._said_free and self._left() is None and (one := self._an_item(space)) is not None:
            self._said_free = True
            self._say_free(space, one)

    def _say_free(self, space: Space, one: Space) -> None:
        """Say for how many items there is room, where nobody knows how many there are."""
        free = Space(space.place, max(0, space.free_bytes - self._keep_bytes), None, space.block_bytes)
        items = free.free_bytes // one.free_bytes
        if space.free_inodes is not None and one.free_inodes:
            inodes = max(0, space.free_inodes - self._keep_inodes)
            if inodes // one.free_inodes < items:
                items = inodes // one.free_inodes
                free = Space(space.place, free.free_bytes, inodes, space.block_bytes)
        self._note(
            f"the server names no total, so nobody can say whether the mirror fits into {space.place}:"
            f" {_shown(free, free)} are free, room for about {format_count(_rounded(items))} items like those so far;"
            " short of that the run stops, resumable"
        )

    def _judge(self, space: Space, wanted: Space) -> None:
        free_bytes = max(1, space.free_bytes - self._keep_bytes)
        shares = {f"{format_size(wanted.free_bytes)} more of {format_size(free_bytes)}": wanted.free_bytes / free_bytes}
        if space.free_inodes is not None and wanted.free_inodes is not None:
            free_inodes = max(1, space.free_inodes - self._keep_inodes)
            shown = f"{format_count(wanted.free_inodes)} more of {format_count(free_inodes)} inodes"
            shares[shown] = wanted.free_inodes / free_inodes
        short = [shown for shown, share in shares.items() if share > NEARLY]
        if not short:
            return
        said = f"by the items so far it wants {' and '.join(short)} that are free (beside --keep-free)"
        # What filters leave is not known before the listing's end: then nothing is sure.
        if max(shares.values()) > SURELY and not self._progress.items_unwanted:
            raise TargetUnwritable(
                f"the mirror does not fit into {space.place}: {said}",
                hint="make room or choose another DEST; --no-preflight fills what there is",
            )
        self._note(f"warning: the mirror may not fit into {space.place}: {said}")

    def _wanted(self, space: Space) -> Space | None:
        """Return what the rest of the mirror takes by the items of this run, or None where nobody can know yet."""
        left, one = self._left(), self._an_item(space)
        if left is None or one is None or one.free_inodes is None:
            return None
        return Space(space.place, int(left * one.free_bytes), int(left * one.free_inodes), space.block_bytes)

    def _left(self) -> float | None:
        """Return how many items are still to come, or None where nobody knows."""
        progress = self._progress
        total = progress.items_total if progress.items_total is not None else progress.items_expected
        ends: list[float] = [] if total is None else [total * progress.share * progress.passed]
        if progress.listing_ended:
            ends.append(self._before + progress.items_listed - progress.items_filtered)
        if progress.items_wanted is not None:
            ends.append(progress.items_wanted)
        return max(0.0, min(ends) - self._before - progress.items_done) if ends else None

    def _an_item(self, space: Space) -> Space | None:
        """Return what an item takes, by those that this run has fetched; None where they are too few to tell."""
        progress = self._progress
        fetched = progress.items_done - progress.items_there
        if fetched < _SAMPLE_ITEMS or not progress.files_stored:
            return None
        # Each item has a folder at least, and all of it stands in the ledger.
        files = progress.files_stored / fetched
        bytes_ = on_disk(files, progress.bytes_stored / fetched, 1, space.block_bytes) + LEDGER_BYTES
        return Space(space.place, max(1, round(bytes_)), round(files + 1), space.block_bytes)


def _rounded(count: int) -> int:
    """Return `count` with two digits that mean something: more would pretend to know."""
    return round(count, 2 - len(str(count)))


def _shown(amount: Space, asked: Space) -> str:
    """Return bytes, and inodes where the file system counts them."""
    text = format_size(amount.free_bytes)
    if asked.free_inodes is None or amount.free_inodes is None:
        return text
    return f"{text} and {format_count(amount.free_inodes)} inodes"
