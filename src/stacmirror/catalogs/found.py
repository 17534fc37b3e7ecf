"""The catalog behind a SOURCE, whatever it is: looked for at the first question, once, and asked from then on.

Made by the composition root for every SOURCE but MLHub's. It is light: what it finds is loaded by whoever looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from stacmirror.interfaces import Catalog
from stacmirror.model import CollectionInfo, Cursor, Item, ItemKey, Page, SourceLink

Remembers = Callable[[ItemKey], bytes | None]
"""Gives the JSON that an earlier walk kept of an item. Blocks."""


class Found(Catalog, Protocol):
    """A catalog that can be found behind a SOURCE."""

    remembers: Remembers | None
    """What an earlier run kept of items, for catalogs that cannot be asked for one by its id."""

    def sends(self, name: str) -> bool:
        """Return whether it judges this part of a search by itself."""
        ...

    async def several(self, links: Sequence[SourceLink]) -> dict[ItemKey, Item] | None:
        """See `interfaces.Joining.several`."""
        ...

    def close(self) -> None:
        """Let go of what is open, and ask for nothing more. May be called twice."""
        ...


class FoundCatalog:
    """Implements `interfaces.Catalog`. `look` finds the catalog behind a SOURCE."""

    def __init__(self, look: Callable[[], Awaitable[Found]], collection: str = "") -> None:
        self._look = look
        self._found: Found | None = None
        self._looking = asyncio.Lock()
        self._remembers: Remembers | None = None
        self.collection = collection

    async def found(self) -> Found:
        """Return the catalog. Raises: SourceUnreachable, SourceUnreadable, UsageError where there is none."""
        async with self._looking:
            if self._found is None:
                found: Found = await self._look()
                found.remembers = self._remembers
                self.collection = found.collection or self.collection
                self._found = found
            return self._found

    def remember_by(self, remembers: Remembers) -> None:
        """Let catalogs whose items cannot be asked for by id have what an earlier run kept of them."""
        self._remembers = remembers

    def sends(self, name: str) -> bool:
        """Return whether the source itself judges this part of the search; known once a page was asked for."""
        return self._found is not None and self._found.sends(name)

    async def page(self, cursor: Cursor) -> Page:
        """See `interfaces.Catalog.page`."""
        return await (await self.found()).page(cursor)

    async def item(self, key: ItemKey, href: str = "") -> Item | None:
        """See `interfaces.Catalog.item`."""
        return await (await self.found()).item(key, href)

    async def several(self, links: Sequence[SourceLink]) -> dict[ItemKey, Item] | None:
        """See `interfaces.Joining.several`."""
        found = await self.found()
        return await found.several(links)

    async def describe(self, collection: str) -> CollectionInfo:
        """See `interfaces.Catalog.describe`."""
        return await (await self.found()).describe(collection)

    async def collections(self) -> list[CollectionInfo]:
        """See `interfaces.Catalog.collections`."""
        return await (await self.found()).collections()

    def close(self) -> None:
        """Ask for nothing more."""
        if self._found is not None:
            self._found.close()
