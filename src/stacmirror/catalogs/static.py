"""Static catalogs: `catalog.json` and `collection.json` over http, s3 or from a disk, crawled along their links.

In the order of the documents, depth first, a node's items before its children; what comes next is asked for ahead, so
that 61,000 child links are not 61,000 round trips one after another. A cursor names the links on the way to the next
one to follow, so it holds as long as those are there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from stacmirror.catalogs.asking import Means, Question, status_of
from stacmirror.catalogs.decoding import GIVE_A_ROOT, OWNERS, links_of, object_of, type_of
from stacmirror.catalogs.found import Remembers
from stacmirror.catalogs.located import located, read_again, recalled, self_of
from stacmirror.catalogs.parse import Context, parse_collection, parse_item
from stacmirror.catalogs.stac_api import resolve
from stacmirror.catalogs.way import Node, Way, hrefs_of
from stacmirror.errors import (
    CursorRefused,
    LoginRefused,
    SourceError,
    SourceUnreachable,
    SourceUnreadable,
    TransferError,
)
from stacmirror.interfaces import Reply
from stacmirror.model import START, CollectionInfo, Cursor, Item, ItemKey, Page, SourceLink
from stacmirror.redact import redact_url

AT_ONCE = 64
"""Documents on their way at once, at most; the host's own budget holds all the same."""
_CHILDREN_AHEAD = 32
_ITEMS_AHEAD = 16
"""Items of each of those children."""
_DEPTH_MAX = 100
_COLLECTIONS_MAX = 10_000


