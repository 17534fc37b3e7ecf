"""The run's memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from stacmirror.model import Counts, ItemKey, KnownItem, LackingItem, LedgerEntry, Reveal, Unit


class Ledger(Protocol):
    """The run's memory. One thread writes (commit); the reading methods may be called from any thread.

    Raises: TargetUnwritable when the disk takes no more; TargetInUse when it is foreign or unreadable.
    """

    @property
    def run(self) -> int:
        """The number of this run."""
        ...

    def write(self, entries: Sequence[LedgerEntry], in_place: Sequence[Unit]) -> list[Reveal]:
        """Record one group in one durable transaction; return what is to be revealed now.

        Rows of complete items become `staged`; rows with failures are `held`. The rows of `in_place` (units
        revealed after the write before, their renames synced since) become `committed`.
        """
        ...

    def release_held(self) -> list[Reveal]:
        """Give up on what has not arrived: return the held units, to be revealed as incomplete."""
        ...

    def known(self, keys: Sequence[ItemKey]) -> dict[ItemKey, KnownItem]:
        """Return those of `keys` that have a row."""
        ...

    def rows(self, keys: Sequence[ItemKey]) -> dict[ItemKey, LackingItem]:
        """Return what is there of those of `keys` that have a row, and what each lacks."""
        ...

    def documents(self, keys: Sequence[ItemKey]) -> dict[ItemKey, bytes]:
        """Return the JSON that is kept of those of `keys` that have one."""
        ...

    def lacking(self, after_row: int, rows_max: int) -> list[LackingItem]:
        """Return items that lack assets, in the order of their rows, `rows_max` at most."""
        ...

    def samples(self, collection: str, key: str) -> list[LackingItem]:
        """Return a few items that lack nothing but have `key` absent, to ask for it once more."""
        ...

    def lacking_assets(self) -> int:
        """Return how many assets the mirror lacks now."""
        ...

    def counts(self) -> Counts:
        """Return the mirror's counts over all runs."""
        ...

    def run_counts(self) -> Counts:
        """Return the item counts of rows written by this run."""
        ...
