"""The API of each generation: pages, items, errors, links."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from stacmirror.simulator import GENERATIONS, ITEMS_MAX

from .conftest import Start, ids_of, next_of, recorded


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("kind", ["labels", "source"])
async def test_a_walk_lists_every_item_once(start: Start, generation: int, kind: str) -> None:
    """Following next lists each item exactly once, whatever the page size."""
    client = await start(items=65, generation=generation)
    wanted = sorted(client.sim.item_id(i, f"bigearthnet_v1_{kind}") for i in range(65))
    for query in ("", "?limit=13", "?limit=65", "?limit=10000"):
        assert sorted(ids_of(await client.walk(kind, query))) == wanted


async def test_2021_pages_30_and_ends_with_an_empty_page(start: Start) -> None:
    """Without a limit 2021 gives 30, then the rest, then an empty page without links; no total."""
    pages = await (await start(items=52, generation=2021)).walk()
    assert [len(page["features"]) for page in pages] == [30, 22, 0]
    assert pages[-1] == recorded("2021-gunicorn/items-page-3-empty.json")
    assert all(set(page) == {"features", "links", "type"} for page in pages)


async def test_2020_pages_as_2021_with_a_total(start: Start) -> None:
    """2020 is 2021 with numberMatched."""
    pages = await (await start(items=52, generation=2020)).walk()
    assert [len(page["features"]) for page in pages] == [30, 22, 0]
    assert {page["numberMatched"] for page in pages} == {52}


async def test_2022_pages_10_newest_first_and_forgets_the_limit(start: Start) -> None:
    """2022 gives 10, counts in context, a next link without limit, and previous from page 2."""
    client = await start(items=52, generation=2022)
    pages = await client.walk()
    assert [len(page["features"]) for page in pages] == [10, 10, 10, 10, 10, 2]
    assert pages[1]["context"] == {"limit": 10, "matched": 52, "returned": 10}
    dates = [item["properties"]["datetime"] for page in pages for item in page["features"]]
    assert dates == sorted(dates, reverse=True)
    assert [[link["rel"] for link in page["links"]][4:] for page in pages] == [
        ["next"],
        *[["next", "previous"]] * 4,
        ["previous"],
    ]
    wide = await client.page(client.items_url("labels", "?limit=20"))
    following = next_of(wide)
    assert following is not None
    assert parse_qs(urlsplit(following).query) == {"token": [f"next:{wide['features'][-1]['id']}"]}
    assert "token=next%3A" in following


async def test_2022_previous_leads_back(start: Start) -> None:
    """The previous link of page 3 gives page 2 again."""
    client = await start(items=52, generation=2022)
    pages = await client.walk()
    back = next(link["href"] for link in pages[2]["links"] if link["rel"] == "previous")
    assert ids_of([await client.page(back)]) == ids_of([pages[1]])


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_a_cursor_works_in_another_server(start: Start, generation: int) -> None:
    """A cursor names data: a new simulator of the same seed goes on with the same items."""
    first, second = await start(generation=generation), await start(generation=generation)
    following = next_of(await first.page(first.items_url()))
    assert following is not None
    elsewhere = following.replace(first.sim.api_url, second.sim.api_url)
    assert ids_of([await first.page(following)]) == ids_of([await second.page(elsewhere)])


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_the_last_page_of_the_whole_archive_comes_at_once(start: Start, generation: int) -> None:
    """Of 590,326 items the first page and, by a cursor made from it, the last page are answered."""
    client = await start(items=ITEMS_MAX, generation=generation)
    first = await client.page(client.items_url())
    assert len(first["features"]) == (10 if generation == 2022 else 30)
    if generation == 2022:
        world = client.sim._world
        token = f"next:{client.sim.item_id(world.newest(ITEMS_MAX - 6))}"
        last = await client.page(client.items_url("labels", f"?token={token}"))
        assert ids_of([last]) == [client.sim.item_id(world.newest(ITEMS_MAX - n)) for n in (5, 4, 3, 2, 1)]
        assert next_of(last) is None
    else:
        following = next_of(first)
        assert following is not None
        token = json.loads(base64.urlsafe_b64decode(parse_qs(urlsplit(following).query)["next"][0] + "=="))
        assert set(token) == {"timestampAtLeast", "serialIdGreaterThan"}
        token["serialIdGreaterThan"] += ITEMS_MAX - 30 - 5
        cursor = base64.urlsafe_b64encode(json.dumps(token).encode()).decode().rstrip("=")
        last = await client.page(client.items_url("labels", f"?next={cursor}"))
        assert ids_of([last]) == [client.sim.item_id(ITEMS_MAX - n) for n in (5, 4, 3, 2, 1)]


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "limit=ten", "next=%21&token=%21", "next=MQ&token=next:x"])
async def test_a_bad_limit_or_cursor_is_400(start: Start, generation: int, query: str) -> None:
    """Limits outside 1..10,000 and foreign cursors are refused."""
    client = await start(generation=generation)
    status, _, _ = await client.get(client.items_url("labels", f"?key={client.sim.key}&{query}"))
    assert status == 400


async def test_2021_items_have_the_recorded_shape(start: Start) -> None:
    """A 2021 source item has the recorded keys, level by level, and the recorded constants."""
    client = await start(generation=2021)
    known: dict[str, Any] = recorded("2021-fixtures/bigearthnet_v1_source_item.json")
    made = await client.item(5, "source")
    assert set(made) == set(known)
    assert list(made["assets"]) == list(known["assets"])
    assert made["properties"] | {"datetime": ""} == known["properties"] | {"datetime": ""}
    for key, asset in known["assets"].items():
        assert set(made["assets"][key]) == set(asset)
        assert made["assets"][key]["eo:bands"] == asset["eo:bands"]
        assert made["assets"][key]["type"] == asset["type"]
        assert made["assets"][key]["title"] == f"{client.sim.patch_name(5)}_{key}"
    assert [{**link, "href": ""} for link in made["links"]] == [{**link, "href": ""} for link in known["links"]]
    page = await client.page(client.items_url("source"))
    known_page: dict[str, Any] = recorded("2021-fixtures/bigearthnet_v1_source_items_0.json")
    assert set(page) == set(known_page)
    assert [set(link) for link in page["links"]] == [set(link) for link in known_page["links"]]


@pytest.mark.parametrize("kind", ["labels", "source"])
async def test_2021_collections_are_the_recorded_ones(start: Start, kind: str) -> None:
    """A 2021 collection is the recorded one, to the byte but for the host: no type, a wrong bounding box."""
    client = await start(generation=2021)
    name = f"bigearthnet_v1_{kind}"
    status, _, body = await client.get(f"{client.sim.api_url}/collections/{name}")
    text = body.decode().replace(client.sim.api_url, "https://api.radiant.earth/mlhub/v1")
    assert status == 200
    assert json.loads(text) == recorded(f"2021-gunicorn/collection-{name}.json")


async def test_2022_collections_and_items_have_type_links_and_a_right_box(start: Start) -> None:
    """2022 collections have type and items link; items link to themselves and lie within the box."""
    client = await start(generation=2022)
    _, _, body = await client.get(f"{client.sim.api_url}/collections")
    found = {one["id"]: one for one in json.loads(body)["collections"]}["bigearthnet_v1_source"]
    assert found["type"] == "Collection"
    assert client.items_url("source") in [link["href"] for link in found["links"] if link["rel"] == "items"]
    west, south, east, north = found["extent"]["spatial"]["bbox"][0]
    for index in range(40):
        item = await client.item(index, "source")
        box = item["bbox"]
        assert west - 1 < box[0] < box[2] < east + 1
        assert south - 1 < box[1] < box[3] < north + 1
        assert {link["rel"] for link in item["links"]} == {"collection", "parent", "root", "self"}


@pytest.mark.parametrize(("generation", "assets"), [(2020, 12), (2021, 13), (2022, 13)])
async def test_booleans_and_assets_of_each_generation(start: Start, generation: int, assets: int) -> None:
    """JSON booleans and 12 assets in 2020; strings and 13 assets, B10 too, later."""
    client = await start(generation=generation)
    page = await client.page(client.items_url("labels", "?limit=200"))
    values = {item["properties"]["seasonal_snow"] for item in page["features"]}
    assert values == ({True, False} if generation == 2020 else {"true", "false"})
    source = await client.item(0, "source")
    assert len(source["assets"]) == assets
    assert ("B10" in source["assets"]) is (generation >= 2021)


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_label_items_name_their_classes_and_source(start: Start, generation: int) -> None:
    """A label item has the recorded label:classes, one asset `labels`, and a source link that answers."""
    client = await start(generation=generation)
    item = await client.item(7)
    assert item["properties"]["label:classes"] == recorded("2020-06-notebook/bigearthnet-label-classes.json")
    assert item["properties"]["labels"] == json.loads(client.sim.expected_files(7)["labels"])["labels"]
    assert list(item["assets"]) == ["labels"]
    (source,) = [link["href"] for link in item["links"] if link["rel"] == "source"]
    assert (await client.page(source))["id"] == client.sim.item_id(7, "bigearthnet_v1_source")


async def test_links_are_new_on_every_listing_and_carry_their_time(start: Start) -> None:
    """2021 links have 332 characters, their issue time in bytes 1-8, and are never given twice."""
    client = await start(generation=2021, clock=lambda: 1_600_000_000.5)
    hrefs = [(await client.item(0))["assets"]["labels"]["href"] for _ in range(2)]
    tokens = [href.rsplit("/", 1)[1] for href in hrefs]
    assert tokens[0] != tokens[1]
    for token in tokens:
        raw = base64.urlsafe_b64decode(token)
        assert (len(token), raw[0], struct.unpack(">Q", raw[1:9])) == (332, 0x80, (1_600_000_000,))


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_links_die_after_their_life_and_cannot_be_forged(start: Start, generation: int) -> None:
    """A link works to the last second of its life, is 403 after it; one changed character makes it 404."""
    now = [1_600_000_000.9]
    client = await start(generation=generation, link_life_s=60, clock=lambda: now[0])
    href = (await client.item(0))["assets"]["labels"]["href"]
    forged = href[:-1] + ("0" if href[-1] != "0" else "4")
    redirect = 303 if generation == 2022 else 302
    assert [(await client.get(url))[0] for url in (href, forged, href + "x")] == [redirect, 404, 404]
    now[0] += 60
    assert (await client.get(href))[0] == redirect
    now[0] += 1.2
    assert (await client.get(href))[0] == 403
    other = await start(generation=generation, key="f" * 64, clock=lambda: now[0])
    fresh = (await other.item(0))["assets"]["labels"]["href"]
    assert (await client.get(fresh.replace(other.sim.api_url, client.sim.api_url)))[0] == 404


async def test_redirects_go_where_the_generation_went(start: Start) -> None:
    """2020 redirects to the recorded kind of s3:// target, later ones to the blob host, same key."""
    for generation in GENERATIONS:
        client = await start(generation=generation)
        patch = client.sim.patch_name(2)
        base = "s3://radiant-mlhub" if generation == 2020 else client.sim.blobs_url
        label, source = await client.item(2), await client.item(2, "source")
        targets = []
        for href in (label["assets"]["labels"]["href"], source["assets"]["B8A"]["href"]):
            status, headers, _ = await client.get(href)
            assert status == (303 if generation == 2022 else 302)
            targets.append(headers["Location"])
        assert targets == [
            f"{base}/bigearthnet/labels/{patch}.geojson",
            f"{base}/bigearthnet/{patch}/{patch}_B8A.tif",
        ]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_the_redirect_status_can_be_chosen(start: Start, status: int) -> None:
    """Any redirect status can be asked for, and the other kind of target too."""
    client = await start(redirect_status=status, redirect_to="s3")
    got, headers, _ = await client.get((await client.item(0))["assets"]["labels"]["href"])
    assert got == status
    assert headers["Location"].startswith("s3://")


