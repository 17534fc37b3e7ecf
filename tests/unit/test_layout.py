"""Paths follow from ids and keys, never leave the target, and never meet."""

import json
import re
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacmirror.errors import UsageError
from stacmirror.layout import make_layout
from stacmirror.model import Asset, Item, ItemKey
from stacmirror.names import NAME_MAX_BYTES, RESERVED, extension, fold, hash2, safe_name

PATCH = "S2A_MSIL2A_20170613T101031_0_45"
SOURCE = ItemKey("bigearthnet_v1_source", f"bigearthnet_v1_source_{PATCH}")
LABEL = ItemKey("bigearthnet_v1_labels", f"bigearthnet_v1_labels_{PATCH}")
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
LAYOUTS = [
    ("item", ""),
    ("fanout", ""),
    ("bigearthnet", ""),
    ("template", "{item_id}-{asset_key}{ext}"),
    ("template", "x/{hash2}/{collection}{item_id}/{asset_key}/d{ext}"),
]
HOSTILE = [
    "", ".", "..", "../../etc/x", "/etc/x", "a/../../x", "a\\b", "\0", "a\nb", "\ud800", "\udcc3\udca9", "-rf", "~root",
    "CON", "con.txt", "LPT9", "x" * 300, "\u202egpj", "[red]", "half-moon-bay/video", "é", "e\u0301", "a.", "a ", "%2F",
    "C:\\x", ".stacmirror", "collection.json", "CITATION.TXT", "ä" * 150,
]  # fmt: skip
texts = st.text(alphabet=st.characters(exclude_categories=()), max_size=260) | st.sampled_from(HOSTILE)


def item(key: ItemKey, *keys: str, media_type: str = COG, properties: dict[str, object] | None = None) -> Item:
    assets = tuple(Asset(name, "", media_type) for name in keys)
    return Item(key, assets, (), properties or {}, b"", 0.0)


def is_safe(path: str) -> bool:
    return all(
        re.fullmatch(r"[A-Za-z0-9._%@ -]+", part)
        and part[0] not in ".-"
        and part[-1] not in ". "
        and len(part.encode()) <= NAME_MAX_BYTES
        and part.lower() not in RESERVED
        and not PurePosixPath(part).is_absolute()
        for part in path.split("/")
    )


@given(texts)
def test_safe_name_is_one_safe_part(text: str) -> None:
    """Any text becomes one part: portable, not hidden, no option, not reserved, at most 200 bytes."""
    assert is_safe(safe_name(text))
    assert "/" not in safe_name(text)
    assert not re.match(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)", safe_name(text))


@given(texts, texts)
def test_safe_name_is_injective(one: str, other: str) -> None:
    """Two texts share a name only if they are one text."""
    assert (safe_name(one) == safe_name(other)) == (one == other)


@given(texts)
def test_a_name_is_not_its_own_source(text: str) -> None:
    """A text that spells another's safe name (escapes, hash tail and all) gets a name of its own."""
    name = safe_name(text)
    assert name == text or safe_name(name) != name


def test_hostile_names_stay_apart() -> None:
    """The hostile texts get as many names, also where case and normalization do not count."""
    assert len({fold(safe_name(text)) for text in HOSTILE}) == len(HOSTILE)


def test_plain_names_stay_readable() -> None:
    """What needs no escape is not touched."""
    assert safe_name(SOURCE.id) == SOURCE.id
    assert safe_name("a b.tif") == "a%20b.tif"


@pytest.mark.parametrize(("name", "template"), LAYOUTS)
@given(texts, texts, texts)
def test_paths_stay_inside(name: str, template: str, collection: str, item_id: str, key: str) -> None:
    """Whatever collection, id and key hold, folder and name are safe relative paths."""
    layout = make_layout(name, template)
    one = item(ItemKey(collection, item_id), key)
    folder, _ = layout.folder(one.key, one.key)
    path = "/".join(part for part in (folder, layout.names(one, one.assets)[key]) if part)
    assert is_safe(path)