class StaticCatalog:
    """Implements `interfaces.Catalog`. `wanted` are ids of collections: of others no item is asked for; empty: all."""

    def __init__(
        self,
        url: str,
        means: Means,
        page_size: int,
        *,
        wanted: Iterable[str] = (),
        alternates: tuple[str, ...] = (),
    ) -> None:
        self._url = url
        self._means = means
        self._page_size = page_size
        self._wanted = frozenset(wanted)
        self._alternates = alternates
        self._infos: dict[str, CollectionInfo] = {}
        self._ahead: dict[str, asyncio.Task[Any]] = {}
        self._places = asyncio.Semaphore(AT_ONCE)
        self._way: Way | None = None
        self._stands_at: Cursor | None = None
        self.collection = ""
        self.remembers: Remembers | None = None
        """Gives what an earlier run kept of an item."""

    def sends(self, name: str) -> bool:
        """A folder of files judges nothing."""
        return False

    async def page(self, cursor: Cursor) -> Page:
        """See `interfaces.Catalog.page`. A link that leads nowhere is named in `Page.lost`."""
        if self._way is None or cursor != self._stands_at:
            self._drop_ahead()
            self._way = await self._descend(cursor)
        way, self._stands_at = self._way, None
        items: list[Item] = []
        lost: list[str] = []
        try:
            following = way.cursor()
            while following is not None and len(items) + len(lost) < self._page_size:
                await self._step(way, self._page_size - len(items) - len(lost), items, lost)
                following = way.cursor()
        except BaseException:
            self._way = None  # it stands amid a page
            self._drop_ahead()
            raise
        self._stands_at = following
        if following is None:
            self._drop_ahead()
        return Page(tuple(items), following, None, tuple(lost))

    async def item(self, key: ItemKey, href: str = "") -> Item | None:
        """See `interfaces.Catalog.item`; without an href it is asked for where an earlier walk found it."""
        kept = None if href else await recalled(self.remembers, key)
        url = href or (self_of(kept) if kept is not None else "")
        if not url:
            return None
        try:
            return await self._ask_item(url, key.collection)
        except SourceUnreachable:
            return None if kept is None else read_again(kept, self._context(url, key.collection))

    async def several(self, links: Sequence[SourceLink]) -> dict[ItemKey, Item] | None:
        """See `interfaces.Joining.several`."""
        return None

    async def describe(self, collection: str) -> CollectionInfo:
        """See `interfaces.Catalog.describe`: what the crawl has met."""
        info = self._infos.get(collection)
        if info is None:
            raise SourceUnreadable(
                f"{redact_url(self._url)}: this run met no collection {collection}", hint=GIVE_A_ROOT
            )
        return info

    async def collections(self) -> list[CollectionInfo]:
        """See `interfaces.Catalog.collections`: a crawl of all nodes, without their items."""
        level, seen = [self._url], {self._url}
        found: dict[str, CollectionInfo] = {}
        for _ in range(_DEPTH_MAX):
            nodes: list[Node] = []
            for start in range(0, len(level), AT_ONCE):
                nodes += await asyncio.gather(*(self._read_node(url, "") for url in level[start : start + AT_ONCE]))
            found.update((one, self._infos[one]) for node in nodes if (one := node.collection) in self._infos)
            urls = (resolve(node.url, href) for node in nodes for href in node.children)
            level = [url for url in dict.fromkeys(urls) if url not in seen]
            seen.update(level)
            if not level:
                break
        return list(found.values())

    def close(self) -> None:
        """Ask for nothing more."""
        self._drop_ahead()

    # -- the crawl -------------------------------------------------------------------------------------------

    async def _descend(self, cursor: Cursor) -> Way:
        """Return the way to where `cursor` points. Raises: CursorRefused where a link on it is no more."""
        way = Way([await self._read_node(self._url, "")], {self._url})
        if cursor == START:
            return way
        hrefs = hrefs_of(cursor)
        for depth, href in enumerate(hrefs):
            node = way.nodes[-1]
            if href not in node.hrefs:
                raise CursorRefused(
                    f"{redact_url(node.url)} no longer links to {redact_url(str(href))}", hint="walk it from the start"
                )
            node.at = node.hrefs.index(href)
            if depth + 1 < len(hrefs):
                url = resolve(node.url, href)
                way.nodes.append(await self._read_node(url, node.collection))
                way.seen.add(url)
        return way

    async def _step(self, way: Way, room: int, items: list[Item], lost: list[str]) -> None:
        """Follow the next link: a run of items at once, or one child."""
        node = way.nodes[-1]
        self._look_ahead(way)
        if node.is_at_item:
            urls = [resolve(node.url, href) for href in node.items[node.at : node.at + room]]
            for url in urls:
                self._start(url, node.collection)
            for url in urls:
                node.at += 1
                self._start(url, node.collection)  # once more where a link before spells the same address
                try:
                    items.append(await self._take(url))
                except (SourceError, LoginRefused) as error:
                    lost.append(_lost(error))
            return
        url = resolve(node.url, node.href)
        if url in way.seen or len(way.nodes) >= _DEPTH_MAX:
            node.at += 1  # a cycle, or a node with two parents: its items are there already
            return
        way.seen.add(url)
        try:
            child = await (self._ahead.pop(url) if url in self._ahead else self._read_node(url, node.collection))
            if not isinstance(child, Node):
                raise _is_both(url)
        except (SourceError, LoginRefused) as error:
            lost.append(_lost(error))
            node.at += 1
            return
        way.nodes.append(child)

    def _look_ahead(self, way: Way) -> None:
        """Ask for the documents that come next, on each level of the way."""
        for node in way.nodes:
            at = max(0, node.at - len(node.items))
            first, node.looked = max(at, node.looked), at + _CHILDREN_AHEAD
            for href in node.children[first : node.looked]:
                url = resolve(node.url, href)
                if url not in way.seen and url not in self._ahead:
                    self._ahead[url] = asyncio.create_task(self._read_child_ahead(url, node.collection), name="ahead")

    async def _read_child_ahead(self, url: str, collection: str) -> Node:
        node = await self._read_node(url, collection)
        for href in node.items[:_ITEMS_AHEAD]:
            self._start(resolve(url, href), node.collection)
        return node

    def _start(self, url: str, collection: str) -> None:
        if url not in self._ahead:
            self._ahead[url] = asyncio.create_task(self._ask_item(url, collection), name="ahead")

    async def _take(self, url: str) -> Item:
        found = await self._ahead.pop(url)
        if not isinstance(found, Item):
            raise _is_both(url)
        return found

    def _drop_ahead(self) -> None:
        for task in self._ahead.values():
            task.cancel()
            task.add_done_callback(_heard)
        self._ahead.clear()

    # -- documents -------------------------------------------------------------------------------------------

    async def _read_node(self, url: str, collection: str) -> Node:
        async with self._places:
            return await self._means.ask(lambda: Question(url), lambda reply: self._node(url, collection, reply))

    def _node(self, url: str, collection: str, reply: Reply) -> Node:
        document = object_of(reply, url, self._means.caps.depth_max)
        found = document.get("id")
        own_id = found if isinstance(found, str) else ""
        if document.get("type") == "Collection" or (document.get("type") != "Catalog" and "extent" in document):
            collection = own_id or collection
            if own_id and len(self._infos) < _COLLECTIONS_MAX:
                self._infos[own_id] = parse_collection(reply.body or b"", redact_url(url), self._means.caps)
        elif not collection:
            collection = own_id
        links = links_of(document.get("links"), redact_url(url))
        items = list(dict.fromkeys(_hrefs(links, "item")))
        skipped = self._wanted and collection not in self._wanted
        return Node(url, collection, [] if skipped else items, list(dict.fromkeys(_hrefs(links, "child"))))

    async def _ask_item(self, url: str, collection: str) -> Item:
        async with self._places:
            return await self._means.ask(lambda: Question(url), lambda reply: self._parse(url, collection, reply))

    def _parse(self, url: str, collection: str, reply: Reply) -> Item:
        body = reply.body or b""
        if (kind := type_of(body)) in ("Catalog", "Collection"):
            raise SourceUnreadable(f"{redact_url(url)} is linked as an item, and is a {kind}", hint=OWNERS)
        item = parse_item(body, self._context(url, collection))
        return msgspec.structs.replace(item, document=located(body, url, url))

    def _context(self, url: str, collection: str) -> Context:
        wall_s = self._means.clock.wall()
        shown, caps = redact_url(url), self._means.caps
        return Context(shown, collection or "items", wall_s, lambda key: url, self._alternates, base=url, caps=caps)


def _hrefs(links: Iterable[dict[str, Any]], rel: str) -> Iterable[str]:
    return (
        link["href"] for link in links if link.get("rel") == rel and isinstance(link.get("href"), str) and link["href"]
    )


def _lost(error: SourceError | LoginRefused) -> str:
    """Return what is lost with a document.

    Raises: `error` where the host is to blame: asked again it may be there; and where it is the login that is refused.
    """
    if isinstance(error, LoginRefused) and error.ends_run:
        raise error
    status, cause = status_of(error), error.__cause__
    if isinstance(cause, TransferError) and not status and not cause.retryable:
        return error.message  # too large, led where it must not lead: it will be so again
    if isinstance(error, SourceUnreachable) and (status == 0 or status >= 500 or status in (408, 429)):
        raise error
    return error.message


def _is_both(url: str) -> SourceUnreadable:
    message = f"{redact_url(url)} is linked as an item, and as a catalog"
    return SourceUnreadable(message, hint=OWNERS)


def _heard(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
