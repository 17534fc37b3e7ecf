"""A sample of `make nth-calls`: the first, the last and a few other calls of each kind fail."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest

from tests.conftest import simulated
from tests.faults import mirrors
from tests.faults.nth_calls import ERRORS, Bench, Calls, failing


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


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
async def test_no_more_open_files_is_no_failure(tmp_path: Path, code: int) -> None:
    """Wherever a file cannot be opened for once, the run waits and is complete: by syncfs and by fsync of each file."""
    async with simulated(items=1) as simulator:
        for by_fsync in (False, True):
            bench = Bench(simulator, tmp_path / str(by_fsync), 1)
            opens = (await bench.count(by_fsync=by_fsync))["open"]
            for n in random.sample(range(12, opens), 4):  # the first 11 come before anyone is asked: exit code 6
                target = tmp_path / f"{by_fsync}-{n}"
                calls = Calls("open", n, code)
                with failing(calls, by_fsync=by_fsync):
                    ended = await bench.run(target)
                assert (ended, calls.failed_at_s > 0) == ((0, ""), True), n
                mirrors.check_end(target, bench.expected, 1)
