"""What a run did not get, a later one asks for; and no word of a verdict hides it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from stacmirror.cli.config import load_saved
from stacmirror.errors import UsageError
from stacmirror.mirror import Mirror
from stacmirror.model import AbsentKey, FailureCount, Summary
from stacmirror.settings import Settings
from stacmirror.simulator import Simulator
from stacmirror.status import read_failed, read_status
from tests.conftest import simulated, tree

Make = Callable[..., Settings]
SOURCES = "bigearthnet_v1_source"


async def run(settings: Settings, key: str) -> Summary:
    return await Mirror(settings, api_key=key).run()


def fail(simulator: Simulator, what: str, fault: str = "404") -> None:
    """Let every request with `what` in its path fail."""
    simulator.on_request = lambda record: fault if what in record.path else None


async def test_an_outage_that_looks_like_a_phantom_key_loses_nothing(quick_settings: Make, tmp_path: Path) -> None:
    """B04 is missing on every item for a while: named in the verdict, and all of it fetched when it is back."""
    async with simulated(items=60, generation=2020) as simulator:
        fail(simulator, "_B04.tif")
        first = await run(quick_settings(simulator, max_items=40), simulator.key)
        assert first.verdict == "complete"
        (absence,) = first.absences
        assert (absence.collection, absence.asset, absence.asked + absence.assumed) == (SOURCES, "B04", 40)
        simulator.on_request = None
        second = await run(quick_settings(simulator), simulator.key)
    assert (second.verdict, second.reason, second.absences) == ("complete", "", [])
    assert len(tree(tmp_path / "mirror")) == 60 * 13


async def test_a_resume_with_nothing_new_notices_too(quick_settings: Make, tmp_path: Path) -> None:
    """No new item would ask for the key: a sample at the end does."""
    async with simulated(items=30, generation=2020) as simulator:
        fail(simulator, "_B04.tif")
        settings = quick_settings(simulator)
        await run(settings, simulator.key)
        simulator.on_request = None
        second = await run(settings, simulator.key)
    assert (second.verdict, second.absences) == ("complete", [])
    assert second.run.assets.stored == 30
    assert len(tree(tmp_path / "mirror")) == 30 * 13


async def test_a_phantom_stays_one(quick_settings: Make) -> None:
    """B10 does not exist: sampled by every run, never a failure."""
    async with simulated(items=30, generation=2021) as simulator:
        settings = quick_settings(simulator)
        for _ in range(3):
            summary = await run(settings, simulator.key)
            assert (summary.verdict, summary.failures) == ("complete", [])
            assert sum(absence.asked + absence.assumed for absence in summary.absences) == 30
    assert summary.absences == read_status(settings.target).absences


async def test_what_was_gone_is_asked_for_by_the_next_run_once(quick_settings: Make) -> None:
    """A 404 on one item is asked once a run: not ten times, and not never again."""
    async with simulated(items=8, generation=2020) as simulator:
        lost = f"{simulator.item_id(3, SOURCES).removeprefix(SOURCES)}_B04.tif".lstrip("_")
        fail(simulator, lost)
        settings = quick_settings(simulator)
        for _ in range(2):
            before = len(simulator.requests)
            summary = await run(settings, simulator.key)
            asked = [r for r in list(simulator.requests)[before:] if r.server == "s3" and lost in r.path]
            assert (summary.exit_code, len(asked)) == (3, 1)
            assert summary.failures == [FailureCount("B04", "gone", 1)]
        (failed,) = read_failed(settings.target)
        assert (failed.collection, failed.item, failed.asset) == (SOURCES, simulator.item_id(3, SOURCES), "B04")
        simulator.on_request = None
        assert (await run(settings, simulator.key)).verdict == "complete"


async def test_missing_ok_settles_what_was_recorded_as_failed(quick_settings: Make) -> None:
    """Two items are too few for the breaker: `--missing-ok B10` at a later run makes their B10 absences."""
    async with simulated(items=9, generation=2021) as simulator:
        first = await run(quick_settings(simulator, max_items=2), simulator.key)
        assert (first.exit_code, first.failures) == (3, [FailureCount("B10", "gone", 2)])
        second = await run(quick_settings(simulator, max_items=2, missing_ok=["B10"]), simulator.key)
    assert (second.verdict, second.failures) == ("complete", [])
    assert second.absences == [AbsentKey(SOURCES, "B10", asked=2, assumed=0)]


async def test_no_sweeps_means_none_for_this_runs_failures_only(quick_settings: Make, tmp_path: Path) -> None:
    """`--sweeps 0` is kept for later runs; a resume mends what an earlier run left all the same."""
    async with simulated(items=5, generation=2020) as simulator:
        fail(simulator, "_B04.tif", "short")
        settings = quick_settings(simulator, retries=0, sweeps=0)
        first = await run(settings, simulator.key)
        assert len([r for r in simulator.requests if "_B04.tif" in r.path]) == 5
        simulator.on_request = None
        second = await run(settings, simulator.key)
    assert (first.exit_code, second.exit_code) == (3, 0)
    assert len(tree(tmp_path / "mirror")) == 5 * 13


async def test_fewer_items_wanted_takes_nothing_away(quick_settings: Make) -> None:
    """A lower `--max-items` does not lower what the mirror has."""
    async with simulated(items=30, generation=2020) as simulator:
        first = await run(quick_settings(simulator, max_items=20), simulator.key)
        fewer = await run(quick_settings(simulator, max_items=6), simulator.key)
        more = await run(quick_settings(simulator, max_items=24), simulator.key)
    assert [summary.mirror.items.complete for summary in (first, fewer, more)] == [20, 20, 24]
    assert [summary.mirror.items.listed for summary in (first, fewer, more)] == [20, 20, 24]
    assert [summary.verdict for summary in (first, fewer, more)] == ["complete"] * 3


async def test_an_item_asked_for_by_name_that_is_not_listed(quick_settings: Make) -> None:
    """`--item` with an id that the catalog does not list is no success."""
    async with simulated(items=6, generation=2020) as simulator:
        there = simulator.item_id(2)
        summary = await run(quick_settings(simulator, item=[there, "nonesuch"]), simulator.key)
    assert (summary.exit_code, summary.mirror.items.complete) == (3, 1)
    assert summary.reason == "the catalog lists no item nonesuch"


async def test_many_items_asked_for_by_name(quick_settings: Make, tmp_path: Path) -> None:
    """A long list of ids is what the mirror is: the next run wants the same ones; another list is another mirror."""
    async with simulated(items=120, generation=2020) as simulator:
        ids = [simulator.item_id(number) for number in range(3, 113)]
        first = await run(quick_settings(simulator, item=ids, asset=["B02"], max_items=50), simulator.key)
        assert load_saved(str(tmp_path / "mirror")).layer["item"].value == ids
        with pytest.raises(UsageError, match="item is 110, "):
            await run(quick_settings(simulator, item=ids[1:], asset=["B02"]), simulator.key)
        second = await run(quick_settings(simulator, item=ids, asset=["B02"]), simulator.key)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert (first.mirror.items.complete, second.mirror.items.complete) == (50, 110)
    assert len(tree(tmp_path / "mirror")) == 110


async def test_one_refused_item_does_not_stop_the_run(quick_settings: Make) -> None:
    """A 403 for one source item, with a key that is good for all others, costs that item only."""
    async with simulated(items=12, generation=2020) as simulator:
        fail(simulator, f"/items/{simulator.item_id(5, SOURCES)}", "403")
        first = await run(quick_settings(simulator), simulator.key)
        assert (first.exit_code, first.mirror.items.complete, first.mirror.items.incomplete) == (3, 11, 1)
        simulator.on_request = None
        second = await run(quick_settings(simulator), simulator.key)
    assert second.verdict == "complete"


async def test_items_that_were_never_asked_are_sampled_too(quick_settings: Make, tmp_path: Path) -> None:
    """The first items lack a key for good, the others have it: what was assumed of them is found out."""
    async with simulated(items=40, generation=2020) as simulator:
        lost = {f"{simulator.patch_name(number)}_B04.tif" for number in range(25)}
        simulator.on_request = lambda record: "404" if record.path.rpartition("/")[2] in lost else None
        summary = await run(quick_settings(simulator, workers=1), simulator.key)
    assert (summary.exit_code, summary.absences) == (3, [])
    assert summary.failures == [FailureCount("B04", "gone", 25)]
    assert len(tree(tmp_path / "mirror")) == 40 * 13 - 25


@pytest.mark.parametrize("fault", ["404", "503", "403"])
async def test_a_question_leaves_no_item_worse(quick_settings: Make, fault: str) -> None:
    """The sampled items cannot be read any more: a complete mirror stays complete."""
    async with simulated(items=30, generation=2021) as simulator:
        settings = quick_settings(simulator, retries=0)
        await run(settings, simulator.key)
        simulator.on_request = lambda record: fault if "_source/items/" in record.path else None
        for _ in range(2):
            summary = await run(settings, simulator.key)
            assert (summary.verdict, summary.failures) == ("complete", [])
            assert sum(absence.asked + absence.assumed for absence in summary.absences) == 30


async def test_what_missing_ok_let_pass_is_asked_for_without_it(quick_settings: Make, tmp_path: Path) -> None:
    """A key that was missing under `--missing-ok` and exists: the run without the flag brings it."""
    async with simulated(items=12, generation=2020) as simulator:
        fail(simulator, "_B04.tif")
        await run(quick_settings(simulator, max_items=2, missing_ok=["B04"]), simulator.key)
        simulator.on_request = None
        same = await run(quick_settings(simulator, max_items=2), simulator.key)
        assert (same.verdict, same.absences) == ("complete", [])
    assert len(tree(tmp_path / "mirror")) == 2 * 13


async def test_a_stop_ends_the_describing_of_collections_too(quick_settings: Make) -> None:
    """All files are there, and the catalog is slow to describe itself: a stop does not wait for it."""
    async with simulated(items=3, generation=2020) as simulator:
        simulator.on_request = lambda record: "stall" if record.path.endswith(("_labels", "_source")) else None
        mirror = Mirror(quick_settings(simulator), api_key=simulator.key)
        running = asyncio.create_task(mirror.run())
        async with asyncio.timeout(60):
            while not any(record.path.endswith("_labels") for record in simulator.requests):
                await asyncio.sleep(0.01)
        mirror.stop.ask()
        summary = await asyncio.wait_for(running, 20)
    assert (summary.verdict, summary.exit_code, summary.mirror.items.complete) == ("stopped", 130, 3)
