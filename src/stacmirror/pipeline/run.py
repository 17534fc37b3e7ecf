"""One run, top to bottom: recover, walk and fetch (or retry), sweep, give up on the rest, describe, count.

The only place where tasks are made, but for pages read ahead and large files of one item. It ends early by a Stop
(softly, then at once) or by an error; whatever ends it, what is whole is committed first, unless the disk itself has
failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import NamedTuple

from stacmirror.errors import StacmirrorError, first_of
from stacmirror.interfaces import Ledger, Observer
from stacmirror.model import ItemKey, ItemOutcome, LedgerEntry, ListingState, PageRecord, ResumePoint, Reveal
from stacmirror.pipeline.adopt import Adopter
from stacmirror.pipeline.adopting import AdoptingWorker
from stacmirror.pipeline.crew import Crew
from stacmirror.pipeline.detours import Detours
from stacmirror.pipeline.dispatch import Dispatch
from stacmirror.pipeline.missing import MissingKeys
from stacmirror.pipeline.room import Room
from stacmirror.pipeline.settle import Settler
from stacmirror.pipeline.stop import Stop
from stacmirror.pipeline.sweep import Again, Probe, Sweep
from stacmirror.pipeline.task import Retry, Task
from stacmirror.pipeline.walk import Walk
from stacmirror.pipeline.worker import Worker


class Shape(NamedTuple):
    """How wide the run is, and how it ends."""

    workers: int
    queue_size: int
    sweeps: int
    grace_s: float
    show_incomplete: bool


class Run:
    """One run over one mirror. `error` is what ended the walk or the run early, or None."""

    def __init__(
        self,
        crew: Crew,
        walk: Walk,
        ledger: Ledger,
        missing: MissingKeys,
        stop: Stop,
        observer: Observer,
        shape: Shape,
        room: Room | None = None,
        task: Task | None = None,
        adopter: Adopter | None = None,
    ) -> None:
        self._crew = crew
        self._walk = walk
        self._ledger = ledger
        self._missing = missing
        self._stop = stop
        self._observer = observer
        self._shape = shape
        self._room = room
        self._task = task
        self._adopter = adopter
        self._detours = Detours()
        self.error: StacmirrorError | None = None

    async def execute(self, start: ResumePoint, staged: list[Reveal]) -> None:
        """Do the task - without one, bring in everything from `start` on - and finish an earlier run's `staged` units.

        Raises: TargetUnwritable, LoginRefused, UsageError, after committing what can be committed.
        """
        progress, committer = self._crew.progress, self._crew.committer
        committer.start()
        committer.reveal(staged)
        try:
            if isinstance(self._task, Retry):
                await self._try_again(self._task)
            else:
                await self._fetch_all(start)
            await committer.drain()
        finally:
            progress.phase = "finishing"
            await committer.close()
            if committer.failed.done():
                committer.failed.exception()  # it reached the run by way of `_pump` or `drain`
        if committer.failed.done():
            committer.failed.result()

    async def _fetch_all(self, start: ResumePoint) -> None:
        self._crew.progress.phase = "fetching"
        await self._pump(lambda dispatch: self._walk.feed(dispatch, start))
        self.error = self._walk.error
        if self._going_on and self._adopter is None:  # what is not there to adopt is a later run's to fetch
            await self._finish_listing()

    async def _try_again(self, retry: Retry) -> None:
        """Ask for what failed: all that is meant, then, as often as there are sweeps, what failed once more."""
        self._crew.progress.phase = "sweeping"
        for _ in range(max(1, self._shape.sweeps)):
            again = Again(self._ledger, retry)
            await self._pump(again.feed)
            await self._crew.committer.drain()
            if not again.lined_up or not self._going_on:
                break
        await self._show_incomplete()

    @property
    def _going_on(self) -> bool:
        return not self._stop.asked.is_set()

    @property
    def walked(self) -> bool:
        """Whether this run has read any page of the listing."""
        return self._walk.walked

    @property
    def listing(self) -> ListingState:
        """What this run can say of the listing."""
        return ListingState(self._walk.ended, self._walk.server_total)

    async def _finish_listing(self) -> None:
        """After the walk: sweeps, then the decision on what is still missing."""
        committer, progress = self._crew.committer, self._crew.progress
        await committer.drain()
        self._missing.listing_ended()
        await committer.drain()
        absent = self._missing.absent_keys()
        if absent:
            await self._pump(Probe(self._ledger, absent).feed)
            await committer.drain()
        # What failed in earlier runs gets a pass even where the settings say none: resuming means to try.
        for _ in range(max(1, self._shape.sweeps)):
            sweep = Sweep(self._ledger, earlier_only=self._shape.sweeps == 0)
            progress.phase = "sweeping"
            progress.failures = await asyncio.to_thread(self._ledger.lacking_assets)
            await self._pump(sweep.feed)
            await committer.drain()
            if sweep.unasked and self._going_on:
                self._missing.listing_ended()  # only now all that is listed was asked for
                await committer.drain()
            if not sweep.lined_up or not self._going_on:
                break
        await self._show_incomplete()

    async def _show_incomplete(self) -> None:
        if self._going_on and self._shape.show_incomplete:
            self._crew.committer.reveal(await asyncio.to_thread(self._ledger.release_held))

    async def _pump(self, feed: Callable[[Dispatch], Awaitable[None]]) -> None:
        """Run one feeder and all workers to the end, or to the stop."""
        shape, clock = self._shape, self._crew.clock
        dispatch = Dispatch(
            shape.queue_size, 4 * shape.workers, clock.monotonic, at_once=self._crew.opener.useful_at_once
        )
        self._crew.progress.watch(lambda: (dispatch.queued, dispatch.parked))
        try:
            async with asyncio.TaskGroup() as group:
                feeder = group.create_task(_coroutine(feed(dispatch)), name="feed")
                workers = [
                    group.create_task(self._worker(dispatch).work(), name=f"worker-{n}") for n in range(shape.workers)
                ]
                watchers = [
                    group.create_task(self._watch_commit(), name="watch-commit"),
                    group.create_task(self._watch_stop(dispatch, feeder, workers), name="watch-stop"),
                ]
                if self._room is not None:
                    watchers.append(group.create_task(self._room.watch(), name="watch-room"))
                group.create_task(_end_with(workers, watchers), name="end")
        except* StacmirrorError as errors:
            raise first_of(errors) from None

    def _worker(self, dispatch: Dispatch) -> Worker:
        if self._adopter is not None:
            return AdoptingWorker(self._crew, dispatch, self._adopter)
        return Worker(self._crew, dispatch, Settler(self._crew, self._detours))

    async def _watch_commit(self) -> None:
        await asyncio.shield(self._crew.committer.failed)

    async def _watch_stop(
        self, dispatch: Dispatch, feeder: asyncio.Task[None], workers: list[asyncio.Task[None]]
    ) -> None:
        await self._stop.asked.wait()
        feeder.cancel()
        dispatch.drop()
        self._observer.note(f"stopping: finishing the items in hand (at most {self._shape.grace_s:g} s)")
        try:
            async with asyncio.timeout(self._shape.grace_s):
                await self._stop.now.wait()
        except TimeoutError:
            pass
        for worker in workers:
            worker.cancel()


async def unless_stopped(work: Coroutine[None, None, None], stop: Stop) -> None:
    """Do `work` until it is done or the run is asked to stop, which ends it at once. Raises: what `work` raises."""
    working, stopped = asyncio.create_task(work), asyncio.create_task(stop.asked.wait())
    try:
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        if not working.done():
            working.cancel()
        await asyncio.wait({working, stopped})
    if not working.cancelled():
        working.result()


async def _coroutine(awaitable: Awaitable[None]) -> None:
    await awaitable


async def _end_with(workers: list[asyncio.Task[None]], watchers: list[asyncio.Task[None]]) -> None:
    """When the last worker has ended, nothing is left to watch."""
    await asyncio.wait(workers)
    for watcher in watchers:
        watcher.cancel()


def keys_of(entries: list[LedgerEntry]) -> list[ItemKey]:
    """Return the keys of all items of which the ledger knows by `entries`: those with rows, and those met again."""
    rows = [record.key for entry in entries if isinstance(entry, ItemOutcome) for record in entry.records]
    return rows + [key for entry in entries if isinstance(entry, PageRecord) for key in entry.known]
