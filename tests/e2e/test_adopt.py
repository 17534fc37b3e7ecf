"""`adopt`: files that are there become part of the mirror, checked, and only the rest is fetched."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stacmirror.mirror import Mirror
from stacmirror.model import Adopted, Summary
from stacmirror.pipeline.task import Adopt
from stacmirror.settings import Settings
from stacmirror.simulator import Simulator
from stacmirror.status import read_failed
from tests.conftest import SOURCE, simulated, tree

Make = Callable[..., Settings]
ITEMS = 8
PATCHES = "BigEarthNet-v1.0"


async def run(settings: Settings, key: str, task: Adopt | None = None) -> Summary:
    return await Mirror(settings, api_key=key, task=task).run()


async def a_tree(quick_settings: Make, simulator: Simulator, name: str, **values: object) -> Path:
    """Mirror everything, and take the mirror's memory away: a folder of files as people have them."""
    settings = quick_settings(simulator, target=name, **values)
    await run(settings, simulator.key)
    shutil.rmtree(Path(settings.target, ".stacmirror"))
    simulator.requests.clear()
    return Path(settings.target)


def assets_asked(simulator: Simulator) -> set[str]:
    return {record.path.rpartition("/")[2] for record in simulator.requests if record.server in ("s3", "blobs")}


async def test_the_official_archive(quick_settings: Make, tmp_path: Path) -> None:
    """Bands of some patches, no labels: those bands are taken, other patches are not asked for, the rest is fetched."""
    async with simulated(items=ITEMS, generation=2021) as simulator:
        whole = await a_tree(quick_settings, simulator, "whole", layout="bigearthnet")
        official = tmp_path / "official"
        shutil.copytree(whole / PATCHES, official / PATCHES)
        for label in official.rglob("*_labels.geojson"):
            label.unlink()
        gone, *there = sorted((official / PATCHES).iterdir())
        shutil.rmtree(gone)
        settings = quick_settings(simulator, layout="bigearthnet")
        task = Adopt(str(official / PATCHES), "bigearthnet")
        first = await run(settings, simulator.key, task)
        items_asked = {r.path for r in simulator.requests if "/items/" in r.path}
        taken = 12 * len(there)
        assert first.adopted == Adopted(taken, first.run.bytes, linked=0, compared=3 * 12, differ=0, unfit=0)
        assert (first.exit_code, first.mirror.items.incomplete, first.mirror.items.pending) == (0, len(there), 1)
        assert len(assets_asked(simulator)) == 3 * 12, "the samples"
        assert not any(gone.name in path for path in items_asked)
        visible = tree(tmp_path / "mirror")
        assert len(visible) == taken
        simulator.requests.clear()
        second = await run(settings, simulator.key)
        asked = assets_asked(simulator)
    assert second.verdict == "complete"
    assert second.run.assets.stored == len(there) + 13 + ITEMS, "labels, the patch that was not there, labels_metadata"
    bands = {name for name in asked if name.endswith(".tif") and not name.endswith("_B10.tif")}
    assert all(name.startswith(gone.name) for name in bands), "nothing is asked for that was adopted"
    assert tree(tmp_path / "mirror") == tree(whole)


@pytest.mark.parametrize("check", ["sample", "all", "none"])
async def test_how_much_is_compared(quick_settings: Make, check: str) -> None:
    """Three of each key, every file, or none; the others are taken by their form, and the result says so."""
    async with simulated(items=ITEMS, generation=2020) as simulator:
        whole = await a_tree(quick_settings, simulator, "whole")
        settings = quick_settings(simulator)
        summary = await run(settings, simulator.key, Adopt(str(whole), "item", check=check))
        asked = len(assets_asked(simulator))
    compared = {"sample": 3 * 13, "all": ITEMS * 13, "none": 0}[check]
    assert (summary.verdict, summary.exit_code) == ("complete", 0)
    assert summary.adopted is not None
    assert (summary.adopted.files, summary.adopted.compared, asked) == (ITEMS * 13, compared, compared)
    assert tree(Path(settings.target)) == tree(whole)


