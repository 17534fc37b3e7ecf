"""Which assets of an item are fetched, by globs over keys, roles and media types. Used when an item is planned."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

from stacmirror.errors import UsageError
from stacmirror.model import Asset

_WILD = frozenset("*?[")
_REMEMBERED_MAX = 10_000


_ROLE, _TYPE = "role:", "type:"


class AssetChoice:
    """Chooses assets that match any of `include` (all, when empty) and none of `exclude`; case counts.

    A glob is of keys; `role:GLOB` of roles, `type:GLOB` of media types (their case does not count).
    Raises: UsageError when what is included is excluded as well.
    """

    def __init__(self, include: Iterable[str], exclude: Iterable[str]) -> None:
        self._include = tuple(sorted(set(include)))
        self._exclude = tuple(sorted(set(exclude)))
        self._chosen: dict[str, bool] = {}
        self._by_more = any(glob.startswith((_ROLE, _TYPE)) for glob in (*self._include, *self._exclude))
        self._refuse_contradictions()

    @property
    def include(self) -> tuple[str, ...]:
        """The globs that were given."""
        return self._include

    def takes(self, asset: Asset) -> bool:
        """Return True when an asset is wanted."""
        if not self._by_more:
            return self.chooses(asset.key)
        return (not self._include or _fits(asset, self._include)) and not _fits(asset, self._exclude)

    def chooses(self, key: str) -> bool:
        """Return True when the asset `key` is wanted, or may be: where nothing is known of it but that."""
        if self._by_more:
            keys = tuple(glob for glob in self._exclude if not glob.startswith((_ROLE, _TYPE)))
            more = any(glob.startswith((_ROLE, _TYPE)) for glob in self._include)
            return (not self._include or more or _matches(key, self._include)) and not _matches(key, keys)
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


def _fits(asset: Asset, globs: tuple[str, ...]) -> bool:
    for glob in globs:
        if glob.startswith(_ROLE):
            if any(fnmatch.fnmatchcase(role, glob[len(_ROLE) :]) for role in asset.roles):
                return True
        elif glob.startswith(_TYPE):
            if fnmatch.fnmatchcase(asset.media_type.lower(), glob[len(_TYPE) :].lower()):
                return True
        elif fnmatch.fnmatchcase(asset.key, glob):
            return True
    return False


def _matches(key: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(key, glob) for glob in globs)
