"""A run that is stopped, in the middle of it, and one that meets another run in its folder (rows 46, 50)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from stacmirror.errors import TargetInUse
from tests.conftest import simulated, tree
from tests.contract.wire_server import STALL, Step, head
from tests.faults import mirrors
from tests.faults.invariants import Before, hold, hold_simulated, ledger_receipts, mends, mends_simulated
from tests.faults.whole_runs import Make
from tests.faults.world import COLLECTION, Bench

MANY = [f"i{number}" for number in range(40)]


@pytest.mark.parametrize(("exit_code", "reason"), [(130, "interrupted"), (143, "terminated")])
async def test_row_46_stopped_softly(bench: Bench, exit_code: int, reason: str) -> None:
    """What is in hand is finished and committed, nothing new is begun; the next run asks for the rest alone."""
    world = bench.world
    world.ids = MANY

    def stop(nth: int, body: bytes) -> None:
        assert bench.mirror is not None
        if not bench.mirror.stop.asked.is_set():
            bench.mirror.stop.ask(exit_code, reason)

    world.faults["^/files/i4/"] = stop
    before = Before()
    run = await bench.run(page_prefetch=0)
    assert (run.summary.verdict, run.summary.exit_code) == ("stopped", exit_code)
    assert reason in run.summary.reason
    hold(bench, run, before)
    begun = {path.split("/")[2] for path in world.asked if path.startswith("/files/")}
    assert "i4" in begun
    assert {path.split("/")[1] for path in tree(bench.target)} == begun
    assert len(tree(bench.target)) == 4 * len(begun) < 4 * len(MANY)
    await mends(bench, page_prefetch=0)


async def test_row_46_stopped_at_once(bench: Bench) -> None:
    """Asked twice while bodies are silent: it ends there and then, long before grace and time-outs."""
    bench.world.ids = MANY

    def silent(nth: int, body: bytes) -> Sequence[Step]:
        assert bench.mirror is not None
        bench.mirror.stop.ask()
        bench.mirror.stop.ask()
        return head(200, f"Content-Length: {len(body)}"), body[:9], STALL

    bench.world.faults["^/files/i[2468]/B0"] = silent
    before = Before()
    run = await bench.run(grace=100, stall_timeout=100)
    assert (run.summary.verdict, run.summary.exit_code) == ("stopped", 130)
    assert run.summary.seconds < 15
    hold(bench, run, before, cut=True)
    await mends(bench)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_row_46_signals(quick_settings: Make, tmp_path: Path, how: signal.Signals) -> None:
    """The program itself, by either signal: 130 or 143 with its summary, and i1 to i7."""
    async with simulated(items=100) as simulator:
        target = tmp_path / "mirror"
        command = [*mirrors.PROGRAM, *mirrors.words(simulator, target, "--missing-ok", "B10")]
        process = await mirrors.start(simulator, command)
        while len(mirrors.asked(simulator)) < 200:
            await asyncio.sleep(0.005)
        process.send_signal(how)
        code, out, said = await mirrors.ended(process, 30)
        end = json.loads(out)
        assert code == end["exit_code"] == {signal.SIGINT: 130, signal.SIGTERM: 143}[how], said
        assert end["items"]["complete"] > 0
        assert len(tree(target)) < 13 * 100
        hold_simulated(target, simulator, end, [said])
        await mends_simulated(quick_settings(simulator, missing_ok=["B10"]), simulator)


async def test_row_50_two_runs_on_one_folder(bench: Bench) -> None:
    """The second is refused at once and names the first, which goes on as if nothing had been; then each may."""
    world = bench.world
    world.ids = MANY
    before = Before()
    first = asyncio.create_task(bench.run())
    while sum(path.startswith("/files/") for path in world.asked) < 9:
        await asyncio.sleep(0)
    for _ in range(3):
        second = Bench(world, bench.target, *bench.way)
        began_s = asyncio.get_running_loop().time()
        with pytest.raises(TargetInUse, match=f"pid {os.getpid()} on ") as refused:
            await second.run()
        assert asyncio.get_running_loop().time() - began_s < 1
        assert refused.value.exit_code == 9
        assert not first.done()
    run = await first
    hold(bench, run, before)
    assert (run.summary.verdict, run.summary.exit_code) == ("complete", 0)
    assert len(ledger_receipts(bench.target)) == 4 * len(MANY)
    assert {count for path, count in world.asked.items() if path.startswith("/files/")} == {1}
    assert world.asked[f"/mlhub/v1/collections/{COLLECTION}/items"] == len(MANY) / 2, "the second one asked, too"
    await mends(bench)
