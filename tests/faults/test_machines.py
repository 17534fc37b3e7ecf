"""Several machines, a shard each: one dies, or is parted from the others, and another takes its shard over (row 53).

Machines are processes with host names of their own, on storage where the kernel's lock is given to everyone. Nobody
waits for the minute after which another host's lock expires: the lock's time is set back.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from stacmirror.filters.shard import shard_of
from stacmirror.ledger.lock import EXPIRES_S
from stacmirror.simulator import Simulator
from tests.conftest import simulated, tree
from tests.faults import mirrors
from tests.faults.invariants import hold_simulated, ledger_files, simulated_files

ITEMS = 120
WITHIN_S = 60.0
NTH = {"write": 40, "stage": 5, "rows": 2, "ledger": 2, "rename": 5, "report": 1}
"""At which passing of its point a machine dies or stands still."""


async def machine(name: str, simulator: Simulator, place: Path, shard: int, *hooks: str) -> asyncio.subprocess.Process:
    """Start a machine on one of two shards."""
    words = mirrors.words(simulator, place / f"shard-{shard}", "--shard", f"{shard}/2")
    return await mirrors.start(simulator, [*mirrors.CHILD, "--host", name, *hooks, "--", *words])


def files_of(simulator: Simulator, shard: int) -> dict[str, bytes]:
    """Return the files of a shard: of its labels and of their sources."""
    labels, source = "bigearthnet_v1_labels", "bigearthnet_v1_source"
    ours = {
        f"{collection}/{simulator.item_id(number, collection)}"
        for number in range(ITEMS)
        for collection in (labels, source)
        if shard_of(simulator.item_id(number, labels), 2) == shard
    }
    return {path: body for path, body in simulated_files(simulator).items() if os.path.dirname(path) in ours}


def grow_old(target: Path) -> None:
    """Let the lock be a minute older than it is."""
    old_s = time.time() - EXPIRES_S - 1
    os.utime(target / ".stacmirror" / "lock", (old_s, old_s))


def owner_of(target: Path) -> str:
    text = (target / ".stacmirror" / "lock").read_text()
    return str(json.loads(text)["host"]) if text.strip() else ""


def seen(target: Path) -> int:
    """Count the visible folders of items, while others work on them."""
    return sum(1 for _ in target.glob("bigearthnet_v1_*/*"))


def state_of(pid: int) -> str:
    """Return the kernel's letter for what a process does: T when it is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def until(true: object) -> None:
    assert callable(true)
    deadline_s = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.005)


def hold_shard(target: Path, simulator: Simulator, shard: int, out: str, said: str, *, cut: bool = False) -> None:
    """Hold a finished shard to i1 to i7: it is whole, and no file is twice in its ledger.

    `cut`: a run that was taken over leaves what it had in hand, unseen, until the next one.
    """
    end = json.loads(out)
    assert (end["verdict"], end["shard"]) == ("complete", f"{shard}/2"), said
    whole = files_of(simulator, shard)
    assert tree(target) == whole
    hold_simulated(target, simulator, end, [said], expected=whole, cut=cut)
    assert set(ledger_files(target)) == set(whole)
    with sqlite3.connect(target / ".stacmirror" / "ledger.sqlite") as ledger:
        (rows, items) = ledger.execute("SELECT count(*), count(DISTINCT collection || '/' || id) FROM item").fetchone()
    ledger.close()
    assert rows == items == len({os.path.dirname(path) for path in whole})


def hold_both(place: Path, simulator: Simulator) -> None:
    """Hold both shards together: all that there is, and no file in both ledgers."""
    one, two = (ledger_files(place / f"shard-{shard}") for shard in (1, 2))
    assert not set(one) & set(two)
    assert set(one) | set(two) == set(simulated_files(simulator))


@pytest.mark.slow
@pytest.mark.parametrize("point", ["write", "rows", "ledger", "rename"])
async def test_row_53_a_dead_machines_shard_goes_to_another(tmp_path: Path, point: str) -> None:
    """Refused while the dead one's last sign is fresh; a minute later the same command goes on with the rest alone."""
    async with simulated(items=ITEMS) as simulator:
        dies = await machine("one", simulator, tmp_path, 1, "--kill", f"{point}:{NTH[point]}")
        other = await machine("two", simulator, tmp_path, 2)
        assert (await mirrors.ended(dies, WITHIN_S))[0] == -signal.SIGKILL
        code, out, said = await mirrors.ended(other, WITHIN_S)
        assert code == 0, said
        hold_shard(tmp_path / "shard-2", simulator, 2, out, said)

        target = tmp_path / "shard-1"
        had = mirrors.rows(target)
        code, _, said = await mirrors.ended(await machine("two", simulator, tmp_path, 1), WITHIN_S)
        assert code == 9
        assert " on one since " in said
        grow_old(target)
        simulator.requests.clear()
        code, out, said = await mirrors.ended(await machine("two", simulator, tmp_path, 1), WITHIN_S)
        assert code == 0, said
        hold_shard(target, simulator, 1, out, said)
        hold_both(tmp_path, simulator)
        expected = dict.fromkeys(files_of(simulator, 1), b"")
        assert not mirrors.asked_again(simulator, had, expected)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["while the other works", "when the other is done"])
@pytest.mark.parametrize("point", ["write", "stage", "ledger", "rename", "report"])
async def test_row_53_a_parted_machine_stops_when_it_hears(tmp_path: Path, point: str, when: str) -> None:
    """It stands still, another takes over, it comes back: exit 9, naming the other; nothing is lost, or there twice.

    Where it comes back while the other works, that one may have to stop (6), and goes on by the same command.
    """
    async with simulated(items=ITEMS) as simulator:
        target = tmp_path / "shard-1"
        parted = await machine("one", simulator, tmp_path, 1, "--stop", f"{point}:{NTH[point]}")
        machines = [parted]
        try:
            await until(lambda: state_of(parted.pid) == "T")
            assert owner_of(target) == "one"
            before = seen(target)
            grow_old(target)
            simulator.requests.clear()
            other = await machine("two", simulator, tmp_path, 1)
            machines.append(other)
            if when == "while the other works":
                await until(lambda: seen(target) > before)
                parted.send_signal(signal.SIGCONT)
                ended = await asyncio.gather(mirrors.ended(other, WITHIN_S), mirrors.ended(parted, WITHIN_S))
            else:
                first = await mirrors.ended(other, WITHIN_S)
                parted.send_signal(signal.SIGCONT)
                ended = [first, await mirrors.ended(parted, WITHIN_S)]
        finally:
            for process in machines:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        (code, out, said), (parted_code, parted_out, parted_said) = ended
        if when == "while the other works" and code == 6:
            # Until its next commit the parted one may take a part of a large file from under the other's hands.
            code, out, said = await mirrors.ended(await machine("two", simulator, tmp_path, 1), WITHIN_S)
        assert code == 0, said
        assert parted_code == 9, parted_said
        assert "taken this mirror over" in json.loads(parted_out)["reason"]
        hold_shard(target, simulator, 1, out, said, cut=True)
        simulator.requests.clear()
        code, out, said = await mirrors.ended(await machine("two", simulator, tmp_path, 1), WITHIN_S)
        assert code == 0, said
        hold_shard(target, simulator, 1, out, said)
        assert not {path for path in mirrors.asked(simulator) if "_B10" not in path}
        other = await machine("two", simulator, tmp_path, 2)
        code, out, said = await mirrors.ended(other, WITHIN_S)
        assert code == 0, said
        hold_shard(tmp_path / "shard-2", simulator, 2, out, said)
        hold_both(tmp_path, simulator)
