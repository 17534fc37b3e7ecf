"""Where items come from, and which of them are wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from stacmirror.model import CollectionInfo, Cursor, Item, ItemKey, Page, SourceLink


class Catalog(Protocol):
    """A source of pages and items; one dialect each. Retries by itself; its requests carry the credentials.

    Raises: LoginRefused on 401 or 403 of the catalog's own origin; SourceUnreachable and SourceUnreadable after
            the last attempt; never a foreign exception.
    Cancel: safe at any await; the page in hand is dropped, the cursor unchanged.
    """

    @property
    def collection(self) -> str:
        """The id of the collection that is walked."""
        ...

    async def page(self, cursor: Cursor) -> Page:
        """Return the page that starts at `cursor` (START for the first). The same cursor may be asked again."""
        ...

    async def item(self, key: ItemKey, href: str = "") -> Item | None:
        """Return one item with fresh links, by `href` where it is given; None when the catalog has none."""
        ...

    async def describe(self, collection: str) -> CollectionInfo:
        """Return what `collection` says of itself."""
        ...

    async def collections(self) -> list[CollectionInfo]:
        """Return all collections of the catalog."""
        ...


class Joining(Protocol):
    """A catalog that gives several items at once. Raises and Cancel: as `Catalog`."""

    async def several(self, links: Sequence[SourceLink]) -> dict[ItemKey, Item] | None:
        """Return those of the linked items that came in one request; None where it cannot ask so."""
        ...


class Filter(Protocol):
    """Say whether an item is wanted. Pure and cheap: it runs on every walked item."""

    def keeps(self, item: Item) -> bool:
        """Return True when the item is wanted. Never raises: a property it cannot read is a missing one."""
        ...

    def describe(self) -> Mapping[str, str]:
        """Return what it asks for, in words, for the mirror's record of itself."""
        ...
