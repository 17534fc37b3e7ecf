"""Sixty hostile names in every place a catalog has for one: no file outside, no two in one, no crash, no id lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stacmirror.layout import make_layout
from stacmirror.ledger import schema
from stacmirror.ledger.store import LedgerStore
from stacmirror.model import Asset, Item, ItemKey, ItemOutcome, ItemRecord, Receipt, Unit
from stacmirror.names import fold
from stacmirror.sinks.directory import DirectorySink
from tests.conftest import tree
from tests.contract.wire_server import KEEP, head, ok, wire_server
from tests.faults.invariants import Before, hold, ledger_files, mends
from tests.faults.names import NAMES
from tests.faults.world import COLLECTION, Bench, World, always

PLACES = [
    ("item", "item", ""),
    ("fanout", "fanout", ""),
    ("fields side by side", "template", "{collection}{item_id}{asset_key}{ext}"),
    ("fields in all places", "template", "{asset_key}/{hash2}/{item_id}/x-{collection}/{asset_key}{ext}"),
]
IDENTITY = tuple[str, str, str]
HOSTILE = [
    "half-moon-bay/video-2018", "../../etc/x", "/etc/x", "a/../../x", "..", ".", "nul\0byte", "line\nbreak", "-rf",
    "~root",
    "x" * 300, "CON", "back\\slash", "\u202egpj.exe", "[red]", "e\u0301", "\u00e9", "Case", "case", "blank ", "100%",
]  # fmt: skip
"""Item ids; some are one where case, normal form or blanks at the end do not count."""
TWINS = ["../evil", "../EVIL", "/etc/passwd", "\u00e9", "e\u0301"]
"""Asset keys of each of these."""


def test_there_are_sixty() -> None:
    """Sixty, no two alike."""
    assert len(NAMES) == len(set(NAMES)) == 60


def hostile_items(world: World) -> list[dict[str, Any]]:
    """Return items with each name as a collection, as an id, and as a key; each file's content is who it is."""
    keys = [(name, "i") for name in NAMES] + [(COLLECTION, name) for name in NAMES]
    items = [(collection, item, ["B01"]) for collection, item in keys] + [(COLLECTION, "keys", NAMES)]
    found = []
    for number, (collection, item, assets) in enumerate(items):
        links = {}
        for at, asset in enumerate(assets):
            path = f"/f/{number}/{at}"
            world.faults[path] = always(ok(repr((collection, item, asset)).encode()), KEEP)
            links[asset] = {"href": world.url + path}
        found.append({"id": item, "collection": collection, "properties": {}, "links": [], "assets": links})
    return found


def in_ledger(target: Path) -> set[IDENTITY]:
    """Return every stored asset's identity, as the ledger has it."""
    ledger = sqlite3.connect(target / ".stacmirror" / "ledger.sqlite")
    rows = ledger.execute(
        "SELECT c.id, i.id, i.receipts FROM item i JOIN collection c ON c.n = i.collection"
    ).fetchall()
    ledger.close()
    return {(collection, item, receipt.key) for collection, item, blob in rows for receipt in schema.unpack(blob)[0]}


def apart(files: Collection[str]) -> bool:
    """Return whether no two files, and no file and a folder, are one where case or normal form do not count."""
    paths = {fold(path) for path in files}
    folders = {fold(str(folder)) for path in files for folder in PurePosixPath(path).parents}
    return len(paths) == len(files) and not paths & folders


def test_what_is_apart() -> None:
    """Files by case and by normal form; a file where a folder is."""
    assert apart(["a/b", "A/c", "b"])
    assert not apart(["a/b", "a/B"])
    assert not apart(["e\u0301", "\u00e9"])
    assert not apart(["a/b", "A"])


def owned(target: Path) -> dict[IDENTITY, bytes]:
    """Return what rests where the ledger says that each asset's file is."""
    files = tree(target)
    return {(key.collection, key.id, receipt.key): files[path] for path, (key, receipt) in ledger_files(target).items()}


