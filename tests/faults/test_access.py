"""Keys, links and addresses that are refused: asked as often as it takes, by those only whom it concerns, no more."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from stacmirror.simulator import Simulator
from tests.conftest import simulated, tree
from tests.faults.asked import Asked
from tests.faults.conftest import FULL
from tests.faults.invariants import hold_simulated, mends_simulated
from tests.faults.whole_runs import Make, Way, by, is_whole, mirror
from tests.unit.fakes import Notes


async def test_row_18_wrong_key(quick_settings: Make, way: Way) -> None:
    """A key that is refused from the start stops the run with exit 4 after one request, and says where to put it."""
    async with simulated(items=20) as simulator:
        summary = await mirror(quick_settings(simulator, **by(way)), "wrong")
        refused = [record for record in simulator.requests if record.status == 401]
        assert len(refused) == len(list(simulator.requests)) == 1
    assert summary.exit_code == 4
    assert "refused the API key" in summary.reason
    assert "MLHUB_API_KEY" in summary.hint


@pytest.mark.parametrize("status", [401, 403])
async def test_row_19_key_withdrawn_midway(
    quick_settings: Make, tmp_path: Path, way: Way, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """Nothing is asked of anybody once the third refusal is read; with a new key the mirror is finished.

    A 403 may be about an item: what the key was good for is asked for once more, before the third is read.
    """
    asked = Asked(monkeypatch)
    async with simulated(items=40, generation=2022, latency_s=0.01) as simulator:
        simulator.on_request = lambda record: (
            str(status)
            if record.server == "api" and "/download/" not in record.path and len(simulator.requests) > 500
            else None
        )
        notes = Notes()
        settings = quick_settings(simulator, **by(way))
        summary = await mirror(settings, simulator.key, notes)
        assert summary.exit_code == 4
        hold_simulated(tmp_path / "mirror", simulator, summary, notes.lines, cut=True)
        assert not asked.after_third(lambda reply: reply.status == status)
        assert asked.refusals(lambda reply: reply.status == status) <= way[1] + 2
        await mends_simulated(settings, simulator)


@pytest.mark.parametrize("status", ["401", "403"])
async def test_row_18_only_the_keys_own_origin_refuses_it(
    quick_settings: Make, tmp_path: Path, way: Way, status: str
) -> None:
    """Storage that answers 401 or 403, as S3 does for a key that is missing, ends no run: the others come (point 6)."""
    async with simulated(items=30, generation=2022) as simulator:
        refused = tuple(f"/{simulator.patch_name(number)}_B02.tif" for number in range(10))
        simulator.on_request = lambda record: (
            status if record.server != "api" and record.path.endswith(refused) else None
        )
        settings = quick_settings(simulator, **by(way), exclude_asset="B10")
        summary = await mirror(settings, simulator.key)
        assert (summary.exit_code, [(f.asset, f.kind, f.count) for f in summary.failures]) == (
            3,
            [("B02", "refused", 10)],
        )
        hold_simulated(tmp_path / "mirror", simulator, summary)
        await mends_simulated(settings, simulator)


@pytest.mark.parametrize("told", ["the settings know the links' life", "it is learned"])
async def test_row_20_links_that_live_for_seconds(quick_settings: Make, tmp_path: Path, way: Way, told: str) -> None:
    """Links that die while items wait: no asset fails, not for a moment, and an item is renewed once an expiry."""
    items, latency_s = {1: (6, 0.03), 16: (90, 0.04), 256: (100, 0.1)}[way[1]]
    async with simulated(items=items, generation=2022, link_life_s=2, latency_s=latency_s) as simulator:
        more = {"link_life": "2s"} if told.startswith("the settings") else {}
        notes = Notes()
        settings = quick_settings(simulator, sweeps=0, retries=1, fixed_pace=True, **by(way), **more)
        summary = await mirror(settings, simulator.key, notes)
        is_whole(summary, simulator, tmp_path / "mirror", notes.lines)
        asked = renewals(simulator)
        refused = sum(record.status == 403 and "/download/" in record.path for record in simulator.requests)
    assert summary.seconds > 2, "no link died: the test says nothing"
    assert max(asked.values()) <= 1 + summary.seconds / 1.0
    is_learned = any("links die after" in line for line in notes.lines)
    if told == "it is learned":
        # Three that were refused, and came by a new link, tell. One worker meets two or three: its items take no time.
        assert way[1] == 1 or refused >= 6, "few links were refused: the test says nothing"
        assert is_learned or refused <= 3
    assert not is_learned or (told == "it is learned" and refused >= 3)


@pytest.mark.skipif(not FULL, reason="10,000 files: `make fault-matrix`")
async def test_row_20_ten_thousand_files(quick_settings: Make, tmp_path: Path, way: Way) -> None:
    """Links that live for 5 s, 10,010 files: none fails, and no item is asked for more than twice (point 3)."""
    if way[1] == 1:
        pytest.skip("one worker takes minutes, and holds no link for long")
    latency_s = {16: 0.01, 256: 0.1}[way[1]]  # on an idle machine all were here before a link died
    async with simulated(items=770, generation=2022, link_life_s=5, latency_s=latency_s) as simulator:
        settings = quick_settings(simulator, sweeps=0, **by(way), link_life="5s", exclude_asset="B10")
        summary = await mirror(settings, simulator.key)
        is_whole(summary, simulator, tmp_path / "mirror")
        asked = renewals(simulator)
    assert summary.seconds > 5, "no link died: the test says nothing"
    assert len(tree(tmp_path / "mirror")) == 10_010
    assert max(asked.values()) <= 2


def renewals(simulator: Simulator) -> Counter[str]:
    """Return how often each item was asked for by itself: a source once, anything once more for its links."""
    found = Counter(record.path for record in simulator.requests if "/items/" in record.path)
    for path in found:
        found[path] += "bigearthnet_v1_labels" in path  # a label came with its page
    return found


@pytest.mark.parametrize("status", ["404", "410"])
async def test_row_21_gone_is_asked_once(quick_settings: Make, tmp_path: Path, way: Way, status: str) -> None:
    """An asset that is not there is asked for once in a run, told as gone, and the rest is whole."""
    async with simulated(items=30, generation=2022) as simulator:
        gone = f"/{simulator.patch_name(3)}_B02.tif"
        simulator.on_request = lambda record: status if record.path.endswith(gone) else None
        settings = quick_settings(simulator, **by(way))
        summary = await mirror(settings, simulator.key)
        asked = sum(record.path.endswith(gone) for record in simulator.requests)
        assert len(tree(tmp_path / "mirror")) == 30 * 13 - 1
        hold_simulated(tmp_path / "mirror", simulator, summary)
        await mends_simulated(settings, simulator)
    assert asked == 1
    assert (summary.exit_code, [(f.asset, f.kind, f.count) for f in summary.failures]) == (3, [("B02", "gone", 1)])


async def test_row_15_a_server_error_for_ever(quick_settings: Make, tmp_path: Path, way: Way) -> None:
    """An object that answers 500 for ever is asked as often as the settings say, told as 5xx, and delays no other."""
    async with simulated(items=30, generation=2022) as simulator:
        bad = f"/{simulator.patch_name(3)}_B02.tif"
        simulator.on_request = lambda record: "500" if record.path.endswith(bad) else None
        settings = quick_settings(simulator, **by(way), retries=2, sweeps=1)
        summary = await mirror(settings, simulator.key)
        asked = sum(record.path.endswith(bad) for record in simulator.requests)
        assert len(tree(tmp_path / "mirror")) == 30 * 13 - 1
        hold_simulated(tmp_path / "mirror", simulator, summary)
        await mends_simulated(settings, simulator)
    assert asked == 2 * 3
    assert (summary.exit_code, [(f.asset, f.kind, f.count) for f in summary.failures]) == (3, [("B02", "5xx", 1)])


@pytest.mark.parametrize("jump_h", [6, -6, 24 * 365 * 4])
async def test_row_51_clock_jumps(
    quick_settings: Make, tmp_path: Path, way: Way, jump_h: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine's clock set forth or back midway renews no link too early, none too late, and ends no wait."""
    real = time.time
    jumped = [0.0]
    async with simulated(items=40, generation=2022) as simulator:
        simulator.clock = real
        monkeypatch.setattr("stacmirror.clock.time.time", lambda: real() + jumped[0], raising=True)
        monkeypatch.setattr("stacmirror.simulator.delivery.time", _RealTime(real))
        running = asyncio.create_task(mirror(quick_settings(simulator, **by(way), exclude_asset="B10"), simulator.key))
        while len(simulator.requests) < 200:
            await asyncio.sleep(0.005)
        jumped[0] = jump_h * 3600.0
        summary = await running
        is_whole(summary, simulator, tmp_path / "mirror")
        asked = Counter(record.path for record in simulator.requests if "/items/" in record.path)
    assert max(asked.values()) == 1


class _RealTime:
    """The `time` module for a server whose clock is right."""

    def __init__(self, real: Callable[[], float]) -> None:
        self.time = real
