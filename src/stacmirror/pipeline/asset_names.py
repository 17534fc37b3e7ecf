"""Notice asset names that match nothing: a mirror of no files is a mistake, and best said at its first page.

Called by the walk for the first items that it meets. Labels are passed over: the names may be of their sources' assets.
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

    def look(self, items: Sequence[Item]) -> None:
        """Look at a page's items, the first time. Raises: NotOffered where none has an asset that is wanted."""
        if not self._asked:
            return
        if any(item.sources for item in items) or any(self._takes(asset) for item in items for asset in item.assets):
            self._asked = ()
            return
        there = {asset.key: asset for item in items for asset in item.assets}
        if not there:
            return  # these say nothing; the next ones may
        shown = list(there)[:_NAMES_MAX]
        more = f" and {len(there) - len(shown)} more" if len(there) > len(shown) else ""
        roles = sorted({role for asset in there.values() for role in asset.roles})
        by_role = f"; roles: {', '.join(roles[:_NAMES_MAX])}" if roles else ""
        asked = ", ".join(f"`{glob}`" for glob in self._asked)
        raise NotOffered(
            f"--asset {asked} matches no asset of the first {len(items)} items",
            hint=f"there are {', '.join(shown)}{more}{by_role}",
        )
