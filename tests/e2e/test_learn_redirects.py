"""`--learn-redirects` over real sockets: the same tree with half the requests, and no harm where targets move."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stacmirror.mirror import Mirror
from stacmirror.model import Summary
from stacmirror.pipeline.learn import AFTER, SAMPLE
from stacmirror.settings import Settings
from stacmirror.simulator import Simulator
from stacmirror.simulator.log import RequestRecord
from tests.conftest import simulated, tree
from tests.unit.fakes import Notes

Make = Callable[..., Settings]
BANDS = 12


async def run(settings: Settings, simulator: Simulator, notes: Notes | None = None) -> Summary:
    return await Mirror(settings, api_key=simulator.key, observer=notes).run()


def downloads(simulator: Simulator, since: int = 0) -> int:
    return sum("/download/" in record.path for record in list(simulator.requests)[since:])


def of_files(simulator: Simulator, since: int, until: int | None = None) -> int:
    """Return how many requests were for files: links and objects, but for those of B10, which no item has.

    How many items are asked for B10 until it is known to be missing depends on who was first, and how many are asked
    once more at the end on the lot: of the samples two may be one. Each is two requests, and at the end an item's.
    """
    records = list(simulator.requests)[since:until]
    items = sum("/items" in record.path for record in records)
    missing = sum(record.server != "api" and record.path.endswith("_B10.tif") for record in records)
    return len(records) - items - 2 * missing


def ended(notes: Notes) -> list[str]:
    return [line for line in notes.lines if "not predicted" in line]


@pytest.mark.parametrize("generation", [2020, 2021, 2022])
async def test_the_same_tree_with_fewer_requests(quick_settings: Make, tmp_path: Path, generation: int) -> None:
    """Over s3:// and https:// each byte is the same; after the first items, one link in 50 is asked."""
    async with simulated(items=150, generation=generation) as simulator:
        plain = await run(quick_settings(simulator, "plain"), simulator)
        asked, notes = len(simulator.requests), Notes()
        learned = await run(quick_settings(simulator, "learned", learn_redirects=True), simulator, notes)
        links = downloads(simulator, asked)
    assert learned.verdict == plain.verdict == "complete"
    assert tree(tmp_path / "learned") == tree(tmp_path / "plain")
    assert (plain.predicted, ended(notes)) == (0, [])
    assert (plain.requests, learned.requests) == (asked, len(simulator.requests) - asked)
    assert of_files(simulator, 0, asked) - of_files(simulator, asked) == learned.predicted
    files, keys = learned.run.assets.stored, BANDS + 1
    # 20 items a key, those under way meanwhile, words not told apart at first, one in 50 of the rest, and B10's.
    assert links <= keys * (AFTER + 8 + 12) + files // SAMPLE + 60
    assert learned.predicted >= files - links


