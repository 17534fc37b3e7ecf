"""The MLHub dialect: the Radiant MLHub API as it was from 2019 to 2022, now served by the simulator.

The composition root makes one; the walk asks it for pages, workers for linked items. It gets a way to ask (`Asker`)
and knows no client. The key goes to the API's own origin only, as the query parameter `key`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import unquote

from stacmirror.catalogs.page_size import PageSize
from stacmirror.catalogs.parse import (
    CAPS,
    OWNERS,
    Caps,
    Context,
    parse_collection,
    parse_collections,
    parse_item,
    parse_page,
)
from stacmirror.catalogs.stac_api import REDIRECTS_MAX, ApiRoot, Asker, ask_by_hand, cursor_of, resolve, set_parameters
from stacmirror.errors import (
    CursorRefused,
    LoginRefused,
    NothingThere,
    SourceError,
    SourceUnreachable,
    SourceUnreadable,
    TransferError,
)
from stacmirror.interfaces import Clock, Reply
from stacmirror.limits import origin_of
from stacmirror.model import START, CollectionInfo, Cursor, Item, ItemKey, Page
from stacmirror.redact import redact_url
from stacmirror.retry import GONE_STATUSES, RetryPolicy, error_for_status, with_retries

_HEADERS = {"accept": "application/geo+json, application/json"}
_KEY_HINT = "put the key in MLHUB_API_KEY, in ~/.mlhub/profiles, or in a file named by --key-file"
_UNREADABLE = "unreadable"
_CURSOR_STATUSES = frozenset({400, 404, 410, 422})
"""What servers say to a cursor that they did not give, or not lately."""
_REFUSALS_MAX, _FORBIDDEN_MAX = 3, 2
"""Items refused with 401 one after another with which the key itself counts as refused; and those refused with 403
until what the key was good for is asked for again: a 403 may be about an item, and forbidden items stand side by side.
"""

T = TypeVar("T")


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
    ) -> None:
        self._collection = collection
        self._root = ApiRoot.parse(api_url)
        self._key = api_key
        self._page_size = PageSize(page_size)
        self._asker = asker
        self._retry = retry
        self._clock = clock
        self._random = random
        self._on_retry = on_retry
        self._page_max_bytes = page_max_bytes
        self._allow_http = allow_http
        self._key_as = key_as
        self._redirects_max = redirects_max
        self._caps = caps
        self._refusals: int | None = None
        """Refusals since the key was last good for something; None before it was."""
        self._ended: LoginRefused | None = None
        """Once the key counts as refused nothing more is asked with it."""
        self._witness = ""
        """What it was good for last."""
        self._finding = asyncio.Lock()
        """Held while somebody finds out whether it still is: nothing else is asked with it."""
        self._found_good = 0

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
            self._is_good(url)
            self._page_size.succeeded(may_grow=cursor.kind == "keyset" and cursor != START)
            next_cursor = self._next(parsed.next_href, parsed.next_method, parsed.next_token, url)
            return Page(parsed.items, next_cursor, parsed.total)

        try:
            return await self._ask(url_now, read, shrinks=shrinks)
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
            self._is_good(url)
            return item

        return await self._ask(lambda: url, read, one_of_many=True)

    async def describe(self, collection: str) -> CollectionInfo:
        """Return what `collection` says of itself; MLHub asks no key for that. Raises and Cancel: as `page`."""
        url = self._root.collection_url(collection)

        def read(reply: Reply, url: str) -> CollectionInfo:
            if reply.status in GONE_STATUSES:
                raise self._no_collection(collection)
            _require_ok(reply, url, self._clock)
            return parse_collection(_body(reply), redact_url(url), self._caps)

        return await self._ask(lambda: url, read)

    async def collections(self) -> list[CollectionInfo]:
        """Return all collections, in the server's order; MLHub never paged them. Raises and Cancel: as `page`."""
        url = self._root.collections_url()

        def read(reply: Reply, url: str) -> list[CollectionInfo]:
            _require_ok(reply, url, self._clock)
            return parse_collections(_body(reply), redact_url(url), self._caps)

        return await self._ask(lambda: url, read)

    async def _ask(
        self,
        url_now: Callable[[], str],
        read: Callable[[Reply, str], T],
        *,
        one_of_many: bool = False,
        shrinks: Callable[[TransferError], bool] = lambda error: False,
    ) -> T:
        """Ask the URL that `url_now` gives, attempt by attempt; `shrinks` says that the next one asks for less."""
        try:
            return await with_retries(
                self._attempt(url_now, read, one_of_many, shrinks),
                self._retry,
                self._random,
                self._clock.sleep,
                self._on_retry,
            )
        except TransferError as error:
            url = url_now()
            if error.kind == _UNREADABLE and isinstance(error.__cause__, SourceUnreadable):
                raise error.__cause__.after(error, redact_url(origin_of(url))) from None
            shown = redact_url(url)
            message = error.message if shown in error.message else f"{shown}: {error.message}"
            unreachable = SourceUnreachable(message, hint=error.hint or _hint(error))
            raise unreachable.after(error, redact_url(origin_of(url))) from error

    def _attempt(
        self,
        url_now: Callable[[], str],
        read: Callable[[Reply, str], T],
        one_of_many: bool,
        shrinks: Callable[[TransferError], bool],
    ) -> Callable[[], Awaitable[T]]:
        async def attempt() -> T:
            while True:
                try:
                    return await ask_once(url_now())
                except TransferError as error:
                    # Too large will be too large: what has shrunk is another question, and no attempt.
                    if not shrinks(error) or error.retryable:
                        raise

        async def ask_once(url: str) -> T:
            if self._finding.locked():
                async with self._finding:
                    pass
            found_good = self._found_good
            reply = await self._send(url)
            if self._refuses(reply, url):
                error = self._refused(reply.status, url, one_of_many)
                if reply.status == 403 and (self._refusals or 0) >= _FORBIDDEN_MAX and error is not self._ended:
                    await self._find_out(found_good)
                raise error
            try:
                return read(reply, url)
            except SourceUnreadable as error:
                if reply.status != 200:
                    raise
                # Users met HTML and empty bodies amid the paging, and good ones when they asked again.
                raise TransferError(_UNREADABLE, error.message) from error

        return attempt

    async def _send(self, url: str) -> Reply:
        if self._ended is not None:
            raise LoginRefused(self._ended.message, hint=self._ended.hint)
        return await ask_by_hand(
            self._asker,
            url,
            self._root,
            self._key,
            _HEADERS,
            self._page_max_bytes,
            allow_http=self._allow_http,
            key_as=self._key_as,
            redirects_max=self._redirects_max,
        )

    def _refuses(self, reply: Reply, url: str) -> bool:
        return reply.status in (401, 403) and self._root.may_see_key(reply.url or url)

    def _is_good(self, url: str) -> None:
        self._refusals, self._witness = 0, url

    async def _find_out(self, found_good: int) -> None:
        """Ask for what the key was good for last, unless somebody has since. Raises: LoginRefused, TransferError."""
        async with self._finding:
            if self._found_good != found_good or not self._witness:
                return
            reply = await self._send(self._witness)
            if self._refuses(reply, self._witness):
                raise self._end(reply.status)
            self._found_good += 1
            self._refusals = 0

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

    def _refused(self, status: int, url: str, one_of_many: bool) -> LoginRefused | TransferError:
        if self._refusals is not None:
            self._refusals += 1
        if one_of_many and self._refusals is not None and (status == 403 or self._refusals < _REFUSALS_MAX):
            error = TransferError("refused", f"{status} from {redact_url(url)}", status=status, retryable=False)
            error.hint = "the key was good for other items: ask the catalog's owner about this one"
            return error
        return self._end(status)

    def _end(self, status: int) -> LoginRefused:
        said = "refused the API key" if self._key else "wants an API key"
        self._ended = LoginRefused(f"{self._root.url} {said} ({status})", hint=_KEY_HINT)
        return self._ended


def _require_ok(reply: Reply, url: str, clock: Clock) -> None:
    if reply.status != 200:
        raise error_for_status(reply.status, reply.headers, redact_url(reply.url or url), clock.wall())


def _body(reply: Reply) -> bytes:
    return reply.body or b""


def _hint(error: TransferError) -> str:
    if error.status in (401, 403):
        return "a redirect led away from --api-url, where the key is not sent"
    if error.status in GONE_STATUSES:
        return "is --api-url the root of the API, such as https://host/mlhub/v1?"
    if error.kind == "connect":
        return "is --api-url right, and the server up?"
    return "run the same command again; more --retries or a longer --stall-timeout bear more trouble"
