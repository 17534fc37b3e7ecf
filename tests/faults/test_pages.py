"""Pages that lie: asked for again, then the run stops and names the page; what was listed before it is mirrored."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from stacmirror.status import read_failed
from tests.contract.wire_server import KEEP, RESET, STALL, Step, chunked, head, ok, wire_server
from tests.faults.invariants import Before, hold, mends
from tests.faults.world import COLLECTION, KEY, TYPES, Bench, World, always, login_page, once, path_of, truth

GZIPPED = "Content-Encoding: gzip"
SECOND = r"^/mlhub/v1/collections/c/items\?.*next=o2"
DEEP = b'{"features":' + b"[" * 100_000 + b"]" * 100_000 + b"}"

BRIEF = {"stall_timeout": 0.5}
LIES: dict[str, tuple[Step, ...]] = {
    "malformed": (ok(b'{"features": [{"id": "i2",, ]}'), KEEP),
    "cut, with its length": (ok(b'{"features": [{"id": "i2"'), KEEP),
    "cut": (head(200, "Content-Length: 5000"), b'{"features": [{"id": "i2"'),
    "cut, no length": (head(200), b'{"features": [{"id": "i2"', RESET),
    "HTML": (login_page(), KEEP),
    "empty": (ok(b""), KEEP),
    "an error in JSON": (ok(b'{"detail": "try again"}'), KEEP),
    "too large": (head(200, "Content-Length: 500000"), b" " * 500_000, KEEP),
    "too large, chunked": (head(200, "Transfer-Encoding: chunked"), chunked(*[b" " * 50_000] * 10), KEEP),
    "deep": (ok(DEEP), KEEP),
    "deep in an item": (ok(b'{"features":[{"id":"i2","properties":' + DEEP + b"}]}"), KEEP),
    "gzip cut": (ok(gzip.compress(b'{"features": []}' * 50)[:-9], GZIPPED), KEEP),
    "gzip bomb": (ok(gzip.compress(bytes(5_000_000)), GZIPPED), KEEP),
    "no gzip": (ok(b'{"features": []}', GZIPPED), KEEP),
    "links that are no list": (ok(b'{"features": [], "links": {"next": "?next=o4"}}'), KEEP),
    "an item without an id": (ok(b'{"features": [{"id": null}]}'), KEEP),
    "a coding nobody asked for": (ok(b"\x8b\x02\x80{}", "Content-Encoding: br"), KEEP),
    "silent": (STALL,),
    "500": (head(500, "Content-Length: 0"), KEEP),
    "206": (head(206, "Content-Length: 2", "Content-Range: bytes 0-1/9") + b"{}", KEEP),
}


@pytest.mark.parametrize("name", LIES)
async def test_a_page_that_lies_once(bench: Bench, name: str) -> None:
    """Asked for again, the page is good, and nothing is missing (row 31)."""
    asked = 0

    def lie(nth: int, body: bytes) -> Sequence[Step] | None:
        nonlocal asked
        asked += 1
        return LIES[name] if asked == 1 else None

    bench.world.faults[SECOND] = lie
    before = Before()
    run = await bench.run(**BRIEF if name == "silent" else {})
    hold(bench, run, before)
    assert (run.summary.exit_code, run.summary.mirror.items.complete) == (0, 6)
    assert asked >= 2


@pytest.mark.parametrize("body", [b"", b"no gzip", gzip.compress(b"{}")[:-3]], ids=["nothing", "text", "cut"])
async def test_answers_without_the_body_they_name(bench: Bench, body: bytes) -> None:
    """A redirect and a refusal, said to be packed, and they are not: one is followed, the other ends the run."""
    world = bench.world
    elsewhere = f"Location: {world.root}/collections/c/items?next=o4&limit=2"
    world.faults[SECOND] = always(head(307, GZIPPED, elsewhere, f"Content-Length: {len(body)}") + body, KEEP)
    world.faults["^.*next=o4.*"] = always(head(401, GZIPPED, f"Content-Length: {len(body)}") + body, KEEP)
    run = await bench.run(page_prefetch=0)
    assert run.summary.exit_code == 4, run.summary.reason
    assert sum("next=o4" in request for request in world.heard) <= 3
    await mends(bench)


@pytest.mark.parametrize("name", LIES)
async def test_a_page_that_lies_for_ever(bench: Bench, name: str) -> None:
    """The run stops with exit 5 and the page's number; what came before is there, and a later run goes on (row 31)."""
    bench.world.faults[SECOND] = always(*LIES[name])
    before = Before()
    run = await bench.run(retries=1, **BRIEF if name == "silent" else {})
    hold(bench, run, before)
    assert run.summary.exit_code == 5
    assert run.summary.reason.startswith("page 2 of the listing: ")
    assert run.summary.mirror.items.complete == 2
    assert not run.summary.mirror.listing.ended
    await mends(bench)


