"""The MLHub dialect: the Radiant MLHub API as it was from 2019 to 2022, now served by the simulator.

The composition root makes one; the walk asks it for pages, workers for linked items. It gets a way to ask (`Asker`)
and knows no client; what is asked with the key, and what a refusal of it means, is in `keyed_asking`.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

from stacmirror.catalogs.decoding import OWNERS
from stacmirror.catalogs.keyed_asking import KeyedAsking
from stacmirror.catalogs.page_size import PageSize
from stacmirror.catalogs.parse import (
    CAPS,
    Caps,
    Context,
    parse_collection,
    parse_collections,
    parse_item,
    parse_page,
)
from stacmirror.catalogs.stac_api import REDIRECTS_MAX, ApiRoot, Asker, cursor_of, resolve, set_parameters
from stacmirror.errors import (
    CursorRefused,
    NothingThere,
    SourceError,
    SourceUnreachable,
    SourceUnreadable,
    TransferError,
)
from stacmirror.gate import Gate
from stacmirror.interfaces import Clock, Reply
from stacmirror.model import START, CollectionInfo, Cursor, Item, ItemKey, Page
from stacmirror.redact import redact_url
from stacmirror.retry import GONE_STATUSES, RetryPolicy, error_for_status

_CURSOR_STATUSES = frozenset({400, 404, 410, 422})
"""What servers say to a cursor that they did not give, or not lately."""


class MlhubCatalog:
    """One collection of an MLHub API; implements `interfaces.Catalog`."""

    def __init__(
        self,
        collection: str,
        api_url: str,
        api_key: str,
        page_size: int,
        asker: Asker,
        retry: RetryPolicy,
        clock: Clock,
        random: Callable[[], float],
        on_retry: Callable[[TransferError, float], None],
        page_max_bytes: int,
        *,
        allow_http: bool = False,
        key_as: str = "query",
        redirects_max: int = REDIRECTS_MAX,
        caps: Caps = CAPS,
        gate: Gate | None = None,
    ) -> None:
        """`gate` is shut while the key is in doubt."""
        self._collection = collection
        self._root = ApiRoot.parse(api_url)
        self._page_size = PageSize(page_size)
        self._clock = clock
        self._caps = caps
        self._asking = KeyedAsking(
            self._root,
            api_key,
            asker,
            retry,
            clock,
            random,
            on_retry,
            page_max_bytes,
            allow_http=allow_http,
            key_as=key_as,
            redirects_max=redirects_max,
            gate=gate or Gate(),
        )

    @property
    def collection(self) -> str:
        """The id of the collection that is walked."""
        return self._collection

    def sends(self, name: str) -> bool:
        """MLHub judges nothing by itself."""
        return False

    def close(self) -> None:
        """Nothing is under way."""

    async def page(self, cursor: Cursor) -> Page:
        """Return the page that starts at `cursor` (START for the first). The same cursor may be asked again.

        `limit` is set on every request: the server of 2022 leaves it out of `next` and would fall back to 10.
        An empty page with a `next` is a page like others; a `next` without an href ends the listing. Where the server
        cannot give so many items at once, fewer are asked for, from then on.

        Raises: LoginRefused; SourceUnreachable and SourceUnreadable after the last attempt, naming the page;
                CursorRefused where it is the cursor that the server does not take.
        Cancel: safe at any await.
        """
        items_url = self._root.items_url(self._collection)
        # Page numbers mean other items at another size; keysets and the start do not.
        keyset = cursor == START or cursor.kind == "keyset"

        def url_now() -> str:
            return set_parameters(f"{items_url}?{cursor.value}", {"limit": str(self._page_size.now)})

        def shrinks(error: TransferError) -> bool:
            return keyset and self._page_size.failed(error)

        def read(reply: Reply, url: str) -> Page:
            if reply.status in GONE_STATUSES:
                if cursor == START:
                    raise self._no_collection(self._collection)
                # A page that another page named is not gone: users met such a 404, and the page a moment later.
                raise TransferError("gone", f"{reply.status} from {redact_url(url)}", status=reply.status)
            _require_ok(reply, url, self._clock)
            parsed = parse_page(_body(reply), self._context(url))
            self._asking.key_is_good(url)
            self._page_size.succeeded(may_grow=cursor.kind == "keyset" and cursor != START)
            next_cursor = self._next(parsed.next_href, parsed.next_method, parsed.next_token, url)
            return Page(parsed.items, next_cursor, parsed.total)

        try:
            return await self._asking.ask(url_now, read, shrinks=shrinks)
        except SourceUnreachable as error:
            cause = error.__cause__
            if cursor != START and isinstance(cause, TransferError) and cause.status in _CURSOR_STATUSES:
                raise CursorRefused(error.message, hint=error.hint) from error
            raise

    async def item(self, key: ItemKey, href: str = "") -> Item | None:
        """Return one item with fresh links: by `href` where that is the API's own, else by the URL of its key.

        Raises: as `page`; SourceUnreadable also when another item is answered than the one asked for. A refusal is
                this item's own (SourceUnreachable) as long as the key is good for others.
        Cancel: safe at any await.
        """
        url = (self._root.reroot(href) if href else None) or self._root.item_url(key)

        def read(reply: Reply, url: str) -> Item | None:
            if reply.status in GONE_STATUSES:
                return None
            _require_ok(reply, url, self._clock)
            item = parse_item(_body(reply), self._context(url, key.collection))
            if item.key != key:
                raise SourceUnreadable(f"{redact_url(url)} answered with the item {item.key}", hint=OWNERS)
            self._asking.key_is_good(url)
            return item

        return await self._asking.ask(lambda: url, read, one_of_many=True)

    async def describe(self, collection: str) -> CollectionInfo:
        """Return what `collection` says of itself; MLHub asks no key for that. Raises and Cancel: as `page`."""
        url = self._root.collection_url(collection)

        def read(reply: Reply, url: str) -> CollectionInfo:
            if reply.status in GONE_STATUSES:
                raise self._no_collection(collection)
            _require_ok(reply, url, self._clock)
            return parse_collection(_body(reply), redact_url(url), self._caps)

        return await self._asking.ask(lambda: url, read)

    async def collections(self) -> list[CollectionInfo]:
        """Return all collections, in the server's order; MLHub never paged them. Raises and Cancel: as `page`."""
        url = self._root.collections_url()

        def read(reply: Reply, url: str) -> list[CollectionInfo]:
            _require_ok(reply, url, self._clock)
            return parse_collections(_body(reply), redact_url(url), self._caps)

        return await self._asking.ask(lambda: url, read)

    def _next(self, href: str, method: str, token: str, url: str) -> Cursor | None:
        if not href:
            # The API of 2019 gave the value of the `next` parameter, and no link.
            return cursor_of(set_parameters("?", {"next": token})) if token else None
        target = self._root.reroot(resolve(url, href))
        if target is None:
            raise self._foreign_next(url, href)
        path = unquote(target.partition("?")[0].rstrip("/"))
        if not path.endswith(f"/collections/{self._collection}/items"):
            # A cursor is the query alone: what pages another list cannot be asked of this one.
            raise SourceUnreadable(
                f"{redact_url(url)}: its next page is of another list ({redact_url(href)})", hint=OWNERS
            )
        if method != "GET":
            raise SourceUnreadable(
                f"{redact_url(url)}: its next page wants {method}, which this dialect has not",
                hint="is this an MLHub API? other STAC APIs come later",
            )
        return cursor_of(target)

    def _context(self, url: str, collection: str = "") -> Context:
        return Context(
            redact_url(url), collection or self._collection, self._clock.wall(), self._root.item_url, caps=self._caps
        )

    def _foreign_next(self, url: str, href: str) -> SourceError:
        return SourceUnreadable(
            f"{redact_url(url)}: its next page is at another host ({redact_url(href)})",
            hint="the key is sent to --api-url only; give the host that lists the items",
        )

    def _no_collection(self, collection: str) -> SourceError:
        return NothingThere(
            f"no collection {collection!r} at {self._root.url}", hint="stacmirror collections mlhub: lists them"
        )


def _require_ok(reply: Reply, url: str, clock: Clock) -> None:
    if reply.status != 200:
        raise error_for_status(reply.status, reply.headers, redact_url(reply.url or url), clock.wall())


def _body(reply: Reply) -> bytes:
    return reply.body or b""
