"""Bring bundles in: read links, plan, have their assets settled, stage, hand the outcome to commit.

N of these run side by side. A worker takes a bundle, does all it can, and either finishes it or puts it aside
until its next attempt is due; it never sleeps through a server's pause.
"""

from __future__ import annotations

import msgspec

from stacmirror.errors import SourceError
from stacmirror.model import Failed, ItemKey, ItemOutcome, ItemRecord
from stacmirror.pipeline.bundle import Bundle, Job
from stacmirror.pipeline.check import digest_of
from stacmirror.pipeline.crew import Crew
from stacmirror.pipeline.dispatch import Dispatch
from stacmirror.pipeline.settle import WAIT_IN_PLACE_S, Settler

_UNSTAGED_WAIT_S = 0.2


class Worker:
    """Take bundles from `dispatch` until there are none. Raises: LoginRefused, TargetUnwritable."""

    def __init__(self, crew: Crew, dispatch: Dispatch, settler: Settler) -> None:
        self._crew = crew
        self._dispatch = dispatch
        self._settler = settler

    async def work(self) -> None:
        """Cancel: safe; what is staged without a ledger row is removed at the next start."""
        while (bundle := await self._dispatch.take()) is not None:
            try:
                await self._work_on(bundle)
            finally:
                self._dispatch.let_go()

    async def _work_on(self, bundle: Bundle) -> None:
        """Bring a bundle to its end, or put it aside."""
        while (wait_s := await self._advance(bundle)) is not None:
            if wait_s > WAIT_IN_PLACE_S and self._dispatch.can_park():
                self._dispatch.park(bundle, self._crew.clock.monotonic() + wait_s)
                return
            await self._crew.clock.sleep(wait_s)
        await self._finish(bundle)

    async def _advance(self, bundle: Bundle) -> float | None:
        """Do all that can be done now; return None when the bundle is done, else the seconds to wait."""
        wait_s: float | None = None
        for job in bundle.jobs:
            if job.done:
                continue
            job_wait_s = None if job.completed else await self._advance_job(bundle, job)
            if job_wait_s is None:
                job_wait_s = self._end_job(bundle, job)
            if job_wait_s is not None:
                wait_s = job_wait_s if wait_s is None else min(wait_s, job_wait_s)
        return wait_s

    async def _advance_job(self, bundle: Bundle, job: Job) -> float | None:
        if not job.planned and not await self._read_and_plan(bundle, job):
            return None
        await self._settler.settle(job)
        if not job.todo:
            return None
        return max(0.0, min(transfer.not_before_s for transfer in job.todo) - self._crew.clock.monotonic())

    async def _read_and_plan(self, bundle: Bundle, job: Job) -> bool:
        """Get the item where only its link is known, and plan it; False when there is no item to plan."""
        if job.item is None:
            words, host = f"the catalog has no item {job.key}", self._crew.source
            failed = Failed("@item", "gone", words, 1, permanent=True, host=host)
            try:
                job.item = await self._crew.catalog.item(job.key, job.href)
            except SourceError as error:
                words = self._crew.hide(error.message)
                failed = Failed("@item", "source", words, error.attempts, host=error.host, status=error.status)
            if job.item is None:
                self._keep_what_was_there(job, failed)
                self._crew.planner.give_unit(bundle, job)
                return False
        self._crew.planner.plan(bundle, job)
        self._crew.links.note_expiry(job)
        job.large = bool(self._crew.sink.waiting) and any(self._crew.fetcher.waits(job.key, t) for t in job.todo)
        job.planned = True
        return True

    def _keep_what_was_there(self, job: Job, failed: Failed) -> None:
        """A sweep that cannot even read the item must not forget what is there of it, nor what it lacks."""
        lacking: list[str] = []
        if job.before is not None:
            job.stored, job.absent = list(job.before.stored), list(job.before.absent)
            lacking = [before.key for before in job.before.failed if before.key != "@item"]
        # What is known to be missing fails with the item, one for one: counts of failures are counts of assets.
        kind = "unlisted" if failed.kind == "gone" and lacking else failed.kind
        job.failed += [msgspec.structs.replace(failed, key=key, kind=kind) for key in lacking or ["@item"]]

    def _end_job(self, bundle: Bundle, job: Job) -> float | None:
        """Stage what is held, with the files derived from it; return seconds to wait where no file can be opened."""
        if not job.completed:
            self._complete(bundle, job)
        if not self._settler.stage(job):
            return _UNSTAGED_WAIT_S * (1 + self._crew.random())
        job.label_bodies.clear()
        job.done = True
        return None

    def _complete(self, bundle: Bundle, job: Job) -> None:
        if self._crew.planner.derives and _is_mended(job) and not job.failed:
            self._recall(job)
        if job.item is not None and job.key == bundle.walked and not job.failed:
            derived = self._crew.planner.derive(job)
            self._settler.count_files(job, len(derived), sum(receipt.size_bytes for receipt in derived))
        job.completed = True

    def _recall(self, job: Job) -> None:
        """Read the small files that an earlier run stored: what is derived from an item needs all of them, whole."""
        for receipt in [receipt for receipt in job.stored if not receipt.key.startswith("@")]:
            if receipt.key in job.label_bodies or receipt.size_bytes > self._crew.held_max_bytes or job.unit is None:
                continue
            body = self._crew.sink.read(job.unit, receipt.name)
            if body is not None and digest_of(receipt.digest_kind, body) == receipt.digest:
                job.label_bodies[receipt.key] = body
                continue
            job.stored.remove(receipt)
            job.failed.append(Failed(receipt.key, "damaged", "its file is not what was stored", 0))

    async def _finish(self, bundle: Bundle) -> None:
        await self._crew.committer.room()
        # From here to `add` without a pause, so that the ledger hears of things in the order they were learned.
        records = []
        for job in bundle.jobs:
            if job.unit is None:
                raise RuntimeError(f"unplanned job {job.key}")
            if job.before is not None and job.before.probe and not job.fetched:
                return  # whatever the reason: a question must not leave an item worse than it was
            job.failed, job.absent = self._crew.missing.judge(job.key.collection, job.failed, job.absent)
            self._count(job)
            records.append(
                ItemRecord(
                    key=job.key,
                    unit=job.unit,
                    stored=job.stored,
                    absent=job.absent,
                    failed=job.failed,
                    sources=_sources_of(bundle, job),
                    page=bundle.page if job.key == bundle.walked else None,
                    document=self._crew.redact(job.item.document) if job.item and not job.documented else b"",
                )
            )
        if bundle.page is not None:
            self._crew.progress.items_done += 1
        outcome = ItemOutcome(bundle.page, records, shows=self._crew.shows_at_once)
        outcome.fetched = sum(job.fetched for job in bundle.jobs)
        outcome.fetched_bytes = sum(job.fetched_bytes for job in bundle.jobs)
        self._crew.committer.add(outcome)
        if self._crew.caps is not None:
            self._crew.caps.check()

    def _count(self, job: Job) -> None:
        progress = self._crew.progress
        progress.failures += len(job.failed) - len(job.left)
        if job.before is not None:
            progress.failures -= len(job.before.failed)
            return
        assumed = sum(outcome.assumed for outcome in job.absent)
        progress.assumed_absent += assumed
        progress.absent += len(job.absent) - assumed


def _sources_of(bundle: Bundle, job: Job) -> tuple[ItemKey, ...]:
    """Return which items the walked item names; read from it again where the ledger's row of it was lost."""
    if job.key != bundle.walked:
        return ()
    if bundle.sources or job.item is None or not _is_mended(job):
        return bundle.sources
    return tuple(link.key for link in job.item.sources)


def _is_mended(job: Job) -> bool:
    """Return whether a sweep has read a walked item again."""
    return job.item is not None and job.before is not None and job.before.page is not None
