"""SIGKILL at named points and at random moments, and what must be true after each one.

    python -m tests.faults.kills [--each 25] [--random 200] [--items 2000] [--seed S]

`make kills` calls it; tests/faults/test_kills.py runs a short form. A mirror is killed, checked and gone on with, over
and over, until it is complete; then its tree is held against an undisturbed one and the next mirror begins.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from stacmirror.simulator import Simulator
from tests.conftest import simulated
from tests.faults import mirrors
from tests.faults.child import POINTS, in_flight
from tests.faults.invariants import hold_simulated
from tests.faults.mirrors import CHILD, Broken, Digests

_PASSINGS = {
    "open": 300, "write": 300, "stage": 24, "part": 24, "kept": 24, "sync": 4, "page": 2, "settled": 24, "rows": 4,
    "ledger": 4, "rename": 24, "report": 4, "recover": 1, "document": 4,
}  # fmt: skip
"""The kill comes at a random passing of its point, up to this one."""
_STOPPED_S = 120.0
_FILES = 13
"""Of a bundle: a label and twelve bands."""


@dataclass
class Tally:
    """What a series of kills came to."""

    kills: int = 0
    mirrors: int = 0
    seen: int = 0
    """Visible files that were checked, over all kills."""
    again: list[int] = field(default_factory=list)
    """Files that the server was asked for twice on account of a kill, each."""

    def __str__(self) -> str:
        again = sorted(self.again) or [0]
        return (
            f"{self.kills} kills over {self.mirrors} finished mirrors; asked for again after a kill: "
            f"median {again[len(again) // 2]}, most {again[-1]} files, never more than the bundles in flight have; "
            "0 lost, 0 wrong, 0 with a row asked for again"
        )


class Series:
    """Kills over mirrors of one simulator. `expected` is the undisturbed tree."""

    def __init__(self, simulator: Simulator, place: Path, expected: Digests, items: int, dice: random.Random) -> None:
        self._simulator = simulator
        self._place = place
        self._log = str(place / "flight")
        self._expected = expected
        self._items = items
        self._dice = dice
        self.tally = Tally()
        self._fresh()

    def _fresh(self) -> None:
        self._target = self._place / f"mirror-{self.tally.mirrors}"
        self._had: set[str] = set()
        self._asked: set[str] = set()

    async def kill_at(self, point: str) -> None:
        """Kill one child at a passing of `point`, check, and go on with the same mirror next time.

        A mirror that comes to its end before that is checked as finished, and the kill is tried on a fresh one.
        """
        for last in (self._dice.randint(1, _PASSINGS[point]), 1, 1):
            command = [
                *CHILD,
                "--flight",
                self._log,
                "--kill",
                f"{point}:{last}",
                "--",
                *mirrors.words(self._simulator, self._target),
            ]
            if await self._killed(await mirrors.start(self._simulator, command), None):
                return
        raise Broken(f"no run came to the point {point}")

    async def kill_after(self, seconds: float) -> None:
        """Kill one child `seconds` after the server heard its first new request, check, go on next time."""
        while True:
            command = [*CHILD, "--flight", self._log, "--", *self._words()]
            if await self._killed(await mirrors.start(self._simulator, command), seconds):
                return

    async def _killed(self, process: asyncio.subprocess.Process, after_s: float | None) -> bool:
        """Wait for the kill and check; False when the run came to its end first."""
        self._simulator.requests.clear()
        killer = None if after_s is None else asyncio.create_task(self._kill(process, after_s))
        try:
            code, out, said = await mirrors.ended(process, _STOPPED_S)
        finally:
            if killer is not None:
                killer.cancel()
        self._hold_against_log()
        if code == 0:
            await asyncio.to_thread(hold_simulated, self._target, self._simulator, json.loads(out), [said])
            await self._end()
            return False
        if code != -signal.SIGKILL:
            raise Broken(f"exit code {code}: {said}")
        self.tally.kills += 1
        self._had = set(await asyncio.to_thread(mirrors.check, self._target, self._expected))
        self._hold_against_flight()
        return True

    async def _kill(self, process: asyncio.subprocess.Process, after_s: float) -> None:
        while not mirrors.asked(self._simulator):
            await asyncio.sleep(0.002)
        await asyncio.sleep(after_s)
        if process.returncode is None:
            process.kill()

    def _hold_against_log(self) -> None:
        """What had a row at the last kill must not be asked for; what was asked for twice is counted."""
        again = mirrors.asked_again(self._simulator, self._had, self._expected)
        if again:
            raise Broken(f"{len(again)} files of items with rows were asked for again: {again[:3]}")
        asked = mirrors.asked(self._simulator) & {mirrors.file_of(name) for name in self._expected}
        if self._asked:
            self.tally.again.append(len(asked & self._asked))
        self._asked |= asked

    def _hold_against_flight(self) -> None:
        """What the killed run was given in vain, and must be fetched again, is of the bundles that it had in flight."""
        files = {mirrors.file_of(name): os.path.dirname(name) for name in self._expected}
        in_vain = {file for file in mirrors.asked(self._simulator) if file in files and files[file] not in self._had}
        bundles = in_flight(self._log)
        if len(in_vain) > bundles * _FILES:
            raise Broken(f"{len(in_vain)} files must be fetched again, and {bundles} bundles were in flight")

    def _words(self) -> list[str]:
        return mirrors.words(self._simulator, self._target)

    async def _end(self) -> None:
        await asyncio.to_thread(mirrors.check_end, self._target, self._expected, self._items)
        await asyncio.to_thread(shutil.rmtree, self._target)
        self.tally.mirrors += 1
        self._fresh()

    async def finish(self) -> None:
        """Go on with the last mirror to its end, and check it."""
        if self._target.exists():
            self._simulator.requests.clear()
            await mirrors.finish(self._simulator, self._target)
            self._hold_against_log()
            await self._end()


async def run_kills(place: Path, items: int, points: list[str], moments_s: list[float], seed: int) -> Tally:
    """Kill at every point and every moment, in this order, on mirrors of `items` items. Raises: Broken."""
    async with simulated(items=items) as simulator:
        expected = await mirrors.undisturbed(simulator, place / "whole")
        series = Series(simulator, place, expected, items, random.Random(seed))
        try:
            for point in points:
                await series.kill_at(point)
            for seconds in moments_s:
                await series.kill_after(seconds)
                if series.tally.kills % 25 == 0:
                    print(series.tally, file=sys.stderr, flush=True)
            await series.finish()
        except Broken as broken:
            raise Broken(f"seed {seed}, after {series.tally}: {broken}") from broken
        return series.tally


def main() -> int:
    """Run both series and print what they came to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=25, help="kills at each named point")
    parser.add_argument("--random", type=int, default=200, help="kills at random moments")
    parser.add_argument("--longest", type=float, default=3.0, help="seconds after the first new request, at most")
    parser.add_argument("--items", type=int, default=2000, help="items of the mirrors of the random series")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--place", default=None, help="folder for the mirrors")
    wanted = parser.parse_args()
    dice = random.Random(wanted.seed)
    points = [point for point in POINTS for _ in range(wanted.each)]
    dice.shuffle(points)
    moments_s = [dice.uniform(0, wanted.longest) for _ in range(wanted.random)]
    for name, items, at, after in (
        (f"at {len(POINTS)} named points, {wanted.each} each", 200, points, []),
        (f"0 to {wanted.longest:g} s after the first new request", wanted.items, [], moments_s),
    ):
        started_s = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="stacmirror-kills-", dir=wanted.place) as place:
            tally = asyncio.run(run_kills(Path(place), items, at, after, wanted.seed))
        print(f"{name}; mirrors of {items} items, {time.monotonic() - started_s:.0f} s, seed {wanted.seed}: {tally}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