async def test_status_200_sends_the_file_itself(start: Start) -> None:
    """With redirect status 200 the link answers with the bytes; B10 is still missing."""
    client = await start(redirect_status=200)
    assets = (await client.item(4, "source"))["assets"]
    assert (await client.get(assets["B02"]["href"]))[2] == client.sim.expected_files(4)["B02"]
    assert (await client.get(assets["B10"]["href"]))[0] == 404


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_the_key_opens_items_and_nothing_else_needs_it(start: Start, generation: int) -> None:
    """Items need ?key= or Bearer; root, collections and links do not; wrong keys are 401."""
    client = await start(generation=generation)
    api, key = client.sim.api_url, client.sim.key
    item = f"{client.items_url()}/{client.sim.item_id(0)}"
    for url in (item, client.items_url()):
        assert (await client.get(url))[0] == 401
        assert (await client.get(f"{url}?key={key[:-1]}"))[0] == 401
        assert (await client.get(url, Authorization="Bearer wrong"))[0] == 401
        assert (await client.get(f"{url}?key={key}"))[0] == 200
        assert (await client.get(url, Authorization=f"Bearer {key}"))[0] == 200
    for path in ("", "/", "/collections", "/collections/bigearthnet_v1_labels"):
        assert (await client.get(api + path))[0] == 200
    assert [record.credential for record in client.sim.requests][:5] == [
        None,
        "key:wrong",
        "bearer:wrong",
        "key",
        "bearer",
    ]
    assert key not in repr(list(client.sim.requests))


