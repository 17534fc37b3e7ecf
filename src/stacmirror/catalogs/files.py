"""Files of items: one Item, an ItemCollection, a FeatureCollection, NDJSON; from a disk, a URL or stdin.

Streamed: a million items take the memory of one page. A cursor is an offset into the very file that it was read from;
of another file under that name, and of stdin, the walk begins at the start and skips by id what is here.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from stacmirror.catalogs.byte_sources import ByteSource
from stacmirror.catalogs.decoding import type_of
from stacmirror.catalogs.found import Remembers
from stacmirror.catalogs.located import located, read_again, recalled
from stacmirror.catalogs.parse import CAPS, Caps, Context, parse_item
from stacmirror.catalogs.splitting import Mode, Piece, Splitter
from stacmirror.errors import CursorRefused, NothingThere, SourceUnreadable
from stacmirror.interfaces import Clock
from stacmirror.model import START, CollectionInfo, Cursor, Item, ItemKey, Page, SourceLink

_PAGE_MAX_BYTES = 8 << 20
LINE_SUFFIXES = (".ndjson", ".jsonl", ".ndjsonl", ".geojsonl", ".geojsons")
_ITEMS = "it takes a STAC Item, an ItemCollection, or NDJSON of items"
_NO_COLLECTION = "items"
"""The collection of items that name none."""


class FileCatalog:
    """Implements `interfaces.Catalog`. `base` is what relative hrefs of items without a `self` link are relative to."""

    def __init__(
        self,
        what: str,
        source: ByteSource,
        base: str,
        clock: Clock,
        page_size: int,
        item_max_bytes: int,
        *,
        lines: bool = False,
        alternates: tuple[str, ...] = (),
        caps: Caps = CAPS,
    ) -> None:
        """`what` names it in errors. `lines`: one item a line, so that a damaged line costs no other."""
        self._what = what
        self._source = source
        self._base = base
        self._clock = clock
        self._page_size = page_size
        self._item_max_bytes = item_max_bytes
        self._mode: Mode | None = "lines" if lines else None
        self._alternates = alternates
        self._caps = caps
        self._pieces: AsyncIterator[Piece] | None = None
        self._ahead: Piece | None = None
        self._stands_at: Cursor | None = None
        self._checked = False
        self.collection = ""
        self.remembers: Remembers | None = None
        """Gives what an earlier run kept of an item."""

    def sends(self, name: str) -> bool:
        """A file judges nothing."""
        return False

    async def page(self, cursor: Cursor) -> Page:
        """See `interfaces.Catalog.page`. What is no item is named in `Page.lost`."""
        if not self._checked:
            await self._source.check()
            self._checked = True
        if self._pieces is None or cursor != self._stands_at:
            await self._open(cursor)
        items: list[Item] = []
        lost: list[str] = []
        size = 0
        after: Piece | None = None
        self._stands_at = None
        while self._ahead is not None and len(items) + len(lost) < self._page_size and size < _PAGE_MAX_BYTES:
            piece = self._ahead
            size += len(piece.body)
            try:
                items.append(self._item(piece))
            except SourceUnreadable as error:
                lost.append(error.message)
            after = piece
            try:
                self._ahead = await self._next()
            except SourceUnreadable as error:  # what was read of it is good
                self._ahead, self._pieces = None, None
                lost.append(error.message)
        following = self._cursor(after.after, after.mode) if after is not None and self._ahead is not None else None
        self._stands_at = following
        if following is None and cursor == START and not items:
            raise NothingThere(
                f"{self._what} holds no items" + (f": {lost[0]}" if lost else ""),
                hint=_ITEMS,
            )
        return Page(tuple(items), following, None, tuple(lost))

    async def item(self, key: ItemKey, href: str = "") -> Item | None:
        """See `interfaces.Catalog.item`: what an earlier walk kept of it."""
        kept = await recalled(self.remembers, key)
        return None if kept is None else read_again(kept, self._context(key.collection))

    async def several(self, links: Sequence[SourceLink]) -> dict[ItemKey, Item] | None:
        """See `interfaces.Joining.several`."""
        return None

    async def describe(self, collection: str) -> CollectionInfo:
        """See `interfaces.Catalog.describe`: items say nothing of it."""
        raise SourceUnreadable(f"{self._what} describes no collections", hint="files of items do not")

    async def collections(self) -> list[CollectionInfo]:
        """See `interfaces.Catalog.collections`: those that items name, by a walk over all of them."""
        found: dict[str, CollectionInfo] = {}
        cursor: Cursor | None = START
        while cursor is not None:
            page = await self.page(cursor)
            found.update((item.key.collection, CollectionInfo(item.key.collection)) for item in page.items)
            cursor = page.next
        return list(found.values())

    def close(self) -> None:
        """Let go of the file."""
        self._pieces = None
        self._source.close()

    # -- the stream ------------------------------------------------------------------------------------------

    async def _open(self, cursor: Cursor) -> None:
        at, mode = 0, self._mode
        if cursor != START:
            place = _place(cursor)
            if place.get("of") != self._source.mark or not self._source.can_go_back:
                raise CursorRefused(f"{self._what} is not the file that it was", hint="walk it from the start")
            at, mode = int(place["at"]), place["mode"]
        self._pieces = self._split(at, mode)
        try:
            self._ahead = await self._next()
        except SourceUnreadable as error:
            if cursor != START:
                raise
            hint = f"{error.hint} {_ITEMS}"
            raise NothingThere(f"{error.message}; no item is before that", hint=hint) from error

    async def _next(self) -> Piece | None:
        if self._pieces is None:
            return None
        try:
            return await anext(self._pieces, None)
        except SourceUnreadable as error:
            raise SourceUnreadable(f"{self._what}: {error.message}", hint=error.hint) from error

    async def _split(self, at: int, mode: Mode | None) -> AsyncIterator[Piece]:
        splitter: Splitter | None = None
        async for chunk in self._source.chunks(at):
            if splitter is None:
                splitter = Splitter(mode or _mode_of(chunk), at, self._item_max_bytes)
            for piece in splitter.feed(chunk):
                yield piece
        if splitter is not None:
            for piece in splitter.end():
                yield piece

    def _cursor(self, at: int, mode: Mode) -> Cursor:
        value = json.dumps({"at": at, "mode": mode, "of": self._source.mark}, separators=(",", ":"))
        return Cursor(value, "keyset" if self._source.can_go_back and self._source.mark else "position")

    def _item(self, piece: Piece) -> Item:
        body = piece.body
        kind = type_of(body)
        if kind in ("Catalog", "Collection"):
            raise SourceUnreadable(f"{self._what}, byte {piece.at:,}: a {kind}, not an item", hint=_ITEMS)
        try:
            item = parse_item(body, self._context(""))
        except SourceUnreadable as error:
            raise SourceUnreadable(f"{self._what}, byte {piece.at:,}: {error.message}", hint=_ITEMS) from error
        return msgspec.structs.replace(item, document=located(body, self._base)) if self._base else item

    def _context(self, collection: str) -> Context:
        wall_s = self._clock.wall()
        return Context(
            self._what,
            collection or _NO_COLLECTION,
            wall_s,
            lambda key: self._base,
            self._alternates,
            base="",
            caps=self._caps,
        )


def _place(cursor: Cursor) -> dict[str, Any]:
    try:
        place = json.loads(cursor.value)
    except ValueError:
        return {}
    return place if isinstance(place, dict) else {}


def _mode_of(chunk: bytes) -> Mode:
    """Return `lines` where the first line is an item by itself and there are others: a damaged one costs no other."""
    first, newline, rest = chunk.lstrip(b"\xef\xbb\xbf \r\n\t").partition(b"\n")
    if not newline or not rest.strip():
        return "values"
    try:
        document = msgspec.json.decode(first)
    except RecursionError:  # whatever it is, it is a line by itself
        return "lines"
    except ValueError:
        return "values"
    return "lines" if isinstance(document, dict) and "features" not in document else "values"
