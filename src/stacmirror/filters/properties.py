"""Keep items by a yes-or-no property. Made by `filters.make_filters`; knows no catalog.

MLHub sent `true` in 2020 and `"true"` from 2021 on, and left the property out where it is false.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stacmirror.model import Item


class Flag:
    """Keeps items whose property `name` is `wanted`; a missing property, or one that is no truth value, is False."""

    def __init__(self, name: str, wanted: bool) -> None:
        self._name = name
        self._wanted = wanted

    @staticmethod
    def maybe(name: str, wanted: bool | None) -> Sequence[Flag]:
        """Return the filter, or none when the property does not matter."""
        return [] if wanted is None else [Flag(name, wanted)]

    def keeps(self, item: Item) -> bool:
        """Return True when the property is as wanted."""
        return is_true(item.properties.get(self._name)) is self._wanted

    def describe(self) -> Mapping[str, str]:
        """Return `true` or `false` under the property's name."""
        return {self._name: "true" if self._wanted else "false"}


def is_true(value: object) -> bool:
    """Return whether a property says yes: `True`, 1, or "true" in any case."""
    if isinstance(value, str):
        return value.strip().lower() == "true"
    return value is True or (isinstance(value, (int, float)) and value == 1)
