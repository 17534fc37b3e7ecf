"""Bring the assets of one item to their outcomes: asked for together, settled one by one, staged when they are many.

Called by the workers for an item that is planned. What an answer or an error means for an asset is decided here alone:
kept, asked for again later, absent, or failed. It waits for no pause: what must wait stays in the item's `todo`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from stacmirror.errors import NoOpenFile, TransferError
from stacmirror.interfaces import Reply
from stacmirror.model import Absent, Failed, Transfer
from stacmirror.pipeline.abreast import settle_abreast
from stacmirror.pipeline.ahead import NOTHING, Answered, close_streams, large_among, streaming
from stacmirror.pipeline.bundle import Job
from stacmirror.pipeline.crew import Crew
from stacmirror.pipeline.detours import Detours
from stacmirror.pipeline.large import Fetched
from stacmirror.pipeline.missing import ABSENT_KINDS
from stacmirror.pipeline.transfer import LargeMet
from stacmirror.retry import LINK_DEAD_STATUSES

WAIT_IN_PLACE_S = 1.0
"""A longer wait is not sat out: there is other work meanwhile."""
_FOR_GOOD = frozenset({"gone", "too-large"})
"""Failures that are the same when asked again in this run."""


class Settler:
    """One a worker. Raises: LoginRefused, SourceLost, TargetUnwritable."""

    def __init__(self, crew: Crew, detours: Detours) -> None:
        self._crew = crew
        self._detours = detours
        self._links = crew.links

    async def settle(self, job: Job) -> None:
        """Bring every asset of the item as far as can be now; what is left stays in its `todo`. Cancel: safe."""
        ahead = await self._ask_ahead(job) if self._crew.ahead is not None else NOTHING
        try:
            job.todo = await self._settle_all(job, ahead)
        finally:
            close_streams(ahead)

    async def _settle_all(self, job: Job, ahead: Mapping[str, Answered]) -> list[Transfer]:
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
                later += await self._settle_large(job, number, ahead, met)
                break
            try:
                if not await self._settle_one(job, transfer, ahead):
                    later.append(transfer)
            except LargeMet as large:
                job.large = True
                later += await self._settle_large(job, number, ahead, large.reply)
                break
        return later

    async def _settle_large(
        self, job: Job, number: int, ahead: Mapping[str, Answered], met: Reply | None = None
    ) -> list[Transfer]:
        """Settle what is left of the job, from transfer `number` on, several at once; `met` answers that one."""
        first = job.todo[number]
        if met is not None and self._crew.ahead is not None:
            self._crew.ahead.large(job.key, first.asset.key)

        async def settle(transfer: Transfer) -> bool:
            return await self._settle_one(job, transfer, ahead, met if transfer is first else None)

        try:
            return await settle_abreast(job.todo[number:], settle, self._crew.large_at_once)
        finally:
            if met is not None and met.stream is not None:
                met.stream.close()

    async def _ask_ahead(self, job: Job) -> Mapping[str, Answered]:
        """Ask for all of a fresh item's assets in one go; return what came of it, by asset key."""
        crew = self._crew
        if crew.ahead is None or not crew.ahead.suits(job) or self._detours.are_blocked(job, crew.opener):
            return NOTHING
        if self._links.is_due(job):
            await self._links.renew(job)
        token = crew.progress.begin(job.key.id, "", crew.clock.monotonic())
        try:
            return await crew.ahead.ask(job)
        finally:
            crew.progress.end(token)

    def _take_ahead(self, job: Job, transfer: Transfer, ahead: Mapping[str, Answered]) -> bool:
        """Settle what came ahead as nearly all does: found, small and sound. False for `_settle_one` to look closer."""
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
        self._came(job, transfer)
        return True

    def _came(self, job: Job, transfer: Transfer) -> None:
        self._links.proved_good(transfer)
        self._detours.came(job, transfer)
        self._crew.missing.found(job.key.collection, transfer.asset.key)

    async def _settle_one(
        self, job: Job, transfer: Transfer, ahead: Mapping[str, Answered], met: Reply | None = None
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
                if answered.guess is None:
                    # To ask for redirects to a host that is down helps nobody; nor to renew such links.
                    if (down_s := self._detours.wait_s(job, transfer, crew.opener, now_s)) > 0:
                        transfer.not_before_s = now_s + down_s
                        return False
                    if self._links.is_due(job):
                        await self._links.renew(job)
                pause_s = crew.opener.wait_s(transfer.asset.href if answered.guess is None else answered.guess.url)
                if pause_s > WAIT_IN_PLACE_S:
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
        self._came(job, transfer)
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
        self.count_files(job, 1, fetched.receipt.size_bytes)
        if fetched.body is None:
            job.large = True
            if self._crew.ahead is not None:
                self._crew.ahead.large(job.key, fetched.receipt.key)
        else:
            job.bodies.append((fetched.receipt.name, fetched.body))
            job.label_bodies[fetched.receipt.key] = fetched.body
            job.held_bytes += len(fetched.body)
            if job.held_bytes > self._crew.held_max_bytes and self.stage(job):
                job.label_bodies.clear()

    def stage(self, job: Job) -> bool:
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

    def count_files(self, job: Job, files: int, size_bytes: int) -> None:
        job.fetched += files
        job.fetched_bytes += size_bytes
        self._crew.progress.files_stored += files
        self._crew.progress.bytes_stored += size_bytes

    async def _failed(self, job: Job, transfer: Transfer, href: str, error: TransferError) -> bool:
        """Decide what a failed attempt at `href` means: renew the link, ask later, an absence, or a failure."""
        crew, key = self._crew, transfer.asset.key
        self._detours.failed(job, transfer, error)
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
        kind, words = error.kind, str(error)
        if error.status in LINK_DEAD_STATUSES and transfer.unrenewed:
            words = f"{words}; {transfer.unrenewed}"
            if self._links.has_died(job, href):
                kind = "expired"  # nothing shows that the asset is not there, or not for us
        if error.status == 401 and kind != "expired":
            crew.missing.unadmitted(job.key.collection, key, error.host)
        elif kind in ABSENT_KINDS:
            crew.missing.gone(job.key.collection, key)
        permanent = kind in _FOR_GOOD
        if error.kind == "too-large" and crew.ahead is not None:
            crew.ahead.large(job.key, key)
        job.failed.append(
            Failed(
                key,
                kind,
                crew.hide(words),
                transfer.attempts,
                permanent=permanent,
                host=error.host or (crew.source if kind == "no-href" else ""),
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
        transfer.not_before_s = now_s + policy.put_off_s(transfer.put_off, error, self._crew.random)
        return True