async def test_files_that_are_not_the_sources(quick_settings: Make) -> None:
    """A wrong folder is noticed by its samples: told, all of the key compared, and the source's bytes kept."""
    async with simulated(items=ITEMS, generation=2020) as simulator:
        whole = await a_tree(quick_settings, simulator, "whole")
        expected = tree(whole)
        bands = sorted(whole.rglob("B02.tif"))
        for band in bands:
            band.write_bytes(band.read_bytes()[:-1] + b"\xff")
        cut = min(whole.rglob("B03.tif"))
        cut.write_bytes(cut.read_bytes()[:-7])
        settings = quick_settings(simulator)
        summary = await run(settings, simulator.key, Adopt(str(whole), "item"))
        assert summary.adopted is not None
        assert (summary.adopted.differ, summary.adopted.unfit, summary.exit_code) == (ITEMS, 1, 3)
        assert [(failed.asset, failed.kind) for failed in read_failed(settings.target)] == [("B03", "unfit")]
        assert (await run(settings, simulator.key)).verdict == "complete"
    assert tree(Path(settings.target)) == expected


async def test_nothing_is_there(quick_settings: Make, tmp_path: Path) -> None:
    """A layout that does not fit the folder: exit 2, the first place that was looked at, and no item is asked for."""
    (tmp_path / "other" / "x").mkdir(parents=True)
    async with simulated(items=ITEMS) as simulator:
        settings = quick_settings(simulator)
        summary = await run(settings, simulator.key, Adopt(str(tmp_path / "other"), "item"))
        assert not [r for r in simulator.requests if "/items/" in r.path]
        assert (summary.exit_code, summary.mirror.items.pending) == (2, ITEMS)
        assert f"looked first for {tmp_path}/other/bigearthnet_v1_labels/" in summary.reason
        assert (await run(settings, simulator.key)).verdict == "complete", "it can still be fetched"


async def test_the_notebooks_folders_linked(quick_settings: Make) -> None:
    """Files named as redirects' targets are found by their keys, and linked; what the mirror does leaves them alone."""
    async with simulated(items=ITEMS, generation=2021) as simulator:
        notebook = await a_tree(quick_settings, simulator, "notebook", layout="notebook")
        before = tree(notebook)
        expected = tree(await a_tree(quick_settings, simulator, "whole"))
        settings = quick_settings(simulator, small_file_max="10KiB")
        summary = await run(settings, simulator.key, Adopt(str(notebook), "notebook", link=True))
        assert summary.adopted is not None
        assert (summary.adopted.files, summary.adopted.linked) == (ITEMS * 13, (ITEMS - 3) * 13)
        assert (await run(settings, simulator.key)).verdict == "complete"
    assert tree(Path(settings.target)) == expected
    assert tree(notebook) == before


async def test_large_files_are_copied_in_pieces(quick_settings: Make) -> None:
    """Above the small-file limit a file is never held in memory whole, and is compared all the same."""
    async with simulated(items=ITEMS, generation=2020) as simulator:
        whole = await a_tree(quick_settings, simulator, "whole")
        settings = quick_settings(simulator, small_file_max="2KiB")
        summary = await run(settings, simulator.key, Adopt(str(whole), "item"))
    large = [name.rpartition("/")[2] for name, content in tree(whole).items() if len(content) > 2048]
    expected = len(large) - 3 * len(set(large))
    assert summary.adopted is not None
    assert (summary.verdict, summary.adopted.files, summary.adopted.compared) == ("complete", ITEMS * 13, 3 * 13)
    assert summary.mirror.assets.unverified == expected > 0, "nobody has looked at their form, or compared them"
    assert tree(Path(settings.target)) == tree(whole)


