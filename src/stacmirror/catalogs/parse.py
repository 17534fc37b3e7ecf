"""STAC JSON into plain values: pages, items and collections of MLHub 2019 to 2022 and of STAC 0.8 to 1.1.

Dialects call this with a body and the words to name it by. It is forgiving where servers differ (nulls anywhere, a
missing `collection`, totals in three places) and strict where nothing could be mirrored: no JSON, no `features`, an
item without an id. It asks nothing and knows no URL but those it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from stacmirror.catalogs.decoding import (
    IS_IT_THE_ROOT,
    OWNERS,
    count_of,
    decode,
    links_of,
    objects_of,
    refuse_deep,
    text_of,
)
from stacmirror.catalogs.stac_api import item_key, resolve
from stacmirror.errors import SourceUnreadable
from stacmirror.model import Asset, CollectionInfo, Item, ItemKey, SourceLink
from stacmirror.redact import redact_document

_LARGE_ITEM_BYTES = 64 << 10
"""From here on an item's assets are counted before any of them is decoded. 10,001 empty ones are 70,000 bytes."""


class _PageDocument(msgspec.Struct):
    # Required: an answer without it (an error in JSON, say) is no page. Features stay raw bytes: an item keeps its own.
    features: list[msgspec.Raw] | None
    links: Any = None
    context: Any = None
    search: Any = msgspec.field(name="search:metadata", default=None)
    number_matched: Any = msgspec.field(name="numberMatched", default=None)


class _ItemDocument(msgspec.Struct):
    # `Any` throughout: a title that is a number must not cost the item. Geometry and bbox are skipped, undecoded.
    id: Any = None
    collection: Any = None
    properties: Any = None
    assets: Any = None
    links: Any = None


class _CollectionsDocument(msgspec.Struct):
    collections: list[msgspec.Raw] | None


class _AssetsDocument(msgspec.Struct):
    assets: dict[str, msgspec.Raw] | None = None


_PAGE = msgspec.json.Decoder(_PageDocument)
_ITEM = msgspec.json.Decoder(_ItemDocument)
_COLLECTIONS = msgspec.json.Decoder(_CollectionsDocument)
_ASSETS = msgspec.json.Decoder(_AssetsDocument)
_OBJECT: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])


class Caps(NamedTuple):
    """How much a document may hold before it is refused."""

    depth_max: int = 100
    assets_max: int = 10_000
    """Of one item; 953 is the most seen."""


CAPS = Caps()


class ParsedPage(msgspec.Struct, frozen=True):
    """A page as read. `next_href` is "" at the end; `next_method` is how it wants to be asked.

    `next_token` is what the API of 2019 gave in place of a link. `next_link` is the whole link. `lost` says which
    features are no items, where the context asks for that.
    """

    items: tuple[Item, ...]
    next_href: str
    next_method: str
    next_token: str
    total: int | None
    next_link: Mapping[str, Any] = msgspec.field(default_factory=dict)
    lost: tuple[str, ...] = ()


class Context(msgspec.Struct, frozen=True):
    """What a body does not say of itself: its name in errors (redacted), its collection, when it came, and URLs.

    `alternates` are names under `alternate` whose hrefs are taken in place of an asset's own, the first that is there.
    `base` is what relative hrefs are relative to; "": an item's `self` link, where it is absolute, else `item_url`.
    `method` is how the page was asked for: of several next links, the one of that method counts.
    `forgiving`: a feature that is no item is named in `lost`, and costs no other.
    Units: `read_at_s` seconds since the epoch.
    """

    what: str
    collection: str
    read_at_s: float
    item_url: Callable[[ItemKey], str]
    alternates: tuple[str, ...] = ()
    base: str | None = None
    method: str = "GET"
    forgiving: bool = False
    caps: Caps = CAPS


def parse_page(body: bytes, context: Context) -> ParsedPage:
    """Return the items of a page in server order, and where it goes on.

    Raises: SourceUnreadable naming the page.
    """
    refuse_deep(body, context.caps.depth_max, context.what)
    page = decode(_PAGE, body, context.what)
    lost: list[str] = []
    items = tuple(_items(page.features or (), context, lost))
    links = [link for link in links_of(page.links, context.what) if link.get("rel") == "next"]
    link = next((link for link in links if _method(link) == context.method), links[0] if links else None)
    search = page.search if isinstance(page.search, dict) else {}
    token = search.get("next") if link is None else None
    matched = page.context.get("matched") if isinstance(page.context, dict) else None
    totals = (count_of(value) for value in (page.number_matched, matched, search.get("matched")))
    return ParsedPage(
        items,
        text_of(link.get("href")) if link else "",
        _method(link) if link else "GET",
        str(token) if isinstance(token, (str, int)) and not isinstance(token, bool) else "",
        next((total for total in totals if total is not None), None),
        link or {},
        tuple(lost),
    )


def _items(features: Iterable[msgspec.Raw], context: Context, lost: list[str]) -> Iterator[Item]:
    for feature in features:
        try:
            yield _read_item(bytes(feature), context)
        except SourceUnreadable as error:
            if not context.forgiving:
                raise
            lost.append(error.message)


def _method(link: Mapping[str, Any]) -> str:
    return text_of(link.get("method")).upper() or "GET"


def parse_item(body: bytes, context: Context) -> Item:
    """Return one item; its `document` is `body`.

    Raises: SourceUnreadable naming where it stood, when it has no id, is nested too deeply, or has too many assets.
    """
    refuse_deep(body, context.caps.depth_max, context.what)
    return _read_item(body, context)


