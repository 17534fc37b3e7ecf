"""Links that expire: renewed shortly before they die, or when one proves dead; one request for all of an item's links.

Called by the workers. It reads from a link when it dies (`links`), and asks the catalog for the item again.
"""

from __future__ import annotations

import asyncio
import math

from stacmirror.errors import SourceError
from stacmirror.interfaces import Catalog, Clock
from stacmirror.links import expires_at_s
from stacmirror.model import Transfer
from stacmirror.pipeline.bundle import Job

_EXPIRY_MARGIN = 0.1
"""Links are renewed when less than a tenth of their life is left, at most a minute."""


class Renewal:
    """Of the links of any job. `life_s` is how long a link lives that does not say it itself, in seconds."""

    def __init__(self, catalog: Catalog, clock: Clock, life_s: float) -> None:
        self._catalog = catalog
        self._clock = clock
        self._life_s = life_s
        self._renewing = asyncio.Lock()
        self._margin_s = min(60.0, life_s * _EXPIRY_MARGIN)

    def note_expiry(self, job: Job) -> None:
        """Work out when the item's links die. They were issued together: one speaks for all."""
        job.expires_s = math.inf
        if job.item is not None and job.todo:
            job.expires_s = expires_at_s(job.todo[0].asset.href, self._life_s, job.item.read_at_s)

    def is_due(self, job: Job) -> bool:
        """Return whether the item's links die soon: to renew them is cheaper than to learn it from refusals."""
        return job.expires_s - self._clock.wall() < self._margin_s

    async def mend(self, job: Job, transfer: Transfer, href: str) -> bool:
        """After `href` was refused: if it had expired by our reckoning, renew; True when there is another to ask."""
        if job.item is None:
            return False
        if transfer.asset.href != href:  # renewed for another of its files meanwhile
            return True
        if expires_at_s(href, self._life_s, job.item.read_at_s) > self._clock.wall():
            return False
        await self.renew(job)
        return transfer.asset.href != href

    async def renew(self, job: Job) -> None:
        """Ask for the item again, once in half a link's life, and give every waiting transfer its new link."""
        async with self._renewing:  # large files are several at once: the others wait for the same new links
            await self._renew(job)

    async def _renew(self, job: Job) -> None:
        now_s = self._clock.wall()
        if now_s - job.renewed_at_s < self._life_s * 0.5:
            return
        job.renewed_at_s = now_s
        try:
            fresh = await self._catalog.item(job.key, job.href)
        except SourceError:
            return  # the old links get their chance, and fail with their own reason
        if fresh is None:
            return
        job.item = fresh
        assets = {asset.key: asset for asset in fresh.assets}
        for transfer in job.todo:
            transfer.asset = assets.get(transfer.asset.key, transfer.asset)
        self.note_expiry(job)