async def test_errors_are_html_then_json(start: Start) -> None:
    """401 and 404 are the recorded HTML in 2021 and the recorded JSON in 2022."""
    early, late = await start(generation=2021), await start(generation=2022)
    missing = f"/collections/bigearthnet_v1_labels/items/none?key={early.sim.key}"
    _, headers, unauthorized = await early.get(early.items_url())
    assert headers["Content-Type"].startswith("text/html")
    assert b"The server could not verify that you are authorized" in unauthorized
    status, _, body = await early.get(early.sim.api_url + missing)
    assert (status, b"<h1>Not Found</h1>" in body) == (404, True)
    status, _, body = await late.get(late.items_url())
    assert (status, json.loads(body)) == (
        401,
        {"detail": "Must provide API key or Bearer token to access this route."},
    )
    status, _, body = await late.get(late.sim.api_url + "/collections/no_collection")
    assert (status, json.loads(body)) == (404, {"detail": "Collection no_collection does not exist."})
    for below in ("", "/items", "/items/one"):
        url = f"/collections/nope{below}?key={late.sim.key}"
        status, _, body = await late.get(late.sim.api_url + url)
        assert (status, json.loads(body)) == (404, {"detail": "Collection nope does not exist."})
        status, headers, _ = await early.get(early.sim.api_url + url)
        assert (status, headers["Content-Type"].startswith("text/html")) == (404, True)