def test_layout_item() -> None:
    """The default is the official archive's way."""
    layout = make_layout("item", "")
    assert layout.folder(SOURCE, LABEL) == (f"{SOURCE.collection}/{SOURCE.id}", True)
    one = item(SOURCE, "B01", "B8A")
    assert layout.names(one, one.assets) == {"B01": "B01.tif", "B8A": "B8A.tif"}
    assert (layout.one_to_one, layout.names_from_target) == (False, False)


def test_layout_fanout_spreads() -> None:
    """590,326 items over 256 folders would be a few thousand each: 20,000 ids are spread within 40 % of even."""
    layout = make_layout("fanout", "")
    assert layout.folder(SOURCE, SOURCE) == (f"{SOURCE.collection}/{hash2(SOURCE.id)}/{SOURCE.id}", True)
    counts: dict[str, int] = {}
    for number in range(20_000):
        counts[hash2(f"item_{number}")] = counts.get(hash2(f"item_{number}"), 0) + 1
    assert len(counts) == 256
    assert max(counts.values()) < 1.4 * 20_000 / 256 + 10


def test_hash2_never_changes() -> None:
    """`printf abc | sha256sum` begins with ba."""
    assert hash2("abc") == "ba"


def test_layout_notebook() -> None:
    """Label and source share the label's folder; names come from the redirect's target."""
    layout = make_layout("notebook", "")
    assert layout.folder(SOURCE, LABEL) == layout.folder(LABEL, LABEL) == (LABEL.id, True)
    one = item(SOURCE, "B01")
    assert layout.names(one, one.assets) == {"B01": ""}
    assert (layout.one_to_one, layout.names_from_target) == (True, True)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"s3://radiant-mlhub/bigearthnet/{PATCH}/{PATCH}_B01.tif", f"{PATCH}_B01.tif"),
        ("https://h/a/b%20c.tif?sig=x#y", "b%20c.tif"),
        ("https://h/a/..%2F..%2Fetc", "%2E.%2F..%2Fetc"),
        ("https://h/", "B01"),
        ("https://h", "B01"),
        ("https://h/download/gAAAAABjH4XW" + "x" * 320, "B01"),
        ("https://h/download/" + "0f" * 32, "B01"),
    ],
)
def test_name_for_target(url: str, expected: str) -> None:
    """The target's own name, made safe; the key where there is none, or a token that must not become a name."""
    assert make_layout("notebook", "").name_for_target(url, "B01", ()) == expected


def test_name_for_target_avoids_taken_names() -> None:
    """A name that is taken in any case gets a tail from the key, the same each time, and keeps its suffix."""
    layout = make_layout("notebook", "")
    first = layout.name_for_target("s3://b/x.tif", "B01", {"X.TIF"})
    assert first == layout.name_for_target("s3://b/x.tif", "B01", ["X.TIF"])
    assert re.fullmatch(r"x%-[0-9a-f]{16}\.tif", first)
    assert layout.name_for_target("s3://b/x.tif", "B01", {"X.TIF", first}) not in ("x.tif", first)
    assert layout.name_for_target("s3://b/x.tif", "B02", {"X.TIF"}) != first


def test_layout_bigearthnet() -> None:
    """torchgeo sees band files and exactly one JSON; the label is no .json and no .tif, whatever its type says."""
    layout = make_layout("bigearthnet", "")
    folder = f"BigEarthNet-v1.0/{PATCH}"
    assert layout.folder(SOURCE, LABEL) == layout.folder(LABEL, LABEL) == (folder, True)
    source = item(SOURCE, "B01", "B8A")
    assert layout.names(source, source.assets) == {"B01": f"{PATCH}_B01.tif", "B8A": f"{PATCH}_B8A.tif"}
    for media_type in ("application/json", "image/tiff", "", "application/geo+json"):
        label = item(LABEL, "labels", media_type=media_type)
        assert layout.names(label, label.assets) == {"labels": f"{PATCH}_labels.geojson"}
    other = item(SOURCE, "stac", media_type="application/json")
    assert layout.names(other, other.assets) == {"stac": f"{PATCH}_stac.geojson"}


