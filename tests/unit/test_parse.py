"""STAC JSON of all generations becomes plain values; what cannot be mirrored is refused in one line."""

import json
from typing import Any

import pytest

from stacmirror.catalogs.parse import (
    CAPS,
    Context,
    label_classes,
    parse_collection,
    parse_collections,
    parse_item,
    parse_page,
)
from stacmirror.errors import SourceUnreadable
from stacmirror.model import Asset, ItemKey, SourceLink

ROOT = "https://h/mlhub/v1"
CONTEXT = Context("page 7", "c", 12.5, lambda key: f"{ROOT}/collections/{key.collection}/items/{key.id}")


def page(features: Any = (), **more: Any) -> bytes:
    return json.dumps({"type": "FeatureCollection", "features": features, **more}).encode()


def one_item(**fields: Any) -> Any:
    return parse_item(json.dumps({"id": "a", **fields}).encode(), CONTEXT)


def test_items_keep_order_time_and_bytes() -> None:
    """Items come in server order, each with its own bytes as sent and the time of the answer."""
    body = b'{"features": [ {"id":"b" , "collection":"x"}, {"id":"a"}]}'
    parsed = parse_page(body, CONTEXT)
    assert [item.key for item in parsed.items] == [ItemKey("x", "b"), ItemKey("c", "a")]
    assert parsed.items[0].document == b'{"id":"b" , "collection":"x"}'
    assert parsed.items[0].read_at_s == 12.5


@pytest.mark.parametrize(
    ("more", "total"),
    [
        ({}, None),
        ({"numberMatched": 590326}, 590326),
        ({"context": {"limit": 10, "matched": 52}}, 52),
        ({"search:metadata": {"matched": 1, "limit": "10"}}, 1),
        ({"search:metadata": {"matched": "17"}}, 17),
        ({"numberMatched": None, "context": {"matched": 3}}, 3),
        ({"numberMatched": -1}, None),
        ({"numberMatched": True}, None),
        ({"context": None, "search:metadata": []}, None),
    ],
)
def test_total_is_found_where_the_generation_has_it(more: dict[str, Any], total: int | None) -> None:
    """2019, 2020 and 2022 say the total in three places; 2021 nowhere."""
    assert parse_page(page(**more), CONTEXT).total == total


@pytest.mark.parametrize(
    ("more", "href", "token"),
    [
        ({"links": [{"rel": "next", "href": "https://h/n"}]}, "https://h/n", ""),
        ({"links": [{"rel": "previous", "href": "https://h/p"}]}, "", ""),
        ({"links": [{"rel": "previous", "href": "p"}, {"rel": "next", "href": "n"}]}, "n", ""),
        ({"links": [{"rel": "next", "href": None}]}, "", ""),
        ({"links": [{"rel": "next"}]}, "", ""),
        ({"links": None}, "", ""),
        ({"links": [None, 3, {"rel": None}]}, "", ""),
        ({"search:metadata": {"next": None}}, "", ""),
        ({"search:metadata": {"next": 11}}, "", "11"),
        ({"search:metadata": {"next": "abc"}, "links": []}, "", "abc"),
        ({"search:metadata": {"next": "abc"}, "links": [{"rel": "next", "href": None}]}, "", ""),
    ],
)
def test_next_is_the_next_link_or_nothing(more: dict[str, Any], href: str, token: str) -> None:
    """`previous` is no `next`; a null or missing href is the end; 2019 gave a token in place of a link."""
    parsed = parse_page(page(**more), CONTEXT)
    assert (parsed.next_href, parsed.next_token) == (href, token)


def test_next_says_its_method() -> None:
    """GET is the default; POST is told."""
    assert parse_page(page(links=[{"rel": "next", "href": "x"}]), CONTEXT).next_method == "GET"
    assert parse_page(page(links=[{"rel": "next", "href": "x", "method": "post"}]), CONTEXT).next_method == "POST"


def test_nulls_everywhere_are_nothing() -> None:
    """An item whose fields are all null is an item without assets, links and properties."""
    item = one_item(collection=None, assets=None, links=None, properties=None, geometry=None, bbox=None)
    assert (item.key, item.assets, item.sources, item.properties) == (ItemKey("c", "a"), (), (), {})
    assert parse_page(page(None), CONTEXT).items == ()


def test_assets_are_read_whatever_their_fields_hold() -> None:
    """Null titles, odd roles, empty and missing hrefs: the asset stays, with href "" where there is none."""
    item = one_item(
        assets={
            "B01": {"href": "https://h/d?x=%7E#y", "type": "image/tiff", "title": None, "roles": ["data", None]},
            "rel": {"href": "../x.tif"},
            "empty": {"href": "", "roles": "data", "title": 5},
            "none": {"href": None},
            "null": None,
        }
    )
    assert item.assets == (
        Asset("B01", "https://h/d?x=%7E#y", "image/tiff", "", ("data",)),
        Asset("rel", f"{ROOT}/collections/c/x.tif"),
        Asset("empty", ""),
        Asset("none", ""),
        Asset("null", ""),
    )