def _read_item(body: bytes, context: Context) -> Item:
    if len(body) > _LARGE_ITEM_BYTES:
        _refuse_many_assets(body, context)
    document = decode(_ITEM, body, context.what)
    item_id = document.id
    if isinstance(item_id, int) and not isinstance(item_id, bool):
        item_id = str(item_id)
    if not isinstance(item_id, str) or not item_id:
        raise SourceUnreadable(f"{context.what} has an item without an id", hint=OWNERS)
    key = ItemKey(text_of(document.collection) or context.collection, item_id)
    assets = document.assets if isinstance(document.assets, dict) else {}
    if len(assets) > context.caps.assets_max:
        raise _many_assets(len(assets), context)
    base = context.item_url(key) if context.base is None else context.base or _self_of(document.links, context, key)
    return Item(
        key=key,
        assets=tuple(_asset(name, asset, base, context.alternates) for name, asset in assets.items()),
        sources=_sources(key, document.links, base),
        properties=document.properties if isinstance(document.properties, dict) else {},
        document=body,
        read_at_s=context.read_at_s,
    )


def _refuse_many_assets(body: bytes, context: Context) -> None:
    try:
        count = len(_ASSETS.decode(body).assets or ())
    except (ValueError, RecursionError):
        return  # for whoever decodes all of it to judge
    if count > context.caps.assets_max:
        raise _many_assets(count, context)


def _many_assets(count: int, context: Context) -> SourceUnreadable:
    return SourceUnreadable(
        f"{context.what} has an item with {count:,} assets, more than {context.caps.assets_max:,}",
        hint="if that is meant, set `assets_max`",
    )


def parse_collection(body: bytes, what: str, caps: Caps = CAPS) -> CollectionInfo:
    """Return what a collection says of itself. Raises: SourceUnreadable when it has no id."""
    refuse_deep(body, caps.depth_max, what)
    document = decode(_OBJECT, body, what)
    collection_id = text_of(document.get("id"))
    if not collection_id:
        raise SourceUnreadable(f"{what} has no id", hint=IS_IT_THE_ROOT)
    # STAC 0.8 and 0.9 had these under `properties`.
    properties = document.get("properties")
    older = properties if isinstance(properties, dict) else {}
    names = (text_of(provider.get("name")) for provider in objects_of(document.get("providers")))
    licenses = (text_of(link.get("href")) for link in objects_of(document.get("links")) if link.get("rel") == "license")
    return CollectionInfo(
        id=collection_id,
        title=text_of(document.get("title")),
        license=text_of(document.get("license")),
        citation=text_of(document.get("sci:citation")) or text_of(older.get("sci:citation")),
        doi=text_of(document.get("sci:doi")) or text_of(older.get("sci:doi")),
        providers=tuple(name for name in names if name),
        license_href=next(filter(None, licenses), ""),
        document=redact_document(body),
    )


def parse_collections(body: bytes, what: str, caps: Caps = CAPS) -> list[CollectionInfo]:
    """Return all collections of a listing, in its order. Raises: SourceUnreadable."""
    refuse_deep(body, caps.depth_max, what)
    document = decode(_COLLECTIONS, body, what)
    return [parse_collection(bytes(raw), what, caps) for raw in document.collections or ()]


def label_classes(item: Item) -> dict[str, list[str]]:
    """Return the classes of a label item by the property they stand in; "" where that has no name (rasters)."""
    found: dict[str, list[str]] = {}
    listed = item.properties.get("label:classes")
    for entry in objects_of([listed] if isinstance(listed, dict) else listed):
        classes = found.setdefault(text_of(entry.get("name")), [])
        values = entry.get("classes")
        for value in values if isinstance(values, list) else []:
            name = str(value).lower() if isinstance(value, bool) else str(value)
            if value is not None and name not in classes:
                classes.append(name)
    return found


def _self_of(links: Any, context: Context, key: ItemKey) -> str:
    hrefs = (text_of(link.get("href")) for link in objects_of(links) if link.get("rel") == "self")
    return next((href for href in hrefs if "://" in href), "") or context.item_url(key)


def _asset(key: str, asset: Any, base: str, alternates: tuple[str, ...] = ()) -> Asset:
    if not isinstance(asset, dict):  # listed, and nothing more is known: it stays, to be failed with a reason
        return Asset(key, "")
    roles = asset.get("roles")
    return Asset(
        key,
        resolve(base, (_alternate(asset, alternates) if alternates else "") or text_of(asset.get("href"))),
        text_of(asset.get("type")),
        text_of(asset.get("title")),
        tuple(role for role in roles if isinstance(role, str)) if roles and isinstance(roles, list) else (),
        count_of(asset.get("file:size")) if "file:size" in asset else None,
        text_of(asset["file:checksum"]).lower() if "file:checksum" in asset else "",
    )


def _alternate(asset: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Return the first href of the alternate-assets extension that is preferred; "" where there is none."""
    alternates = asset.get("alternate")
    if not isinstance(alternates, dict):
        return ""
    found = (alternates.get(name) for name in names)
    return next((href for one in found if isinstance(one, dict) and (href := text_of(one.get("href")))), "")


def _sources(key: ItemKey, links: Any, base: str) -> tuple[SourceLink, ...]:
    """Return the linked items, once each. What is no item of an API (a web page, a file) is not followed."""
    found: dict[ItemKey, SourceLink] = {}
    for link in objects_of(links):
        if link.get("rel") == "source" and (href := resolve(base, text_of(link.get("href")))):
            source = item_key(href)
            if source is not None and source != key:  # an item that names itself would wait for itself
                found.setdefault(source, SourceLink(source, href))
    return tuple(found.values())