def test_bigearthnet_metadata_from_the_label_asset() -> None:
    """A label file in the official form gives exactly the official keys."""
    official = {
        "labels": ["Sea"],
        "coordinates": {"ulx": 1},
        "projection": "P",
        "tile_source": "T",
        "acquisition_date": "D",
    }
    content = json.dumps({**official, "more": 1}).encode()
    [(key, name, written)] = make_layout("bigearthnet", "").derived(item(LABEL, "labels"), {"labels": content})
    assert (key, name) == ("@labels_metadata", f"{PATCH}_labels_metadata.json")
    assert json.loads(written) == official


@pytest.mark.parametrize(
    "content", [b'{"type":"FeatureCollection"}', b"no json", b"[1]", b'{"labels":"x"}', b"[" * 9999]
)
def test_bigearthnet_metadata_from_properties(content: bytes) -> None:
    """Any other label file leaves it to the item's own properties."""
    label = item(LABEL, "labels", properties={"labels": ["Sea"], "datetime": "2017-06-13T10:10:31Z"})
    [(_, _, written)] = make_layout("bigearthnet", "").derived(label, {"labels": content})
    assert json.loads(written) == {"labels": ["Sea"], "acquisition_date": "2017-06-13 10:10:31"}


def test_derived_is_empty_elsewhere() -> None:
    """A source item, and every other layout, derives nothing."""
    assert make_layout("bigearthnet", "").derived(item(SOURCE, "B01"), {"B01": b"II*"}) == []
    assert make_layout("item", "").derived(item(LABEL, "labels"), {"labels": b'{"labels":[]}'}) == []


def test_names_that_differ_by_case_are_kept_apart() -> None:
    """The second of two such keys gets a tail, whatever the order in the item and whichever are asked for."""
    layout = make_layout("item", "")
    one = item(SOURCE, "b01", "B01")
    names = layout.names(one, one.assets)
    assert names["B01"] == "B01.tif"
    assert re.fullmatch(r"b01%-[0-9a-f]{16}\.tif", names["b01"])
    assert layout.names(item(SOURCE, "B01", "b01"), one.assets) == names
    assert layout.names(one, one.assets[:1]) == {"b01": names["b01"]}
    mixed = item(SOURCE, "Red", "rED", "reD")
    assert len({fold(name) for name in layout.names(mixed, mixed.assets).values()}) == 3


def test_names_that_are_equal_are_kept_apart() -> None:
    """`a` as .json, and `a.json` as nothing, would be one file."""
    assets = (Asset("a", "", "application/json"), Asset("a.json", ""))
    names = make_layout("item", "").names(Item(SOURCE, assets, (), {}, b"", 0.0), assets)
    assert names["a"] == "a.json"
    assert names["a.json"] != "a.json"


def test_long_names_keep_their_extension() -> None:
    """The hash tail stands before the extension, within 200 bytes."""
    one = item(SOURCE, "x" * 250)
    name = make_layout("item", "").names(one, one.assets)["x" * 250]
    assert name.endswith(".tif")
    assert len(name) == NAME_MAX_BYTES


def test_template_of_ones_own() -> None:
    """Parts without an asset are the folder; it is the item's alone only where the item's id is in it."""
    layout = make_layout("template", "{collection}/{item_id}/data/{asset_key}{ext}")
    assert layout.folder(SOURCE, LABEL) == (f"{SOURCE.collection}/{SOURCE.id}/data", True)
    flat = make_layout("template", "{collection}/{item_id}_{asset_key}{ext}")
    assert flat.folder(SOURCE, LABEL) == (SOURCE.collection, False)
    one = item(SOURCE, "B01")
    assert flat.names(one, one.assets) == {"B01": f"{SOURCE.id}_B01.tif"}
    bare = make_layout("template", "{item_id}_{asset_key}{ext}")
    assert bare.folder(SOURCE, LABEL) == ("", False)
    by_asset = make_layout("template", "{asset_key}/{item_id}{ext}")
    assert by_asset.folder(SOURCE, LABEL) == ("", False)
    assert by_asset.names(one, one.assets) == {"B01": f"B01/{SOURCE.id}.tif"}


