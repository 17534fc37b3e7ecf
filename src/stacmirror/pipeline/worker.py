"""Bring bundles in: read links, plan, fetch what is wanted, stage it, hand the outcome to commit.

N of these run side by side. A worker takes a bundle, does all it can, and either finishes it or puts it aside
until its next attempt is due; it never sleeps through a server's pause.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from stacmirror.errors import NoOpenFile, SourceError, TransferError
from stacmirror.interfaces import Catalog, Clock, Opener, Reply, Sink
from stacmirror.model import Absent, Failed, ItemKey, ItemOutcome, ItemRecord, Transfer
from stacmirror.pipeline.abreast import settle_abreast
from stacmirror.pipeline.ahead import NOTHING, Ahead, Answered, close_streams, large_among, streaming
from stacmirror.pipeline.bundle import Bundle, Job
from stacmirror.pipeline.caps import Caps
from stacmirror.pipeline.check import digest_of
from stacmirror.pipeline.commit import Committer
from stacmirror.pipeline.dispatch import Dispatch
from stacmirror.pipeline.large import Fetched
from stacmirror.pipeline.missing import ABSENT_KINDS, MissingKeys
from stacmirror.pipeline.plan import Planner
from stacmirror.pipeline.progress import Progress
from stacmirror.pipeline.renewal import Renewal
from stacmirror.pipeline.shortcut import Shortcut
from stacmirror.pipeline.transfer import Fetcher, LargeMet
from stacmirror.redact import redact_document
from stacmirror.retry import LINK_DEAD_STATUSES, RetryPolicy

_WAIT_IN_PLACE_S = 1.0
_UNSTAGED_WAIT_S = 0.2
_PUT_OFF_MAX = 4
"""Doublings of the wait for a host that is to blame: when it is back nobody should sleep for a minute."""
_FOR_GOOD = frozenset({"gone", "too-large"})
"""Failures that are the same when asked again in this run."""


class Crew(NamedTuple):
    """What all workers of a run share."""

    catalog: Catalog
    opener: Opener
    sink: Sink
    fetcher: Fetcher
    planner: Planner
    missing: MissingKeys
    committer: Committer
    progress: Progress
    policy: RetryPolicy
    clock: Clock
    random: Callable[[], float]
    links: Renewal
    held_max_bytes: int
    """Small bodies one worker may hold before it stages them."""
    large_at_once: int = 4
    """Large files of one item on their way at once."""
    shortcut: Shortcut | None = None
    """Where redirects are learned: the way past them."""
    caps: Caps | None = None
    ahead: Ahead | None = None
    """Where several requests are sent at once: the way to do it."""

    redact: Callable[[bytes], bytes] = redact_document
    hide: Callable[[str], str] = str
    """Takes secrets out of an item's JSON."""
    shows_at_once: bool = False
    """Items are revealed when they are handed over, although they may lack assets."""


