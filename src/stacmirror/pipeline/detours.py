"""Where links lead that last led to a host that is down: nobody asks the way there again, but for one scout a second.

One for the run, shared by all workers, which tell it what became of links and ask it before they ask one. The scout
finds out what no outage says by itself: that the links lead elsewhere by now, or that the host is back.
"""

from __future__ import annotations

from stacmirror.errors import TransferError
from stacmirror.interfaces import Opener
from stacmirror.limits import origin_of
from stacmirror.model import Transfer
from stacmirror.pipeline.bundle import Job

_SCOUT_EVERY_S = 1.0
_LOOK_AGAIN_S = 0.5
"""For so long at least one waits who is no scout."""
_PLACES_MAX = 10_000

_Place = tuple[str, str, str]
"""Collection, asset key, origin of the link."""


class Detours:
    """The hosts behind links that were down when they were last asked for."""

    def __init__(self) -> None:
        self._hosts: dict[_Place, str] = {}
        self._scouts_s = 0.0
        """When the next scout may go."""

    def failed(self, job: Job, transfer: Transfer, error: TransferError) -> None:
        """Hear that a transfer failed: was it for a host behind its link, which is paused or in trouble?"""
        if (error.by_host or error.kind == "paused") and error.host != origin_of(transfer.asset.href):
            if len(self._hosts) >= _PLACES_MAX:
                self._hosts.clear()
            self._hosts[_place_of(job, transfer)] = error.host

    def came(self, job: Job, transfer: Transfer) -> None:
        """Hear that a transfer came: its like may go the same way."""
        if self._hosts:
            self._hosts.pop(_place_of(job, transfer), None)

    def are_blocked(self, job: Job, opener: Opener) -> bool:
        """Return whether any link of the job is known to lead to a host that is down."""
        return bool(self._hosts) and any(
            opener.is_down(host) for transfer in job.todo if (host := self._hosts.get(_place_of(job, transfer)))
        )

    def wait_s(self, job: Job, transfer: Transfer, opener: Opener, now_s: float) -> float:
        """Return for how long not to ask the link (0.0: ask now, perhaps as the scout)."""
        host = self._hosts.get(_place_of(job, transfer)) if self._hosts else None
        if host is None:
            return 0.0
        pause_s = opener.wait_s(host)
        if not opener.is_down(host):
            return pause_s
        if now_s < self._scouts_s:
            return max(pause_s, _LOOK_AGAIN_S)
        self._scouts_s = now_s + _SCOUT_EVERY_S
        return 0.0


def _place_of(job: Job, transfer: Transfer) -> _Place:
    return job.key.collection, transfer.asset.key, origin_of(transfer.asset.href)
