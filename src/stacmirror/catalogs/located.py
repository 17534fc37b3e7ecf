"""An item's JSON made to stand alone: hrefs absolute, and a `self` link to where it was found.

Static catalogs, files and tables use it for what the ledger keeps, since nobody can be asked for one of their items by
its id: a later run reads what was kept (`Remembers`), or asks the `self` link.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec

from stacmirror.catalogs.decoding import value_of
from stacmirror.catalogs.found import Remembers
from stacmirror.catalogs.parse import Context, parse_item
from stacmirror.catalogs.stac_api import resolve
from stacmirror.model import Item, ItemKey
from stacmirror.redact import REDACTED


def located(body: bytes, base: str, self_url: str = "") -> bytes:
    """Return an item's JSON with absolute hrefs of assets and links; `self_url` is its own address, where it has one.

    Without that, hrefs are relative to its `self` link, and without such a link to `base`.
    """
    try:
        document = value_of(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(document, dict):
        return body
    changed = False
    base = self_url or _self_of(document) or base
    for holder in _holders(document):
        href = holder.get("href")
        if isinstance(href, str) and href and "://" not in href:
            holder["href"], changed = resolve(base, href), True
    if self_url:
        links = document.get("links")
        kept = (
            [one for one in links if not (isinstance(one, dict) and one.get("rel") == "self")]
            if isinstance(links, list)
            else []
        )
        document["links"], changed = [*kept, {"rel": "self", "href": self_url}], True
    return msgspec.json.encode(document) if changed else body


def _holders(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    assets, links = document.get("assets"), document.get("links")
    for asset in assets.values() if isinstance(assets, dict) else ():
        if isinstance(asset, dict):
            yield asset
            alternates = asset.get("alternate")
            if isinstance(alternates, dict):
                yield from (one for one in alternates.values() if isinstance(one, dict))
    yield from (link for link in links if isinstance(link, dict)) if isinstance(links, list) else ()


def self_of(body: bytes) -> str:
    """Return the `self` link of an item's JSON, "" where it has none that is absolute."""
    document = value_of(body)
    return _self_of(document) if isinstance(document, dict) else ""


def _self_of(document: dict[str, Any]) -> str:
    links = document.get("links")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and link.get("rel") == "self" and "://" in str(link.get("href")):
            return str(link["href"])
    return ""


async def recalled(remembers: Remembers | None, key: ItemKey) -> bytes | None:
    """Return the JSON that was kept of an item, or None."""
    return None if remembers is None else await asyncio.to_thread(remembers, key)


def read_again(body: bytes, context: Context) -> Item | None:
    """Return the item of a JSON that was kept; None where its links were signed, and so were not kept."""
    item = parse_item(body, context)
    return None if any(REDACTED in asset.href for asset in item.assets) else item
