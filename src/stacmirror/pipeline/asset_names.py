"""Notice asset names that match nothing: a mirror of no files is a mistake, and best said at its first page.

Called by the walk for the first items that it meets, and by the planner for all until one matches. Labels are passed
over at first: the names may be of their sources' assets, and whether they are is known at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stacmirror.errors import NotOffered
from stacmirror.model import Asset, Item

_NAMES_MAX = 30


class AssetNames:
    """`asked` are the globs that were given; `takes` says which assets they take."""

    def __init__(self, asked: Sequence[str], takes: Callable[[Asset], bool]) -> None:
        self._asked = asked
        self._takes = takes
        self._looks = bool(asked)
        self._there: dict[str, None] = {}

    def planned(self, assets: Sequence[Asset], *, wanted: bool) -> None:
        """Hear of an item's assets, and whether any of them is wanted."""
        if not self._asked:
            return
        if wanted:
            self._asked = ()
        elif len(self._there) <= _NAMES_MAX:
            self._there.update(dict.fromkeys(asset.key for asset in assets))

    def unmatched(self) -> str:
        """Return, at the end, that nothing was wanted and what there was; "" where something was."""
        if not self._asked or not self._there:
            return ""
        shown = ", ".join(list(self._there)[:_NAMES_MAX])
        return f"--asset {self._words()} matches no asset: there are {shown}"

    def _words(self) -> str:
        return ", ".join(f"`{glob}`" for glob in self._asked)

    def look(self, items: Sequence[Item]) -> None:
        """Look at a page's items, the first time. Raises: NotOffered where none has an asset that is wanted."""
        if not self._looks:
            return
        if any(item.sources for item in items) or any(self._takes(asset) for item in items for asset in item.assets):
            self._looks = False
            return
        there = {asset.key: asset for item in items for asset in item.assets}
        if not there:
            return  # these say nothing; the next ones may
        shown = list(there)[:_NAMES_MAX]
        more = f" and {len(there) - len(shown)} more" if len(there) > len(shown) else ""
        roles = sorted({role for asset in there.values() for role in asset.roles})
        by_role = f"; roles: {', '.join(roles[:_NAMES_MAX])}" if roles else ""
        raise NotOffered(
            f"--asset {self._words()} matches no asset of the first {len(items)} items",
            hint=f"there are {', '.join(shown)}{more}{by_role}",
        )
