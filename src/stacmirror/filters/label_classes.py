"""Keep items by the classes in `properties.labels`. Made by `filters.make_filters`; knows no catalog."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stacmirror.errors import UsageError
from stacmirror.model import Item


class LabelClasses:
    """Keeps items that have any of `names` among their labels; names are compared as they are written."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        if "" in self._names:
            raise UsageError("--label-class needs a class", hint="stacmirror classes SOURCE lists them")

    def keeps(self, item: Item) -> bool:
        """Return True when one of the item's labels is wanted; an item without labels has none."""
        labels = item.properties.get("labels")
        if isinstance(labels, str):
            return labels in self._names
        if not isinstance(labels, (list, tuple)):
            return False
        return any(isinstance(label, str) and label in self._names for label in labels)

    def describe(self) -> Mapping[str, str]:
        """Return the classes, sorted. Their names hold commas, so a bar stands between them."""
        return {"label_class": " | ".join(sorted(self._names))}