async def test_in_place(quick_settings: Make) -> None:
    """Files that are in DEST already become the mirror's where they are; without room for a second copy."""
    async with simulated(items=ITEMS, generation=2020) as simulator:
        target = await a_tree(quick_settings, simulator, "mirror")
        expected = tree(target)
        inodes = {path: path.stat().st_ino for path in target.rglob("*.tif")}
        settings = quick_settings(simulator)
        summary = await run(settings, simulator.key, Adopt(str(target), "item", check="none"))
        assert assets_asked(simulator) == set()
    assert summary.verdict == "complete"
    assert {path: path.stat().st_ino for path in target.rglob("*.tif")} == inodes
    assert tree(target) == expected
    assert all(path.stat().st_nlink == 1 for path in target.rglob("*.tif"))
    assert not list((target / ".stacmirror" / "staging").iterdir())


async def test_what_an_interrupted_adoption_left(quick_settings: Make, tmp_path: Path) -> None:
    """Killed and stopped in the middle, adopted again, then fetched: the same files, none that was there asked for."""
    async with simulated(items=60, generation=2020) as simulator:
        whole = await a_tree(quick_settings, simulator, "whole")
        expected = tree(whole)
        for band in whole.rglob("B08.tif"):
            band.unlink()
        target = tmp_path / "mirror"
        words = [
            sys.executable, "-m", "stacmirror", "adopt", str(target), SOURCE, "--from", str(whole), "--layout", "item",
            "--api-url", simulator.api_url, "--s3-endpoint", simulator.s3_url, "--s3-unsigned", "--page-size", "7",
            "--workers", "2", "--sync-every", "20ms", "--check", "none", "--progress", "none",
        ]  # fmt: skip
        environment = {**os.environ, "MLHUB_API_KEY": simulator.key}
        for how, items in ((signal.SIGKILL, 12), (signal.SIGINT, 25), (None, 0)):
            simulator.requests.clear()
            process = await asyncio.create_subprocess_exec(
                *words, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
            async with asyncio.timeout(60):
                while (
                    how and sum("/items/" in r.path for r in simulator.requests) < items and process.returncode is None
                ):
                    await asyncio.sleep(0.002)
                if how and process.returncode is None:
                    process.send_signal(how)
                _, err = await process.communicate()
            assert all(expected[name] == content for name, content in tree(target).items())
        assert process.returncode == 0, err
        simulator.requests.clear()
        summary = await run(quick_settings(simulator, workers=4), simulator.key)
        asked = assets_asked(simulator)
    assert summary.verdict == "complete"
    assert len(asked) == 60
    assert all(name.endswith("_B08.tif") for name in asked)
    assert tree(target) == expected


async def test_a_folder_without_the_files_is_left_alone(quick_settings: Make) -> None:
    """Of an item whose folder holds none of its files, nothing is recorded: the next run walks to it and fetches it."""
    async with simulated(items=ITEMS, generation=2020) as simulator:
        whole = await a_tree(quick_settings, simulator, "whole")
        expected = tree(whole)
        number = 5
        for collection in ("bigearthnet_v1_labels", "bigearthnet_v1_source"):
            for file in (whole / collection / simulator.item_id(number, collection)).iterdir():
                file.unlink()
        settings = quick_settings(simulator)
        summary = await run(settings, simulator.key, Adopt(str(whole), "item"))
        assert (summary.mirror.items.complete, summary.mirror.items.pending) == (ITEMS - 1, 1)
        assert list(read_failed(settings.target)) == []
        assert (await run(settings, simulator.key)).verdict == "complete"
    assert tree(Path(settings.target)) == expected


async def test_a_key_that_exists_nowhere_is_not_asked_for_everywhere(quick_settings: Make) -> None:
    """B10 was in no folder: the run that fetches the rest asks a few items for it."""
    async with simulated(items=90, generation=2021) as simulator:
        whole = await a_tree(quick_settings, simulator, "whole")
        settings = quick_settings(simulator, workers=2)
        await run(settings, simulator.key, Adopt(str(whole), "item", check="none"))
        simulator.requests.clear()
        summary = await run(settings, simulator.key)
        asked = sum(r.server == "blobs" for r in simulator.requests)
    assert (summary.verdict, summary.failures) == ("complete", [])
    (absence,) = summary.absences
    assert absence.asked + absence.assumed == 90
    assert asked < 45
