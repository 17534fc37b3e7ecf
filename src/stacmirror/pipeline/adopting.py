"""A worker that takes files which are already there, in place of fetching them; all else is as in every run.

Made by `run` for an adoption. Of a bundle of which nothing is there it hands nothing over, so that its page stays open
and a later run walks it again.
"""

from __future__ import annotations

from stacmirror.model import Transfer
from stacmirror.pipeline.adopt import Adopter
from stacmirror.pipeline.ahead import Answered
from stacmirror.pipeline.bundle import Bundle, Job
from stacmirror.pipeline.crew import Crew
from stacmirror.pipeline.detours import Detours
from stacmirror.pipeline.dispatch import Dispatch
from stacmirror.pipeline.settle import Settler
from stacmirror.pipeline.worker import Worker


class AdoptingWorker(Worker):
    """As Worker, with an Adopter for its transfers."""

    def __init__(self, crew: Crew, dispatch: Dispatch, adopter: Adopter) -> None:
        super().__init__(crew, dispatch, AdoptingSettler(crew, adopter))
        self._adopter = adopter

    async def _work_on(self, bundle: Bundle) -> None:
        if any(job.planned for job in bundle.jobs) or await self._adopter.has_any(bundle):
            await super()._work_on(bundle)

    async def _read_and_plan(self, bundle: Bundle, job: Job) -> bool:
        if not await super()._read_and_plan(bundle, job):
            return False
        await self._adopter.look_up(bundle, job)
        return True

    async def _finish(self, bundle: Bundle) -> None:
        self._adopter.forget(bundle)
        if any(job.fetched for job in bundle.jobs):
            await super()._finish(bundle)


class AdoptingSettler(Settler):
    """As Settler, with files that are there in place of answers."""

    def __init__(self, crew: Crew, adopter: Adopter) -> None:
        super().__init__(crew, Detours())
        self._adopter = adopter

    async def _fetch(self, job: Job, transfer: Transfer, answered: Answered) -> None:
        crew, unit = self._crew, job.unit
        if unit is None:
            raise RuntimeError(f"unplanned job {job.key}")

        def name_for(url: str) -> str:
            return crew.planner.name_for_target(url, transfer.asset.key, job)

        fetched = await self._adopter.fetch(job, transfer, unit, name_for)
        self._keep(job, fetched)
        if fetched.body is None:  # linked: what is derived from the item's assets still needs their bytes
            job.label_bodies.update(self._adopter.small_body(job, transfer.asset.key))
