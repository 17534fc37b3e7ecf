"""A catalog whose refused login ends the run at once, for all who ask for anything.

Between the walk, the workers and the renewal of links, and the catalog itself: whichever of them hears of the refusal,
nobody sends another request from that moment on. An error by itself takes turns of the loop to reach all workers.
"""

from __future__ import annotations

from collections.abc import Callable

from stacmirror.errors import LoginRefused
from stacmirror.interfaces import Catalog
from stacmirror.model import CollectionInfo, Cursor, Item, ItemKey, Page


class StrictCatalog:
    """Implements `interfaces.Catalog` before another one. `end` hears of a refusal and returns what to raise."""

    def __init__(self, catalog: Catalog, end: Callable[[LoginRefused], LoginRefused]) -> None:
        self._catalog = catalog
        self._end = end

    @property
    def collection(self) -> str:
        """See `interfaces.Catalog.collection`."""
        return self._catalog.collection

    async def page(self, cursor: Cursor) -> Page:
        """See `interfaces.Catalog.page`."""
        try:
            return await self._catalog.page(cursor)
        except LoginRefused as error:
            raise self._end(error) from error

    async def item(self, key: ItemKey, href: str = "") -> Item | None:
        """See `interfaces.Catalog.item`."""
        try:
            return await self._catalog.item(key, href)
        except LoginRefused as error:
            raise self._end(error) from error

    async def describe(self, collection: str) -> CollectionInfo:
        """See `interfaces.Catalog.describe`: what it says may be for others to read."""
        return await self._catalog.describe(collection)

    async def collections(self) -> list[CollectionInfo]:
        """See `interfaces.Catalog.collections`."""
        return await self._catalog.collections()
