"""The library's face and the composition root: open the target, the ledger and the source, run, tidy up.

`building` makes the pipeline in between, `summary` counts the truth at the end; these know the adapters, and nothing
below does. `Mirror(settings, api_key=…).run()` is what the command line calls.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping

from stacmirror.assembly import check_logins, make_catalog, make_router
from stacmirror.building import RunContext, build_run, make_room
from stacmirror.catalogs import AnyCatalog, FoundCatalog, source_of
from stacmirror.clock import SystemClock
from stacmirror.errors import (
    LoginRefused,
    NothingThere,
    NotOffered,
    SourceLost,
    StacmirrorError,
    TargetInUse,
    TargetUnwritable,
    UsageError,
)
from stacmirror.filters import make_filters, make_shard
from stacmirror.interfaces import Observer
from stacmirror.layout import make_layout
from stacmirror.ledger.home import LEDGER, take_home
from stacmirror.ledger.lock import RunLock
from stacmirror.ledger.network import network_file_system
from stacmirror.ledger.store import LedgerStore
from stacmirror.model import START, FailureCount, ResumePoint, Reveal, Summary
from stacmirror.open_files import fit_open_files
from stacmirror.pipeline.caps import EXIT_CODE
from stacmirror.pipeline.documents import describe_all
from stacmirror.pipeline.leftovers import drop_parts_of_known, drop_parts_of_unlisted
from stacmirror.pipeline.progress import Progress
from stacmirror.pipeline.run import unless_stopped
from stacmirror.pipeline.server_clock import ServerClock
from stacmirror.pipeline.stop import Stop
from stacmirror.pipeline.task import Retry, Task
from stacmirror.pipeline.walk import Walk
from stacmirror.record import STATE_FOLDER, forget_record, has_record, refuse_other_mirror, write_record
from stacmirror.redact import Redactor
from stacmirror.settings import Settings
from stacmirror.sinks.directory import DirectorySink
from stacmirror.summary import Ending, summarize
from stacmirror.units import format_duration
from stacmirror.verdict import citation_lines


class Mirror:
    """One run of one mirror. `progress` may be read and `stop` set while `run` is under way.

    Raises: UsageError for settings that cannot be, before anything is touched.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        api_key: str = "",
        observer: Observer | None = None,
        task: Task | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        """`secrets` are variables that logins (`auth`) may read, such as os.environ."""
        source_of(settings)
        layout = make_layout(settings.place.layout, settings.place.path_template)
        make_filters(settings.filter)
        check_logins(settings)
        self._secrets = secrets
        if os.path.exists(settings.target) and not os.path.isdir(settings.target):
            raise UsageError(f"{settings.target} is a file, not a folder", hint="name a folder as DEST")
        self._settings = settings
        self._own_folder = os.path.join(os.path.abspath(settings.target), STATE_FOLDER)
        self._api_key = api_key
        self._redactor = Redactor(())
        self._redactor.learn(api_key)
        self._task = task
        self._observer: Observer = _Hiding(observer or _Silent(), self.hide)
        self._clock = ServerClock(SystemClock())
        self.progress = Progress()
        self.progress.items_wanted = settings.limit.max_items
        self.progress.share = make_shard(settings.filter).share
        self.stop: Stop = Stop()
        self._context = RunContext(
            settings, task, layout, self._clock, self.progress, self.stop, self._observer, self._redactor
        )
        self.citation: list[str] = []
        """Lines to print at the end: whom the collections ask to cite, and under which license they are."""

    async def run(self) -> Summary:
        """Mirror what is not there yet, and return what this run and the mirror amount to.

        Raises: UsageError, TargetInUse, TargetUnwritable before anything is fetched; NotOffered and NothingThere where
                nothing was listed, and DEST is no mirror then. What ends the run later is in the summary: its exit
                code and its reason.
        Cancel: the run ends at once; what was committed stays.
        """
        started_s, cpu_s = time.monotonic(), time.process_time()
        target = self._settings.target
        refuse_other_mirror(self._settings)
        is_new = not has_record(target)
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
                    ending = await self._run_with(sink, ledger)
                    ending = ending._replace(error=_taken_over(lock) or ending.error)
                    if (
                        isinstance(ending.error, (NotOffered, NothingThere))
                        and is_new
                        and not ledger.counts().items.listed
                    ):
                        forget_record(target)  # so that the same command, put right, is no other mirror
                        raise ending.error
                    took = time.monotonic() - started_s, time.process_time() - cpu_s
                    try:
                        return summarize(self._context, ending, ledger, *took)
                    except StacmirrorError as unreadable:
                        # A disk that has failed may not let its ledger be read, either: what ended the run counts.
                        raise (ending.error or unreadable) from unreadable
                finally:
                    ledger.close()
            finally:
                sink.close()
        finally:
            lock.release()

    def hide(self, text: str) -> str:
        """Return `text` without the secrets of this run: the key, and what its logins have sent by now."""
        return self._redactor.text(text)

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

    async def _run_with(self, sink: DirectorySink, ledger: LedgerStore) -> Ending:
        settings = fit_open_files(self._settings, self._observer.note)
        router = make_router(
            settings, SystemClock(), note=self._observer.note, secrets=self._secrets, redactor=self._redactor
        )
        router.on_date = self._clock.heard
        sink.on_shortage = router.hold_fewer
        self.progress.count_requests(lambda: router.requests)
        self.progress.watch_hosts(router.waited_for)
        catalog: AnyCatalog | None = None
        try:
            catalog = make_catalog(settings, self._api_key, router, self._clock, self.progress)
            if isinstance(catalog, FoundCatalog):
                catalog.remember_by(lambda key: ledger.documents([key]).get(key))
            ledger.on_damaged = self._observer.note
            staged = recover(sink, ledger)
            drop_parts_of_known(sink, ledger)
            room = make_room(self._context, sink)
            run, walk, names, adopter = build_run(self._context, sink, ledger, router, catalog, room)
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
            in_time = self._end_in_time()
            try:
                await run.execute(start, staged)
                error = run.error
                if run.walked:  # else what an earlier run saw of the listing stays true
                    ledger.set_listing(run.listing)
                walked = run.listing.ended and self._task is None
                if walked and error is None and not self.stop.asked.is_set():
                    drop_parts_of_unlisted(sink, ledger)
            except StacmirrorError as ended_by:
                error = ended_by
            finally:
                if in_time is not None:
                    in_time.cancel()
            if self._task is None and not self.stop.asked.is_set() and not isinstance(error, _NO_MORE):
                try:
                    await unless_stopped(self._describe(catalog, sink, ledger), self.stop)
                except TargetUnwritable as unwritable:
                    error = error or unwritable
            return Ending(error, walk, names, adopter, before)
        finally:
            if catalog is not None:
                catalog.close()
            await router.close()

    def _end_in_time(self) -> asyncio.TimerHandle | None:
        seconds = self._settings.limit.max_duration_s
        if seconds is None:
            return None
        reason = f"--max-duration {format_duration(seconds)} is over"
        return asyncio.get_running_loop().call_later(seconds, self.stop.ask, EXIT_CODE, reason)

    async def _describe(self, catalog: AnyCatalog, sink: DirectorySink, ledger: LedgerStore) -> None:
        try:
            infos = await describe_all(catalog, sink, ledger.collections(), self._observer, self._redactor)
        except (LoginRefused, SourceLost) as error:
            self._observer.note(f"no description of the collections: {error.message}")
            return
        self.citation = citation_lines(infos)


