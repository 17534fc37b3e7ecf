"""Which items and assets are wanted: one file a family, and the table that makes them from the settings.

The composition root calls `make_filters` for the walk and `describe` for the mirror's record of itself. A filter
sees an Item and nothing else. To add one: a file, a line in `_FAMILIES`, a parameter in tests/unit/test_filters.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stacmirror.filters.asset_keys import AssetChoice
from stacmirror.filters.ids import Ids
from stacmirror.filters.label_classes import LabelClasses
from stacmirror.filters.properties import Flag
from stacmirror.filters.searched import Searched
from stacmirror.filters.shard import Shard
from stacmirror.interfaces import Filter
from stacmirror.search import make_search
from stacmirror.settings import FilterSettings

Sends = Callable[[str], bool]
"""Says whether the source itself judges a part of the search."""


def _judges_nothing(name: str) -> bool:
    return False


_FAMILIES: dict[str, Callable[[FilterSettings], Sequence[Filter]]] = {
    "shard": lambda wanted: [Shard(wanted.shard)] if wanted.shard else [],
    "item": lambda wanted: [Ids(wanted.item)] if wanted.item else [],
    "label_class": lambda wanted: [LabelClasses(wanted.label_class)] if wanted.label_class else [],
    "cloud_and_shadow": lambda wanted: Flag.maybe("cloud_and_shadow", wanted.cloud_and_shadow),
    "seasonal_snow": lambda wanted: Flag.maybe("seasonal_snow", wanted.seasonal_snow),
}


def make_filters(wanted: FilterSettings, sends: Sends = _judges_nothing) -> list[Filter]:
    """Return the filters that an item must all pass; the cheapest first. `sends`: what the source judges itself.

    Raises: UsageError for an empty value, what cannot be searched for, and globs that contradict each other.
    """
    make_asset_choice(wanted)
    search = make_search(wanted)
    searched: list[Filter] = [Searched(search, sends)] if search.asked or search.collections else []
    return [made for make in _FAMILIES.values() for made in make(wanted)] + searched


def make_shard(wanted: FilterSettings) -> Shard:
    """Return which items fall to this mirror; all where no shard is asked for. Raises: UsageError for no shard."""
    return Shard(wanted.shard)


def make_asset_choice(wanted: FilterSettings) -> AssetChoice:
    """Return which asset keys are fetched. Raises: UsageError for globs that contradict each other."""
    return AssetChoice(wanted.asset, wanted.exclude_asset)


def describe(wanted: FilterSettings) -> dict[str, str]:
    """Return what is asked for, in words; equal for settings that ask for the same, in whatever order."""
    words: dict[str, str] = {}
    for one in make_filters(wanted):
        words.update(one.describe())
    words.update(make_asset_choice(wanted).describe())
    return words


__all__ = ["AssetChoice", "Shard", "describe", "make_asset_choice", "make_filters", "make_shard"]
