"""`--pipeline` over real sockets: the same tree, whatever the servers make of several requests in one write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stacmirror.mirror import Mirror
from stacmirror.model import Summary
from stacmirror.settings import Settings
from stacmirror.simulator import Simulator
from tests.conftest import simulated, tree
from tests.unit.fakes import Notes

Make = Callable[..., Settings]


async def run(settings: Settings, simulator: Simulator, notes: Notes | None = None) -> Summary:
    return await Mirror(settings, api_key=simulator.key, observer=notes).run()


@pytest.mark.parametrize("generation", [2020, 2021, 2022])
@pytest.mark.parametrize("learn", [False, True])
async def test_the_same_tree(quick_settings: Make, tmp_path: Path, generation: int, learn: bool) -> None:
    """Over s3:// and https://, with redirects learned or not, B10 missing: each byte, count and verdict is the same."""
    notes = Notes()
    async with simulated(items=60, generation=generation) as simulator:
        plain = await run(quick_settings(simulator, "plain"), simulator)
        several = await run(
            quick_settings(simulator, "several", pipeline=True, learn_redirects=learn), simulator, notes
        )
    assert plain.verdict == several.verdict == "complete"
    assets = [summary.mirror.assets for summary in (plain, several)]
    assert len({(a.stored, a.absent + a.assumed_absent, a.failed) for a in assets}) == 1
    assert several.mirror.items == plain.mirror.items
    assert tree(tmp_path / "several") == tree(tmp_path / "plain")
    assert not [line for line in notes.lines if "several requests" in line]


async def test_faults_and_short_links(quick_settings: Make, tmp_path: Path) -> None:
    """503s, resets, short bodies and links of two seconds: nothing is lost, nothing is mixed up."""
    async with simulated(items=60) as clean:
        await run(quick_settings(clean, "plain"), clean)
    faults = {"503": 0.03, "reset": 0.02, "short": 0.02}
    async with simulated(items=60, link_life_s=2.0, faults=faults) as simulator:
        summary = await run(quick_settings(simulator, "several", pipeline=True, link_life="2s", retries=20), simulator)
    assert (summary.verdict, summary.mirror.assets.failed) == ("complete", 0)
    assert tree(tmp_path / "several") == tree(tmp_path / "plain")


@pytest.mark.parametrize("with_rate", [False, True])
async def test_where_it_cannot_be(quick_settings: Make, with_rate: bool) -> None:
    """With aiohttp, and with a rate, the run says that it asks one by one, and does."""
    notes = Notes()
    options = {"rate": "100000/s"} if with_rate else {"http_client": "aiohttp"}
    async with simulated(items=5) as simulator:
        summary = await run(quick_settings(simulator, pipeline=True, **options), simulator, notes)
    assert summary.exit_code == 0
    assert [line for line in notes.lines if line.startswith("--pipeline is not used: ")]