class Worker:
    """Take bundles from `dispatch` until there are none. Raises: LoginRefused, TargetUnwritable."""

    def __init__(self, crew: Crew, dispatch: Dispatch) -> None:
        self._crew = crew
        self._dispatch = dispatch
        self._links = crew.links

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
            if wait_s > _WAIT_IN_PLACE_S and self._dispatch.can_park():
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
        ahead = await self._ask_ahead(job) if self._crew.ahead is not None else NOTHING
        try:
            later = await self._settle_all(bundle, job, ahead)
        finally:
            close_streams(ahead)
        job.todo = later
        if not later:
            return None
        return max(0.0, min(transfer.not_before_s for transfer in later) - self._crew.clock.monotonic())

    async def _settle_all(self, bundle: Bundle, job: Job, ahead: Mapping[str, Answered]) -> list[Transfer]:
        """Bring every transfer of the job as far as can be now; return those that are left."""
        later: list[Transfer] = []
        if ahead and (first := streaming(ahead)) is not None:
            # Before anything that waits for a place: it could be the one that this body holds.
            job.todo.sort(key=lambda transfer: transfer.asset.key != first)
        for number, transfer in enumerate(job.todo):
            if ahead and self._take_ahead(job, transfer, ahead):
                continue
            met = large_among(ahead, transfer.asset.key)
            if met is not None:
                transfer.attempts += 1
                job.large = True
            if job.large:
                later += await self._settle_large(bundle, job, number, ahead, met)
                break
            try:
                if not await self._settle(bundle, job, transfer, ahead):
                    later.append(transfer)
            except LargeMet as large:
                job.large = True
                later += await self._settle_large(bundle, job, number, ahead, large.reply)
                break
        return later

    async def _settle_large(
        self, bundle: Bundle, job: Job, number: int, ahead: Mapping[str, Answered], met: Reply | None = None
    ) -> list[Transfer]:
        """Settle what is left of the job, from transfer `number` on, several at once; `met` answers that one."""
        first = job.todo[number]
        if met is not None and self._crew.ahead is not None:
            self._crew.ahead.large(job.key, first.asset.key)

        async def settle(transfer: Transfer) -> bool:
            return await self._settle(bundle, job, transfer, ahead, met if transfer is first else None)

        try:
            return await settle_abreast(job.todo[number:], settle, self._crew.large_at_once)
        finally:
            if met is not None and met.stream is not None:
                met.stream.close()

    # -- one item ------------------------------------------------------------------------------------------

    async def _read_and_plan(self, bundle: Bundle, job: Job) -> bool:
        """Get the item where only its link is known, and plan it; False when there is no item to plan."""
        if job.item is None:
            try:
                job.item = await self._crew.catalog.item(job.key, job.href)
            except SourceError as error:
                job.failed.append(
                    Failed(
                        "@item",
                        "source",
                        self._crew.hide(error.message),
                        error.attempts,
                        host=error.host,
                        status=error.status,
                    )
                )
            else:
                if job.item is None:
                    job.failed.append(Failed("@item", "gone", f"the catalog has no item {job.key}", 1, permanent=True))
            if job.item is None:
                self._keep_what_was_there(job)
                self._crew.planner.give_unit(bundle, job)
                return False
        self._crew.planner.plan(bundle, job)
        self._links.note_expiry(job)
        job.large = bool(self._crew.sink.waiting) and any(self._crew.fetcher.waits(job.key, t) for t in job.todo)
        job.planned = True
        return True

    def _keep_what_was_there(self, job: Job) -> None:
        """A sweep that cannot even read the item must not forget what an earlier run stored of it."""
        if job.before is not None:
            job.stored, job.absent = list(job.before.stored), list(job.before.absent)
            kept = [failed for failed in job.before.failed if failed.key != "@item"]
            # Tried again in this run, as far as that went; they failed when they failed.
            job.failed = [msgspec.structs.replace(failed, run=0) for failed in kept] + job.failed

    def _end_job(self, bundle: Bundle, job: Job) -> float | None:
        """Stage what is held, with the files derived from it; return seconds to wait where no file can be opened."""
        if not job.completed:
            self._complete(bundle, job)
        if not self._stage(job):
            return _UNSTAGED_WAIT_S * (1 + self._crew.random())
        job.label_bodies.clear()
        job.done = True
        return None

    def _complete(self, bundle: Bundle, job: Job) -> None:
        if self._crew.planner.derives and _is_mended(job) and not job.failed:
            self._recall(job)
        if job.item is not None and job.key == bundle.walked and not job.failed:
            derived = self._crew.planner.derive(job)
            self._count_files(job, len(derived), sum(receipt.size_bytes for receipt in derived))
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

    def _stage(self, job: Job) -> bool:
        """Stage what is held; False where it stays held, since no file can be opened now. Raises: TargetUnwritable."""
        crew = self._crew
        if job.bodies and job.unit is not None:
            try:
                crew.sink.stage(job.unit, job.bodies)
            except NoOpenFile:
                now_s = crew.clock.monotonic()
                job.unstaged_since_s = min(job.unstaged_since_s, now_s)
                if now_s - job.unstaged_since_s > crew.policy.outage_max_s:
                    raise
                return False
            job.unstaged_since_s = math.inf
        job.bodies = []
        job.held_bytes = 0
        return True

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

    def _count_files(self, job: Job, files: int, size_bytes: int) -> None:
        job.fetched += files
        job.fetched_bytes += size_bytes
        self._crew.progress.files_stored += files
        self._crew.progress.bytes_stored += size_bytes

    def _count(self, job: Job) -> None:
        progress = self._crew.progress
        progress.failures += len(job.failed) - len(job.left)
        if job.before is not None:
            progress.failures -= len(job.before.failed)
            return
        assumed = sum(outcome.assumed for outcome in job.absent)
        progress.assumed_absent += assumed
        progress.absent += len(job.absent) - assumed

    # -- one asset -----------------------------------------------------------------------------------------

    async def _ask_ahead(self, job: Job) -> Mapping[str, Answered]:
        """Ask for all of a fresh item's assets in one go; return what came of it, by asset key."""
        crew = self._crew
        if crew.ahead is None or not crew.ahead.suits(job):
            return NOTHING
        if self._links.is_due(job):
            await self._links.renew(job)
        token = crew.progress.begin(job.key.id, "", crew.clock.monotonic())
        try:
            return await crew.ahead.ask(job)
        finally:
            crew.progress.end(token)

    def _take_ahead(self, job: Job, transfer: Transfer, ahead: Mapping[str, Answered]) -> bool:
        """Settle what came ahead as nearly all does: found, small and sound. False for `_settle` to look closer."""
        crew, key = self._crew, transfer.asset.key
        answered = ahead.get(key)
        if answered is None or crew.shortcut is not None or transfer.attempts or job.unit is None:
            return False
        reply = answered.reply
        if reply is None or reply.status != 200 or reply.body is None or "content-encoding" in reply.headers:
            return False
        try:
            name = transfer.name or crew.planner.name_for_target(reply.url, key, job)
            fetched = crew.fetcher.take_small(transfer, name, reply, reply.body)
        except TransferError:
            return False
        transfer.attempts = 1
        self._keep(job, fetched)
        self._links.proved_good(transfer)
        crew.missing.found(job.key.collection, key)
        return True

    async def _settle(
        self, bundle: Bundle, job: Job, transfer: Transfer, ahead: Mapping[str, Answered], met: Reply | None = None
    ) -> bool:
        """Bring one transfer to an outcome if that can be had now; True when it has one.

        `met` is the large answer that it was begun with. Raises: LargeMet in a job not known to be large.
        """
        crew, key = self._crew, transfer.asset.key
        now_s = crew.clock.monotonic()
        answered = Answered(None, met)
        if met is None:
            found = ahead.get(key) if transfer.attempts == 0 else None
            if found is None or (found.reply is None and found.error is None):
                # Not where it has an answer already, which may hold a place at its host.
                if transfer.not_before_s > now_s:
                    return False
                if transfer.attempts == 0 and not job.lacked(key) and crew.missing.assumes(job.key.collection, key):
                    job.absent.append(Absent(key, assumed=True))
                    return True
            if found is None:
                found = Answered(None if crew.shortcut is None else crew.shortcut.guess(job.key, transfer), None)
            answered = found
            if answered.reply is None and answered.error is None:
                if answered.guess is None and self._links.is_due(job):
                    await self._links.renew(job)
                pause_s = crew.opener.wait_s(transfer.asset.href if answered.guess is None else answered.guess.url)
                if job.held_up_by and (held_up_s := crew.opener.wait_s(job.held_up_by)) > pause_s:
                    pause_s = held_up_s  # to ask for redirects to a host that is down helps nobody
                if pause_s > _WAIT_IN_PLACE_S:
                    transfer.not_before_s = now_s + pause_s
                    return False
            transfer.attempts += 1
        href = answered.href or transfer.asset.href
        token = crew.progress.begin(job.key.id, key, now_s)
        try:
            await self._fetch(job, transfer, answered)
        except TransferError as error:
            return await self._failed(job, transfer, href, error)
        finally:
            crew.progress.end(token)
        self._links.proved_good(transfer)
        crew.missing.found(job.key.collection, key)
        return True

    async def _fetch(self, job: Job, transfer: Transfer, answered: Answered) -> None:
        crew, (guess, reply, error, _) = self._crew, answered
        if error is not None:
            raise error
        if job.unit is None:
            raise RuntimeError(f"unplanned job {job.key}")

        def name_for(url: str) -> str:
            return crew.planner.name_for_target(url, transfer.asset.key, job)

        if crew.shortcut is None:
            fetched = await crew.fetcher.fetch(job.key, transfer, job.unit, name_for, reply, tells_large=not job.large)
        else:
            found = guess and await crew.shortcut.fetch(guess, job.key, transfer, job.unit, name_for, reply)
            if guess is not None and found is None and self._links.is_due(job):
                await self._links.renew(job)
            by_link = reply if guess is None else None
            fetched = found or await crew.shortcut.fetch_by_link(job.key, transfer, job.unit, name_for, by_link)
        self._keep(job, fetched)

    def _keep(self, job: Job, fetched: Fetched) -> None:
        """Count a file in, and hold its bytes until the item is staged."""
        job.stored.append(fetched.receipt)
        self._count_files(job, 1, fetched.receipt.size_bytes)
        if fetched.body is None:
            job.large = True
            if self._crew.ahead is not None:
                self._crew.ahead.large(job.key, fetched.receipt.key)
        else:
            job.bodies.append((fetched.receipt.name, fetched.body))
            job.label_bodies[fetched.receipt.key] = fetched.body
            job.held_bytes += len(fetched.body)
            if job.held_bytes > self._crew.held_max_bytes and self._stage(job):
                job.label_bodies.clear()

    async def _failed(self, job: Job, transfer: Transfer, href: str, error: TransferError) -> bool:
        """Decide what a failed attempt at `href` means: renew the link, ask later, an absence, or a failure."""
        crew, key = self._crew, transfer.asset.key
        job.held_up_by = error.host
        if error.kind == "paused":  # nobody was asked: no attempt
            transfer.attempts -= 1
            transfer.not_before_s = crew.clock.monotonic() + (error.retry_after_s or 0.0)
            return False
        if error.by_host and error.retryable and self._is_put_off(transfer, error):
            transfer.attempts -= 1
            return False
        if error.status in LINK_DEAD_STATUSES and await self._links.mend(job, transfer, href, error.host):
            transfer.attempts -= 1
            return False
        wait_s = crew.policy.wait_s(transfer.attempts, error, crew.random)
        if wait_s is not None:
            crew.progress.retries += 1
            transfer.not_before_s = crew.clock.monotonic() + wait_s
            return False
        if error.kind in ABSENT_KINDS:
            crew.missing.gone(job.key.collection, key)
        permanent = error.kind in _FOR_GOOD
        if error.kind == "too-large" and crew.ahead is not None:
            crew.ahead.large(job.key, key)
        job.failed.append(
            Failed(
                key,
                error.kind,
                crew.hide(str(error)),
                transfer.attempts,
                permanent=permanent,
                host=error.host,
                status=error.status,
                renewed=transfer.renewed,
                put_off=transfer.put_off,
            )
        )
        return True

    def _is_put_off(self, transfer: Transfer, error: TransferError) -> bool:
        """Let a transfer wait for a host that is to blame, without an attempt; False when that lasts too long."""
        policy, now_s = self._crew.policy, self._crew.clock.monotonic()
        if not transfer.put_off:
            transfer.put_off_since_s = now_s
        elif now_s - transfer.put_off_since_s > policy.outage_max_s:
            return False
        transfer.put_off += 1
        self._crew.progress.retries += 1
        transfer.not_before_s = now_s + policy.backoff_s(min(transfer.put_off, _PUT_OFF_MAX), error, self._crew.random)
        return True


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
