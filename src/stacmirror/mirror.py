"""The library's face and the composition root: build every part for one run, run it, count the truth.

The only module that knows all adapters. `Mirror(settings, api_key=…).run()` is what the command line calls.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import time
from urllib.request import getproxies

from stacmirror import __version__
from stacmirror.catalogs import DIALECTS, MlhubCatalog, parse_source
from stacmirror.catalogs.parse import label_classes
from stacmirror.clock import SystemClock
from stacmirror.errors import LoginRefused, SourceError, StacmirrorError, UsageError
from stacmirror.filters import AssetChoice, make_filters
from stacmirror.interfaces import Observer, Transport
from stacmirror.layout import make_layout
from stacmirror.ledger.lock import RunLock
from stacmirror.ledger.store import LedgerStore
from stacmirror.limits import HostLimits
from stacmirror.model import START, CollectionInfo, Counts, LedgerEntry, ResumePoint, Reveal, Summary, Verdict
from stacmirror.pipeline.commit import Committer
from stacmirror.pipeline.documents import describe_all
from stacmirror.pipeline.missing import MissingKeys
from stacmirror.pipeline.plan import Planner
from stacmirror.pipeline.progress import Progress
from stacmirror.pipeline.run import Run, Shape, keys_of
from stacmirror.pipeline.stop import Stop
from stacmirror.pipeline.transfer import Fetcher
from stacmirror.pipeline.walk import Walk
from stacmirror.pipeline.worker import Crew
from stacmirror.record import STATE_FOLDER, refuse_other_mirror, write_record
from stacmirror.retry import RetryPolicy
from stacmirror.settings import Settings
from stacmirror.sinks.directory import DirectorySink
from stacmirror.transports.http import AiohttpTransport
from stacmirror.transports.router import Router
from stacmirror.transports.s3 import S3Transport

USER_AGENT = f"stacmirror/{__version__}"
_UNWRITTEN_MAX = 4096
"""Bundles that may wait for the ledger before workers wait."""


class _Silent:
    def note(self, message: str) -> None:
        pass


class Mirror:
    """One run of one mirror. `progress` may be read and `stop` set while `run` is under way.

    Raises: UsageError for settings that cannot be, before anything is touched.
    """

    def __init__(self, settings: Settings, *, api_key: str = "", observer: Observer | None = None) -> None:
        parse_source(settings.source)
        self._layout = make_layout(settings.place.layout, settings.place.path_template)
        self._filters = make_filters(settings.filter)
        if os.path.exists(settings.target) and not os.path.isdir(settings.target):
            raise UsageError(f"{settings.target} is a file, not a folder", hint="name a folder as DEST")
        self._settings = settings
        self._api_key = api_key
        self._observer: Observer = observer or _Silent()
        self._clock = SystemClock()
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
        state = os.path.join(target, STATE_FOLDER)
        lock = RunLock(state)
        refuse_other_mirror(self._settings)
        lock.take()
        try:
            write_record(self._settings)
            sink = DirectorySink(target)
            try:
                ledger = LedgerStore(os.path.join(state, "ledger.sqlite"))
                try:
                    outcome = await self._run_with(sink, ledger)
                    return self._summary(outcome, ledger, time.monotonic() - started_s, time.process_time() - cpu_s)
                finally:
                    ledger.close()
            finally:
                sink.close()
        finally:
            lock.release()

    async def _run_with(self, sink: DirectorySink, ledger: LedgerStore) -> _Outcome:
        settings = self._settings
        router = make_router(settings, self._clock)
        self.progress.count_requests(lambda: router.requests)
        try:
            catalog = make_catalog(settings, self._api_key, router, self._clock, self.progress)
            start, staged = recover(sink, ledger)
            run, walk = self._build(sink, ledger, router, catalog)
            error: StacmirrorError | None = None
            try:
                await run.execute(start, staged)
                error = run.error
                ledger.set_listing(run.listing)
            except StacmirrorError as ended_by:
                error = ended_by
            if not self.stop.asked.is_set() and not (error and error.exit_code == 6):
                await self._describe(catalog, sink, ledger)
            return _Outcome(error, walk)
        finally:
            await router.close()

    def _build(
        self, sink: DirectorySink, ledger: LedgerStore, router: Router, catalog: MlhubCatalog
    ) -> tuple[Run, Walk]:
        settings, progress, clock = self._settings, self.progress, self._clock
        limit, write = settings.limit, settings.write

        def written(entries: list[LedgerEntry]) -> None:
            walk.release(keys_of(entries))

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
        walk = Walk(
            catalog,
            ledger,
            self._filters,
            committer.add,
            progress,
            prefetch=settings.walk.page_prefetch,
            items_max=limit.max_items,
            one_to_one=self._layout.one_to_one,
        )
        choice = AssetChoice(settings.filter.asset, settings.filter.exclude_asset)
        crew = Crew(
            catalog=catalog,
            opener=router,
            sink=sink,
            fetcher=Fetcher(router, sink, clock),
            planner=Planner(self._layout, choice.chooses, ledger.run),
            missing=missing,
            committer=committer,
            progress=progress,
            policy=retry_policy(settings),
            clock=clock,
            random=random.random,
            link_life_s=settings.catalog.link_life_s,
            held_max_bytes=max(1, write.memory_max_bytes // limit.workers),
        )
        shape = Shape(
            workers=limit.workers,
            queue_size=limit.queue_size,
            sweeps=limit.sweeps,
            grace_s=settings.run.grace_s,
            show_incomplete=write.incomplete == "show",
        )
        return Run(crew, walk, ledger, missing, self.stop, self._observer, shape), walk

    async def _describe(self, catalog: MlhubCatalog, sink: DirectorySink, ledger: LedgerStore) -> None:
        try:
            infos = await describe_all(catalog, sink, ledger.collections(), self._observer)
        except LoginRefused as error:
            self._observer.note(f"no description of the collections: {error.message}")
            return
        self.citation = citation_lines(infos)

    def _summary(self, outcome: _Outcome, ledger: LedgerStore, seconds: float, cpu_s: float) -> Summary:
        self.progress.phase = "done"
        mirror = ledger.counts()
        run = self._run_counts(outcome.walk, ledger)
        ledger.set_ended()
        verdict, exit_code, reason = _verdict(outcome.error, self.stop, outcome.walk, mirror)
        return Summary(
            verdict=verdict,
            run=run,
            mirror=mirror,
            requests=self.progress.requests,
            seconds=seconds,
            cpu_s=cpu_s,
            peak_rss_mib=peak_rss_mib(),
            exit_code=exit_code,
            reason=reason,
        )

    def _run_counts(self, walk: Walk, ledger: LedgerStore) -> Counts:
        """What this run met: the items of its walk, and those of earlier runs that its sweeps tried again."""
        counts, progress = ledger.run_counts(), self.progress
        items, assets = counts.items, counts.assets
        settled = progress.items_done - progress.items_there
        tried_again = max(0, items.complete + items.incomplete - settled - walk.there)
        items.listed = walk.listed + tried_again
        items.filtered, items.duplicate = walk.filtered, walk.duplicate
        items.pending = items.listed - items.complete - items.incomplete - items.filtered - items.duplicate
        assets.skipped = max(0, assets.stored - progress.files_stored)
        assets.stored, counts.bytes = progress.files_stored, progress.bytes_stored
        counts.listing.ended, counts.listing.server_total = walk.ended, walk.server_total
        return counts


class _Outcome:
    def __init__(self, error: StacmirrorError | None, walk: Walk) -> None:
        self.error = error
        self.walk = walk


def recover(sink: DirectorySink, ledger: LedgerStore) -> tuple[ResumePoint, list[Reveal]]:
    """Tidy up after an earlier run; return where to go on and what only has to be revealed. Asks the source nothing."""
    staged = ledger.staged()
    keep: dict[str, list[str]] = {reveal.unit.id: list(reveal.names) for reveal in staged}
    for held in ledger.held():
        if sink.holds(held.unit, held.names):
            keep[held.unit.id] = list(held.names)
        else:
            ledger.forget_unit(held.unit.id)
    sink.retain(keep)
    return ledger.resume_point(), staged


def _verdict(error: StacmirrorError | None, stop: Stop, walk: Walk, mirror: Counts) -> tuple[Verdict, int, str]:
    """Return verdict, exit code and reason. Order: what broke the run, what stopped it, what is missing."""
    if error is not None:
        verdict: Verdict = "incomplete" if isinstance(error, SourceError) else "stopped"
        return verdict, error.exit_code, error.message
    if stop.asked.is_set():
        return "stopped", stop.exit_code, stop.reason
    if mirror.assets.failed or mirror.items.incomplete:
        return "incomplete", 3, f"{mirror.assets.failed} assets of {mirror.items.incomplete} items did not arrive"
    if mirror.items.pending:
        return "incomplete", 5, f"{mirror.items.pending} listed items are not there"
    if not walk.ended and not walk.limited:
        return "incomplete", 5, "the listing did not end"
    return "complete", 0, ""


def retry_policy(settings: Settings) -> RetryPolicy:
    """Return the policy that the settings ask for."""
    limit = settings.limit
    return RetryPolicy(limit.retries, limit.backoff_s, limit.backoff_max_s, limit.retry_after_max_s)


def make_router(settings: Settings, clock: SystemClock) -> Router:
    """Return the way to open any href, with every host's budget."""
    limit, s3 = settings.limit, settings.s3
    http = AiohttpTransport(
        user_agent=USER_AGENT,
        connect_timeout_s=limit.connect_timeout_s,
        stall_timeout_s=limit.stall_timeout_s,
        proxies=getproxies(),
    )
    objects = S3Transport(
        endpoint=s3.s3_endpoint,
        unsigned=s3.s3_unsigned,
        region=s3.s3_region,
        request_payer=s3.request_payer,
        connections_max=limit.per_host,
        connect_timeout_s=limit.connect_timeout_s,
        stall_timeout_s=limit.stall_timeout_s,
    )
    transports: dict[str, Transport] = {"https": http, "http": http, "s3": objects}
    held_max_bytes = max(1, settings.write.memory_max_bytes // limit.workers)
    return Router(
        transports,
        HostLimits(limit.per_host, limit.rate_per_s, clock.monotonic, clock.sleep),
        redirects_max=settings.catalog.redirects_max,
        small_max_bytes=min(settings.write.small_file_max_bytes, held_max_bytes),
        retry_after_max_s=limit.retry_after_max_s,
        wall=clock.wall,
    )


def make_catalog(
    settings: Settings, api_key: str, router: Router, clock: SystemClock, progress: Progress
) -> MlhubCatalog:
    """Return the catalog that `settings.source` names. Raises: UsageError for a source of no known form."""
    dialect, collection = parse_source(settings.source, needs_collection=False)

    def on_retry(error: Exception, wait_s: float) -> None:
        progress.retries += 1

    return DIALECTS[dialect](
        collection,
        settings.catalog.api_url,
        api_key,
        settings.walk.page_size,
        router,
        retry_policy(settings),
        clock,
        random.random,
        on_retry,
        settings.walk.page_max_bytes,
    )


def citation_lines(infos: list[CollectionInfo]) -> list[str]:
    """Return one line for each citation that is asked for, and the license, without repeating either."""
    lines: list[str] = []
    for info in infos:
        text = info.citation or (f"https://doi.org/{info.doi}" if info.doi else "")
        if text:
            license_ = f" [{info.license}]" if info.license else ""
            line = f"{text}{license_}"
            if line not in lines:
                lines.append(line)
    return lines


def peak_rss_mib() -> float:
    """Return the most memory this process has held, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024


async def list_collections(settings: Settings, api_key: str) -> list[CollectionInfo]:
    """Return what every collection of the source says of itself. Raises: SourceError, LoginRefused."""
    clock = SystemClock()
    router = make_router(settings, clock)
    try:
        return await make_catalog(settings, api_key, router, clock, Progress()).collections()
    finally:
        await router.close()


async def list_classes(settings: Settings, api_key: str) -> dict[str, list[str]]:
    """Return the label classes of the source's first item, by property. Raises: SourceError, LoginRefused."""
    clock = SystemClock()
    router = make_router(settings, clock)
    try:
        page = await make_catalog(settings, api_key, router, clock, Progress()).page(START)
        found: dict[str, list[str]] = {}
        for item in page.items[:1]:
            found.update(label_classes(item))
        return found
    finally:
        await router.close()
