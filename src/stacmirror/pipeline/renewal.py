"""Links that expire: renewed shortly before they die, or when one proves dead; one request for all of an item's links.

Called by the workers, one for all of them. It reads from a link when it dies (`links`), and asks the catalog for the
item again. How long links live may be other than the settings say: it is learned from links that were refused and good
again once they were renewed.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable

from stacmirror.errors import SourceError
from stacmirror.interfaces import Catalog, Clock
from stacmirror.limits import origin_of
from stacmirror.links import age_s, expires_at_s
from stacmirror.model import Transfer
from stacmirror.pipeline.bundle import Job
from stacmirror.units import format_duration

_EXPIRY_MARGIN = 0.1
"""Links are renewed when less than a tenth of their life is left, at most a minute."""
_DOUBTS_MAX = 20
"""Links refused before their time that are renewed in vain, one after another, until such refusals are taken at their
word. Those that are still under way count for nothing: the links of all items in hand may die in one instant."""
_REFUSED_MAX = 5
"""Links of one asset, one after another: if each was refused before its time, age is not why."""
_YOUNG_SHARE = 0.5
"""A link refused at less than this share of the age of the one before it is not refused for its age."""
_YOUNG_S = 1.0
"""A link younger than that is not refused for its age."""
_AGES = 3
"""Links that must have died before their time until that is their life."""

_WHY_MAX = 200
"""Of what a renewal failed for, so many characters are kept for each asset."""


class Renewal:
    """Of the links of any job. `life_s` is how long a link lives that does not say it itself, in seconds."""

    def __init__(
        self, catalog: Catalog, clock: Clock, life_s: float, note: Callable[[str], None] = lambda line: None
    ) -> None:
        self._catalog = catalog
        self._clock = clock
        self._note = note
        self._life_s = life_s
        self._margin_s = min(60.0, life_s * _EXPIRY_MARGIN)
        self._doubts_left = _DOUBTS_MAX
        self._ages_s: deque[float] = deque(maxlen=_AGES)

    def note_expiry(self, job: Job) -> None:
        """Work out when the item's links die. They were issued together: one speaks for all."""
        job.expires_s = math.inf
        if job.item is not None and job.todo:
            job.expires_s = expires_at_s(job.todo[0].asset.href, self._life_s, job.item.read_at_s)

    def is_due(self, job: Job) -> bool:
        """Return whether the item's links die soon: to renew them is cheaper than to learn it from refusals."""
        return job.expires_s - self._clock.wall() < self._margin_s

    async def mend(self, job: Job, transfer: Transfer, href: str, host: str) -> bool:
        """After `href` was refused by `host`: renew it if it has expired; True when there is another one to ask.

        By our reckoning, or perhaps: where the host of the link itself refuses one that should be good, and such
        doubts have paid off before, or have not been tried often.
        """
        async with _lock_of(job):
            if job.item is None:
                return False
            if transfer.asset.href != href:  # renewed for another of its files meanwhile
                return True
            transfer.unrenewed = ""
            if not (died := self.has_died(job, href)):
                if host != origin_of(href) or not self._may_be_age(transfer, href, job.item.read_at_s):
                    return False
                job.renewed_at_s = -math.inf
            await self._renew(job)
            if transfer.asset.href != href:
                transfer.renewed += 1
                return True
            why = job.unrenewed or "the catalog gave no other link"
            begin = "its link had died, and the renewal failed" if died else "another link was asked for in vain"
            transfer.unrenewed = f"{begin}: {why}"
            return False

    def has_died(self, job: Job, href: str) -> bool:
        """Return whether a link has expired by our reckoning."""
        read_at_s = job.item.read_at_s if job.item is not None else 0.0
        return expires_at_s(href, self._life_s, read_at_s) <= self._clock.wall()

    def _may_be_age(self, transfer: Transfer, href: str, read_at_s: float) -> bool:
        """Return whether a link that should be good may have been refused for its age, and count that it was."""
        now_s = self._clock.wall()
        link_age_s, before_s = age_s(href, read_at_s, now_s), transfer.refused_age_s
        if before_s and (link_age_s < _YOUNG_SHARE * before_s or transfer.refused >= _REFUSED_MAX):
            self._doubts_left -= 1
            transfer.refused_age_s, transfer.refused = 0.0, 0
            return False
        if link_age_s < _YOUNG_S or self._doubts_left <= 0 or math.isinf(expires_at_s(href, self._life_s, read_at_s)):
            return False
        transfer.refused_age_s = link_age_s
        transfer.refused += 1
        return True

    def proved_good(self, transfer: Transfer) -> None:
        """Hear that an asset came: if its link before was refused, that was for its age."""
        refused_s, transfer.refused_age_s, transfer.refused = transfer.refused_age_s, 0.0, 0
        if not refused_s:
            return
        self._doubts_left = _DOUBTS_MAX
        self._ages_s.append(refused_s)
        if len(self._ages_s) == _AGES and max(self._ages_s) < self._life_s:
            said_s, self._life_s = self._life_s, max(self._ages_s)
            self._margin_s = min(60.0, self._life_s * _EXPIRY_MARGIN)
            if self._life_s < 0.5 * said_s:
                self._note(
                    f"links die after {format_duration(self._life_s)} or less, not {format_duration(said_s)}:"
                    " renewed in time from here on"
                )

    async def renew(self, job: Job) -> None:
        """Ask for the item again, once in half a link's life, and give every waiting transfer its new link."""
        async with _lock_of(job):  # large files are several at once: the others wait for the same new links
            await self._renew(job)

    async def _renew(self, job: Job) -> None:
        now_s = self._clock.wall()
        if now_s - job.renewed_at_s < self._life_s * 0.5:
            return
        job.renewed_at_s = now_s
        try:
            fresh = await self._catalog.item(job.key, job.href)
        except SourceError as error:
            job.unrenewed = error.message[:_WHY_MAX]
            return  # the old links get their chance
        if fresh is None:
            job.unrenewed = "the catalog has no such item any more"
            return
        job.unrenewed = ""
        job.item = fresh
        assets = {asset.key: asset for asset in fresh.assets}
        for transfer in job.todo:
            transfer.asset = assets.get(transfer.asset.key, transfer.asset)
        self.note_expiry(job)


def _lock_of(job: Job) -> asyncio.Lock:
    if job.renewing is None:
        job.renewing = asyncio.Lock()
    return job.renewing