@pytest.mark.parametrize("fault", ["413", "too large", "502", "504", "timeout"])
async def test_pages_that_are_too_much_are_asked_for_by_halves(bench: Bench, fault: str) -> None:
    """Above two items a page fails: 8 become 4, then 2; the size is kept for the pages after it (point 5)."""
    steps: tuple[Step, ...] = {
        "too large": LIES["too large"],
        "timeout": (STALL,),
    }.get(fault, (head(int(fault) if fault.isdigit() else 0, "Content-Length: 0"), KEEP))
    limits: list[int] = []

    def answer(nth: int, body: bytes) -> Sequence[Step] | None:
        limit = int(parse_qs(urlsplit(bench.world.heard[-1].split(" ")[1]).query)["limit"][0])
        limits.append(limit)
        return steps if limit > 2 else None

    bench.world.faults["/mlhub/v1/collections/c/items"] = answer
    before = Before()
    run = await bench.run(page_size=8, retries=5, **BRIEF if fault == "timeout" else {})
    hold(bench, run, before)
    assert (run.summary.exit_code, run.summary.mirror.items.complete) == (0, 6)
    tries = 1 if fault in ("413", "too large") else 2
    assert limits[: 2 * tries] == [8] * tries + [4] * tries
    assert limits[2 * tries :] == [2, 2, 2] or fault == "timeout"  # a slow machine may see more of those


async def test_a_page_of_one_that_is_too_much_stops(bench: Bench) -> None:
    """413 for a page of one item: there is no smaller question, and the run says so."""
    bench.world.faults[SECOND] = always(head(413, "Content-Length: 0"), KEEP)
    run = await bench.run()
    assert run.summary.exit_code == 5
    assert "413" in run.summary.reason
    await mends(bench)


@pytest.mark.parametrize(
    ("nexts", "pages_max"),
    [({0: 0}, 1), ({0: 2, 2: 2}, 2), ({0: 2, 2: 0}, 2), ({0: 2, 2: 4, 4: 2}, 3)],
    ids=["first to first", "A to A", "back to the first", "A to B to A"],
)
async def test_a_listing_in_circles(bench: Bench, nexts: dict[int, int], pages_max: int) -> None:
    """Stops when it is led back; only the first page may be asked for twice: it has two addresses (row 32)."""

    def edit(page: dict[str, Any], start: int) -> None:
        page["links"] = [{"rel": "next", "href": bench.world.next_url(nexts[start])}]

    bench.world.edit = edit
    before = Before()
    run = await bench.run()
    hold(bench, run, before)
    assert (run.summary.exit_code, run.summary.mirror.items.complete) == (5, 2 * pages_max)
    assert "circles" in run.summary.reason
    assert bench.world.asked["/mlhub/v1/collections/c/items"] <= pages_max + (0 in nexts.values())
    await mends(bench)


