"""Source items of a whole label page asked for in one request, where the catalog takes that: not one request each.

Called by the walk, before the page's bundles are lined up, so that the links are fresh when they are used. What does
not come that way is asked for by its link, as ever; where it does not pay, that is all that is done, and said once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stacmirror.errors import LoginRefused, SourceError
from stacmirror.interfaces import Joining
from stacmirror.model import ItemKey, SourceLink
from stacmirror.pipeline.bundle import Bundle, Job

BATCH_ITEMS = 100
"""Ids in one request: some 6 kB of them."""
_MISSES_MAX = 3
"""Batches in a row that brought less than half."""


class Joiner:
    """Fills the linked jobs of bundles. `joining` is None for catalogs that cannot."""

    def __init__(self, joining: Joining | None, note: Callable[[str], None]) -> None:
        self._joining = joining
        self._note = note
        self._misses = 0
        self._has_joined = False

    async def fill(self, bundles: Sequence[Bundle]) -> None:
        """Read the linked items of `bundles`. Cancel: safe."""
        if self._joining is None:
            return
        jobs = {job.key: job for bundle in bundles for job in bundle.jobs if job.item is None and job.href}
        if len(jobs) < 2:
            return  # one request would take the place of one
        keys = list(jobs)
        for start in range(0, len(keys), BATCH_ITEMS):
            if self._joining is not None:
                await self._ask(self._joining, jobs, keys[start : start + BATCH_ITEMS])

    async def _ask(self, joining: Joining, jobs: dict[ItemKey, Job], keys: Sequence[ItemKey]) -> None:
        try:
            found = await joining.several([SourceLink(key, jobs[key].href) for key in keys])
        except (SourceError, LoginRefused) as error:  # items may be had where searches may not
            if isinstance(error, LoginRefused) and error.ends_run:
                raise
            self._give_up(error.message)
            return
        if found is None:
            self._joining = None  # nothing to say: nobody expected it of this catalog
            return
        for key, item in found.items():
            jobs[key].item = item
        if found and not self._has_joined:
            self._has_joined = True
            self._note("source items are asked for by ids, a page of labels at once")
        self._misses = self._misses + 1 if 2 * len(found) < len(keys) else 0
        if self._misses >= _MISSES_MAX or (not found and not self._has_joined):
            self._give_up(f"the server gave {len(found)} of {len(keys)} that were asked for by ids")

    def _give_up(self, reason: str) -> None:
        self._joining = None
        self._note(f"source items are asked for one by one, by their links: {reason}")