@pytest.mark.parametrize(("layout", "template"), [place[1:] for place in PLACES], ids=[place[0] for place in PLACES])
async def test_sixty_names_in_three_places(tmp_path: Path, layout: str, template: str) -> None:
    """As collection, item id and asset key: 180 files inside, apart, with their own bytes, and known by their true ids.

    Another run finds them all, and fetches nothing.
    """
    async with wire_server(None, World(["all"])) as world:
        items = hostile_items(world)

        def edit(page: dict[str, Any], start: int) -> None:
            page["features"] = items

        world.edit = edit
        bench = Bench(world, tmp_path / "mirror", "wire", 16)
        options = {"layout": layout, "path_template": template}
        run = await bench.run(**options)
        assert run.summary.exit_code == 0, run.summary.reason
        expected = {(one["collection"], one["id"], key) for one in items for key in one["assets"]}
        assert len(expected) == 180
        files = tree(bench.target)
        assert owned(bench.target) == {identity: repr(identity).encode() for identity in expected}
        assert len(files) == 180
        assert apart(files)
        assert in_ledger(bench.target) == expected
        assert [path.name for path in tmp_path.iterdir()] == ["mirror"]
        for path in files:
            assert path.isascii()
            assert path.isprintable()
            assert all(part[0] not in ".-" and part[-1] not in ". " and len(part) <= 220 for part in path.split("/"))
        before = {path: count for path, count in world.asked.items() if path.startswith("/f/")}
        again = await bench.run(**options)
        assert again.summary.exit_code == 0
        assert {path: count for path, count in world.asked.items() if path.startswith("/f/")} == before


async def test_sixty_names_of_redirects(tmp_path: Path) -> None:
    """Files named by where a link leads (`--layout notebook`): quoted and raw, inside, apart, none lost."""
    async with wire_server(None, World(["all"])) as world:
        spelled = [quote(name, safe="") for name in NAMES] + ["..%5c..", "x%ff%fe", "a?b=..%2f", "%e2%80%ae.tif"]
        assets = {}
        for number, name in enumerate(spelled):
            target = f"/deep/er/{number}/{name}"
            world.faults[f"/r/{number}"] = always(
                head(302, f"Location: {world.url}{target}", "Content-Length: 0"), KEEP
            )
            world.faults[target.partition("?")[0]] = always(ok(str(number).encode()), KEEP)
            assets[f"key{number}"] = {"href": f"{world.url}/r/{number}"}
        world.edit_item = lambda item: item.update(assets=assets)
        bench = Bench(world, tmp_path / "mirror", "wire", 16)
        run = await bench.run(layout="notebook", any_content=True)
    assert run.summary.exit_code == 0, run.summary.failures
    files = tree(bench.target)
    rest = owned(bench.target)
    assert {(item, key) for _, item, key in rest} == {(item, key) for item in world.ids for key in assets}
    assert all(body.decode() == key.removeprefix("key") for (_, _, key), body in rest.items())
    assert len(files) == len(rest)
    assert apart(files)
    assert [path.name for path in tmp_path.iterdir()] == ["mirror"]
    assert all(path.isascii() and path.isprintable() and path.count("/") == 1 for path in files)


async def holds_apart(bench: Bench, truths: dict[IDENTITY, bytes], layout: str) -> None:
    """Mirror items of the files `truths` by two runs: each has a file of its own inside, i1 to i7 hold."""
    before = Before()
    run = await bench.run(page_size=5, layout=layout, any_content=True)
    assert run.summary.exit_code == 0, run.summary.reason
    files = {path: (key.collection, key.id, receipt.key) for path, (key, receipt) in ledger_files(bench.target).items()}
    assert sorted(files.values()) == sorted(truths)
    expected = {path: truths[identity] for path, identity in files.items()}
    hold(bench, run, before, expected=expected)
    found = tree(bench.target)
    assert set(found) == set(expected)
    assert apart(found)
    assert [path.name for path in bench.target.parent.iterdir()] == [bench.target.name]
    for path in found:
        assert (bench.target / path).resolve().is_relative_to(bench.target.resolve())
        assert path.isascii()
        assert path.isprintable()
        assert all(len(part) <= 255 for part in path.split("/"))
    await mends(bench, expected=expected, page_size=5, layout=layout, any_content=True)
    assert not [path for path in bench.world.asked if path.startswith("/f/")], "i3: asked again"


