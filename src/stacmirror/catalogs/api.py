"""Any STAC API: one collection, several, or all, by `/collections/{id}/items` or `/search`, as its root promises.

The walk asks it for pages, workers for linked items. It gets a way to ask (`Means`) and knows no client and no login.
Source: STAC API 1.0.0 - Core, Features, Item Search and its extensions.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from stacmirror.catalogs.abilities import Abilities, Plan, plan
from stacmirror.catalogs.asking import REFUSED_STATUSES, Means, Question, status_of
from stacmirror.catalogs.decoding import OWNERS, value_of
from stacmirror.catalogs.found import Remembers
from stacmirror.catalogs.page_size import PageSize
from stacmirror.catalogs.paging import Listing, decode, encode, following, list_of
from stacmirror.catalogs.parse import (
    Context,
    ParsedPage,
    parse_collection,
    parse_collections,
    parse_item,
    parse_page,
)
from stacmirror.catalogs.stac_api import ApiRoot, resolve
from stacmirror.errors import CursorRefused, NotOffered, SourceError, SourceUnreachable, SourceUnreadable
from stacmirror.interfaces import Reply
from stacmirror.model import START, CollectionInfo, Cursor, Item, ItemKey, Page, SourceLink
from stacmirror.redact import redact_url
from stacmirror.retry import GONE_STATUSES
from stacmirror.search import Search

_CURSOR_STATUSES = frozenset({400, 404, 410, 422, 500})
"""What servers say to a cursor that they did not give, or not lately; pgstac says 500."""
_SLOW_STATUSES = (500, 502, 503, 504)
"""Earth Search answers 500 or 502 where a page is more than its gateway lets through."""
_COLLECTION_PAGES_MAX = 1000
_NAMES_SHOWN = 10


class ApiCatalog:
    """Implements `interfaces.Catalog`, and `interfaces.Joining`. `document` is the API's root document."""

    def __init__(
        self,
        root: ApiRoot,
        document: Mapping[str, Any],
        search: Search,
        means: Means,
        page_size: PageSize,
        *,
        alternates: tuple[str, ...] = (),
        reroot: bool = False,
    ) -> None:
        self._root = root
        self._can = Abilities.of(document, root)
        self._search = search
        self._means = means
        self._page_size = page_size
        self._alternates = alternates
        self._reroot = reroot
        self._plan: Plan | None = None
        self.remembers: Remembers | None = None
        """Not needed: an API has its items by their ids."""
        self.collection = search.collections[0] if len(search.collections) == 1 else ""
        if not self._can.search_url and not self._can.items:
            raise SourceUnreadable(
                f"{root.url} lists no items: it names neither /search nor /collections",
                hint="is there another root, such as the API's v1?",
            )

    def sends(self, name: str) -> bool:
        """Return whether the server judges this part of the search; known once the first page was asked for."""
        return self._plan is not None and name in self._plan.sent

    def close(self) -> None:
        """Nothing is under way."""

    async def page(self, cursor: Cursor) -> Page:
        """See `interfaces.Catalog.page`. Raises: NotOffered also, for what the server does not have or take."""
        listings = (await self._planned()).listings
        number = list_of(cursor)
        if number >= len(listings):
            raise CursorRefused(f"{self._root.url} has no list number {number} any more", hint="walk it from the start")
        try:
            return await self._page(cursor, number, listings)
        except SourceUnreachable as error:
            status = status_of(error)
            if cursor == START and listings[0].method == "POST" and status in (404, 405, 501):
                self._plan = plan(self._search, self._can, self._root, await self._names(), by_post=False)
                if self._plan.listings[0].method == "GET":
                    return await self._page(cursor, number, self._plan.listings)
            if cursor == START and status in REFUSED_STATUSES and self._search.asked:
                asked = ", ".join(f"--{name}" for name in sorted(self._plan.sent)) if self._plan else ""
                raise NotOffered(
                    f"the server refuses the search ({asked}): {error.message}", hint=error.hint
                ) from error
            if cursor != START and status in _CURSOR_STATUSES:
                raise CursorRefused(error.message, hint=error.hint) from error
            raise

    async def _page(self, cursor: Cursor, number: int, listings: Sequence[Listing]) -> Page:
        listing = listings[number]
        asked = decode(cursor, listing)
        # Page numbers mean other items at another size; keysets and the start do not.
        keyset = asked == listing.first() or cursor.kind == "keyset"

        def read(reply: Reply) -> tuple[ParsedPage, Cursor | None]:
            parsed = parse_page(_body(reply), self._context(asked.url, asked.method))
            self._page_size.succeeded(may_grow=cursor.kind == "keyset" and cursor != START)
            if parsed.next_token:  # STAC API before 0.9 gave a token, and no link
                following_one = asked.with_token(parsed.next_token)
                return parsed, encode(number, listing, following_one)
            if parsed.next_href:
                return parsed, encode(
                    number, listing, following(asked, parsed.next_link, self._root, reroot=self._reroot)
                )
            another = number + 1 < len(listings)
            return parsed, encode(number + 1, listings[number + 1], listings[number + 1].first()) if another else None

        parsed, after = await self._means.ask(
            lambda: asked.question(self._page_size.now),
            read,
            shrinks=lambda error: keyset and self._page_size.failed(error),
        )
        return Page(parsed.items, after, parsed.total if len(listings) == 1 else None, parsed.lost)

    async def item(self, key: ItemKey, href: str = "") -> Item | None:
        """See `interfaces.Catalog.item`."""
        url = (self._root.reroot(href) if href else None) or href or self._root.item_url(key)

        def read(reply: Reply) -> Item:
            item = parse_item(_body(reply), self._context(url, "GET", key.collection))
            if item.key != key:
                raise SourceUnreadable(f"{redact_url(url)} answered with the item {item.key}", hint=OWNERS)
            return item

        try:
            return await self._means.ask(lambda: Question(url), read)
        except SourceUnreachable as error:
            if status_of(error) not in GONE_STATUSES:
                raise
        # Ids with slashes get lost on the way through some proxies; a search has them in the query.
        found = await self.several([SourceLink(key, "")]) if "/" in key.id else None
        return (found or {}).get(key)

    async def several(self, links: Sequence[SourceLink]) -> dict[ItemKey, Item] | None:
        """See `interfaces.Joining.several`. Links to other hosts are not this API's to know."""
        if not self._can.search_url:
            return None
        keys = [link.key for link in links if not link.href or self._root.reroot(link.href) is not None]
        if not keys:
            return {}
        wanted = set(keys)
        query = {
            "collections": ",".join(sorted({key.collection for key in wanted})),
            "ids": ",".join(key.id for key in keys),
            "limit": str(len(keys)),
        }
        url = f"{self._can.search_url}?" + "&".join(f"{name}={quote(value, safe=',')}" for name, value in query.items())
        if "POST" in self._can.methods:
            body = {"collections": query["collections"].split(","), "ids": [key.id for key in keys], "limit": len(keys)}
            question = Question(self._can.search_url, {"content-type": "application/json"}, msgspec.json.encode(body))
        else:
            question = Question(url)

        def read(reply: Reply) -> dict[ItemKey, Item]:
            found = parse_page(_body(reply), self._context(self._can.search_url, "GET")).items
            return {item.key: item for item in found if item.key in wanted}

        return await self._means.ask(lambda: question, read)

    async def describe(self, collection: str) -> CollectionInfo:
        """See `interfaces.Catalog.describe`."""
        url = self._root.collection_url(collection)
        try:
            return await self._means.ask(
                lambda: Question(url), lambda reply: parse_collection(_body(reply), redact_url(url), self._means.caps)
            )
        except SourceUnreachable as error:
            if status_of(error) in GONE_STATUSES:
                raise await self._no_collection(collection) from error
            raise

    async def collections(self) -> list[CollectionInfo]:
        """See `interfaces.Catalog.collections`; pages of them are followed."""
        found: dict[str, CollectionInfo] = {}
        url: str | None = self._root.collections_url()
        for _ in range(_COLLECTION_PAGES_MAX):
            asked = url or ""

            def read(reply: Reply, asked: str = asked) -> tuple[list[CollectionInfo], str]:
                body = _body(reply)
                return parse_collections(body, redact_url(asked), self._means.caps), _next_href(body)

            infos, href = await self._means.ask(lambda asked=asked: Question(asked), read)  # type: ignore[misc]
            new = [info for info in infos if info.id not in found]
            found.update((info.id, info) for info in new)
            url = self._root.reroot(resolve(asked, href)) if href else None
            if url is None or not new:
                break
        return list(found.values())

    # -- what to walk ----------------------------------------------------------------------------------------

    async def _planned(self) -> Plan:
        if self._plan is None:
            for name in self._search.collections:
                await self._refuse_unknown(name)
            self._plan = plan(self._search, self._can, self._root, await self._names())
        return self._plan

    async def _names(self) -> Sequence[str]:
        """Return the collections to walk one by one, where there is no search over all."""
        if self._search.collections or self._can.search_url:
            return self._search.collections
        return [info.id for info in await self.collections()]

    async def _refuse_unknown(self, name: str) -> None:
        """Ask for a collection before its items: a search for one that does not exist is an empty list to servers."""
        try:
            await self.describe(name)
        except SourceUnreadable:
            return  # its description is damaged; its items may not be

    async def _no_collection(self, collection: str) -> NotOffered:
        try:
            ids = [info.id for info in await self.collections()]
        except SourceError:
            ids = []
        near = difflib.get_close_matches(collection, ids, n=3, cutoff=0.4)
        near += [one for one in ids if collection.lower() in one.lower() and one not in near][: 3 - len(near)]
        said = f"; did you mean {' or '.join(f'`{one}`' for one in near)}?" if near else ""
        more = f" and {len(ids) - _NAMES_SHOWN} more" if len(ids) > _NAMES_SHOWN else ""
        there = f"there are {', '.join(ids[:_NAMES_SHOWN])}{more}" if ids else "the API lists no collections"
        return NotOffered(f"no collection `{collection}` at {self._root.url}{said}", hint=there)

    def _context(self, url: str, method: str, collection: str = "") -> Context:
        return Context(
            redact_url(url),
            collection or self.collection,
            self._means.clock.wall(),
            self._root.item_url,
            self._alternates,
            base="",
            method=method,
            forgiving=True,
            caps=self._means.caps,
        )


def page_size_for(wanted: int, floor: int) -> PageSize:
    """Return how many items to ask an API for."""
    return PageSize(wanted, floor, _SLOW_STATUSES)


def _next_href(body: bytes) -> str:
    document = value_of(body)
    links = document.get("links") if isinstance(document, dict) else None
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and link.get("rel") == "next" and isinstance(link.get("href"), str):
            return str(link["href"])
    return ""


def _body(reply: Reply) -> bytes:
    return reply.body or b""
