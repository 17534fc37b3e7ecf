"""The library's face and the composition root: build every part for one run, run it, count the truth.

The only module that knows all adapters. `Mirror(settings, api_key=…).run()` is what the command line calls.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Sequence
from contextlib import suppress

from stacmirror.assembly import make_adopter, make_catalog, make_pipelining, make_router, retry_policy
from stacmirror.catalogs import MlhubCatalog, parse_source
from stacmirror.clock import SystemClock
from stacmirror.errors import LoginRefused, StacmirrorError, TargetInUse, TargetUnwritable, UsageError
from stacmirror.filters import AssetChoice, make_filters
from stacmirror.interfaces import Observer
from stacmirror.layout import make_layout
from stacmirror.ledger.home import LEDGER, take_home
from stacmirror.ledger.network import network_file_system
from stacmirror.ledger.store import LedgerStore
from stacmirror.model import (
    START,
    Counts,
    FailureCount,
    ItemOutcome,
    LedgerEntry,
    ResumePoint,
    Retried,
    Reveal,
    Summary,
)
from stacmirror.open_files import fit_open_files
from stacmirror.pipeline.adopt import Adopter
from stacmirror.pipeline.ahead import Ahead
from stacmirror.pipeline.caps import EXIT_CODE, Caps
from stacmirror.pipeline.commit import Committer
from stacmirror.pipeline.documents import describe_all
from stacmirror.pipeline.learn import Learner
from stacmirror.pipeline.leftovers import drop_parts_of_known, drop_parts_of_unlisted
from stacmirror.pipeline.missing import MissingKeys
from stacmirror.pipeline.plan import Planner
from stacmirror.pipeline.progress import Progress
from stacmirror.pipeline.renewal import Renewal
from stacmirror.pipeline.room import Room
from stacmirror.pipeline.run import Run, Shape, keys_of, unless_stopped
from stacmirror.pipeline.server_clock import ServerClock
from stacmirror.pipeline.shortcut import Shortcut
from stacmirror.pipeline.stop import Stop
from stacmirror.pipeline.task import Adopt, Retry, Task
from stacmirror.pipeline.transfer import Fetcher
from stacmirror.pipeline.walk import Walk
from stacmirror.pipeline.worker import Crew
from stacmirror.record import STATE_FOLDER, refuse_other_mirror, write_record
from stacmirror.redact import Redactor
from stacmirror.settings import Settings
from stacmirror.sinks.directory import DirectorySink
from stacmirror.transports.router import Router
from stacmirror.units import format_duration, parse_allowed
from stacmirror.verdict import adoption_verdict, citation_lines, peak_rss_mib, verdict_of

_UNWRITTEN_MAX = 1024
"""Bundles that may wait for the ledger before workers wait."""


class _Silent:
    def note(self, message: str) -> None:
        pass


class Mirror:
    """One run of one mirror. `progress` may be read and `stop` set while `run` is under way.

    Raises: UsageError for settings that cannot be, before anything is touched.
    """

    def __init__(
        self, settings: Settings, *, api_key: str = "", observer: Observer | None = None, task: Task | None = None
    ) -> None:
        parse_source(settings.source)
        self._layout = make_layout(settings.place.layout, settings.place.path_template)
        self._filters = make_filters(settings.filter)
        if os.path.exists(settings.target) and not os.path.isdir(settings.target):
            raise UsageError(f"{settings.target} is a file, not a folder", hint="name a folder as DEST")
        self._settings = settings
        self._own_folder = os.path.join(os.path.abspath(settings.target), STATE_FOLDER)
        self._api_key = api_key
        self._redactor = Redactor([api_key])
        self._task = task
        self._adopter: Adopter | None = None
        self._observer: Observer = observer or _Silent()
        self._clock = ServerClock(SystemClock())
        self.progress = Progress()
        self.progress.items_wanted = settings.limit.max_items
        self.stop: Stop = Stop()
        self.citation: list[str] = []
        """Lines to print at the end: whom the collections ask to cite, and under which license they are."""

    async def run(self) -> Summary:
        """Mirror what is not there yet, and return what this run and the mirror amount to.

        Raises: UsageError, TargetInUse, TargetUnwritable before anything is fetched. What ends the run later is in
                the summary: its exit code and its reason.
        Cancel: the run ends at once; what was committed stays.
        """
        started_s, cpu_s = time.monotonic(), time.process_time()
        target = self._settings.target
        refuse_other_mirror(self._settings)
        state, lock = take_home(self._own_folder, self._settings.write.state_dir)
        try:
            if kind := network_file_system(state):
                self._observer.note(
                    f"warning: the ledger in {state} is on a network file system ({kind}), where locks and power cuts"
                    " are not what they are on a disk; --state-dir DIR moves it to a local one"
                )
            sink = DirectorySink(target)
            try:
                ledger = LedgerStore(os.path.join(state, LEDGER), lock.check)
                try:
                    self._begin(ledger)
                    outcome = await self._run_with(sink, ledger)
                    took = time.monotonic() - started_s, time.process_time() - cpu_s
                    try:
                        return self._summary(outcome, ledger, *took)
                    except StacmirrorError as unreadable:
                        # A disk that has failed may not let its ledger be read, either: what ended the run counts.
                        raise (outcome.error or unreadable) from unreadable
                finally:
                    ledger.close()
            finally:
                sink.close()
        finally:
            lock.release()

    def _begin(self, ledger: LedgerStore) -> None:
        """Keep how this mirror is made; where pages must be walked again for it, the ledger knows that first."""
        settings = self._settings
        change = refuse_other_mirror(settings)
        if settings.run.refresh or change.more_items or change.more_assets:
            ledger.begin_walk(refresh=settings.run.refresh, widen=change.more_assets)
        if change.words:
            what = (
                "walking again from the start for what is wanted more"
                if change.more_items or change.more_assets
                else "nothing more is wanted"
            )
            self._observer.note(f"the filter has changed: {change.words}; {what}; what is here stays")
        write_record(settings)

    async def _run_with(self, sink: DirectorySink, ledger: LedgerStore) -> _Outcome:
        settings = fit_open_files(self._settings, self._observer.note)
        router = make_router(settings, SystemClock(), note=self._observer.note)
        router.on_date = self._clock.heard
        self.progress.count_requests(lambda: router.requests)
        try:
            catalog = make_catalog(settings, self._api_key, router, self._clock, self.progress)
            ledger.on_damaged = self._observer.note
            staged = recover(sink, ledger)
            drop_parts_of_known(sink, ledger)
            room = self._room(sink)
            run, walk = self._build(sink, ledger, router, catalog, room)
            before: list[FailureCount] = []
            if isinstance(self._task, Retry):
                before = ledger.failures()
                start = ResumePoint(0, START, 0)  # not walked to
                _take_listing_as_it_is(walk, ledger, self._settings.limit.max_items)
            else:
                start = ledger.resume_point()
                if start.again:
                    self._observer.note(
                        "this source's pages are numbered, and shift: walking again from the start;"
                        " what is here is skipped by its id"
                    )
            room.check(start)
            error: StacmirrorError | None = None
            ending = self._end_in_time()
            try:
                await run.execute(start, staged)
                error = run.error
                ledger.set_listing(run.listing)
                walked = run.listing.ended and self._task is None
                if walked and error is None and not self.stop.asked.is_set():
                    drop_parts_of_unlisted(sink, ledger)
            except StacmirrorError as ended_by:
                error = ended_by
            finally:
                if ending is not None:
                    ending.cancel()
            if self._task is None and not self.stop.asked.is_set() and not (error and error.exit_code == 6):
                try:
                    await unless_stopped(self._describe(catalog, sink, ledger), self.stop)
                except TargetUnwritable as unwritable:
                    error = error or unwritable
            return _Outcome(error, walk, before)
        finally:
            await router.close()

    def _end_in_time(self) -> asyncio.TimerHandle | None:
        seconds = self._settings.limit.max_duration_s
        if seconds is None:
            return None
        reason = f"--max-duration {format_duration(seconds)} is over"
        return asyncio.get_running_loop().call_later(seconds, self.stop.ask, EXIT_CODE, reason)

    def _build(
        self, sink: DirectorySink, ledger: LedgerStore, router: Router, catalog: MlhubCatalog, room: Room
    ) -> tuple[Run, Walk]:
        settings, progress, clock = self._settings, self.progress, self._clock
        limit, write = settings.limit, settings.write

        def written(entries: list[LedgerEntry]) -> None:
            walk.release(keys_of(entries))
            outcomes = [entry for entry in entries if isinstance(entry, ItemOutcome)]
            progress.files_written += sum(outcome.fetched for outcome in outcomes)
            progress.bytes_written += sum(outcome.fetched_bytes for outcome in outcomes)

        def committed(units: int) -> None:
            progress.committed_items += units

        committer = Committer(
            sink,
            ledger,
            every_s=write.sync_every_s,
            every_bytes=write.sync_every_bytes,
            pending_max=_UNWRITTEN_MAX,
            on_written=written,
            on_committed=committed,
        )
        missing = MissingKeys(
            settings.missing.missing_ok,
            settings.missing.missing_after,
            settings.missing.missing_sample,
            ledger.missing_keys(),
            committer.add,
            self._observer.note,
            progress,
        )
        choice = AssetChoice(settings.filter.asset, settings.filter.exclude_asset)
        walk = Walk(
            catalog,
            ledger,
            self._filters,
            committer.add,
            progress,
            prefetch=settings.walk.page_prefetch,
            items_max=limit.max_items,
            one_to_one=self._layout.one_to_one,
            wants=choice.chooses,
            note=self._observer.note,
            redact=self._redactor.document,
        )
        fetcher = Fetcher(
            router,
            sink,
            clock,
            progress,
            file_max_bytes=write.max_file_size_bytes,
            any_content=settings.catalog.any_content,
        )
        shortcut = None
        if limit.learn_redirects:
            shortcut = Shortcut(Learner(self._observer.note), router, fetcher, progress)
        several = make_pipelining(settings, router, self._observer.note)
        if isinstance(self._task, Adopt):
            self._adopter = make_adopter(settings, self._task, sink, fetcher, self._observer.note)
            shortcut = several = None
        crew = Crew(
            catalog=catalog,
            opener=router,
            sink=sink,
            fetcher=fetcher,
            planner=Planner(self._layout, choice.chooses, ledger.run),
            missing=missing,
            committer=committer,
            progress=progress,
            policy=retry_policy(settings),
            clock=clock,
            random=random.random,
            links=Renewal(catalog, clock, settings.catalog.link_life_s, self._observer.note),
            held_max_bytes=max(1, write.memory_max_bytes // limit.workers),
            large_at_once=limit.large_at_once,
            shortcut=shortcut,
            caps=Caps(parse_allowed(limit.max_failures), limit.max_transfer_bytes, progress, missing, self.stop),
            ahead=None if several is None else Ahead(several, missing, shortcut),
            redact=self._redactor.document,
            shows_at_once=self._adopter is not None and write.incomplete == "show",
        )
        shape = Shape(
            workers=limit.workers,
            queue_size=limit.queue_size,
            sweeps=limit.sweeps,
            grace_s=settings.run.grace_s,
            show_incomplete=write.incomplete == "show",
        )
        return Run(crew, walk, ledger, missing, self.stop, self._observer, shape, room, self._task, self._adopter), walk

    def _room(self, sink: DirectorySink) -> Room:
        write = self._settings.write
        return Room(
            sink,
            self.progress,
            self._clock,
            self._observer.note,
            keep_bytes=write.keep_free_bytes,
            keep_inodes=write.keep_free_inodes,
            foretells=write.preflight,
        )

    async def _describe(self, catalog: MlhubCatalog, sink: DirectorySink, ledger: LedgerStore) -> None:
        try:
            infos = await describe_all(catalog, sink, ledger.collections(), self._observer, self._redactor)
        except LoginRefused as error:
            self._observer.note(f"no description of the collections: {error.message}")
            return
        self.citation = citation_lines(infos)

    def _summary(self, outcome: _Outcome, ledger: LedgerStore, seconds: float, cpu_s: float) -> Summary:
        self.progress.phase = "done"
        mirror = ledger.counts()
        run = self._run_counts(outcome.walk, ledger)
        with suppress(TargetUnwritable, TargetInUse):  # what is wrong is in the verdict already, and must not cost it
            ledger.set_ended()
        unlisted = ledger.unknown_ids(self._settings.filter.item) if outcome.walk.ended else []
        if self._settings.run.refresh and outcome.walk.ended:
            self._observer.note(f"refresh: items fetched again, as the source has changed them: {outcome.walk.changed}")
        verdict, exit_code, reason = verdict_of(outcome.error, self.stop, outcome.walk, mirror, unlisted)
        hint = ""
        if self._adopter is not None and outcome.error is None and not self.stop.asked.is_set():
            exit_code, reason = adoption_verdict(self._adopter, mirror)
            verdict = "incomplete" if reason else "complete"
            hint = "is --from the right folder, and --layout how it is laid out?" if exit_code == 2 else ""
        return Summary(
            verdict=verdict,
            run=run,
            mirror=mirror,
            requests=self.progress.requests,
            predicted=self.progress.predicted,
            seconds=seconds,
            cpu_s=cpu_s,
            peak_rss_mib=peak_rss_mib(),
            exit_code=exit_code,
            reason=reason,
            hint=outcome.error.hint if outcome.error is not None else hint,
            failures=ledger.failures(),
            absences=ledger.absences(),
            there_bytes=self.progress.bytes_there,
            retried=self._retried(outcome.before, ledger),
            adopted=self._adopter.result if self._adopter is not None else None,
        )

    def _retried(self, before: Sequence[FailureCount], ledger: LedgerStore) -> Retried | None:
        retry = self._task
        if not isinstance(retry, Retry):
            return None
        asked = sum(failure.count if retry.means(failure.kind) else 0 for failure in before)
        failed, unreached = ledger.failed_since(retry.kinds)
        others = sum(failure.count for failure in before) - asked
        return Retried(tuple(sorted(retry.kinds)), asked, failed, unreached, others)

    def _run_counts(self, walk: Walk, ledger: LedgerStore) -> Counts:
        """What this run met: the items of its walk, and those of earlier runs that its sweeps tried again."""
        counts, progress = ledger.run_counts(), self.progress
        items, assets = counts.items, counts.assets
        settled = progress.items_done - progress.items_there
        tried_again = max(0, items.complete + items.incomplete - settled - walk.there)
        items.listed = walk.listed + tried_again
        items.filtered, items.duplicate = walk.filtered, walk.duplicate
        items.pending = items.listed - items.complete - items.incomplete - items.filtered - items.duplicate
        assets.skipped = max(0, assets.stored - progress.files_written)
        assets.stored, counts.bytes = progress.files_written, progress.bytes_written
        counts.listing.ended, counts.listing.server_total = walk.ended, walk.server_total
        return counts


class _Outcome:
    def __init__(self, error: StacmirrorError | None, walk: Walk, before: list[FailureCount]) -> None:
        self.error = error
        self.walk = walk
        self.before = before
        """What had failed before a retry."""


def recover(sink: DirectorySink, ledger: LedgerStore) -> list[Reveal]:
    """Tidy up after an earlier run; return what only has to be revealed. Asks the source nothing."""
    staged = ledger.staged()
    keep: dict[str, list[str]] = {reveal.unit.id: list(reveal.names) for reveal in staged}
    for held in ledger.held():
        if sink.holds(held.unit, held.names):
            keep[held.unit.id] = list(held.names)
        else:
            ledger.forget_unit(held.unit.id)
    sink.retain(keep)
    return staged


def _take_listing_as_it_is(walk: Walk, ledger: LedgerStore, items_max: int | None) -> None:
    """Let a run without a walk know how far earlier ones walked: its verdict is about the mirror, too."""
    counts = ledger.counts()
    walk.ended, items = counts.listing.ended, counts.items
    walk.limited = items_max is not None and items.complete + items.incomplete + items.pending >= items_max
