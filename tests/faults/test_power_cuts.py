"""A short form of `make power-cuts`: two cuts on each file system; skipped with a reason where a disk cannot be cut."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.power_cuts import NoDisk, run_cuts


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
async def test_power_is_cut(tmp_path: Path, kind: str) -> None:
    """What can be seen is whole, what was promised is there, and the next run makes the tree the undisturbed one."""
    try:
        tally = await run_cuts(kind, tmp_path, 2, 60, 0.2, random.randrange(1 << 30))
    except NoDisk as reason:
        pytest.skip(str(reason))
    assert tally.cuts == 2
