"""What loaders and people expect to find: the layouts over real sockets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stacmirror.errors import UsageError
from stacmirror.mirror import Mirror
from stacmirror.settings import Settings
from tests.conftest import simulated, tree

Make = Callable[..., Settings]

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B11", "B12", "B8A")


async def test_bigearthnet_is_what_torchgeo_opens(quick_settings: Make, tmp_path: Path) -> None:
    """What torchgeo's BigEarthNet globs in a patch folder: 12 bands in order, and one JSON with `labels`.

    It takes `sorted(glob("*.tif"))` as the bands and `json.load(glob("*.json")[0])["labels"]` as the classes.
    """
    rasterio = pytest.importorskip("rasterio")
    async with simulated(items=8) as simulator:
        summary = await Mirror(quick_settings(simulator, layout="bigearthnet"), api_key=simulator.key).run()
        patches = {simulator.patch_name(number) for number in range(8)}
        truth = {simulator.patch_name(i): json.loads(simulator.expected_files(i)["labels"])["labels"] for i in range(8)}
    assert summary.verdict == "complete"
    root = tmp_path / "mirror" / "BigEarthNet-v1.0"
    assert {folder.name for folder in root.iterdir()} == patches
    for folder in root.iterdir():
        bands = sorted(folder.glob("*.tif"))
        assert [path.name for path in bands] == [f"{folder.name}_{band}.tif" for band in BANDS]
        for path in bands:
            with rasterio.open(path) as raster:
                assert raster.read(1).shape in {(120, 120), (60, 60), (20, 20)}
                assert raster.crs.is_projected
        described = list(folder.glob("*.json"))
        assert [path.name for path in described] == [f"{folder.name}_labels_metadata.json"]
        assert json.loads(described[0].read_text())["labels"] == truth[folder.name]


async def test_the_readme_shows_what_rests_in_a_mirror(quick_settings: Make, tmp_path: Path) -> None:
    """README, "Where things rest": all that stands in a collection's folder and in .stacmirror after a run."""
    async with simulated(items=3) as simulator:
        await Mirror(quick_settings(simulator), api_key=simulator.key).run()
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    shown = readme[readme.index("## Where things rest") :].split("```")[1].splitlines()
    (memory,) = (line.removeprefix("ben/.stacmirror/").split() for line in shown if "/.stacmirror/" in line)
    state = tmp_path / "mirror" / ".stacmirror"
    assert {entry.name + "/" * entry.is_dir() for entry in state.iterdir()} == set(memory)
    assert not any((state / "staging").iterdir())
    assert not any((state / "parts").iterdir())
    documents = next(line for line in shown if "CITATION.txt" in line)
    for path in (tmp_path / "mirror" / "bigearthnet_v1_source").glob("*.*"):
        assert path.name in documents


async def test_notebook_names_files_by_the_target(quick_settings: Make, tmp_path: Path) -> None:
    """The seed notebook's layout: label and bands in one folder under the label's id, named by the target."""
    async with simulated(items=3) as simulator:
        summary = await Mirror(quick_settings(simulator, layout="notebook"), api_key=simulator.key).run()
        label, patch = simulator.item_id(0), simulator.patch_name(0)
    assert summary.verdict == "complete"
    names = {path.rpartition("/")[2] for path in tree(tmp_path / "mirror") if label in path}
    assert names == {f"{patch}.geojson", *(f"{patch}_{band}.tif" for band in BANDS)}


async def test_fanout_keeps_folders_small(quick_settings: Make, tmp_path: Path) -> None:
    """`fanout` puts items below short hash folders."""
    async with simulated(items=12) as simulator:
        await Mirror(quick_settings(simulator, layout="fanout"), api_key=simulator.key).run()
        label = simulator.item_id(0)
    (found,) = (tmp_path / "mirror" / "bigearthnet_v1_labels").glob(f"*/{label}")
    assert 1 <= len(found.parent.name) <= 4


async def test_templates_without_item_folders(quick_settings: Make, tmp_path: Path) -> None:
    """A template that sorts files by band gives one folder a band, and a second run finds all of it there."""
    async with simulated(items=5) as simulator:
        settings = quick_settings(simulator, layout="template", path_template="{collection}/{asset_key}/{item_id}{ext}")
        first = await Mirror(settings, api_key=simulator.key).run()
        second = await Mirror(settings, api_key=simulator.key).run()
    assert (first.verdict, second.verdict, second.run.assets.stored) == ("complete", "complete", 0)
    folder = tmp_path / "mirror" / "bigearthnet_v1_source"
    assert {path.name for path in folder.iterdir() if path.is_dir()} == set(BANDS)
    assert len(list((folder / "B02").iterdir())) == 5


@pytest.mark.parametrize("trap", ["shared-sources", "many-sources"])
async def test_one_folder_layouts_refuse_other_shapes(quick_settings: Make, trap: str) -> None:
    """Where labels and sources are not one to one, a layout that puts them into one folder is refused in one line."""
    async with simulated(items=6, traps=(trap,)) as simulator:
        summary = await Mirror(quick_settings(simulator, layout="notebook"), api_key=simulator.key).run()
    assert summary.exit_code == UsageError.exit_code
    assert "one folder" in summary.reason