async def test_new_addresses_without_new_items(bench: Bench) -> None:
    """Each page names a new one, all hold the same items: over after 3 pages without a new one (row 33).

    What these pages should have held is there after the next run: they are walked again.
    """
    bench.world.ids = [f"i{number}" for number in range(12)]

    def edit(page: dict[str, Any], start: int) -> None:
        page["features"] = [bench.world.item(name) for name in ("i0", "i1")]
        page["links"] = [{"rel": "next", "href": bench.world.next_url(start + 2)}]

    bench.world.edit = edit
    before = Before()
    run = await bench.run()
    hold(bench, run, before)
    assert (run.summary.exit_code, run.summary.mirror.items.complete) == (5, 2)
    assert "without a new item" in run.summary.reason
    # One with the items, three without a new one, and what was read ahead by then.
    assert bench.world.asked["/mlhub/v1/collections/c/items"] <= 4 + 2
    await mends(bench)


async def test_empty_pages(bench: Bench) -> None:
    """An empty page with a next is a page; a last page with a next to an empty one ends well (row 34)."""

    def edit(page: dict[str, Any], start: int) -> None:
        names = {0: ["i0", "i1"], 2: [], 4: ["i2", "i3", "i4", "i5"], 6: []}[start]
        page["features"] = [bench.world.item(name) for name in names]
        page["links"] = [{"rel": "next", "href": bench.world.next_url(start + 2)}] if start < 6 else []

    bench.world.edit = edit
    before = Before()
    run = await bench.run()
    hold(bench, run, before)
    assert (run.summary.exit_code, run.summary.mirror.items.complete) == (0, 6)
    await mends(bench)


ELSEWHERE = (
    "{other}/mlhub/v1/collections/c/items?next=o2",
    "ftp://127.0.0.1/x?next=o2",
    "file:///etc/passwd",
    "s3://bucket/items?next=o2",
    "/mlhub/v1/search?next=o2",
)


@pytest.mark.parametrize("to", ELSEWHERE)
async def test_a_next_elsewhere(bench: Bench, to: str) -> None:
    """Another host, scheme or list: the run stops, and nobody else is asked, let alone told the key (row 35)."""
    async with wire_server() as other:
        href = to.format(other=other.url.replace("127.0.0.1", "localhost"))

        def edit(page: dict[str, Any], start: int) -> None:
            page["links"] = [{"rel": "next", "href": href}]

        bench.world.edit = edit
        before = Before()
        run = await bench.run(retries=0)
        assert other.heard == []
    hold(bench, run, before)
    assert (run.summary.exit_code, run.summary.mirror.items.complete) == (5, 0)
    assert "next page is" in run.summary.reason
    await mends(bench)


async def test_items_that_come_again(bench: Bench) -> None:
    """On two pages, and twice on one: fetched once, counted as duplicates (row 36)."""

    def edit(page: dict[str, Any], start: int) -> None:
        page["features"] += [*page["features"][:1], bench.world.item("i0")]

    bench.world.edit = edit
    before = Before()
    run = await bench.run()
    hold(bench, run, before)
    items = run.summary.mirror.items
    assert (run.summary.exit_code, items.complete, items.duplicate) == (0, 6, 6)
    assert max(count for path, count in bench.world.asked.items() if path.startswith("/files/")) == 1
    assert run.said == []


@pytest.mark.parametrize("later", [False, True], ids=["in one run", "in a later run"])
async def test_two_items_with_one_id(bench: Bench, later: bool) -> None:
    """Two items with one id and different assets: the first is kept, and a line says so (row 36)."""
    if later:
        await bench.run(max_items=4)

    def edit(page: dict[str, Any], start: int) -> None:
        twin = bench.world.item("i0")
        twin["assets"]["B03"] = twin["assets"].pop("B01")
        if start == 4:
            page["features"].append(twin)

    bench.world.edit = edit
    before = Before()
    run = await bench.run()
    hold(bench, run, before)
    assert run.summary.exit_code == 0
    assert run.said == ["c/i0 is listed twice, with different assets: the first one is kept"]
    await mends(bench)