async def test_names_that_bite(bench: Bench) -> None:
    """Slashes, dots, NUL, 300 bytes, twins by case and NFC as ids and keys: files of their own, inside (39, 40)."""
    world, truths = bench.world, {}
    world.ids = HOSTILE
    for number, item in enumerate(HOSTILE):
        for at, key in enumerate(TWINS):
            body = truths[(COLLECTION, item, key)] = repr((item, key)).encode()
            world.lasting[f"/f/{number}/{at}"] = always(ok(body), KEEP)

    def edit(item: dict[str, Any]) -> None:
        number = HOSTILE.index(item["id"])
        item["assets"] = {key: {"href": f"{world.url}/f/{number}/{at}"} for at, key in enumerate(TWINS)}

    world.edit_item = edit
    await holds_apart(bench, truths, "item")


async def test_files_of_one_name(bench: Bench) -> None:
    """Links of one item that lead to files of one name, or of one but for case: all kept (39)."""
    world, truths = bench.world, {}
    places = ["a/data.tif", "b/data.tif", "c/DATA.tif", "d/data.TIF", "e/data.tif?v=2"]
    for number, item in enumerate(world.ids):
        for place in places:
            path = f"/f/{number}/{place}"
            body = truths[(COLLECTION, item, place)] = path.encode()
            world.lasting[path.partition("?")[0]] = always(ok(body), KEEP)

    def edit(item: dict[str, Any]) -> None:
        number = world.ids.index(item["id"])
        item["assets"] = {place: {"href": f"{world.url}/f/{number}/{place}"} for place in places}

    world.edit_item = edit
    await holds_apart(bench, truths, "notebook")


texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=120) | st.sampled_from(NAMES)


@given(st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=4, unique=True), st.sampled_from(PLACES))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_names_rest_inside_and_apart(
    tmp_path: Path, identities: list[IDENTITY], place: tuple[str, str, str]
) -> None:
    """Arbitrary Unicode through layout, ledger and sink, as a run uses them: inside, apart, true ids kept."""
    root = tmp_path / str(len(list(tmp_path.iterdir())))
    target = root / "mirror"
    target.mkdir(parents=True)
    layout, sink = make_layout(*place[1:]), DirectorySink(str(target))
    ledger = LedgerStore(str(target / ".stacmirror/ledger.sqlite"))
    rests: dict[tuple[str, str], tuple[str, bytes]] = {}
    try:
        for number, (collection, item_id, key) in enumerate(dict.fromkeys(identities)):
            item = Item(ItemKey(collection, item_id), (Asset(key, "", "image/tiff"),), (), {}, b"", 0.0)
            folder, exclusive = layout.folder(item.key, item.key)
            unit, name = Unit(f"1-{number}", folder, exclusive), layout.names(item, item.assets)[key]
            content = repr((collection, item_id, key)).encode("utf-8", "surrogatepass")
            sink.stage(unit, [(name, content)])
            receipt = Receipt(key, name, len(content), "xxh3", bytes(16))
            record = ItemRecord(item.key, unit, [receipt], [], [], (), None, b"")
            for reveal in ledger.write([ItemOutcome(None, [record])], []):
                sink.reveal(reveal.unit, reveal.names)
                rests[collection, item_id] = f"{reveal.unit.folder}/{reveal.names[name]}".lstrip("/"), content
    finally:
        ledger.close()
        sink.close()
    files = tree(target)
    assert [path.name for path in root.iterdir()] == ["mirror"]
    assert apart(files)
    last = {(collection, item): (collection, item, key) for collection, item, key in identities}
    assert set(rests) == set(last)
    assert {path: files.get(path) for path, _ in rests.values()} == dict(rests.values())
    assert len({path for path, _ in rests.values()}) == len(rests)
    assert in_ledger(target) == set(last.values())
