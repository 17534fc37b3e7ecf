"""Whole mirrors of a STAC API: every way to page, every filter, resumes, and one line for what cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from stacmirror.errors import NothingThere, UsageError
from stacmirror.listings import list_collections
from stacmirror.mirror import Mirror
from stacmirror.model import Summary
from stacmirror.typed import build
from tests.conftest import tree
from tests.stac_server import FILTER, QUERY, SEARCH, SORT, StacServer, stac_server
from tests.unit.fakes import Notes


async def mirror(source: str, target: Path, notes: Notes | None = None, **values: object) -> Summary:
    chosen: dict[str, object] = {"page_size": 10, "workers": 8, "backoff": 0.01, "sync_every": 0.05, "retries": 2}
    settings = build(source, str(target), {**chosen, **values})
    return await Mirror(settings, observer=notes).run()


def everything(server: StacServer, folder: str = "scenes") -> dict[str, bytes]:
    """Return the files that a mirror of all items has."""
    return {
        f"{folder}/{item['id']}/{key}": server.content(item["id"], key)
        for item in server.items
        for key in item["assets"]
    }


def ids(target: Path) -> list[str]:
    return sorted(folder.name for folder in (target / "scenes").iterdir() if folder.is_dir())


@pytest.mark.parametrize("paging", ["token", "offset", "headers"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
async def test_a_collections_items_page_by_page(tmp_path: Path, paging: Any, packed: bool) -> None:
    """GET paging by token, offset or headers, packed or not: every item once, and the total is the server's."""
    async with stac_server() as server:
        server.paging, server.packed = paging, packed
        summary = await mirror(server.url, tmp_path, collection=["scenes"])
        assert (summary.verdict, summary.exit_code) == ("complete", 0)
        assert summary.mirror.items.complete == 25
        assert summary.mirror.listing.server_total == 25
        assert sorted(tree(tmp_path).values()) == sorted(everything(server).values())
        assert len(server.requests("/collections/scenes/items")) == 3
        assert not server.requests("/search")
        document = (tmp_path / "scenes" / "collection.json").read_bytes()
        assert b'"scenes"' in document


@pytest.mark.parametrize("client", ["wire", "aiohttp"])
async def test_headers_of_a_link_that_none_can_be(tmp_path: Path, client: str) -> None:
    """Names and values that no header may have are left out, and the others sent: the listing goes on."""

    def edit(page: dict[str, Any], start: int) -> None:
        for link in page["links"]:
            odd = {"": "a", "a b": "c", "x-lines": "a\r\nX-Evil: b", "x-é": "a", "x:y": "b", "authorization": "Basic x"}
            link["headers"] = {**link.get("headers", {}), **odd}

    async with stac_server() as server:
        server.paging, server.edit_page = "headers", edit
        summary = await mirror(server.url, tmp_path, collection=["scenes"], http_client=client)
        assert (summary.verdict, summary.mirror.items.complete) == ("complete", 25)
        sent = {name for headers in server.headers for name in headers}
    assert "x-start" in sent
    assert not sent & {"x-evil", "x-lines", "authorization", "", "a b", "x:y"}


@pytest.mark.parametrize("paging", ["merge", "post-body"])
async def test_post_paging_merges_bodies_as_the_link_says(tmp_path: Path, paging: Any) -> None:
    """With `merge` the next body is set in the one before, without it it stands alone; every request has the filter."""
    async with stac_server() as server:
        server.can += [QUERY]
        server.paging = paging
        summary = await mirror(server.url, tmp_path, collection=["scenes"], query=["eo:cloud_cover<22"])
        assert summary.mirror.items.complete == 22
        bodies = [body for request, body in server.requests("POST")]
        assert [body.get("token") for body in bodies] == [None, "next:s009", "next:s019"]
        assert all(body["query"] == {"eo:cloud_cover": {"lt": 22}} and body["limit"] == 10 for body in bodies)


@pytest.mark.parametrize("paging", ["token", "offset", "merge"])
async def test_a_mirror_goes_on_where_it_stopped(tmp_path: Path, paging: Any) -> None:
    """A keyset cursor is gone on with, an offset is walked again from the start; no asset is asked for twice."""
    async with stac_server() as server:
        server.paging = paging
        values: dict[str, Any] = {"collection": ["scenes"]}
        if paging == "merge":
            server.methods = ["POST"]
            values["item"] = [item["id"] for item in server.items]
        first = await mirror(server.url, tmp_path, max_items=12, **values)
        assert first.mirror.items.complete == 12
        server.asked.clear()
        second = await mirror(server.url, tmp_path, **values)
        assert (second.verdict, second.mirror.items.complete) == ("complete", 25)
        assert len(server.requests("/files/")) == 2 * 13
        pages = server.requests("/items?") + server.requests("/search")
        assert len(pages) == (3 if paging == "offset" else 2)