async def test_a_listing_that_changes_underfoot(bench: Bench) -> None:
    """Items come and go while paging: no crash, and the verdict knows the server's total (row 37)."""

    def edit(page: dict[str, Any], start: int) -> None:
        if start == 2:
            page["features"] = page["features"][:1]
        page["numberMatched"] = 9 if start else 6

    bench.world.edit = edit
    before = Before()
    run = await bench.run()
    files = {path: body for path, body in bench.world.expected().items() if "/i3/" not in path}
    hold(bench, run, before, expected=files)
    assert (run.summary.exit_code, run.summary.mirror.items.complete) == (0, 5)
    listing = run.summary.mirror.listing
    assert (listing.ended, listing.server_total) == (True, 9)


async def test_assets_that_lead_nowhere(bench: Bench) -> None:
    """No href, null, an unknown scheme, `data:`, `file:`: failures with a reason; relative ones are found (row 38)."""
    hrefs: dict[str, Any] = {
        "i0": None,
        "i1": "",
        "i2": "data:image/tiff,II*",
        "i3": "gopher://h/x",
        "i4": "file:///etc/passwd",
    }

    def edit(item: dict[str, Any]) -> None:
        if item["id"] in hrefs:
            item["assets"]["B01"]["href"] = hrefs[item["id"]]
        else:
            item["assets"]["B01"]["href"] = f"../../../../../go/{item['id']}/B01"
            del item["assets"]["raw"]["href"]

    bench.world.edit_item = edit
    before = Before()
    run = await bench.run()
    hold(bench, run, before)
    assert run.summary.exit_code == 3
    failed = {(one.item, one.asset): one.kind for one in read_failed(str(bench.target))}
    assert failed == {
        ("i0", "B01"): "no-href", ("i1", "B01"): "no-href", ("i2", "B01"): "scheme", ("i3", "B01"): "scheme",
        ("i4", "B01"): "scheme", ("i5", "raw"): "no-href",
    }  # fmt: skip
    bench.world.edit_item = lambda item: None
    await mends(bench)


async def test_items_with_little_in_them(bench: Bench) -> None:
    """No assets at all, null geometry, NaN, 5,000 digits, a doubled key, odd links: items like others (row 31)."""

    def edit(page: dict[str, Any], start: int) -> None:
        if start:
            return
        page["features"][0]["properties"] = {"n": float("nan"), "i": float("inf")}
        page["features"][1] |= {"bbox": None, "links": None, "properties": None}
        page["features"] += [
            {"id": "bare"},
            {"id": "null", "assets": None, "geometry": None},
            {"id": "e", "assets": {}},
        ]

    def digits(nth: int, body: bytes) -> Sequence[Step]:
        odd = body.replace(b'"properties": {}', b'"properties": {"n": ' + b"9" * 5000 + b', "n": 1e999}', 1)
        return ok(odd.replace(b'"id": "i2"', b'"id": "i3", "id": "i2"')), KEEP

    bench.world.edit = edit
    bench.world.faults[SECOND] = digits
    before = Before()
    run = await bench.run()
    hold(bench, run, before)
    assert (run.summary.exit_code, run.summary.mirror.items.complete) == (0, 9)


def test_the_world_is_as_it_says() -> None:
    """A page of the world holds its items, its links echo the key, and its assets are what their types say."""
    page = json.loads(World()._page("o0", 2))
    assert [item["id"] for item in page["features"]] == ["i0", "i1"]
    assert KEY in page["links"][0]["href"]
    assert set(World().expected()) == {path_of(f"i{n}", key) for n in range(6) for key in TYPES}
    assert truth("i0", "B02")[:4] == b"II*\0"
    assert COLLECTION in path_of("i0", "B01")
    assert once(b"x")(2, b"") is None
