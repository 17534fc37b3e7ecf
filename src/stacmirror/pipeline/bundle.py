"""What a worker has in hand: a walked item with those of its linked items that it must fetch.

A bundle is resumable state, so that a worker never waits for a server's pause: it puts the bundle aside with
the time at which it can go on, and takes another.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from stacmirror.errors import UNASKED_KINDS
from stacmirror.model import Absent, Failed, Item, ItemKey, LackingItem, Receipt, SourceLink, Transfer, Unit


@dataclass(slots=True)
class Job:
    """One item on its way. `item` is None until its links are read (linked items, sweeps)."""

    key: ItemKey
    href: str = ""
    item: Item | None = None
    unit: Unit | None = None
    before: LackingItem | None = None
    """What the ledger has of it, when a sweep tries again."""
    left: tuple[Failed, ...] = ()
    """Failures of it that are not tried again now: they stay as they are."""
    todo: list[Transfer] = field(default_factory=list)
    stored: list[Receipt] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    bodies: list[tuple[str, bytes]] = field(default_factory=list)
    """Small bodies not yet staged, by name."""
    label_bodies: dict[str, bytes] = field(default_factory=dict)
    """The walked item's small bodies by asset key, for derived files."""
    held_bytes: int = 0
    fetched: int = 0
    fetched_bytes: int = 0
    planned: bool = False
    large: bool = False
    """Whether one of its files is known to be large: then what is left comes several at once."""
    expires_s: float = math.inf
    """Wall clock at which its links stop working."""
    renewed_at_s: float = -1.0e18
    """Wall clock of the last renewal of its links."""
    unrenewed: str = ""
    """Why that renewal failed, if it did."""
    renewing: asyncio.Lock | None = None
    """Held while its links are renewed, from the first time on."""
    unstaged_since_s: float = math.inf
    """Since when no file can be opened for what is held; infinite where it can."""
    completed: bool = False
    """Whether nothing is to be added, and only staging is left."""
    done: bool = False

    def lacked(self, key: str) -> bool:
        """Return whether a sweep tries again because this asset was asked for in vain."""
        return self.before is not None and any(
            failed.key == key and failed.kind not in UNASKED_KINDS for failed in self.before.failed
        )

    @property
    def documented(self) -> bool:
        """Whether the ledger has the item's JSON."""
        return self.before is not None and self.before.documented


@dataclass(slots=True)
class Bundle:
    """A walked item and its linked items. `page` is None in a sweep."""

    walked: ItemKey
    page: int | None
    jobs: list[Job]
    sources: tuple[ItemKey, ...] = ()


def bundle_of(item: Item, page: int, links: list[SourceLink]) -> Bundle:
    """Return the bundle of a walked item and those of its `links` that this bundle is to fetch."""
    jobs = [Job(item.key, item=item)]
    jobs += [Job(link.key, href=link.href) for link in links]
    return Bundle(item.key, page, jobs, tuple(link.key for link in item.sources))


def bundle_again(lacking: LackingItem, left: Sequence[Failed] = ()) -> Bundle:
    """Return the bundle that fetches what an item of the ledger lacks; `left` are failures that it leaves alone."""
    job = Job(lacking.key, before=lacking, left=tuple(left), failed=list(left))
    return Bundle(lacking.key, None, [job], lacking.sources)
