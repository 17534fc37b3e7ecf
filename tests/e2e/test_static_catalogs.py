"""Whole mirrors of static catalogs, from a disk and over HTTP, and of files of items and tables of them."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import re
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from stacmirror.catalogs.byte_sources import Stdin
from stacmirror.catalogs.files import FileCatalog
from stacmirror.clock import SystemClock
from stacmirror.errors import NothingThere
from stacmirror.listings import list_collections
from stacmirror.model import START
from stacmirror.typed import build
from tests.conftest import tree
from tests.contract.wire_server import KEEP, RESET, Step, WireServer, head, ok, wire_server
from tests.e2e.test_stac_api import mirror
from tests.unit.fakes import Notes


def item(id_: str, collection: str = "", number: int = 0, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": id_,
        "geometry": {"type": "Point", "coordinates": [number, 1]},
        "bbox": [number, 1, number, 1],
        "properties": {"datetime": "2020-01-01T00:00:00Z", "n": number},
        "links": [],
        "assets": {"data": {"href": f"./{id_}.txt", "type": "text/plain"}},
        **more,
    }
    if collection:
        found["collection"] = collection
    return found


def write_catalog(folder: Path, collections: int = 3, items: int = 7) -> list[str]:
    """Write a catalog with collections of items, and a cycle; return the items' ids."""
    ids = []
    children = []
    for number in range(collections):
        name = f"c{number}"
        links: list[dict[str, str]] = [
            {"rel": "root", "href": "../catalog.json"},
            {"rel": "parent", "href": "../catalog.json"},
        ]
        for position in range(items):
            id_ = f"{name}-i{position}"
            ids.append(id_)
            place = folder / name / id_
            place.mkdir(parents=True)
            (place / f"{id_}.json").write_text(json.dumps(item(id_, name, position)))
            (place / f"{id_}.txt").write_text(f"content of {id_}")
            links.append({"rel": "item", "href": f"./{id_}/{id_}.json"})
        links.append({"rel": "child", "href": "../catalog.json"})
        document = {
            "type": "Collection",
            "id": name,
            "stac_version": "1.0.0",
            "license": "CC0-1.0",
            "extent": {},
            "links": links,
        }
        (folder / name / "collection.json").write_text(json.dumps(document))
        children.append({"rel": "child", "href": f"./{name}/collection.json"})
    root = {"type": "Catalog", "id": "root", "stac_version": "1.0.0", "description": "", "links": children}
    (folder / "catalog.json").write_text(json.dumps(root))
    return ids