@pytest.mark.parametrize(
    ("name", "template", "word"),
    [
        ("template", "", "needs --path-template"),
        ("nosuch", "", "no layout 'nosuch'"),
        ("notebook", "{item_id}/{asset_key}", "contradict each other"),
        ("item", "{item_id}/{asset_key}", "contradict each other"),
        ("template", "/{item_id}/{asset_key}", "relative"),
        ("template", "~/{item_id}/{asset_key}", "relative"),
        ("template", "../{item_id}/{asset_key}", "leaves the target"),
        ("template", "a/./{item_id}/{asset_key}", "leaves the target"),
        ("template", ".stacmirror/{item_id}/{asset_key}", "reserved"),
        ("template", "{item_id}//{asset_key}", "empty"),
        ("template", "{item_id}/{asset_key}/", "empty"),
        ("template", "{item_id}/x{ext}", "no {asset_key}"),
        ("template", "{collection}/{asset_key}", "no {item_id}"),
        ("template", "{item_id}/{asset_key", "braces"),
        ("template", "{item_id}}/{asset_key}", "braces"),
        ("template", "{item_id}/{band}/{asset_key}", "no field {band}"),
        ("template", "{patch}/{item_id}/{asset_key}", "no field {patch}"),
        ("template", "{item_id!r}/{asset_key}", "no field {item_id!r}"),
        ("template", "{item_id:>9}/{asset_key}", "no field {item_id:>9}"),
        ("template", "{}/{item_id}/{asset_key}", "no field {}"),
        ("template", "C:\\{item_id}\\{asset_key}", "characters"),
        ("template", "{item_id}/{{{asset_key}", "characters"),
        ("template", "a\n/{item_id}/{asset_key}", "characters"),
    ],
)
def test_bad_layouts_are_refused_in_one_line(name: str, template: str, word: str) -> None:
    """A layout that cannot be gets one line that says what is wrong, and exit code 2."""
    with pytest.raises(UsageError) as caught:
        make_layout(name, template)
    assert word in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("media_type", "href", "expected"),
    [
        (COG, "", ".tif"),
        ("IMAGE/TIFF", "", ".tif"),
        ("image/vnd.stac.geotiff; cloud-optimized=true", "", ".tif"),
        ("image/jp2", "https://h/x.tif", ".jp2"),
        ("application/geo+json", "", ".geojson"),
        ("application/json", "", ".json"),
        ("text/csv; charset=utf-8", "", ".csv"),
        ("", "https://h/a/B02.JP2?x=y.z", ".jp2"),
        ("application/octet-stream", "s3://b/a.tar.gz", ".tar.gz"),
        ("", "https://h/download/gAAAAABjH4XW" + "x" * 320, ""),
        ("", "https://h/a.b/c", ""),
        ("", "https://h.tif", ""),
        ("", "https://h/.hidden", ""),
        ("", "https://h/v1.0", ""),
        ("", "https://h/aaa.bbbbbbbbbbbbbbbbbb", ""),
        ("", "", ""),
    ],
)
def test_extension(media_type: str, href: str, expected: str) -> None:
    """The media type decides; else the href's own suffix, when it is short and no token."""
    assert extension(Asset("k", href, media_type)) == expected


def test_fold_joins_what_a_file_system_joins() -> None:
    """Case and normalization do not count."""
    assert fold("É/STRASSE") == fold("e\u0301/straße")
    assert fold("a/B.tif") == "a/b.tif"
