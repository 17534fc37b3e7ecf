"""Which assets of an item are fetched, by globs over their keys. Used when an item is planned; knows no catalog."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

from stacmirror.errors import UsageError

_WILD = frozenset("*?[")
_REMEMBERED_MAX = 10_000


class AssetChoice:
    """Chooses keys that match any of `include` (all, when empty) and none of `exclude`; case counts.

    Raises: UsageError when what is included is excluded as well.
    """

    def __init__(self, include: Iterable[str], exclude: Iterable[str]) -> None:
        self._include = tuple(sorted(set(include)))
        self._exclude = tuple(sorted(set(exclude)))
        self._chosen: dict[str, bool] = {}
        self._refuse_contradictions()

    def chooses(self, key: str) -> bool:
        """Return True when the asset `key` is wanted."""
        # An item's keys are those of the item before it; the bound is for catalogs where they are not.
        chosen = self._chosen.get(key)
        if chosen is None:
            if len(self._chosen) >= _REMEMBERED_MAX:
                self._chosen.clear()
            chosen = (not self._include or _matches(key, self._include)) and not _matches(key, self._exclude)
            self._chosen[key] = chosen
        return chosen

    def describe(self) -> dict[str, str]:
        """Return the globs, sorted, under the names of their settings."""
        words = {"asset": " | ".join(self._include), "exclude_asset": " | ".join(self._exclude)}
        return {name: globs for name, globs in words.items() if globs}

    def _refuse_contradictions(self) -> None:
        if "" in self._include or "" in self._exclude:
            raise UsageError("--asset and --exclude-asset need a glob", hint="such as 'B0*'")
        if "*" in self._exclude:
            raise UsageError("--exclude-asset '*' leaves nothing to fetch", hint="leave it out, or name fewer keys")
        for glob in self._include:
            # A glob that is itself a key is compared as one; two different wildcards may well overlap in part.
            excluded = glob in self._exclude or (not _WILD & set(glob) and _matches(glob, self._exclude))
            if excluded:
                raise UsageError(
                    f"--asset {glob!r} is excluded by --exclude-asset as well", hint="leave out one of the two"
                )


def _matches(key: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(key, glob) for glob in globs)