def test_source_links_are_keys() -> None:
    """`rel=source` links give the linked item's key: percent-decoded, once each, never the item itself."""
    other = "https://api/mlhub/v1/collections/s/items/a%20b"
    item = one_item(
        links=[
            {"rel": "source", "href": f"{other}?x=1"},
            {"rel": "source", "href": other},
            {"rel": "source", "href": "../../s2/items/z"},
            {"rel": "source", "href": f"{ROOT}/collections/c/items/a"},
            {"rel": "source", "href": "https://elsewhere/scene.zip"},
            {"rel": "source", "href": None},
            {"rel": "derived_from", "href": f"{ROOT}/collections/s/items/d"},
            None,
        ]
    )
    assert item.sources == (
        SourceLink(ItemKey("s", "a b"), f"{other}?x=1"),
        SourceLink(ItemKey("s2", "z"), f"{ROOT}/collections/s2/items/z"),
    )


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE HTML><title>404", "HTML"),
        (b'{"features": [', "no JSON"),
        (b"[]", "not what it should be"),
        (b'{"detail": "gone"}', "not what it should be"),
        (b'{"features": {}}', "not what it should be"),
        (b'{"features": [{}]}', "without an id"),
        (b'{"features": [{"id": ""}]}', "without an id"),
        (b'{"features": [{"id": null}]}', "without an id"),
        (b'{"features": [{"id": true}]}', "without an id"),
        (b'{"features": [null]}', "not what it should be"),
        (b'{"features":' + b"[" * 100_000, "nested"),
        (b'{"features":[],"x":' + b'{"a":' * 100_000, "nested"),
        (b'{"features":[{"id":"a","properties":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}", "nested"),
        (b'{"features":[{"id":"\xff"}]}', "no JSON"),
    ],
)
def test_what_is_no_page_is_refused(body: bytes, word: str) -> None:
    """Errors, HTML, cut and hostile JSON give one line that names the page, never a traceback of another kind."""
    with pytest.raises(SourceUnreadable) as caught:
        parse_page(body, CONTEXT)
    assert "page 7" in caught.value.message
    assert word in caught.value.message
    assert "\n" not in caught.value.message


def test_too_many_assets_are_refused() -> None:
    """An item with more than 10,000 assets is a bomb."""
    for filler in ("", "x" * 100_000):  # small items are counted after they are decoded, large ones before
        with pytest.raises(SourceUnreadable, match="more than 10,000"):
            one_item(assets={str(number): {} for number in range(CAPS.assets_max + 1)}, filler=filler)
    assert len(one_item(assets={str(number): {} for number in range(CAPS.assets_max)}).assets) == CAPS.assets_max


@pytest.mark.parametrize(
    ("body", "item_id"),
    [
        (b'\xef\xbb\xbf{"features":[{"id":"a"}]}', "a"),
        (b'{"features":[{"id":"a","properties":{"v":NaN}}]}', "a"),
        (b'{"features":[{"id":"a","properties":{"n":' + b"9" * 5000 + b',"m":1e999}}]}', "a"),
        (b'{"features":[{"id":"b","id":"a"}]}', "a"),
        (b'{"features":[{"id":"a\\ud800"}]}', "a&#55296;"),
        (b'{"features":[{"id":17}]}', "17"),
        (b'{"features":[{"id":"a\\u0000/../b"}]}', "a\0/../b"),
    ],
)
def test_odd_but_real_json_is_read(body: bytes, item_id: str) -> None:
    """NaN, a byte order mark, numbers of 5,000 digits, doubled keys (the last one counts), numeric ids and lone
    surrogates (which no database keeps) do not cost the page."""
    assert parse_page(body, CONTEXT).items[0].key.id == item_id


def test_collection_says_what_must_be_cited() -> None:
    """License, citation, DOI, providers and the license's link are found; the document is kept without secrets."""
    body = json.dumps(
        {
            "id": "bigearthnet_v1_labels",
            "title": None,
            "license": "CDLA-Permissive-1.0",
            "sci:citation": "G. Sumbul",
            "sci:doi": "10.14279/depositonce-10149",
            "providers": [{"name": "BigEarthNet", "url": "https://h/?key=abc"}, {"name": None}, None],
            "links": [{"rel": "self", "href": "x"}, {"rel": "license", "href": "https://l"}],
        }
    ).encode()
    info = parse_collection(body, "it")
    assert (info.id, info.title, info.license) == ("bigearthnet_v1_labels", "", "CDLA-Permissive-1.0")
    assert (info.citation, info.doi) == ("G. Sumbul", "10.14279/depositonce-10149")
    assert (info.providers, info.license_href) == (("BigEarthNet",), "https://l")
    assert b"abc" not in info.document


def test_older_collections_keep_the_citation_under_properties() -> None:
    """STAC 0.8 and 0.9 had the scientific extension there."""
    info = parse_collection(b'{"id":"c","properties":{"sci:citation":"C","sci:doi":"D"},"providers":null}', "it")
    assert (info.citation, info.doi) == ("C", "D")


def test_collections_are_listed_in_order() -> None:
    """All collections of a listing, in its order; a listing without any is empty; no listing is refused."""
    assert [info.id for info in parse_collections(b'{"collections":[{"id":"b"},{"id":"a"}]}', "it")] == ["b", "a"]
    assert parse_collections(b'{"collections":null}', "it") == []
    with pytest.raises(SourceUnreadable):
        parse_collections(b'{"collections":[{"title":"x"}]}', "it")
    with pytest.raises(SourceUnreadable):
        parse_collections(b"[]", "it")


def test_label_classes_by_property() -> None:
    """Names may be null, classes booleans, the whole a single object; each class is said once."""
    item = one_item(
        properties={
            "label:classes": [
                {"name": "labels", "classes": ["Sea", "Airports", "Sea"]},
                {"name": "seasonal_snow", "classes": [False, True]},
                {"name": None, "classes": [0, 1, None]},
                {"name": "labels", "classes": ["Rice fields"]},
                {"name": "odd", "classes": None},
                None,
            ]
        }
    )
    assert label_classes(item) == {
        "labels": ["Sea", "Airports", "Rice fields"],
        "seasonal_snow": ["false", "true"],
        "": ["0", "1"],
        "odd": [],
    }
    assert label_classes(one_item(properties={"label:classes": {"name": "x", "classes": ["y"]}})) == {"x": ["y"]}
    assert label_classes(one_item()) == {}
