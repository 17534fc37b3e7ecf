"""Keep items by id. Made by `filters.make_filters` for `--item`; knows no catalog."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stacmirror.errors import UsageError
from stacmirror.model import Item


class Ids:
    """Keeps items whose id is one of `ids`, exactly as the catalog writes it."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = frozenset(ids)
        if "" in self._ids:
            raise UsageError("--item needs an item's id", hint="as the catalog has it, letter by letter")

    def keeps(self, item: Item) -> bool:
        """Return True for an item with one of the ids."""
        return item.key.id in self._ids

    def describe(self) -> Mapping[str, str]:
        """Return the ids, sorted."""
        return {"item": " | ".join(sorted(self._ids))}
