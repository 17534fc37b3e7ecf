"""The world: names, order, shares, files."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter

import pytest

from stacmirror.simulator import ITEMS_MAX, Simulator, SimulatorSettings
from stacmirror.simulator.labels import CLASSES
from stacmirror.simulator.scenes import degrees, scenes_of, tile_name
from stacmirror.simulator.world import BANDS, World

SIZES = dict.fromkeys(("B02", "B03", "B04", "B08"), 29_192) | dict.fromkeys(("B01", "B09"), 1_160)


def test_every_name_leads_back_to_its_item() -> None:
    """Names are unique, and a name, even one at the end of the whole archive, gives its number back."""
    world = World(1, ITEMS_MAX)
    numbers = [*range(0, ITEMS_MAX, 397), ITEMS_MAX - 1]
    names = [world.patch(number).name for number in numbers]
    assert [world.index_of(name) for name in names] == numbers
    assert len(set(names)) == len(numbers)


@pytest.mark.parametrize("items", [1, 2, 124, 125, 126, 1_000])
def test_newest_first_is_a_permutation_by_date(items: int) -> None:
    """Newest first lists every item once, dates falling, and each position is found again."""
    world = World(3, items)
    order = [world.newest(position) for position in range(items)]
    assert sorted(order) == list(range(items))
    dates = [world.patch(number).scene.sensed for number in order]
    assert dates == sorted(dates, reverse=True)
    assert [world.newest_position(number) for number in order] == list(range(items))


def test_a_name_of_no_item_is_not_found() -> None:
    """Names beyond the last item, off the grid, padded, or of no scene are no items."""
    world, larger = World(1, 10), World(1, 11)
    name = world.patch(3).name
    scene = name.rsplit("_", 2)[0]
    large = World(1, 5_000)
    short = next(n for n in (large.patch(i).name for i in range(5_000)) if len(n.split("_")[3]) == 1)
    padded = "_".join(part.zfill(2) for part in short.split("_"))
    assert large.index_of(short) is not None
    assert large.index_of(padded) is None
    wrong = [
        larger.patch(10).name,
        f"{scene}_90_0",
        "S2A_MSIL2A_20200101T101010_1_1",
        "",
    ]
    assert [world.index_of(other) for other in wrong] == [None] * len(wrong)
    assert world.index_of(name) == 3


def test_flags_have_the_archives_counts() -> None:
    """Of all 590,326 patches 61,707 have seasonal snow and 9,280 clouds, none both."""
    world = World(1, ITEMS_MAX)
    snow = {number for number in range(ITEMS_MAX) if world.seasonal_snow(number)}
    cloud = {number for number in range(ITEMS_MAX) if world.cloud_and_shadow(number)}
    assert (len(snow), len(cloud), len(snow & cloud)) == (61_707, 9_280, 0)


def test_labels_are_one_to_five_of_43_and_skewed() -> None:
    """Patches have one to five different known classes; forest is common, airports are rare."""
    world = World(1, 20_000)
    drawn = [world.labels(number) for number in range(4_000)]
    counts = Counter(name for labels in drawn for name in labels)
    assert {len(labels) for labels in drawn} == {1, 2, 3, 4, 5}
    assert all(len(set(labels)) == len(labels) for labels in drawn)
    assert set(counts) <= set(CLASSES)
    assert len(CLASSES) == 43
    assert counts["Mixed forest"] > 50 * max(1, counts["Airports"])


def test_files_have_the_real_sizes() -> None:
    """Twelve bands of 29,192, 7,560 and 1,160 bytes, and about 1 kB of labels."""
    sim = Simulator(SimulatorSettings(items=5))
    for index in range(5):
        files = sim.expected_files(index)
        sizes = {key: len(body) for key, body in files.items() if key != "labels"}
        assert sizes == {band: SIZES.get(band, 7_560) for band in BANDS}
        assert 900 <= len(files["labels"]) <= 1_300


def test_two_simulators_of_one_seed_have_the_same_files_and_another_seed_has_others() -> None:
    """Bytes follow from seed, item and band alone, and differ with each of the three."""
    first, second = (Simulator(SimulatorSettings(items=4, seed=7, generation=g)) for g in (2020, 2022))
    other = Simulator(SimulatorSettings(items=4, seed=8))
    assert first.expected_files(2) == second.expected_files(2)
    assert first.item_id(2) == second.item_id(2) != other.item_id(2)
    worlds = (first, other)
    digests = [
        hashlib.md5(body).digest() for sim in worlds for i in range(4) for body in sim.expected_files(i).values()
    ]
    assert len(set(digests)) == len(digests) == 2 * 4 * 13


def test_more_items_change_no_item() -> None:
    """Item i is the same in a world of any size."""
    small, large = (Simulator(SimulatorSettings(items=items)) for items in (10, 5_000))
    assert small.expected_files(9) == large.expected_files(9)


def test_the_label_file_says_what_the_patch_is() -> None:
    """The label file has the archive's keys, its corners 1,200 m apart, and a WKT projection."""
    sim = Simulator(SimulatorSettings(items=3))
    content = json.loads(sim.expected_files(1)["labels"])
    assert list(content) == ["labels", "coordinates", "projection", "tile_source", "acquisition_date"]
    corners = content["coordinates"]
    assert (corners["lrx"] - corners["ulx"], corners["uly"] - corners["lry"]) == (1_200, 1_200)
    assert content["projection"].startswith('PROJCS["WGS 84 / UTM zone ')
    assert content["labels"] == World(1, 3).labels(1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("band", BANDS)
def test_rasterio_opens_each_band(band: str) -> None:
    """Each band opens as uint16 in its UTM zone, where the label file says, with values of 12 bits."""
    rasterio = pytest.importorskip("rasterio")
    sim = Simulator(SimulatorSettings(items=9))
    files = sim.expected_files(8)
    corners = json.loads(files["labels"])["coordinates"]
    projection = json.loads(files["labels"])["projection"]
    with rasterio.io.MemoryFile(files[band]) as memory, memory.open() as image:
        side = {29_192: 120, 7_560: 60, 1_160: 20}[len(files[band])]
        assert (image.width, image.height, image.dtypes) == (side, side, ("uint16",))
        assert image.crs.to_epsg() == rasterio.crs.CRS.from_wkt(projection).to_epsg()
        assert tuple(image.bounds) == (corners["ulx"], corners["lry"], corners["lrx"], corners["uly"])
        pixels = image.read(1)
        assert 0 < pixels.min() < pixels.mean() < pixels.max() <= 4_095
        assert pixels.std() > 50


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_degrees_agree_with_proj() -> None:
    """Longitudes and latitudes of all 125 scenes are PROJ's, within a centimetre."""
    warp = pytest.importorskip("rasterio.warp")
    for scene in scenes_of(1):
        x, y = scene.ulx + 61_200, scene.uly - 34_800
        ((longitude,), (latitude,)) = warp.transform(f"EPSG:{32600 + scene.zone}", "EPSG:4326", [x], [y])
        assert degrees(scene.zone, x, y) == pytest.approx((longitude, latitude), abs=1e-7)
        assert re.fullmatch(r"\d\d[C-X][A-Z]{2}", tile_name(scene.zone, scene.ulx, scene.uly))


def test_bad_settings_are_refused_in_one_line() -> None:
    """Each bad value is a ValueError of one line that names it; unknown names come with the nearest."""
    bad = {
        "items": [{"items": 0}, {"items": ITEMS_MAX + 1}],
        "generation": [{"generation": 2019}],
        "link life": [{"link_life_s": 0}],
        "key": [{"key": "a b"}],
        "did you mean 'null-next'": [{"traps": ("nul-next",)}],
        "did you mean 'reset'": [{"faults": {"resett": 0.1}}],
        "rate": [{"faults": {"503": 1.5}}],
        "target": [{"faults": {"blob:503": 0.5}}],
        "redirect status": [{"redirect_status": 304}],
        "port": [{"port": 65_533}],
    }
    for word, settings in bad.items():
        for one in settings:
            with pytest.raises(ValueError, match=word) as refused:
                SimulatorSettings(**one)
            assert "\n" not in str(refused.value)
    assert "secret" not in repr(SimulatorSettings(key="secret"))
