"""What the real MLHub API answered, from 2019 to 2021, is read whole. Skipped where the recordings are not at hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from stacmirror.catalogs.parse import (
    Context,
    ParsedPage,
    label_classes,
    parse_collection,
    parse_collections,
    parse_item,
    parse_page,
)
from stacmirror.catalogs.stac_api import cursor_of
from stacmirror.errors import SourceUnreadable
from stacmirror.layout import make_layout
from stacmirror.model import Item, ItemKey
from stacmirror.redact import redact_document

RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"
pytestmark = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="no recorded answers beside this checkout")

PAGES = [
    ("2019-notebook/items-african-crops-kenya.json", 1, 2, 1, False),
    ("2019-notebook/items-african-crops-kenya-01.json", 1, 953, 1, False),
    ("2021-fixtures/bigearthnet_v1_source_items_0.json", 30, 13, None, True),
    ("2021-fixtures/bigearthnet_v1_source_items_1.json", 30, 13, None, False),
    ("2021-gunicorn/items-page-1.json", 30, 13, None, True),
    ("2021-gunicorn/items-page-2.json", 22, 13, None, True),
    ("2021-gunicorn/items-page-3-empty.json", 0, 0, None, False),
]
COLLECTIONS = [
    "2021-fixtures/bigearthnet_v1_labels.json",
    "2021-fixtures/bigearthnet_v1_source.json",
    "2021-fixtures/su_african_crops_south_sudan_labels.json",
    "2021-gunicorn/collection-bigearthnet_v1_labels.json",
    "2021-gunicorn/collection-bigearthnet_v1_source.json",
]


def read(name: str) -> bytes:
    return (RECORDINGS / name).read_bytes()


def context(collection: str = "walked") -> Context:
    return Context("recorded", collection, 0.0, lambda key: f"https://h/collections/{key.collection}/items/{key.id}")


def page(name: str) -> ParsedPage:
    return parse_page(read(name), context())


@pytest.mark.parametrize(("name", "items", "assets", "total", "goes_on"), PAGES)
def test_pages(name: str, items: int, assets: int, total: int | None, goes_on: bool) -> None:
    """Each recorded page gives its items, their assets, its total and its next page."""
    parsed = page(name)
    assert len(parsed.items) == items
    assert all(len(item.assets) == assets for item in parsed.items)
    assert parsed.total == total
    assert bool(parsed.next_href) == goes_on
    raw = json.loads(read(name))["features"]
    for item, feature in zip(parsed.items, raw, strict=True):
        assert item.key == ItemKey(feature["collection"], feature["id"])
        assert json.loads(item.document) == feature
        assert {asset.key: asset.href for asset in item.assets} == {k: a["href"] for k, a in feature["assets"].items()}


@pytest.mark.parametrize("name", [name for name, *_, goes_on in PAGES if goes_on])
def test_cursors_are_keysets(name: str) -> None:
    """The cursors of 2021 name data, hold no page size, and can be used days later."""
    cursor = cursor_of(page(name).next_href)
    assert cursor.kind == "keyset"
    assert cursor.value.startswith("next=eyJ")
    assert "limit" not in cursor.value


def test_pages_share_no_item() -> None:
    """The pages of one walk are 52 different items."""
    ids = [item.key for number in (1, 2) for item in page(f"2021-gunicorn/items-page-{number}.json").items]
    assert len(set(ids)) == len(ids) == 52


@pytest.mark.parametrize("name", ["2021-fixtures/bigearthnet_v1_source_item.json",
                                  "2021-gunicorn/item-ref_african_crops_kenya_02_tile_02_20190721.json"])  # fmt: skip
def test_items(name: str) -> None:
    """A single item is read as on a page."""
    item = parse_item(read(name), context())
    assert len(item.assets) == 13
    assert item.properties["datetime"]


@pytest.mark.parametrize("name", COLLECTIONS)
def test_collections_can_be_cited(name: str) -> None:
    """Each recorded collection gives license, citation and DOI, and its providers where it has any."""
    info = parse_collection(read(name), name)
    assert info.license
    assert info.citation
    assert info.doi
    assert len(info.providers) == len(json.loads(read(name))["providers"])
    assert json.loads(info.document)["id"] == info.id


def test_collection_listing() -> None:
    """The listing of July 2021 (1.08 MB) is read whole, and has BigEarthNet in it."""
    infos = {info.id: info for info in parse_collections(read("2021-gunicorn/collections.json"), "all")}
    assert len(infos) == len(json.loads(read("2021-gunicorn/collections.json"))["collections"])
    assert infos["bigearthnet_v1_labels"].license == "CDLA-Permissive-1.0"


@pytest.mark.parametrize("name", ["401-item-bad-key", "401-items-no-key", "404-collection", "404-dataset", "404-item"])
def test_errors_are_no_pages(name: str) -> None:
    """The HTML of an error is refused in one line, as page, item and collection."""
    body = read(f"2021-gunicorn/error-{name}.html")
    for parse in (lambda: parse_page(body, context()), lambda: parse_item(body, context())):
        with pytest.raises(SourceUnreadable, match="recorded is no JSON \\(it is HTML\\)"):
            parse()
    with pytest.raises(SourceUnreadable):
        parse_collection(body, "recorded")


def test_label_classes_of_2020() -> None:
    """The recorded `label:classes`: 43 land cover classes and two flags."""
    listed: Any = json.loads(read("2020-06-notebook/bigearthnet-label-classes.json"))
    item = Item(ItemKey("c", "a"), (), (), {"label:classes": listed}, b"", 0.0)
    classes = label_classes(item)
    assert len(classes["labels"]) == 43
    assert sorted(classes["seasonal_snow"]) == sorted(classes["cloud_and_shadow"]) == ["False", "True"]


def test_redirect_targets_of_2020_name_the_notebooks_files() -> None:
    """Each of the 78 observed targets gives its own file name, and none of them clash within an item."""
    layout = make_layout("notebook", "")
    targets = read("2020-06-notebook/observed-redirect-targets.txt").decode().split()
    assert len(targets) == 78
    assert [layout.name_for_target(url, "k", ()) for url in targets] == [url.rpartition("/")[2] for url in targets]


@pytest.mark.parametrize("name", [name for name, *_ in PAGES])
def test_redacted_documents_hold_no_token(name: str) -> None:
    """What is kept of a recorded item has its structure and no download token."""
    for item in page(name).items:
        redacted = json.loads(redact_document(item.document))
        assert b"gAAAA" not in redact_document(item.document)
        assert redacted["id"] == item.key.id
        assert list(redacted["assets"]) == [asset.key for asset in item.assets]
        assert redacted["geometry"] == json.loads(item.document)["geometry"]