_NO_MORE = (LoginRefused, SourceLost, TargetUnwritable, TargetInUse)
"""What ended the run so that nobody is to be asked for anything more, or nothing can or may be written."""


class _Hiding:
    """Says what another one says, without secrets."""

    def __init__(self, observer: Observer, hide: Callable[[str], str]) -> None:
        self._observer = observer
        self._hide = hide

    def note(self, message: str) -> None:
        self._observer.note(self._hide(message))


class _Silent:
    def note(self, message: str) -> None:
        pass


def recover(sink: DirectorySink, ledger: LedgerStore) -> list[Reveal]:
    """Tidy up after an earlier run; return what only has to be revealed. Asks the source nothing."""
    keep: dict[str, list[str]] = {}
    for found in (*ledger.staged(), *ledger.held()):
        if sink.holds(found.unit, found.names):
            keep[found.unit.id] = list(found.names)
        else:  # someone has tidied up: its files are failures now, for a sweep to bring again
            ledger.forget_unit(found.unit.id)
    sink.retain(keep)
    return ledger.staged()


def _taken_over(lock: RunLock) -> TargetInUse | None:
    """Return that another run has the mirror by now: what it tidied up looks like a disk that fails to this one."""
    try:
        lock.check()
    except TargetInUse as error:
        return error
    except TargetUnwritable:
        return None
    return None


def _take_listing_as_it_is(walk: Walk, ledger: LedgerStore, items_max: int | None) -> None:
    """Let a run without a walk know how far earlier ones walked: its verdict is about the mirror, too."""
    counts = ledger.counts()
    walk.ended, items = counts.listing.ended, counts.items
    walk.limited = items_max is not None and items.complete + items.incomplete + items.pending >= items_max
