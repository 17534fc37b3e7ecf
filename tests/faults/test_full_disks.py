"""Full, nearly full, too small and read-only disks; all but the last need root, for a small tmpfs."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.conftest import simulated, tree
from tests.faults.conftest import Small
from tests.faults.full_disks import change, run, run_full
from tests.faults.power_cuts import NoDisk


@pytest.mark.slow
async def test_a_disk_is_full_at_random_levels(tmp_path: Path) -> None:
    """Bytes and inodes: exit code 6, nothing half-written in sight, and the same tree when there is room."""
    try:
        await run_full(tmp_path, 20, 2, random.randrange(1 << 30))
    except NoDisk as reason:
        pytest.skip(str(reason))


async def test_the_run_stops_before_the_disk_is_full(small: Small) -> None:
    """With a mark of 3 MB on a disk of 5.5 MB, it stops in time: what came in is committed, and some room is left."""
    disk = small("size=5500k")
    async with simulated(items=1_000, latency_s=0.01) as simulator:
        code, reason = await run(simulator, disk / "mirror", keep_free=3_000_000, workers=2)
        assert code == 6
        assert "nearly full" in reason
        assert "--keep-free keeps 3.0 MB" in reason
        found = os.statvfs(disk)
        assert found.f_bavail * found.f_frsize > 100_000
        assert len(tree(disk / "mirror")) > 0
        simulator.requests.clear()
        code, reason = await run(simulator, disk / "mirror", keep_free=5_000_000)
        assert (code, list(simulator.requests)) == (6, []), "asked for something with no room to put it"
        assert "nearly full" in reason


async def test_what_cannot_fit_is_refused_early(small: Small) -> None:
    """A server that names a total, and a disk for a tenth of it: refused after the first items."""
    disk = small("size=30m")
    async with simulated(items=3_000, generation=2022, latency_s=0.02) as simulator:
        code, reason = await run(simulator, disk / "mirror", preflight=True)
        assert code == 6
        assert f"does not fit into {disk}/mirror" in reason
        assert len(tree(disk / "mirror")) < 13 * 150


async def test_a_read_only_target_is_refused_before_anything_is_asked(tmp_path: Path, small: Small) -> None:
    """Root cannot be refused by modes, so for root the disk is read-only; for others the folder."""
    if os.geteuid() == 0:
        folder = small("size=1m")
        change(folder, "ro")
    else:
        folder = tmp_path / "theirs"
        folder.mkdir(mode=0o555)
    async with simulated(items=3) as simulator:
        code, reason = await run(simulator, folder / "mirror")
        assert code == 6
        assert "cannot write to" in reason
        assert list(simulator.requests) == []