async def test_a_cursor_that_the_server_has_forgotten_means_the_start_again(tmp_path: Path) -> None:
    """A refused token (400, or pgstac's 500) on resuming: walked again, skipped by id, complete."""
    async with stac_server() as server:
        await mirror(server.url, tmp_path, collection=["scenes"], max_items=12)
        server.items = [item for item in server.items if item["id"] != "s009"]  # the token's
        notes = Notes()
        summary = await mirror(server.url, tmp_path, notes, collection=["scenes"])
        assert summary.mirror.items.complete == 25
        assert summary.verdict == "complete"
        assert any("walking again from the start" in line for line in notes.lines)


async def test_an_item_on_two_pages_is_one_item(tmp_path: Path) -> None:
    """Duplicates across pages (Planetary Computer has them) are counted and fetched once."""
    async with stac_server() as server:

        def repeat(page: dict[str, Any], start: int) -> None:
            if start:
                page["features"] = [server.items[start - 1], *page["features"]]

        server.edit_page = repeat
        summary = await mirror(server.url, tmp_path, collection=["scenes"])
        assert (summary.mirror.items.complete, summary.mirror.items.duplicate) == (25, 2)
        assert len(server.requests("/files/")) == 50


async def test_pages_that_are_too_much_are_halved_to_the_floor(tmp_path: Path) -> None:
    """502 on large pages halves them, and all come; below the floor no further."""
    async with stac_server() as server:
        server.page_max = 5
        summary = await mirror(server.url, tmp_path / "a", collection=["scenes"], page_size=20, retries=5)
        assert summary.mirror.items.complete == 25
        assert {request.partition("limit=")[2].partition("&")[0] for request, _ in server.requests("/items?")} == {
            "20", "10", "5",
        }  # fmt: skip
        summary = await mirror(server.url, tmp_path / "b", collection=["scenes"], page_size=20, page_size_floor=8)
        assert summary.exit_code == 5


async def test_a_next_link_at_another_host(tmp_path: Path) -> None:
    """Refused in one line, or asked at the root with --reroot; the root's own host on another port is the root."""
    async with stac_server() as server:
        server.next_at = "http://internal.example:8080/stac"
        summary = await mirror(server.url, tmp_path / "a", collection=["scenes"])
        assert summary.exit_code == 5
        assert "another host" in summary.reason
        assert "--reroot" in summary.hint
        summary = await mirror(server.url, tmp_path / "b", collection=["scenes"], reroot=True)
        assert summary.mirror.items.complete == 25
        server.next_at = "https://127.0.0.1:9/v1"
        summary = await mirror(server.url, tmp_path / "c", collection=["scenes"])
        assert summary.mirror.items.complete == 25


async def test_several_collections_and_all_of_them(tmp_path: Path) -> None:
    """One search over several, or all; where the API cannot search, list after list."""
    async with stac_server(12) as server:
        server.collections.append("labels")
        server.items += [server.make(f"l{number}", "labels", number) for number in range(12)]
        for number, can in enumerate(([*server.can], [name for name in server.can if name != SEARCH])):
            server.can = can
            both = await mirror(server.url, tmp_path / f"both{number}", collection=["scenes", "labels"])
            assert both.mirror.items.complete == 24
            every = await mirror(server.url, tmp_path / f"all{number}")
            assert (every.verdict, every.mirror.items.complete) == ("complete", 24)
        first = await mirror(server.url, tmp_path / "stopped", max_items=15)
        assert first.mirror.items.complete == 15
        second = await mirror(server.url, tmp_path / "stopped")
        assert (second.verdict, second.mirror.items.complete) == ("complete", 24)


async def test_a_collections_address_is_a_source(tmp_path: Path) -> None:
    """`.../collections/ID`, and its items' address, name API and collection."""
    async with stac_server() as server:
        for number, tail in enumerate(("", "/items")):
            summary = await mirror(f"{server.url}/collections/scenes{tail}", tmp_path / str(number))
            assert summary.mirror.items.complete == 25


