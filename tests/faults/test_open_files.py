"""Few open files allowed: a slower run, and a whole mirror."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from pathlib import Path

import pytest

from tests.conftest import simulated
from tests.faults import mirrors
from tests.faults.invariants import hold_simulated, mends_simulated
from tests.faults.whole_runs import Make

_FEW = 40
_LIMITED = f"""
import resource, runpy
resource.setrlimit(resource.RLIMIT_NOFILE, ({_FEW}, {_FEW}))
runpy.run_module("stacmirror", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
async def test_a_run_fits_into_few_open_files(quick_settings: Make, tmp_path: Path) -> None:
    """With 40 files and connections in all, 256 workers make a whole mirror, and a note says why it is slow."""
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= _FEW
    async with simulated(items=20) as simulator:
        command = [sys.executable, "-c", _LIMITED, *mirrors.words(simulator, tmp_path / "mirror", "--workers", "256")]
        code, out, said = await mirrors.ended(await mirrors.start(simulator, command), 60)
        assert code == 0, said
        hold_simulated(tmp_path / "mirror", simulator, json.loads(out), [said])
        await mends_simulated(quick_settings(simulator), simulator)
    assert "only 40 files and connections may be open at once" in said
    assert len(mirrors.digests(tmp_path / "mirror")) == 20 * 13


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux lowers another process's limit")
@pytest.mark.parametrize("client", ["wire", "aiohttp"])
async def test_a_limit_that_falls_in_mid_run_slows_it_down(quick_settings: Make, tmp_path: Path, client: str) -> None:
    """With some 100 connections open, the limit falls below: files and connections wait, and the mirror is whole."""
    async with simulated(items=25, latency_s=0.03) as simulator:
        target = tmp_path / "mirror"
        more = ("--workers", "256", "--fixed-pace", "--per-host", "100", "--http-client", client)
        command = [sys.executable, "-m", "stacmirror", *mirrors.words(simulator, target, *more)]
        process = await mirrors.start(simulator, command)
        while len(mirrors.asked(simulator)) < 60:
            await asyncio.sleep(0.01)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (_FEW, _FEW))
        code, out, said = await mirrors.ended(process, 120)
        assert code == 0, said
        assert json.loads(out)["verdict"] == "complete"
        hold_simulated(target, simulator, json.loads(out), [said])
        await mends_simulated(quick_settings(simulator), simulator)
    assert said.count("too many open files") == 1, said
    assert len(mirrors.digests(target)) == 25 * 13
