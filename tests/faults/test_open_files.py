"""Few open files allowed: a slower run, and a whole mirror."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import pytest

from tests.conftest import simulated
from tests.faults import mirrors

_FEW = 40
_LIMITED = f"""
import resource, runpy
resource.setrlimit(resource.RLIMIT_NOFILE, ({_FEW}, {_FEW}))
runpy.run_module("stacmirror", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
async def test_a_run_fits_into_few_open_files(tmp_path: Path) -> None:
    """With 40 files and connections in all, 256 workers make a whole mirror, and a note says why it is slow."""
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= _FEW
    async with simulated(items=20) as simulator:
        command = [sys.executable, "-c", _LIMITED, *mirrors.words(simulator, tmp_path / "mirror", "--workers", "256")]
        code, _, said = await mirrors.ended(await mirrors.start(simulator, command), 60)
    assert code == 0, said
    assert "only 40 files and connections may be open at once" in said
    assert len(mirrors.digests(tmp_path / "mirror")) == 20 * 13
