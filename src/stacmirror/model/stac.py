"""What a catalog lists: collections, pages, items, their assets and links. In STAC's own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

CursorKind = Literal["keyset", "position"]
"""A `keyset` cursor names data and can be used days later; a `position` (offset, page number) shifts."""


class ItemKey(Struct, frozen=True, order=True):
    """The identity of an item: never its href, which is per user and short-lived."""

    collection: str
    id: str

    def __str__(self) -> str:
        return f"{self.collection}/{self.id}"


class Asset(Struct, frozen=True):
    """One asset as the catalog lists it. `href` is absolute, and may carry a short-lived token."""

    key: str
    href: str
    media_type: str = ""
    title: str = ""
    roles: tuple[str, ...] = ()
    size_bytes: int | None = None
    """What the catalog says of its size (`file:size`)."""
    checksum: str = ""
    """What the catalog says of its digest (`file:checksum`): a multihash in lower-case hex."""


class SourceLink(Struct, frozen=True):
    """A label item's `rel=source` link: the linked item's key and where to ask for it."""

    key: ItemKey
    href: str


class Item(Struct, frozen=True):
    """One item as read from a page.

    `document` is the item's JSON as the server sent it (bytes, with its tokens: redact before keeping).
    `read_at_s` is the wall clock, in seconds, when the answer came: the age of its links counts from there.
    """

    key: ItemKey
    assets: tuple[Asset, ...]
    sources: tuple[SourceLink, ...]
    properties: Mapping[str, Any]
    document: bytes
    read_at_s: float


class Cursor(Struct, frozen=True):
    """Where a page starts: a canonical request without credentials, relative to the catalog's root."""

    value: str
    kind: CursorKind = "keyset"


START = Cursor("")
"""The cursor of the first page."""


class Page(Struct, frozen=True):
    """One page: its items in server order, the next cursor (None at the end), the server's total if it says one."""

    items: tuple[Item, ...]
    next: Cursor | None
    total: int | None = None
    lost: tuple[str, ...] = ()
    """What belongs on it and could not be read, in words: such a page never settles, so a later run reads it again."""


class CollectionInfo(Struct, frozen=True):
    """What a collection says of itself. `document` is its JSON, redacted."""

    id: str
    title: str = ""
    license: str = ""
    citation: str = ""
    doi: str = ""
    providers: tuple[str, ...] = ()
    license_href: str = ""
    document: bytes = b"{}"
