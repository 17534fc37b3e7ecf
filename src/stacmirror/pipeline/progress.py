"""What a run is doing right now: plain counters that the stages raise and a display reads.

Written on the event loop only; a display in the same loop may read at any time, no lock needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from stacmirror.model import AssetKey

Phase = Literal["starting", "fetching", "sweeping", "finishing", "done"]


class Progress:
    """Counters of this run. Items are walked items; files are assets stored."""

    def __init__(self) -> None:
        self.phase: Phase = "starting"
        self.items_listed = 0
        self.items_done = 0
        """Walked items with an outcome for every asset in this run, and those that were there already."""
        self.items_there = 0
        """Of `items_done`: there from an earlier run."""
        self.items_filtered = 0
        self.items_elsewhere = 0
        """Of `items_filtered`: those that fall to other shards."""
        self.share = 1.0
        """About which part of the listing falls to this mirror: all of it, or a shard."""
        self.items_total: int | None = None
        """How many items the server says there are, or None."""
        self.items_expected: int | None = None
        """How many there are by who started the run, where the server does not say; or None."""
        self.listing_ended = False
        """Whether all pages were seen, so that `items_listed` is all there is."""
        self.items_wanted: int | None = None
        """`--max-items`, or None."""
        self.pages = 0
        self.files_stored = 0
        self.bytes_stored = 0
        self.files_written = 0
        """Of `files_stored`: those with a row in the ledger. A run that is cut short drops the others."""
        self.bytes_written = 0
        self.bytes_there = 0
        """Of large files stored or on their way: what was there from an earlier run."""
        self._large: dict[AssetKey, tuple[int, int]] = {}
        """Of large files on their way: how much is there, and how much of it was before this run."""
        self.absent = 0
        """Assets of this run's items that the source does not have."""
        self.assumed_absent = 0
        """The same, not asked for."""
        self.predicted = 0
        """Of `files_stored`: those asked for where they had to be, without the request for a redirect."""
        self.retries = 0
        self.failures = 0
        """Assets that have no bytes after all attempts: of this run, and from the sweeps on, of the mirror."""
        self._waiting: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self._requests: Callable[[], int] = lambda: 0
        self._hosts: Callable[[], list[str]] = list
        self._in_flight: dict[int, tuple[str, str, float]] = {}
        self._next_token = 0

    @property
    def passed(self) -> float:
        """The part of the items listed so far, those of other shards left out, that filters let pass."""
        ours = self.items_listed - self.items_elsewhere
        return 1 - self.items_unwanted / max(1, ours)

    @property
    def items_unwanted(self) -> int:
        """Items of this mirror's own share that no filter let pass."""
        return self.items_filtered - self.items_elsewhere

    def begin(self, item_id: str, asset_key: str, now_s: float) -> int:
        """Note that a transfer is under way; return the token for `end`."""
        self._next_token += 1
        self._in_flight[self._next_token] = (item_id, asset_key, now_s)
        return self._next_token

    def end(self, token: int) -> None:
        """Note that the transfer is over."""
        self._in_flight.pop(token, None)

    @property
    def bytes_on_the_way(self) -> int:
        """What there is of large files that are not whole yet."""
        return sum(size_bytes for size_bytes, _ in self._large.values())

    def large_began(self, asset: AssetKey, size_bytes: int) -> None:
        """Note that a large file goes on behind `size_bytes`: all from an earlier run when this one meets it first."""
        there = size_bytes if asset not in self._large else min(self._large[asset][1], size_bytes)
        self.bytes_there += there - self._large.get(asset, (0, 0))[1]
        self._large[asset] = (size_bytes, there)

    def large_came(self, asset: AssetKey, size_bytes: int) -> None:
        """Note bytes of a large file."""
        held, there = self._large[asset]
        self._large[asset] = (held + size_bytes, there)

    def large_ended(self, asset: AssetKey) -> None:
        """Note that a large file is whole: from here on it counts among those stored."""
        self._large.pop(asset, None)

    def count_requests(self, requests: Callable[[], int]) -> None:
        """Have `requests` read from the one who sends them."""
        self._requests = requests

    @property
    def requests(self) -> int:
        """Requests sent so far, redirects included."""
        return self._requests()

    def watch_hosts(self, hosts: Callable[[], list[str]]) -> None:
        """Have `hosts` read from the one who asks them."""
        self._hosts = hosts

    @property
    def hosts(self) -> list[str]:
        """Hosts that are down or paused."""
        return self._hosts()

    def watch(self, waiting: Callable[[], tuple[int, int]]) -> None:
        """Have `queued` and `parked` read from `waiting`."""
        self._waiting = waiting

    @property
    def queued(self) -> int:
        """Items in line for a worker."""
        return self._waiting()[0]

    @property
    def parked(self) -> int:
        """Items put aside until a pause or a backoff ends."""
        return self._waiting()[1]

    @property
    def in_flight(self) -> int:
        """Transfers under way."""
        return len(self._in_flight)

    def slowest(self, now_s: float) -> tuple[str, float] | None:
        """Return label and age in seconds of the oldest transfer under way, or None."""
        # Tokens grow and dicts keep their order, so the first entry is the oldest.
        for item_id, asset_key, since_s in self._in_flight.values():
            return f"{item_id} {asset_key}", now_s - since_s
        return None
