"""stac-geoparquet: a table of items, read by record batches with pyarrow (extra `geoparquet`), here or behind a URL.

A cursor is a row number of the very file. `rows` makes items of rows, `seekable` asks for what is behind a URL.

Source: stac-geoparquet specification 1.0 and 1.1.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stacmirror.catalogs.asking import Means
from stacmirror.catalogs.found import Remembers
from stacmirror.catalogs.located import located, read_again, recalled
from stacmirror.catalogs.parse import Context, parse_collection, parse_item
from stacmirror.catalogs.rows import item_of
from stacmirror.catalogs.seekable import SeekableFile
from stacmirror.errors import CursorRefused, LoginRefused, SourceError, SourceUnreadable, TransferError, UsageError
from stacmirror.model import START, CollectionInfo, Cursor, Item, ItemKey, Page, SourceLink
from stacmirror.redact import redact_url

SUFFIXES = (".parquet", ".geoparquet", ".parq")
_NO_COLLECTION = "items"


class GeoparquetCatalog:
    """Implements `interfaces.Catalog`. `place` is a path, or an http, https or s3 address."""

    def __init__(self, place: str, means: Means, page_size: int, *, alternates: tuple[str, ...] = ()) -> None:
        self._place = place
        self._shown = redact_url(place)
        self._means = means
        self._page_size = page_size
        self._alternates = alternates
        self._file: Any = None
        self._remote: SeekableFile | None = None
        self._batches: Iterator[Any] | None = None
        self._rows: list[dict[str, Any]] = []
        self._row = 0
        self._mark = ""
        self.collection = ""
        self.remembers: Remembers | None = None
        """Gives what an earlier run kept of an item."""

    def sends(self, name: str) -> bool:
        """A file judges nothing."""
        return False

    async def page(self, cursor: Cursor) -> Page:
        """See `interfaces.Catalog.page`. What is no item is named in `Page.lost`."""
        if self._file is None:
            await self._open()
        row = 0
        if cursor != START:
            place = json.loads(cursor.value)
            if place.get("of") != self._mark:
                raise CursorRefused(f"{self._shown} is not the file that it was", hint="walk it from the start")
            row = int(place["row"])
        rows = await self._call(self._read, row)
        items: list[Item] = []
        lost: list[str] = []
        for number, one in enumerate(rows, row):
            try:
                items.append(self._item(one))
            except SourceUnreadable as error:
                lost.append(f"row {number:,}: {error.message}")
        after, total = row + len(rows), int(self._file.metadata.num_rows)
        value = json.dumps({"row": after, "of": self._mark}, separators=(",", ":"))
        following = Cursor(value, "keyset" if self._mark else "position") if after < total else None
        return Page(tuple(items), following, total, tuple(lost))

    async def item(self, key: ItemKey, href: str = "") -> Item | None:
        """See `interfaces.Catalog.item`: what an earlier walk kept of it."""
        kept = await recalled(self.remembers, key)
        return None if kept is None else read_again(kept, self._context(key.collection))

    async def several(self, links: Sequence[SourceLink]) -> dict[ItemKey, Item] | None:
        """See `interfaces.Joining.several`."""
        return None

    async def describe(self, collection: str) -> CollectionInfo:
        """See `interfaces.Catalog.describe`: what the file's metadata has."""
        if self._file is None:
            await self._open()
        for document in self._described():
            if document.get("id") == collection:
                return parse_collection(msgspec.json.encode(document), self._shown, self._means.caps)
        raise SourceUnreadable(f"{self._shown} describes no collection {collection}", hint="few tables do")

    async def collections(self) -> list[CollectionInfo]:
        """See `interfaces.Catalog.collections`: those of the file's metadata."""
        if self._file is None:
            await self._open()
        return [await self.describe(str(document["id"])) for document in self._described() if document.get("id")]

    def close(self) -> None:
        """Let go of the file; whoever still reads it in a thread is told so."""
        if self._remote is not None:
            self._remote.let_go()
        self._batches = None
        if self._file is not None:
            self._file.close(force=True)
            self._file = None

    # -- the table -------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        try:
            import pyarrow.parquet
        except ImportError:
            raise UsageError(
                f"{self._shown} is Parquet, which takes pyarrow", hint="pip install 'stacmirror[geoparquet]'"
            ) from None
        if "://" in self._place:
            remote = self._remote = SeekableFile(self._place, self._means, asyncio.get_running_loop())
            await remote.begin()
            place: Any = io.BufferedReader(remote, 1 << 20)
            self._mark = remote.mark
        else:
            try:
                found = os.stat(self._place)
            except OSError as error:
                raise UsageError(f"{self._place}: {error.strerror}", hint="name a file of items") from error
            place, self._mark = self._place, f"{found.st_size}-{found.st_mtime_ns}"
        # Without threads of its own: one that waits for a range when the run is over would never end.
        self._file = await self._call(lambda: pyarrow.parquet.ParquetFile(place, pre_buffer=False))
        missing = {"id", "assets"} - set(self._file.schema_arrow.names)
        if missing:
            raise SourceUnreadable(
                f"{self._shown} is no stac-geoparquet: it has no column `{min(missing)}`",
                hint="is it a table of items?",
            )

    async def _call(self, work: Any, *arguments: Any) -> Any:
        """Do what blocks in a thread. Raises: SourceUnreadable for what pyarrow cannot read."""
        try:
            return await asyncio.to_thread(work, *arguments)
        except TransferError as error:
            raise SourceUnreadable(f"{self._shown}: {error.message}", hint="run it again") from error
        except (SourceError, LoginRefused):
            raise  # of who asks for ranges: it names what, and what next
        except Exception as error:  # pyarrow's own, of many classes
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise SourceUnreadable(
                f"{self._shown} cannot be read: {reason}", hint="was the file copied whole?"
            ) from error

    def _read(self, row: int) -> list[dict[str, Any]]:
        """Return the rows of a page, from `row` on."""
        if self._batches is None or row != self._row:
            self._begin_at(row)
        while len(self._rows) < self._page_size and self._batches is not None:
            batch = next(self._batches, None)
            if batch is None:
                break
            self._rows += batch.to_pylist()
        found, self._rows = self._rows[: self._page_size], self._rows[self._page_size :]
        self._row = row + len(found)
        return found

    def _begin_at(self, row: int) -> None:
        sizes = [self._file.metadata.row_group(n).num_rows for n in range(self._file.metadata.num_row_groups)]
        first, before = 0, 0
        while first < len(sizes) and before + sizes[first] <= row:
            before += sizes[first]
            first += 1
        groups = list(range(first, len(sizes)))
        batches = self._file.iter_batches(batch_size=self._page_size, row_groups=groups, use_threads=False)
        self._batches = batches if groups else None
        self._rows = []
        skip = row - before
        while skip > 0 and self._batches is not None:
            batch = next(self._batches, None)
            if batch is None:
                return
            self._rows = batch.slice(min(skip, batch.num_rows)).to_pylist()
            skip -= min(skip, batch.num_rows)

    def _described(self) -> list[dict[str, Any]]:
        metadata = self._file.schema_arrow.metadata or {}
        for name in (b"stac-geoparquet", b"stac:geoparquet"):
            try:
                document = msgspec.json.decode(metadata.get(name, b"{}"))
            except (ValueError, RecursionError):
                continue
            if isinstance(document, dict):
                one, several = document.get("collection"), document.get("collections")
                found = (
                    [one]
                    if isinstance(one, dict)
                    else list((several or {}).values())
                    if isinstance(several, dict)
                    else several
                )
                if found:
                    return [info for info in found if isinstance(info, dict)]
        return []

    def _item(self, row: dict[str, Any]) -> Item:
        body = msgspec.json.encode(item_of(row))
        base = self._place if "://" in self._place else Path(self._place).absolute().as_uri()
        return parse_item(located(body, base), self._context(""))

    def _context(self, collection: str) -> Context:
        wall_s = self._means.clock.wall()
        name, caps = collection or _NO_COLLECTION, self._means.caps
        return Context(self._shown, name, wall_s, lambda key: "", self._alternates, base="", caps=caps)