@pytest.mark.parametrize(
    ("wanted", "expected", "sent"),
    [
        ({"bbox": "3,0,6,20"}, 25, "bbox=3%2C0%2C6%2C20"),
        ({"datetime": "2020-01-02/2020-01-03"}, 25, "datetime=2020-01-02T00:00:00Z%2F2020-01-03T23:59:59Z"),
        ({"item": ["s003", "s005"]}, 2, "ids=s003%2Cs005"),
        ({"query": ["eo:cloud_cover<4"]}, 4, None),
        ({"query": ['{"eo:cloud_cover": {"gte": 20}, "datetime": {"startsWith": "2020-01-2"}}']}, 5, None),
        ({"filter": "eo:cloud_cover < 4 OR eo:cloud_cover = 9"}, 5, None),
        ({"filter": '{"op": "<", "args": [{"property": "eo:cloud_cover"}, 3]}'}, 3, None),
        (
            {"intersects": '{"type":"Polygon","coordinates":[[[2.5,0],[5.5,0],[5.5,20],[2.5,20],[2.5,0]]]}'},
            25,
            "intersects=",
        ),
    ],
)
async def test_filters_are_sent_or_judged_here(
    tmp_path: Path, wanted: dict[str, object], expected: int, sent: str | None
) -> None:
    """What the API says that it can is sent (this one ignores some of it), the rest is judged here, and counted."""
    async with stac_server() as server:
        server.methods = ["GET"]
        summary = await mirror(server.url, tmp_path, collection=["scenes"], **wanted)
        assert (summary.verdict, summary.mirror.items.complete) == ("complete", expected)
        requests = " ".join(request for request, _ in server.requests("GET /v1/"))
        if sent is None:
            assert "query=" not in requests
            assert "filter" not in requests
            assert summary.mirror.items.filtered == 25 - expected
        else:
            assert sent in requests


@pytest.mark.parametrize("methods", [["GET"], ["GET", "POST"]])
async def test_many_ids_are_asked_for_in_portions(tmp_path: Path, methods: list[str]) -> None:
    """A split of 700 ids becomes searches that a server takes, and is gone on with in the same ones."""
    ids = [*(f"s{number:03}" for number in range(899, 199, -1)), "nonesuch"]
    async with stac_server(900) as server:
        server.methods = methods
        first = await mirror(server.url, tmp_path, collection=["scenes"], item=ids, max_items=301)
        second = await mirror(server.url, tmp_path, collection=["scenes"], item=ids)
        searches = [request for request in server.asked if request[0].split("?")[0].endswith("/search")]
    assert (first.verdict, first.mirror.items.complete) == ("complete", 301)
    assert (second.exit_code, second.mirror.items.complete) == (3, 700)
    assert second.reason == "the catalog lists no item nonesuch"
    assert second.run.items.listed < 500
    if "POST" in methods:
        assert max(len(body["ids"]) for _, body in searches) == 250
    else:
        assert max(len(path) for path, _ in searches) < 2000
    assert {path.name for path in (tmp_path / "scenes").iterdir() if path.is_dir()} == set(ids[:-1])


async def test_a_filter_goes_to_a_server_that_takes_it(tmp_path: Path) -> None:
    """CQL2 as JSON by POST, as text by GET; the server judges, and nothing is judged twice."""
    async with stac_server() as server:
        server.can += [FILTER]
        summary = await mirror(server.url, tmp_path / "post", collection=["scenes"], filter="eo:cloud_cover < 4")
        assert (summary.mirror.items.listed, summary.mirror.items.complete) == (4, 4)
        assert server.requests("POST")[0][1]["filter-lang"] == "cql2-json"
        server.methods = ["GET"]
        summary = await mirror(server.url, tmp_path / "get", collection=["scenes"], filter="eo:cloud_cover < 4")
        assert (summary.mirror.items.listed, summary.mirror.items.complete) == (4, 4)
        assert "filter-lang=cql2-text" in server.requests("GET /v1/search")[0][0]


async def test_another_search_is_another_listing(tmp_path: Path) -> None:
    """Narrower by --change-filter: the old cursor is not gone on with, and nothing unwanted comes."""
    async with stac_server(25) as server:
        server.can += [QUERY]
        server.methods = ["GET"]
        await mirror(server.url, tmp_path, collection=["scenes"], max_items=12)
        values: dict[str, Any] = {"collection": ["scenes"], "query": ["eo:cloud_cover<20"]}
        summary = await mirror(server.url, tmp_path, change_filter=True, **values)
        assert (summary.verdict, len(ids(tmp_path))) == ("complete", 20)


