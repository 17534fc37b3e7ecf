"""stac-geoparquet: a table of items, read by record batches with pyarrow (extra `geoparquet`), here or behind a URL.

A cursor is a row number of the very file. Rows become items: columns that are no field of an item are its properties,
WKB becomes GeoJSON, and what is null is not there.

Source: stac-geoparquet specification 1.0 and 1.1.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import io
import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec

from stacmirror.catalogs.asking import Means, Question
from stacmirror.catalogs.found import Remembers
from stacmirror.catalogs.located import located, read_again, recalled
from stacmirror.catalogs.parse import Context, parse_collection, parse_item
from stacmirror.catalogs.wkb import geometry_of
from stacmirror.errors import CursorRefused, SourceUnreadable, TransferError, UsageError
from stacmirror.interfaces import Reply
from stacmirror.model import START, CollectionInfo, Cursor, Item, ItemKey, Page, SourceLink
from stacmirror.redact import redact_url

SUFFIXES = (".parquet", ".geoparquet", ".parq")
_FIELDS = ("type", "stac_version", "stac_extensions", "id", "geometry", "bbox", "links", "assets", "collection")
_NO_COLLECTION = "items"
_LOOK_S = 0.5
"""How often whoever waits in a thread looks whether the run is over."""


class GeoparquetCatalog:
    """Implements `interfaces.Catalog`. `place` is a path, or an http, https or s3 address."""

    def __init__(self, place: str, means: Means, page_size: int, *, alternates: tuple[str, ...] = ()) -> None:
        self._place = place
        self._shown = redact_url(place)
        self._means = means
        self._page_size = page_size
        self._alternates = alternates
        self._file: Any = None
        self._ranges: _Ranges | None = None
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
        if self._ranges is not None:
            self._ranges.let_go()
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
            ranges = self._ranges = _Ranges(self._place, self._means, asyncio.get_running_loop())
            await ranges.begin()
            place: Any = io.BufferedReader(ranges, 1 << 20)
            self._mark = ranges.mark
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


def item_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return the STAC item of a row. Raises: SourceUnreadable for a geometry that is no WKB."""
    geometry = row.get("geometry")
    if isinstance(geometry, (bytes, bytearray)):
        geometry = geometry_of(bytes(geometry))
    bbox = row.get("bbox")
    if isinstance(bbox, dict):
        names = ("xmin", "ymin", "zmin", "xmax", "ymax", "zmax")
        bbox = [bbox[name] for name in names if bbox.get(name) is not None]
    own = row.get("properties")
    properties = dict(own) if isinstance(own, dict) else {}
    properties.update({name: value for name, value in row.items() if name not in _FIELDS and name != "properties"})
    item = {
        name: _plain(row.get(name))
        for name in _FIELDS
        if name not in ("geometry", "bbox") and row.get(name) is not None
    }
    assets = item.get("assets")
    if isinstance(assets, list) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in row["assets"]):
        assets = dict(assets)  # a column of maps, which pyarrow gives as pairs
    if isinstance(assets, dict):
        item["assets"] = {key: asset for key, asset in assets.items() if asset}
    item.setdefault("type", "Feature")
    return {**item, "geometry": geometry, "bbox": bbox, "properties": _plain(properties)}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it, without nulls: a column has them wherever another row has something."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items() if one is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, datetime):
        stamped = value if value.tzinfo else value.replace(tzinfo=UTC)
        return stamped.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    return value


class _Ranges(io.RawIOBase):
    """A remote file that can be sought in, by range requests on the loop; read in threads."""

    def __init__(self, url: str, means: Means, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._url = url
        self._means = means
        self._loop = loop
        self._at = 0
        self._size = 0
        self._is_over = False
        self.mark = ""

    async def begin(self) -> None:
        """Find out size and version. Raises: SourceUnreadable where the server gives no ranges."""
        reply = await self._ask(0, 1)
        total = reply.headers.get("content-range", "").rpartition("/")[2]
        if not total.isdigit():
            raise SourceUnreadable(
                f"{redact_url(self._url)}: the server gives no ranges", hint="download the file, and give its path"
            )
        self._size = int(total)
        said = reply.headers.get("etag") or reply.headers.get("last-modified") or ""
        self.mark = f"{self._size}-{said}" if said else ""

    async def _ask(self, start: int, end: int) -> Reply:
        headers = {"range": f"bytes={start}-{end - 1}", "accept": "*/*", "accept-encoding": "identity"}
        question = Question(self._url, headers)
        return await self._means.ask(lambda: question, lambda reply: reply, statuses=(200, 206))

    def let_go(self) -> None:
        """Have whoever waits for a range in a thread give up."""
        self._is_over = True

    def _wait_for(self, asked: concurrent.futures.Future[Reply]) -> Reply:
        while True:
            try:
                return asked.result(_LOOK_S)
            except TimeoutError:
                if self._is_over or self._loop.is_closed():
                    asked.cancel()
                    raise TransferError("client", "the run is over") from None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = (0, self._at, self._size)[whence] + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        end = min(self._at + len(view), self._size)
        if end <= self._at:
            return 0
        reply = self._wait_for(asyncio.run_coroutine_threadsafe(self._ask(self._at, end), self._loop))
        body = reply.body or b""
        if reply.status != 206 or len(body) != end - self._at:
            raise TransferError("protocol", "the server gave another range than was asked for")
        view[: len(body)] = body
        self._at = end
        return len(body)