@asynccontextmanager
async def served(folder: Path, ranges: bool = True) -> AsyncIterator[tuple[str, list[str]]]:
    """Serve a folder; yield its URL and the paths asked for."""
    asked: list[str] = []

    async def file(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        path = folder / request.match_info["path"]
        if not path.is_file():
            return web.Response(status=404)
        if ranges:
            return web.FileResponse(path)
        return web.Response(body=path.read_bytes())

    app = web.Application()
    app.router.add_get("/{path:.*}", file)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


class AnswersInTurn(WireServer):
    """Says of a path what it says in `turns`, one after another; the last for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: dict[str, Sequence[Sequence[Step]]] = {}

    async def _say(self, script: Sequence[Step], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        path = self.heard[-1].split(" ", 2)[1]
        if turns := self.turns.get(path):
            asked = sum(request.startswith(f"GET {path} ") for request in self.heard)
            script = turns[min(asked, len(turns)) - 1]
        return await super()._say(script, reader, writer)


# -- static catalogs -------------------------------------------------------------------------------------------


async def test_a_catalog_on_a_disk_and_over_http(tmp_path: Path) -> None:
    """Every item of every collection once, each document asked for once, cycles ended, descriptions kept."""
    made = tmp_path / "made"
    ids = write_catalog(made)
    expected = {f"{id_.partition('-')[0]}/{id_}/data.txt": f"content of {id_}".encode() for id_ in ids}
    for number, source in enumerate((made, made / "catalog.json")):
        summary = await mirror(str(source), tmp_path / f"disk{number}", page_size=4)
        assert (summary.verdict, summary.mirror.items.complete) == ("complete", 21)
        assert tree(tmp_path / f"disk{number}") == expected
    async with served(made) as (url, asked):
        summary = await mirror(f"{url}/catalog.json", tmp_path / "http", page_size=4)
        assert (summary.verdict, summary.mirror.items.complete) == ("complete", 21)
        assert tree(tmp_path / "http") == expected
        documents = [path for path in asked if path.endswith(".json")]
        assert len(documents) == len(set(documents)) + 1  # the root once more, to see what it is
    assert (tmp_path / "http" / "c1" / "LICENSE.txt").read_text().startswith("CC0-1.0")


async def test_a_crawl_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """By the links on the way to the next item; where one of those is gone, from the start, skipping by id."""
    made = tmp_path / "made"
    write_catalog(made)
    async with served(made) as (url, asked):
        first = await mirror(f"{url}/catalog.json", tmp_path / "out", page_size=4, max_items=9)
        assert first.mirror.items.complete == 9
        asked.clear()
        second = await mirror(f"{url}/catalog.json", tmp_path / "out", page_size=4)
        assert (second.verdict, second.mirror.items.complete) == ("complete", 21)
        assert not [path for path in asked if path.startswith("/c0/")]
        assert len([path for path in asked if path.endswith(".txt")]) == 12
    notes = Notes()
    (made / "c2" / "collection.json").write_text(
        json.dumps({"type": "Collection", "id": "c2", "extent": {}, "links": []})
    )
    await mirror(str(made), tmp_path / "b", page_size=4, max_items=20)
    (made / "catalog.json").write_text(
        json.dumps({"type": "Catalog", "id": "r", "links": [{"rel": "child", "href": "./c0/collection.json"}]})
    )
    third = await mirror(str(made), tmp_path / "b", notes, page_size=4)
    assert third.mirror.items.complete >= 14


async def test_only_some_collections_of_a_catalog(tmp_path: Path) -> None:
    """--collection asks for no item of another; other filters are judged here."""
    made = tmp_path / "made"
    write_catalog(made)
    async with served(made) as (url, asked):
        summary = await mirror(f"{url}/catalog.json", tmp_path / "a", collection=["c1"])
        assert (summary.verdict, summary.mirror.items.complete) == ("complete", 7)
        assert not [path for path in asked if "c0-i" in path]
    summary = await mirror(str(made), tmp_path / "b", bbox="2,0,3,2", filter="n <> 3")
    assert (summary.mirror.items.complete, summary.mirror.items.filtered) == (3, 18)


async def test_a_broken_link_costs_nothing_else_and_is_not_forgotten(tmp_path: Path) -> None:
    """It is named, all else is mirrored, exit code 5; the next run looks there again, and finds it mended."""
    made = tmp_path / "made"
    write_catalog(made)
    lost = made / "c0" / "c0-i3" / "c0-i3.json"
    kept = lost.read_text()
    lost.unlink()
    async with served(made) as (url, _):
        summary = await mirror(f"{url}/catalog.json", tmp_path / "out", page_size=5)
        assert (summary.exit_code, summary.mirror.items.complete) == (5, 20)
        assert "c0-i3.json" in summary.reason
        again = await mirror(f"{url}/catalog.json", tmp_path / "out", page_size=5)
        assert again.exit_code == 5
        lost.write_text(kept)
        mended = await mirror(f"{url}/catalog.json", tmp_path / "out", page_size=5)
        assert (mended.verdict, mended.mirror.items.complete) == ("complete", 21)


@pytest.mark.parametrize("how", ["disk", "http"])
async def test_documents_that_few_parsers_take(tmp_path: Path, how: str) -> None:
    """A byte order mark and NaN, from the root down: read as pages are; an item's asset that failed is asked again."""
    made = tmp_path / "made"
    write_catalog(made, collections=1, items=3)
    for path in made.rglob("*.json"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes()[:-1] + b', "extra": NaN}')
    lost = made / "c0" / "c0-i1" / "c0-i1.txt"
    kept = lost.read_bytes()
    lost.unlink()
    async with served(made) as (url, _):
        source = f"{url}/catalog.json" if how == "http" else str(made)
        first = await mirror(source, tmp_path / "out")
        assert (first.exit_code, first.mirror.items.listed) == (3, 3)
        lost.write_bytes(kept)
        second = await mirror(source, tmp_path / "out")
    assert (second.verdict, second.mirror.items.complete) == ("complete", 3)


async def test_links_that_spell_one_address_in_several_ways(tmp_path: Path) -> None:
    """An item that is linked twice is one item; a collection that links to itself as an item is named (exit 5)."""
    made = tmp_path / "made"
    write_catalog(made, collections=1, items=2)
    path = made / "c0" / "collection.json"
    document = json.loads(path.read_text())
    twice = [{"rel": "item", "href": href} for href in ("c0-i0/c0-i0.json", "../c0/c0-i1/c0-i1.json")]
    path.write_text(json.dumps({**document, "links": [*document["links"], *twice]}))
    summary = await mirror(str(made), tmp_path / "a")
    assert (summary.verdict, summary.mirror.items.complete, summary.mirror.items.duplicate) == ("complete", 2, 2)
    odd = [
        {"rel": rel, "href": href} for href in ("#", "?", "..", "//[::1", "\0", "\ud800") for rel in ("item", "child")
    ]
    path.write_text(json.dumps({**document, "links": [*document["links"], *odd]}))
    summary = await mirror(str(made), tmp_path / "b", retries=0)
    assert (summary.exit_code, summary.mirror.items.complete) == (5, 2)


@pytest.mark.parametrize("links", [5, True, {"item": "./c0-i0.json"}, "links"])
@pytest.mark.parametrize("where", ["catalog.json", "c0/collection.json"])
async def test_links_that_are_no_list(tmp_path: Path, where: str, links: object) -> None:
    """One line that names the document (exit 5): what is behind such links is not known, so nothing is complete."""
    made = tmp_path / "made"
    write_catalog(made, collections=2, items=2)
    document = json.loads((made / where).read_text())
    (made / where).write_text(json.dumps({**document, "links": links}))
    summary = await mirror(str(made), tmp_path / "out", retries=0)
    assert summary.exit_code == 5
    assert f"{where} has links that are no list" in summary.reason
    assert summary.mirror.items.complete == (2 if where != "catalog.json" else 0)


async def test_an_asset_that_failed_is_asked_for_again_without_an_index(tmp_path: Path) -> None:
    """A static catalog has no item by its id: a later run's sweep reads what was kept of it."""
    made = tmp_path / "made"
    write_catalog(made, collections=1, items=5)
    gone = made / "c0" / "c0-i2" / "c0-i2.txt"
    content = gone.read_bytes()
    gone.unlink()
    async with served(made) as (url, _):
        summary = await mirror(f"{url}/catalog.json", tmp_path / "out", sweeps=1)
        assert (summary.exit_code, summary.mirror.items.incomplete) == (3, 1)
        gone.write_bytes(content)
        summary = await mirror(f"{url}/catalog.json", tmp_path / "out")
        assert (summary.verdict, summary.mirror.items.complete) == ("complete", 5)


async def test_a_files_item_is_asked_for_again_from_what_was_kept(tmp_path: Path) -> None:
    """A file has no item by its id: its relative hrefs are kept absolute, so that a later run's sweep can ask."""
    items = write_items(tmp_path / "made", 12)
    path = tmp_path / "made" / "lines.ndjson"
    path.write_text("\n".join(map(json.dumps, items)))
    gone = tmp_path / "made" / "i2.txt"
    content = gone.read_bytes()
    gone.unlink()
    summary = await mirror(str(path), tmp_path / "out", page_size=5)
    assert (summary.exit_code, summary.mirror.items.incomplete) == (3, 1)
    gone.write_bytes(content)
    summary = await mirror(str(path), tmp_path / "out", page_size=5)
    assert (summary.verdict, summary.mirror.items.complete) == ("complete", 12)


async def test_the_collections_of_a_catalog_are_listed(tmp_path: Path) -> None:
    """`stacmirror collections PATH` crawls the nodes, and no items."""
    made = tmp_path / "made"
    write_catalog(made)
    found = await list_collections(build(str(made), "", {}), "")
    assert [info.id for info in found] == ["c0", "c1", "c2"]


async def test_files_of_this_machine_are_for_catalogs_on_it(tmp_path: Path) -> None:
    """A catalog from the net that names file:// assets gets none of them."""
    made = tmp_path / "made"
    write_catalog(made, collections=1, items=1)
    (tmp_path / "secret.txt").write_text("secret")
    spoilt = item("c0-i0", "c0", assets={"data": {"href": (tmp_path / "secret.txt").as_uri()}})
    (made / "c0" / "c0-i0" / "c0-i0.json").write_text(json.dumps(spoilt))
    async with served(made) as (url, _):
        summary = await mirror(f"{url}/catalog.json", tmp_path / "out", sweeps=0)
        assert [failure.kind for failure in summary.failures] == ["scheme"]
    assert not tree(tmp_path / "out")


# -- files -----------------------------------------------------------------------------------------------------


def write_items(folder: Path, count: int) -> list[dict[str, Any]]:
    folder.mkdir()
    for number in range(count):
        (folder / f"i{number}.txt").write_text(f"content of i{number}")
    return [item(f"i{number}", "scenes", number) for number in range(count)]


FORMS = {
    "one.json": lambda items: json.dumps(items[0]),
    "list.json": lambda items: json.dumps({"type": "FeatureCollection", "features": items}, indent=1),
    "list.geojson": lambda items: json.dumps(
        {"features": items, "type": "FeatureCollection", "links": [{"rel": "self"}]}
    ),
    "array.json": lambda items: json.dumps(items),
    "lines.ndjson": lambda items: "\n".join(map(json.dumps, items)) + "\n",
    "pretty.jsonl.json": lambda items: "\n".join(json.dumps(one, indent=2) for one in items),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("how", ["disk", "http"])
async def test_files_of_items(tmp_path: Path, name: str, how: str) -> None:
    """An Item, lists of every form and NDJSON, here or behind a URL: every item once, relative to the file."""
    items = write_items(tmp_path / "made", 12)
    (tmp_path / "made" / name).write_text(FORMS[name](items))
    count = 1 if name == "one.json" else 12
    async with served(tmp_path / "made") as (url, _):
        source = f"{url}/{name}" if how == "http" else str(tmp_path / "made" / name)
        first = await mirror(source, tmp_path / "out", page_size=5, max_items=7)
        assert first.mirror.items.complete == min(count, 7)
        summary = await mirror(source, tmp_path / "out", page_size=5)
    assert (summary.verdict, summary.mirror.items.complete) == ("complete", count)
    assert tree(tmp_path / "out") == {
        f"scenes/i{number}/data.txt": f"content of i{number}".encode() for number in range(count)
    }


def items_of(wire: WireServer, count: int, pad: int = 1000) -> bytes:
    """Return lines of items whose assets `wire` has."""
    lines = []
    for number in range(count):
        asset = {"href": wire.say(f"/i{number}.txt", ok(b"content"), KEEP), "type": "text/plain"}
        lines.append(json.dumps(item(f"i{number}", assets={"data": asset}, pad="x" * pad)))
    return ("\n".join(lines) + "\n").encode()


PACKED = "Content-Encoding: gzip"
ODD_FILES: dict[str, Callable[[bytes], Sequence[Sequence[Step]]]] = {
    "503 at first": lambda body: [[head(503, "Content-Length: 0"), KEEP], [ok(body)]],
    "no answer at first": lambda body: [[RESET], [RESET], [ok(body)]],
    "gzip": lambda body: [[ok(gzip.compress(body), PACKED)]],
    "two members": lambda body: [[ok(gzip.compress(body[:5000]) + gzip.compress(body[5000:]), PACKED)]],
    "gzip cut once": lambda body: [
        *[[head(200, PACKED) + gzip.compress(body)[:-9]]] * 2,
        [head(200, PACKED) + gzip.compress(body)],
    ],
}


@pytest.mark.parametrize("name", ODD_FILES)
async def test_a_file_that_comes_in_odd_ways(tmp_path: Path, name: str) -> None:
    """Late, or packed though nobody asked for that, as storage has what was kept packed: every item is here."""
    async with wire_server(None, AnswersInTurn()) as wire:
        wire.turns["/items.ndjson"] = ODD_FILES[name](items_of(wire, 12))
        summary = await mirror(f"{wire.url}/items.ndjson", tmp_path, page_size=5)
    assert (summary.verdict, summary.mirror.items.complete) == ("complete", 12)


@pytest.mark.parametrize("status", [500, 503])
async def test_a_file_that_never_comes(tmp_path: Path, status: int) -> None:
    """Exit 5, with its address."""
    async with wire_server() as wire:
        url = wire.say("/items.ndjson", head(status, "Content-Length: 0"), KEEP)
        summary = await mirror(url, tmp_path, max_outage=1)
    assert (summary.exit_code, summary.mirror.items.listed) == (5, 0)
    assert "/items.ndjson" in summary.reason


async def test_two_versions_of_a_file_are_never_joined(tmp_path: Path) -> None:
    """Cut midway, and another file when it is opened again: exit 5, and the next run has every item of that."""
    async with wire_server(None, AnswersInTurn()) as wire:
        body = items_of(wire, 12, pad=200_000)
        other = b"".join(reversed(body.splitlines(keepends=True)))
        cut = [head(200, f"Content-Length: {len(body)}", 'ETag: "a"') + body[: len(body) // 2], RESET]
        wire.turns["/items.ndjson"] = [cut, cut, [ok(other, 'ETag: "b"')]]
        first = await mirror(f"{wire.url}/items.ndjson", tmp_path, page_size=2)
        assert first.exit_code == 5
        assert "was changed while it was read" in first.reason
        second = await mirror(f"{wire.url}/items.ndjson", tmp_path, page_size=2)
    assert (second.verdict, second.mirror.items.complete) == ("complete", 12)


async def test_a_file_that_changed_is_walked_again(tmp_path: Path) -> None:
    """A cursor is an offset of one version of a file; in another one it may be amid an item."""
    items = write_items(tmp_path / "made", 12)
    path = tmp_path / "made" / "lines.ndjson"
    path.write_text("\n".join(map(json.dumps, items[1:])))
    await mirror(str(path), tmp_path / "out", page_size=5, max_items=7)
    path.write_text("\n".join(map(json.dumps, items)))
    notes = Notes()
    summary = await mirror(str(path), tmp_path / "out", notes, page_size=5)
    assert (summary.verdict, summary.mirror.items.complete) == ("complete", 12)
    assert any("from the start" in line for line in notes.lines)


@pytest.mark.parametrize(
    ("text", "code", "complete", "said"),
    [
        ('{"features": [ITEM, ITEM2', 5, 2, "ends in the middle"),
        ('ITEM\n{"id": "x", "assets": {}, "pro\nITEM2\n', 5, 2, "byte"),
        ('ITEM\n{"type": "Collection", "id": "x"}\nITEM2', 5, 2, "a Collection, not an item"),
    ],
)
async def test_a_damaged_file_is_named_and_the_rest_mirrored(
    tmp_path: Path, text: str, code: int, complete: int, said: str
) -> None:
    """A file that was cut, a broken line, something else than an item: said in one line, with what could be read."""
    items = write_items(tmp_path / "made", 2)
    path = tmp_path / "made" / "lines.json"
    path.write_text(text.replace("ITEM2", json.dumps(items[1])).replace("ITEM", json.dumps(items[0])))
    summary = await mirror(str(path), tmp_path / "out")
    assert (summary.exit_code, summary.mirror.items.complete) == (code, complete)
    assert said in summary.reason


@pytest.mark.parametrize(
    ("text", "said"), [("", "holds no items"), ("hello", "no item is before that"), ("1\n2\n", "no")]
)
async def test_a_file_without_items_makes_no_mirror(tmp_path: Path, text: str, said: str) -> None:
    """Said in one line (exit 5); another source may take its DEST then, since what was typed was a mistake."""
    path, target = tmp_path / "notes.txt", tmp_path / "out"
    path.write_text(text)
    with pytest.raises(NothingThere, match=said) as caught:
        await mirror(str(path), target)
    assert caught.value.exit_code == 5
    write_catalog(tmp_path / "catalog", collections=1, items=2)
    assert (await mirror(str(tmp_path / "catalog"), target)).verdict == "complete"


async def test_stdin_is_read_once_and_a_resume_skips_by_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` takes what is piped in; piped in again, no asset is asked for twice."""
    items = write_items(tmp_path / "made", 12)
    for one in items:
        one["assets"]["data"]["href"] = str(tmp_path / "made" / f"{one['id']}.txt")
    text = json.dumps({"type": "FeatureCollection", "features": items}).encode()

    def pipe() -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))

    pipe()
    first = await mirror("-", tmp_path / "out", page_size=5, max_items=7)
    assert first.mirror.items.complete == 7
    pipe()
    second = await mirror("-", tmp_path / "out", page_size=5)
    assert (second.verdict, second.mirror.items.complete) == ("complete", 12)
    assert second.run.assets.stored == 5


async def test_a_stream_takes_the_memory_of_a_page() -> None:
    """20,000 items of 2 kB, one FeatureCollection of 40 MB, are read in less than 16 MB."""
    count, filler = 20_000, "x" * 2000

    class Stream(io.RawIOBase):
        def __init__(self) -> None:
            self.parts = self._parts()

        def _parts(self) -> Any:
            yield b'{"type":"FeatureCollection","features":['
            for number in range(count):
                one = {"type": "Feature", "id": f"i{number}", "properties": {"x": filler}, "assets": {}, "links": []}
                yield (b"," if number else b"") + json.dumps(one).encode()
            yield b"]}"

        def read1(self, size: int) -> bytes:
            return next(self.parts, b"")

    catalog = FileCatalog("stdin", Stdin(Stream()), "", SystemClock(), 100, 1 << 20)  # type: ignore[arg-type]
    tracemalloc.start()
    seen = 0
    page = await catalog.page(START)
    while True:
        seen += len(page.items)
        if page.next is None:
            break
        page = await catalog.page(page.next)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == count
    assert peak < 16 << 20


# -- stac-geoparquet -------------------------------------------------------------------------------------------


def write_table(path: Path, items: list[dict[str, Any]]) -> None:
    """Write items as stac-geoparquet: properties as columns, WKB, a struct of assets, two row groups."""
    import struct
    from datetime import UTC, datetime

    import pyarrow as pa
    from pyarrow import parquet

    rows = [
        {
            **{name: one[name] for name in ("type", "stac_version", "id", "collection", "links")},
            "geometry": struct.pack("<BIdd", 1, 1, *one["geometry"]["coordinates"]),
            "bbox": dict(zip(("xmin", "ymin", "xmax", "ymax"), map(float, one["bbox"]), strict=True)),
            "assets": {**one["assets"], "odd": {"href": "x", "type": "y"} if number == 0 else None},
            "datetime": datetime(2020, 1, 1, tzinfo=UTC),
            "n": one["properties"]["n"],
        }
        for number, one in enumerate(items)
    ]
    parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)


@pytest.mark.parametrize("how", ["disk", "http"])
async def test_a_table_of_items(tmp_path: Path, how: str) -> None:
    """stac-geoparquet by record batches, here or by ranges of a URL; assets that other rows have are not an item's."""
    pytest.importorskip("pyarrow")
    items = write_items(tmp_path / "made", 18)
    write_table(tmp_path / "made" / "items.parquet", items)
    async with served(tmp_path / "made") as (url, _):
        source = f"{url}/items.parquet" if how == "http" else str(tmp_path / "made" / "items.parquet")
        first = await mirror(source, tmp_path / "out", page_size=5, max_items=8, asset=["data"], bbox="0,0,15,2")
        assert first.mirror.items.complete == 8
        summary = await mirror(source, tmp_path / "out", page_size=5, asset=["data"], bbox="0,0,15,2")
    assert (summary.verdict, summary.mirror.items.complete, summary.mirror.items.filtered) == ("complete", 16, 2)
    assert len(tree(tmp_path / "out")) == 16


class Ranges(WireServer):
    """Gives ranges of `body`, as `edit` changes them: told where one begins, the nth that is asked for."""

    def __init__(self, body: bytes, edit: Callable[[int, int], tuple[int, str, str]]) -> None:
        super().__init__()
        self._body = body
        self._edit = edit

    async def _say(self, script: Sequence[Step], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if found := re.search(r"\r\nrange: bytes=(\d+)-(\d+)", self.heard[-1], re.IGNORECASE):
            start, end = map(int, found.groups())
            start, total, etag = self._edit(start, len(self.heard))
            piece = self._body[start : start + end - int(found[1]) + 1]
            place = f"Content-Range: bytes {start}-{start + len(piece) - 1}/{total or len(self._body)}"
            script = [head(206, f"Content-Length: {len(piece)}", place, f"ETag: {etag}") + piece, KEEP]
        return await super()._say(script, reader, writer)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda start, nth: (start, "", f'"{min(nth, 3)}"'), "it was changed while it was read"),
        (lambda start, nth: (start and start - 1, "", '"a"'), "another range than was asked for"),
        (lambda start, nth: (start, "\xb2", '"a"'), "the server gives no ranges"),
        (lambda start, nth: (start, "9" * 5000, '"a"'), "the server gives no ranges"),
        (lambda start, nth: (start, "" if nth == 1 else "999999", '"a"'), "another range than was asked for"),
    ],
)
async def test_ranges_of_a_table_that_lie(
    tmp_path: Path, edit: Callable[[int, int], tuple[int, str, str]], said: str
) -> None:
    """Another version of it, another place, or an absurd size: one line and exit 5, and no item of two versions."""
    pytest.importorskip("pyarrow")
    write_table(tmp_path / "items.parquet", write_items(tmp_path / "made", 18))
    async with wire_server(None, Ranges((tmp_path / "items.parquet").read_bytes(), edit)) as wire:
        summary = await mirror(f"{wire.url}/items.parquet", tmp_path / "out", retries=0)
    assert summary.exit_code == 5
    assert said in summary.reason


async def test_a_tables_assets_may_be_a_column_of_maps(tmp_path: Path) -> None:
    """As pairs of key and asset: each is mirrored, where a struct has a field for every key of the table."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    kind = pa.map_(pa.string(), pa.struct([("href", pa.string())]))
    schema = pa.schema([("id", pa.string()), ("assets", kind)])
    rows = [{"id": "a", "assets": [("x", {"href": "x.txt"}), ("y", {"href": "y.txt"})]}, {"id": "b", "assets": []}]
    parquet.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "items.parquet")
    for name in ("x.txt", "y.txt"):
        (tmp_path / name).write_text(name)
    summary = await mirror(str(tmp_path / "items.parquet"), tmp_path / "out")
    assert (summary.verdict, summary.mirror.items.complete, summary.mirror.assets.stored) == ("complete", 2, 2)


async def test_a_catalog_in_public_leads_nowhere_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its links to items, children and assets in a network where it is not: named, not asked, and the rest is here.

    127.0.0.1 passes for a public address here, and no other of loopback does.
    """
    from stacmirror.transports import guard

    real = guard.kind_of
    monkeypatch.setattr(guard, "kind_of", lambda address: "public" if address == "127.0.0.1" else real(address))
    write_catalog(tmp_path / "catalog", collections=1, items=3)
    async with served(tmp_path / "catalog") as (url, asked):
        port = url.split(":")[2].split("/")[0]
        inside = f"http://127.0.0.2:{port}"
        place = tmp_path / "catalog" / "c0" / "collection.json"
        document = json.loads(place.read_text())
        document["links"] += [
            {"rel": "item", "href": f"{inside}/c0/c0-i0/c0-i0.json"},
            {"rel": "child", "href": "http://169.254.169.254/latest/catalog.json"},
        ]
        place.write_text(json.dumps(document))
        first = tmp_path / "catalog" / "c0" / "c0-i0" / "c0-i0.json"
        first.write_text(json.dumps(item("c0-i0", "c0", assets={"data": {"href": f"{inside}/secret"}})))
        asked.clear()
        summary = await mirror(f"{url}/catalog.json", tmp_path / "out", sweeps=0)
        assert (summary.exit_code, summary.mirror.items.complete, summary.mirror.items.incomplete) == (5, 2, 1)
        assert [failure.kind for failure in summary.failures] == ["host"]
        assert "where the source is not" in summary.reason
