"""A sample of `make nth-calls`: the first, the last and a few other calls of each kind fail."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.conftest import simulated
from tests.faults.nth_calls import ERRORS, Bench


@pytest.mark.slow
@pytest.mark.parametrize("kind", ERRORS)
async def test_a_call_fails(tmp_path: Path, kind: str) -> None:
    """Exit code 6 in time, nothing half-written under a final name, and the next run makes the tree whole."""
    seed = random.randrange(1 << 30)
    dice = random.Random(seed)
    async with simulated(items=1) as simulator:
        bench = Bench(simulator, tmp_path, 1)
        calls = (await bench.count(by_fsync=kind == "fsync"))[kind]
        assert calls > 1
        failed = 0
        for n in {1, dice.randint(1, calls), dice.randint(1, calls)}:
            for for_ever in (False, True):
                failed += await bench.fail(kind, n, dice.choice(ERRORS[kind]), for_ever=for_ever)
        assert failed >= 2, seed