@pytest.mark.parametrize("path", ["/collections/bigearthnet_v1_labels/items", "/mlhub/v1x/collections", "/"])
async def test_nothing_is_served_beside_the_root(start: Start, path: str) -> None:
    """An --api-url without /mlhub/v1 finds nothing, as it did at MLHub: no page that hides the mistake."""
    client = await start()
    host = client.sim.api_url.removesuffix("/mlhub/v1")
    assert (await client.get(f"{host}{path}?key={client.sim.key}"))[0] == 404


@pytest.mark.parametrize(("generation", "indented"), [(2020, True), (2021, True), (2022, False)])
async def test_json_is_indented_then_compact(start: Start, generation: int, indented: bool) -> None:
    """Until 2021 JSON is indented as gunicorn's was; in 2022 it is compact."""
    client = await start(items=3, generation=generation)
    key = f"?key={client.sim.key}"
    page, item = client.items_url("source", key), f"{client.items_url()}/{client.sim.item_id(0)}{key}"
    for url in (page, item, f"{client.sim.api_url}/collections", client.sim.api_url):
        text = (await client.get(url))[2].decode()
        assert ("\n    " in text) is indented


async def test_2022_zips_what_a_client_takes_zipped(start: Start) -> None:
    """2022 answers gzip to a client that asks, plain to one that does not; 2021 always plain."""
    client = await start(generation=2022)
    url = client.items_url("labels", f"?key={client.sim.key}")
    _, zipped, first = await client.get(url, Accept_Encoding="gzip")
    _, plain, second = await client.get(url, Accept_Encoding="identity")
    assert zipped["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain
    assert ids_of([json.loads(first)]) == ids_of([json.loads(second)])
    early = await start(generation=2021)
    _, never, _ = await early.get(early.items_url("labels", f"?key={early.sim.key}"), Accept_Encoding="gzip")
    assert "Content-Encoding" not in never
