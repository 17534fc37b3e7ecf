"""Interrupted at a random moment and resumed: the same files, and nothing asked twice that was committed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
from pathlib import Path

import pytest

from stacmirror.simulator import Simulator
from tests.conftest import SOURCE, simulated, tree
from tests.faults.mirrors import CHILD

ITEMS = 60


def command(simulator: Simulator, target: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "stacmirror", "mirror", SOURCE, str(target), "--api-url", simulator.api_url,
        "--workers", "6", "--page-size", "7", "--sync-every", "50ms", "--progress", "none", "--json", *more,
    ]  # fmt: skip


def resume(target: Path) -> list[str]:
    return [sys.executable, "-m", "stacmirror", "resume", str(target), "--progress", "none", "--json"]


async def start(arguments: list[str], simulator: Simulator) -> asyncio.subprocess.Process:
    environment = {**os.environ, "MLHUB_API_KEY": simulator.key}
    return await asyncio.create_subprocess_exec(
        *arguments, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


async def finished(process: asyncio.subprocess.Process) -> tuple[int, dict[str, object]]:
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, json.loads(out) if out.strip() else {}


async def blobs_reach(simulator: Simulator, count: int) -> None:
    while sum(record.server == "blobs" for record in simulator.requests) < count:
        await asyncio.sleep(0.005)


def committed_files(target: Path) -> set[str]:
    """Return the file names of every item that the ledger holds, as the blob host names them."""
    from stacmirror.ledger import schema

    ledger = sqlite3.connect(target / ".stacmirror" / "ledger.sqlite")
    try:
        rows = ledger.execute("SELECT id, receipts FROM item WHERE state IN (1, 2) AND failed = 0").fetchall()
    except sqlite3.OperationalError:
        return set()  # killed before the tables stood
    finally:
        ledger.close()
    names = set()
    for id_, blob in rows:
        patch = id_.removeprefix("bigearthnet_v1_labels_").removeprefix("bigearthnet_v1_source_")
        stored, _ = schema.unpack(blob)
        names |= {f"{patch}.geojson" if r.key == "labels" else f"{patch}_{r.key}.tif" for r in stored}
    return names


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
async def test_interrupted_and_resumed(tmp_path: Path, how: signal.Signals) -> None:
    """Whatever ends it, the resumed mirror is byte for byte the undisturbed one, and asks for nothing committed."""
    seed = random.randrange(1 << 30)
    dice = random.Random(seed)
    async with simulated(items=ITEMS) as simulator:
        whole = await start(command(simulator, tmp_path / "whole"), simulator)
        assert (await finished(whole))[0] == 0, seed
        expected = tree(tmp_path / "whole")
        assert len(expected) == ITEMS * 13
        for attempt in range(4):
            target = tmp_path / f"cut{attempt}"
            simulator.requests.clear()
            process = await start(command(simulator, target), simulator)
            await blobs_reach(simulator, dice.randrange(1, ITEMS * 13 - 100))
            process.send_signal(how)
            code, _ = await finished(process)
            assert code == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[how], seed
            seen = tree(target)
            assert all(expected[name] == content for name, content in seen.items()), seed
            done = committed_files(target)
            simulator.requests.clear()
            process = await start(resume(target), simulator)
            code, summary = await finished(process)
            again = {r.path.rpartition("/")[2] for r in simulator.requests if r.server == "blobs"}
            assert (code, summary["verdict"]) == (0, "complete"), (seed, summary)
            assert not again & done, seed
            assert tree(target) == expected, seed
            assert summary["mirror"]["items"]["complete"] == ITEMS, seed  # type: ignore[index]
            assert not list((target / ".stacmirror" / "staging").iterdir()), seed


@pytest.mark.slow
async def test_ctrl_c_finishes_what_is_in_hand(tmp_path: Path) -> None:
    """One Ctrl-C: no new item is begun, those in hand are finished and committed, exit 130 with a summary."""
    async with simulated(items=200) as simulator:
        process = await start(command(simulator, tmp_path / "mirror", "--missing-ok", "B10"), simulator)
        await blobs_reach(simulator, 200)
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), 60)
    code, summary, said = process.returncode, json.loads(out), err.decode()
    assert code == summary["exit_code"] == 130
    assert summary["verdict"] == "stopped"
    assert 0 < said.index("finishing the items in hand") < said.index("interrupt once more to stop now"), said
    items = summary["items"]
    assert isinstance(items, dict)
    assert items["complete"] > 0
    assert items["pending"] > 0
    assert items["listed"] == sum(items[k] for k in ("complete", "incomplete", "filtered", "duplicate", "pending"))
    assert len(tree(tmp_path / "mirror")) == items["complete"] * 13


@pytest.mark.slow
async def test_second_ctrl_c_stops_now(tmp_path: Path) -> None:
    """Two Ctrl-C while every body stalls: the run ends at once, long before its grace, resumable."""
    async with simulated(items=40, stall_s=120) as simulator:
        process = await start(command(simulator, tmp_path / "mirror", "--grace", "100s"), simulator)
        await blobs_reach(simulator, 100)
        simulator.set_fault("blobs:stall", 1.0)
        await asyncio.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        # Two signals that come at once are one.
        while b"finishing the items in hand" not in await asyncio.wait_for(process.stderr.readline(), 60):
            pass
        process.send_signal(signal.SIGINT)
        code, _ = await finished(process)
        assert code == 130
        simulator.set_fault("blobs:stall", 0.0)
        code, summary = await finished(await start(resume(tmp_path / "mirror"), simulator))
    assert (code, summary["verdict"]) == (0, "complete")
    assert len(tree(tmp_path / "mirror")) == 40 * 13


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_a_third_signal_ends_what_hangs(tmp_path: Path, how: signal.Signals) -> None:
    """A disk that does not answer: two signals cannot help, since they wait for it; the third ends the process."""
    async with simulated(items=60) as simulator:
        words = command(simulator, tmp_path / "mirror")[3:]
        process = await start([*CHILD, "--hang", "3", "--", *words], simulator)
        await blobs_reach(simulator, 200)
        for expected in ("finishing the items in hand", "stopping now", ""):
            process.send_signal(how)
            said = ""
            while expected not in said:
                assert process.stderr is not None
                said = (await asyncio.wait_for(process.stderr.readline(), 60)).decode()
        await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == -how
        code, summary = await finished(await start(resume(tmp_path / "mirror"), simulator))
    assert (code, summary["verdict"]) == (0, "complete")


@pytest.mark.slow
async def test_second_run_on_one_target_is_refused(tmp_path: Path) -> None:
    """A second run on a target in use ends with exit 9 and names the first one's pid."""
    async with simulated(items=200) as simulator:
        first = await start(command(simulator, tmp_path / "mirror"), simulator)
        await blobs_reach(simulator, 20)
        second = await start(command(simulator, tmp_path / "mirror"), simulator)
        code, answer = await finished(second)
        assert code == 9
        assert f"pid {first.pid}" in str(answer["error"])
        first.send_signal(signal.SIGKILL)
        await first.wait()
        third = await start(resume(tmp_path / "mirror"), simulator)
        assert (await finished(third))[0] == 0
