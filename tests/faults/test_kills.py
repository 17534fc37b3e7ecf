"""A short form of `make kills`: once at every named point, and a few at random moments."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.child import POINTS
from tests.faults.kills import run_kills


@pytest.mark.slow
async def test_killed_at_every_named_point(tmp_path: Path) -> None:
    """After each kill every visible file is whole, no committed one lost; the finished tree is the undisturbed one."""
    seed = random.randrange(1 << 30)
    points = list(POINTS)
    random.Random(seed).shuffle(points)
    tally = await run_kills(tmp_path, 60, points, [], seed)
    assert tally.kills == len(points)


@pytest.mark.slow
async def test_killed_at_random_moments(tmp_path: Path) -> None:
    """The same, wherever it is; and nothing that has a row is asked for again."""
    seed = random.randrange(1 << 30)
    moments_s = [random.Random(seed).uniform(0, 0.2) for _ in range(2)]
    tally = await run_kills(tmp_path, 60, [], moments_s, seed)
    assert tally.kills == 2
