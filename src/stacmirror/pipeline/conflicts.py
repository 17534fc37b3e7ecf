"""Notice items that a catalog lists twice, with different assets: whichever is right, a person should know.

Called by the walk. Hrefs differ on every listing, so asset keys are what is compared; for items that have a row, with
what the ledger says of them. What came first is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stacmirror.interfaces import Ledger
from stacmirror.model import Asset, Item, ItemKey

_CONFLICTS_MAX = 10
"""Such items that are said one by one."""


class Conflicts:
    """`wants` says which assets are fetched; `note` hears of conflicts."""

    def __init__(self, ledger: Ledger, wants: Callable[[Asset], bool], note: Callable[[str], None]) -> None:
        self._ledger = ledger
        self._wants = wants
        self._note = note
        self._marks: dict[ItemKey, int] = {}
        """Of items that were met and have no row yet: a number for their set of asset keys."""
        self._found = 0

    def met(self, item: Item) -> None:
        """Hear of an item the first time."""
        self._marks.setdefault(item.key, _mark(item))

    def release(self, keys: Sequence[ItemKey]) -> None:
        """Hear that these items have a row in the ledger now."""
        for key in keys:
            self._marks.pop(key, None)

    def look(self, again: Sequence[Item]) -> None:
        """Compare items that came again with what came first. Blocks: it reads the ledger."""
        for item in again:
            if self._found >= _CONFLICTS_MAX:
                return
            if self._differs(item):
                self._found += 1
                more = "; more such items are not said" if self._found == _CONFLICTS_MAX else ""
                self._note(f"{item.key} is listed twice, with different assets: the first one is kept{more}")

    def _differs(self, item: Item) -> bool:
        mark = self._marks.get(item.key)
        if mark is not None:
            return mark != _mark(item)
        row = self._ledger.rows([item.key]).get(item.key)
        if row is None:
            return False
        kept = {outcome.key for outcomes in (row.stored, row.absent, row.failed) for outcome in outcomes}
        kept = {key for key in kept if not key.startswith("@")}
        return bool(kept) and kept != {asset.key for asset in item.assets if self._wants(asset)}


def _mark(item: Item) -> int:
    return hash(frozenset(asset.key for asset in item.assets))