async def test_an_order_is_asked_for_or_refused(tmp_path: Path) -> None:
    """--sortby is sent where the server can sort, and refused in one line where it cannot."""
    async with stac_server() as server:
        with pytest.raises(UsageError, match="cannot sort"):
            await mirror(server.url, tmp_path / "a", collection=["scenes"], sortby=["-datetime"])
        server.can += [SORT]
        summary = await mirror(server.url, tmp_path / "b", collection=["scenes"], sortby=["-datetime"])
        assert summary.mirror.items.complete == 25
        assert "sortby=-datetime" in server.requests("/search")[0][0]


@pytest.mark.parametrize(
    ("collection", "refuse", "values", "code", "said"),
    [
        ("scene", {}, {}, 2, "no collection `scene` at URL; did you mean `scenes`?"),
        (
            "scenes",
            {"/search": (400, '{"description": "no property height"}')},
            {"item": ["a"]},
            2,
            "refuses the search",
        ),
        (
            "scenes",
            {"/search": (400, '{"description": "no property height"}')},
            {"item": ["a"]},
            2,
            "no property height",
        ),
        ("scenes", {}, {"asset": ["dat"]}, 2, "--asset `dat` matches no asset"),
        ("scenes", {"/collections/scenes/items": (401, "")}, {}, 4, "wants a login (401)"),
        ("scenes", {"/collections/scenes/items": (200, "<html>")}, {}, 5, "it is HTML"),
    ],
)
async def test_what_cannot_be_is_one_line(
    tmp_path: Path, collection: str, refuse: dict[str, Any], values: dict[str, Any], code: int, said: str
) -> None:
    """Each mistake ends with its exit code, and a line that names it and what there is."""
    async with stac_server() as server:
        server.refuse = refuse
        if code == 2:  # nothing was listed: DEST is no mirror, and the command put right makes one
            with pytest.raises(UsageError) as caught:
                await mirror(server.url, tmp_path, collection=[collection], **values)
            assert said.replace("URL", server.url) in caught.value.message
            assert "there are " in caught.value.hint or refuse
            server.refuse = {}
            summary = await mirror(server.url, tmp_path, collection=["scenes"])
            assert summary.verdict == "complete"
            return
        summary = await mirror(server.url, tmp_path, collection=[collection], **values)
        assert summary.exit_code == code
        assert said in summary.reason


async def test_what_is_no_api_is_said_to_be_none(tmp_path: Path) -> None:
    """A root with neither /search nor /collections, one that is no STAC at all, and one that is not there."""
    async with stac_server() as server:
        server.documents = DOCUMENTS
        for name, said in (("empty", "lists no items"), ("missing", "404")):
            summary = await mirror(server.url.replace("/v1", f"/other/{name}"), tmp_path / name)
            assert summary.exit_code == 5
            assert said in summary.reason
        with pytest.raises(NothingThere, match="is no STAC"):
            await mirror(server.url.replace("/v1", "/other/other"), tmp_path / "other")


CORE_ONLY = "https://api.stacspec.org/v1.0.0/core"
DOCUMENTS: dict[str, Any] = {
    "empty": {"type": "Catalog", "id": "x", "stac_version": "1.0.0", "conformsTo": [CORE_ONLY], "links": []},
    "other": {"hello": "world"},
}


@pytest.mark.parametrize(
    ("globs", "expected"),
    [
        (["da*"], {"data"}),
        (["role:thumbnail"], {"thumb"}),
        (["type:TEXT/*"], {"data"}),
        (["role:data", "thumb"], {"data", "thumb"}),
    ],
)
async def test_assets_by_key_role_and_media_type(tmp_path: Path, globs: list[str], expected: set[str]) -> None:
    """--asset takes globs over keys, `role:` and `type:`."""
    async with stac_server(3) as server:
        summary = await mirror(server.url, tmp_path, collection=["scenes"], asset=globs)
        assert summary.verdict == "complete"
        assert {path.rsplit("/", 1)[1].partition(".")[0] for path in tree(tmp_path)} == expected


async def test_collections_that_few_parsers_take(tmp_path: Path) -> None:
    """NaN in a list of collections and in the root, as Python writes it, costs neither."""
    async with stac_server() as server:
        links = [{"rel": "data", "href": f"{server.url}/collections"}]
        root = {"type": "Catalog", "id": "api", "conformsTo": server.can, "links": links, "extra": float("nan")}
        listed = {"collections": [{"id": "odd", "extra": float("nan")}], "links": []}
        said = {"/v1": json.dumps(root), "/v1/collections": json.dumps(listed)}

        async def guard(request: web.Request) -> web.Response | None:
            return web.Response(text=said[request.path]) if request.path in said else None

        server.guard = guard
        assert [info.id for info in await list_collections(build(server.url, "", {}), "")] == ["odd"]
