"""Count the truth about a run that has ended: what it brought, what the mirror has, what it cost, and the verdict.

Called by `mirror`, once, while the ledger is still open.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from stacmirror.building import RunContext
from stacmirror.errors import StacmirrorError, TargetInUse, TargetUnwritable
from stacmirror.filters import make_shard
from stacmirror.ledger.store import LedgerStore
from stacmirror.model import Counts, FailureCount, Retried, Summary
from stacmirror.pipeline.adopt import Adopter
from stacmirror.pipeline.asset_names import AssetNames
from stacmirror.pipeline.progress import Progress
from stacmirror.pipeline.task import Retry, Task
from stacmirror.pipeline.walk import Walk
from stacmirror.verdict import adoption_verdict, peak_rss_mib, verdict_of


class Ending(NamedTuple):
    """How a run came to its end. `error` is what ended it, if anything did."""

    error: StacmirrorError | None
    walk: Walk
    names: AssetNames
    adopter: Adopter | None
    before: list[FailureCount]
    """What had failed before a retry."""


def summarize(context: RunContext, ending: Ending, ledger: LedgerStore, seconds: float, cpu_s: float) -> Summary:
    """Return what the run and the mirror amount to. Raises: TargetInUse, TargetUnwritable from the ledger."""
    settings, progress, stop = context.settings, context.progress, context.stop
    error, walk, adopter = ending.error, ending.walk, ending.adopter
    progress.phase = "done"
    mirror = ledger.counts()
    run = _run_counts(walk, ledger, progress)
    with suppress(TargetUnwritable, TargetInUse):  # what is wrong is in the verdict already, and must not cost it
        ledger.set_ended()
    unlisted = ledger.unknown_ids(make_shard(settings.filter).of(settings.filter.item)) if walk.ended else []
    if settings.run.refresh and walk.ended:
        context.observer.note(f"refresh: items fetched again, as the source has changed them: {walk.changed}")
    verdict, exit_code, reason = verdict_of(error, stop, walk, mirror, unlisted, ending.names.unmatched())
    hint = ""
    if adopter is not None and error is None and not stop.asked.is_set():
        exit_code, reason = adoption_verdict(adopter, mirror)
        verdict = "incomplete" if reason else "complete"
        hint = "is --from the right folder, and --layout how it is laid out?" if exit_code == 2 else ""
    return Summary(
        verdict=verdict,
        run=run,
        mirror=mirror,
        requests=progress.requests,
        predicted=progress.predicted,
        seconds=seconds,
        cpu_s=cpu_s,
        peak_rss_mib=peak_rss_mib(),
        exit_code=exit_code,
        reason=context.redactor.text(reason),
        hint=error.hint if error is not None else hint,
        failures=ledger.failures(),
        absences=ledger.absences(),
        shard=settings.filter.shard,
        there_bytes=progress.bytes_there,
        retried=_retried(context.task, ending.before, ledger),
        adopted=adopter.result if adopter is not None else None,
    )


def _retried(task: Task | None, before: Sequence[FailureCount], ledger: LedgerStore) -> Retried | None:
    if not isinstance(task, Retry):
        return None
    asked = sum(failure.count if task.means(failure.kind) else 0 for failure in before)
    failed, unreached = ledger.failed_since(task.kinds)
    others = sum(failure.count for failure in before) - asked
    return Retried(tuple(sorted(task.kinds)), asked, failed, unreached, others)


def _run_counts(walk: Walk, ledger: LedgerStore, progress: Progress) -> Counts:
    """What this run met: the items of its walk, and those of earlier runs that its sweeps tried again."""
    counts = ledger.run_counts()
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
