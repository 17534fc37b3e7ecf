"""Build the pipeline of one run from its settings: walk, workers, commit, and what they share.

Part of the composition root: `mirror` calls `build_run` once the ledger is open. What is built runs nothing by itself.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import NamedTuple

from stacmirror.assembly import held_max_bytes, home_of, make_several, retry_policy
from stacmirror.catalogs import AnyCatalog, FoundCatalog
from stacmirror.filters import AssetChoice, make_filters, make_shard
from stacmirror.interfaces import Observer
from stacmirror.layout import PRESETS, Layout, make_layout
from stacmirror.ledger.store import LedgerStore
from stacmirror.limits import origin_of
from stacmirror.model import ItemOutcome, LedgerEntry
from stacmirror.pipeline.adopt import Adopter
from stacmirror.pipeline.ahead import Ahead
from stacmirror.pipeline.asset_names import AssetNames
from stacmirror.pipeline.caps import Caps
from stacmirror.pipeline.commit import Committer
from stacmirror.pipeline.crew import Crew
from stacmirror.pipeline.joining import Joiner
from stacmirror.pipeline.learn import Learner
from stacmirror.pipeline.missing import MissingKeys
from stacmirror.pipeline.plan import Planner
from stacmirror.pipeline.progress import Progress
from stacmirror.pipeline.renewal import Renewal
from stacmirror.pipeline.room import Room
from stacmirror.pipeline.run import Run, Shape, keys_of
from stacmirror.pipeline.server_clock import ServerClock
from stacmirror.pipeline.shortcut import Shortcut
from stacmirror.pipeline.stop import Stop
from stacmirror.pipeline.strict import StrictCatalog
from stacmirror.pipeline.task import Adopt, Task
from stacmirror.pipeline.transfer import Fetcher
from stacmirror.pipeline.walk import Walk
from stacmirror.redact import Redactor, redact_url
from stacmirror.settings import Settings
from stacmirror.sinks.directory import DirectorySink
from stacmirror.sinks.shelf import FolderShelf
from stacmirror.transports.router import Router
from stacmirror.units import parse_allowed

_UNWRITTEN_MAX = 1024
"""Bundles that may wait for the ledger before workers wait."""


class RunContext(NamedTuple):
    """What a run is asked to do, and what it tells of itself meanwhile: there before anything is opened."""

    settings: Settings
    task: Task | None
    layout: Layout
    clock: ServerClock
    progress: Progress
    stop: Stop
    observer: Observer
    redactor: Redactor


class Built(NamedTuple):
    """A run that may begin. `adopter` is None but where it adopts."""

    run: Run
    walk: Walk
    names: AssetNames
    adopter: Adopter | None


def build_run(
    context: RunContext, sink: DirectorySink, ledger: LedgerStore, router: Router, catalog: AnyCatalog, room: Room
) -> Built:
    """Return the run that `context` asks for. Raises: UsageError for a task that cannot be."""
    settings, progress, note = context.settings, context.progress, context.observer.note
    limit, write = settings.limit, settings.write
    strict = StrictCatalog(catalog, router.gate.end)
    committer = _make_committer(context, sink, ledger, lambda entries: walk.release(keys_of(entries)))
    missing = MissingKeys(
        settings.missing.missing_ok,
        settings.missing.missing_after,
        settings.missing.missing_sample,
        ledger.missing_keys(),
        committer.add,
        note,
        progress,
    )
    choice = AssetChoice(settings.filter.asset, settings.filter.exclude_asset)
    names = AssetNames(choice.include, choice.takes)
    walk = Walk(
        strict,
        ledger,
        make_filters(settings.filter, catalog.sends),
        committer.add,
        progress,
        prefetch=settings.walk.page_prefetch,
        items_max=limit.max_items,
        one_to_one=context.layout.one_to_one,
        wants=choice.takes,
        note=note,
        redact=context.redactor.document,
        names=names,
        joiner=Joiner(catalog if isinstance(catalog, FoundCatalog) else None, note),
        sources=settings.filter.sources,
        shard=make_shard(settings.filter) if settings.filter.shard else None,
    )
    fetcher = Fetcher(
        router,
        sink,
        context.clock,
        progress,
        file_max_bytes=write.max_file_size_bytes,
        any_content=settings.catalog.any_content,
        file_info=settings.catalog.file_info,
    )
    shortcut = None
    if limit.learn_redirects:
        shortcut = Shortcut(Learner(note), router, fetcher, progress)
    several = make_several(settings, router, note)
    adopter = None
    if isinstance(context.task, Adopt):
        adopter = _make_adopter(settings, context.task, sink, fetcher, note)
        shortcut = several = None
    source = redact_url(origin_of(home_of(settings)))
    crew = Crew(
        catalog=strict,
        opener=router,
        sink=sink,
        fetcher=fetcher,
        planner=Planner(
            context.layout,
            choice.chooses,
            ledger.run,
            choice.takes,
            names=names,
            only_sources=settings.filter.only_sources,
            source=source,
        ),
        missing=missing,
        committer=committer,
        progress=progress,
        policy=retry_policy(settings),
        clock=context.clock,
        random=random.random,
        links=Renewal(strict, context.clock, settings.catalog.link_life_s, note),
        held_max_bytes=held_max_bytes(settings),
        large_at_once=limit.large_at_once,
        shortcut=shortcut,
        caps=Caps(parse_allowed(limit.max_failures), limit.max_transfer_bytes, progress, missing, context.stop),
        hide=context.redactor.text,
        ahead=None if several is None else Ahead(several, missing, shortcut),
        redact=context.redactor.document,
        source=source,
        shows_at_once=adopter is not None and write.incomplete == "show",
    )
    shape = Shape(
        workers=limit.workers,
        queue_size=limit.queue_size,
        sweeps=limit.sweeps,
        grace_s=settings.run.grace_s,
        show_incomplete=write.incomplete == "show",
    )
    run = Run(crew, walk, ledger, missing, context.stop, context.observer, shape, room, context.task, adopter)
    return Built(run, walk, names, adopter)


def _make_committer(
    context: RunContext, sink: DirectorySink, ledger: LedgerStore, release: Callable[[list[LedgerEntry]], None]
) -> Committer:
    progress, write = context.progress, context.settings.write

    def written(entries: list[LedgerEntry]) -> None:
        release(entries)
        outcomes = [entry for entry in entries if isinstance(entry, ItemOutcome)]
        progress.files_written += sum(outcome.fetched for outcome in outcomes)
        progress.bytes_written += sum(outcome.fetched_bytes for outcome in outcomes)

    return Committer(
        sink,
        ledger,
        every_s=write.sync_every_s,
        every_bytes=write.sync_every_bytes,
        pending_max=_UNWRITTEN_MAX,
        on_written=written,
    )


def _make_adopter(
    settings: Settings, task: Adopt, sink: DirectorySink, fetcher: Fetcher, note: Callable[[str], None]
) -> Adopter:
    """Return who takes the files that `task` names. Raises: UsageError for a layout that cannot be."""
    layout = make_layout(task.layout, task.template)
    root = os.path.abspath(task.folder)
    top = PRESETS[layout.name].partition("/")[0] if layout.name in PRESETS else ""
    if os.path.basename(root) == top and not os.path.isdir(os.path.join(root, top)):
        root = os.path.dirname(root)  # the folder that the layout begins with was named itself
    if os.path.realpath(root) == os.path.realpath(settings.target):
        task = task._replace(link=True)  # in place: a second copy of all would be of no use
    small_max_bytes = min(settings.write.small_file_max_bytes, held_max_bytes(settings))
    return Adopter(task, layout, FolderShelf(root), sink, fetcher, note, small_max_bytes)


def make_room(context: RunContext, sink: DirectorySink) -> Room:
    """Return who watches the room at the target."""
    write = context.settings.write
    return Room(
        sink,
        context.progress,
        context.clock,
        context.observer.note,
        keep_bytes=write.keep_free_bytes,
        keep_inodes=write.keep_free_inodes,
        foretells=write.preflight,
    )