async def test_later_one_link_in_fifty(quick_settings: Make) -> None:
    """Of the last 100 items, about one link in 50 is asked."""
    async with simulated(items=200, generation=2020) as simulator:
        await run(quick_settings(simulator, learn_redirects=True, workers=2), simulator)
        records = list(simulator.requests)
    objects = [number for number, record in enumerate(records) if record.server == "s3"]
    late = records[objects[len(objects) // 2] :]
    share = sum("/download/" in r.path for r in late) / sum(r.server == "s3" for r in late)
    assert 0.5 / SAMPLE < share < 2 / SAMPLE


@pytest.mark.parametrize("generation", [2020, 2021])
async def test_targets_that_move_midway(quick_settings: Make, tmp_path: Path, generation: int) -> None:
    """When the newer half of the objects lies elsewhere, every byte is right, nothing is retried, prediction ends."""
    async with simulated(items=120, generation=generation, traps=("moved-objects",)) as simulator:
        plain = await run(quick_settings(simulator, "plain"), simulator)
        notes = Notes()
        mirror = Mirror(
            quick_settings(simulator, "learned", learn_redirects=True, retries=0, sweeps=0),
            api_key=simulator.key,
            observer=notes,
        )
        learned = await mirror.run()
    assert (learned.verdict, learned.reason) == (plain.verdict, plain.reason) == ("complete", "")
    assert tree(tmp_path / "learned") == tree(tmp_path / "plain")
    assert mirror.progress.retries == 0
    assert learned.predicted > 0
    assert len(ended(notes)) == len({line.split(" of ")[0] for line in ended(notes)}) == BANDS + 1


async def test_signed_targets_are_never_predicted(quick_settings: Make, tmp_path: Path) -> None:
    """Where links lead to signed addresses every link is asked, each once, and each signature is used once."""
    async with simulated(items=60, traps=("signed-targets",)) as simulator:
        summary = await run(quick_settings(simulator, learn_redirects=True, missing_ok=["B10"]), simulator)
        blobs = [record for record in simulator.requests if record.server == "blobs"]
        links = downloads(simulator)
    assert (summary.verdict, summary.predicted) == ("complete", 0)
    assert len({record.query for record in blobs}) == len(blobs) == links
    assert len(tree(tmp_path / "mirror")) == 60 * (BANDS + 1)


@pytest.mark.parametrize("fault", ["404", "403", "503", "500", "reset", "short"])
async def test_a_guess_that_fails_costs_a_request(quick_settings: Make, tmp_path: Path, fault: str) -> None:
    """Predicted requests that meet a fault are made up for by the asset's link, at no cost of a retry."""
    async with simulated(items=100, generation=2020) as simulator:
        predicted: list[str] = []

        def on_request(record: RequestRecord) -> str | None:
            # One worker, one asset an item: what was not redirected just before was predicted.
            if record.server != "s3" or "/download/" in simulator.requests[-2].path:
                return None
            predicted.append(record.path)
            return fault if len(predicted) % 4 == 0 else None

        simulator.on_request = on_request
        notes = Notes()
        settings = quick_settings(simulator, learn_redirects=True, retries=0, sweeps=0, workers=1, asset=["B03"])
        mirror = Mirror(settings, api_key=simulator.key, observer=notes)
        summary = await mirror.run()
        links, objects = downloads(simulator), [r.path for r in simulator.requests if r.server == "s3"]
    faults = len(predicted) // 4
    assert faults > 5
    assert (summary.verdict, summary.reason, mirror.progress.retries, notes.lines) == ("complete", "", 0, [])
    assert summary.predicted == len(predicted) - faults
    assert len(objects) == 100 + faults
    assert links == 100 - summary.predicted
    assert len(tree(tmp_path / "mirror")) == 100


async def test_predicted_assets_need_no_fresh_links(quick_settings: Make, tmp_path: Path) -> None:
    """With links that die after two seconds of a slow run, what is predicted renews nothing, and all arrives."""
    asked = []
    async with simulated(items=120, link_life_s=2.0, generation=2021) as simulator:
        for learn in (False, True):
            before = len(simulator.requests)
            settings = quick_settings(
                simulator, f"{learn}", workers=2, rate="400/s", link_life="2s", page_size=120, learn_redirects=learn
            )
            summary = await run(settings, simulator)
            assert (summary.verdict, summary.reason) == ("complete", "")
            asked.append(sum("/items/" in record.path for record in list(simulator.requests)[before:]))
    assert tree(tmp_path / "True") == tree(tmp_path / "False")
    assert asked[1] < asked[0]


async def test_a_resumed_run_learns_anew(quick_settings: Make, tmp_path: Path) -> None:
    """A run that was stopped goes on with nothing learned, and what both brought is whole."""
    async with simulated(items=160, generation=2022) as simulator:
        first = await run(quick_settings(simulator, learn_redirects=True, max_items=80), simulator)
        before = len(simulator.requests)
        second = await run(quick_settings(simulator, learn_redirects=True), simulator)
        links = downloads(simulator, before)
        await run(quick_settings(simulator, "plain"), simulator)
    assert first.predicted > 0
    assert second.predicted > 0
    assert links >= AFTER * (BANDS + 1)
    assert tree(tmp_path / "mirror") == tree(tmp_path / "plain")


async def test_names_from_targets_are_the_same(quick_settings: Make, tmp_path: Path) -> None:
    """The layout that names files by the redirect's target names predicted ones alike."""
    async with simulated(items=60, generation=2020) as simulator:
        for learn in (False, True):
            summary = await run(
                quick_settings(simulator, f"{learn}", layout="notebook", learn_redirects=learn), simulator
            )
            assert summary.verdict == "complete"
    assert summary.predicted > 0
    assert tree(tmp_path / "True") == tree(tmp_path / "False")


async def test_large_bodies_are_predicted_too(quick_settings: Make, tmp_path: Path) -> None:
    """Bodies above `small_file_max` come by prediction as well, the same bytes."""
    async with simulated(items=50, generation=2022) as simulator:
        summary = await run(quick_settings(simulator, "large", small_file_max="4kB", learn_redirects=True), simulator)
        await run(quick_settings(simulator, "plain"), simulator)
    assert summary.predicted > 0
    assert tree(tmp_path / "large") == tree(tmp_path / "plain")
