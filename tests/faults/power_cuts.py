"""Power cuts on real file systems, and what must be true when the disk is back.

    python -m tests.faults.power_cuts [--cuts 100] [--on ext4 xfs] [--items 400] [--seed S]

`make power-cuts` calls it; tests/faults/test_power_cuts.py runs a short form. Needs root and loop devices. The disk is
an image, mounted; the ioctl FS_IOC_SHUTDOWN without a flush of the log throws away all that is not on it, as xfstests
do. The run then meets EIO everywhere, and must say so in one line; on xfs it may die of SIGBUS instead, in SQLite's
shared memory, which no program can help: a page that is mapped from a dead disk is gone. What the ledger promised, and
when, is logged outside the disk, by tests.faults.child.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from stacmirror.ledger import schema
from stacmirror.simulator import Simulator
from tests.conftest import simulated
from tests.faults import mirrors
from tests.faults.mirrors import CHILD, Broken, Digests

_FS_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2
_MAKE = {"ext4": ("mkfs.ext4", "-q", "-F"), "xfs": ("mkfs.xfs", "-q", "-f")}
_IMAGE_BYTES = 600 << 20
_STOPPED_S = 20.0
"""For a run to end on a dead disk: 10 s, and a busy machine."""
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class NoDisk(Exception):
    """Power cannot be cut here, and why."""


class Disk:
    """A file system in an image, whose power can be cut. Use as `with`. Raises: NoDisk when it cannot be made."""

    def __init__(self, kind: str, place: Path) -> None:
        self._kind = kind
        self._image = place / f"{kind}.img"
        self.folder = place / kind
        self._mounted = False

    def __enter__(self) -> Disk:
        if os.geteuid() != 0:
            raise NoDisk("only root can mount a disk to cut")
        if shutil.which(_MAKE[self._kind][0], path=_PATH) is None:
            raise NoDisk(f"{_MAKE[self._kind][0]} is not installed")
        with self._image.open("wb") as file:
            file.truncate(_IMAGE_BYTES)
        self.folder.mkdir(exist_ok=True)
        try:
            _system(*_MAKE[self._kind], str(self._image))
            self._mount()
        except subprocess.CalledProcessError as error:
            raise NoDisk(f"no {self._kind} can be mounted here: {error.stderr.decode().strip()}") from None
        return self

    def __exit__(self, *exc: object) -> None:
        if self._mounted:
            self._unmount()
        self._image.unlink()

    def cut(self) -> None:
        """Throw away what is not on the disk; every later call on it fails."""
        fd = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _FS_IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def back(self) -> None:
        """Mount again what is left. Nobody may have a file open."""
        self._unmount()
        self._mount()

    def _mount(self) -> None:
        _system("mount", "-o", "loop", str(self._image), str(self.folder))
        self._mounted = True

    def _unmount(self) -> None:
        _system("umount", str(self.folder))
        self._mounted = False


def _system(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PATH": _PATH})


@dataclass
class Tally:
    """What a series of cuts came to."""

    kind: str
    cuts: int = 0
    disks: int = 0
    promised: int = 0
    """Items that the ledger had promised before a cut, over all cuts."""
    visible: int = 0
    """Visible files that were read after a cut, over all cuts."""

    def __str__(self) -> str:
        return (
            f"{self.kind}: {self.cuts} cuts over {self.disks} mirrors; {self.promised:,} promised items held against"
            f" the disk, 0 lost; {self.visible:,} visible files read, 0 wrong"
        )


async def run_cuts(kind: str, place: Path, cuts: int, items: int, longest_s: float, seed: int) -> Tally:
    """Cut the power `cuts` times at random moments, on mirrors of `items` items. Raises: Broken, NoDisk."""
    dice, tally = random.Random(seed), Tally(kind)
    async with simulated(items=items) as simulator:
        with Disk(kind, place):
            pass  # where there can be none, say so before anything else
        expected = await mirrors.undisturbed(simulator, place / "whole")
        try:
            while tally.cuts < cuts:
                with Disk(kind, place) as disk:
                    await _cut_until_done(simulator, disk, expected, items, cuts, longest_s, dice, tally)
                tally.disks += 1
        except Broken as broken:
            raise Broken(f"seed {seed}, after {tally}: {broken}") from broken
    return tally


async def _cut_until_done(
    simulator: Simulator,
    disk: Disk,
    expected: Digests,
    items: int,
    cuts: int,
    longest_s: float,
    dice: random.Random,
    tally: Tally,
) -> None:
    """Cut, check and go on with one mirror until it is complete or there were enough cuts; then finish it."""
    target, promises = disk.folder / "mirror", disk.folder.parent / "promises"
    promises.unlink(missing_ok=True)
    while tally.cuts < cuts:
        simulator.requests.clear()
        command = [*CHILD, "--promises", str(promises), "--", *mirrors.words(simulator, target)]
        process = await mirrors.start(simulator, command)
        cut_ns = await _cut_in(simulator, disk, process, dice.uniform(0, longest_s))
        code, _, said = await mirrors.ended(process, _STOPPED_S)
        if not cut_ns:  # it was done before
            break
        if code not in (0, 6, -signal.SIGBUS):
            raise Broken(f"on a dead disk the run ended with {code}: {said}")
        disk.back()
        tally.cuts += 1
        found = await asyncio.to_thread(mirrors.check, target, expected)
        tally.visible += len(await asyncio.to_thread(mirrors.digests, target)) if target.exists() else 0
        tally.promised += _hold_to(promises, cut_ns, found)
        promises.unlink(missing_ok=True)  # the next promises are of what is there now
        if code == 0:  # it was done before the cut, and has promised all of it
            mirrors.check_end(target, expected, items)
            return
    await mirrors.finish(simulator, target)
    await asyncio.to_thread(mirrors.check_end, target, expected, items)


async def _cut_in(simulator: Simulator, disk: Disk, process: asyncio.subprocess.Process, seconds: float) -> int:
    """Cut the power `seconds` after the first new request; return when that began, in monotonic ns, or 0 for never."""
    while process.returncode is None and not mirrors.asked(simulator):
        await asyncio.sleep(0.002)
    await asyncio.sleep(seconds)
    if process.returncode is not None:
        return 0
    cut_ns = time.monotonic_ns()
    await asyncio.to_thread(disk.cut)
    return cut_ns


def _hold_to(promises: Path, cut_ns: int, found: dict[str, int]) -> int:
    """Hold the ledger to what it promised before the cut; return how many promises that were. Raises: Broken."""
    if not promises.exists():
        return 0
    kept = 0
    for line in promises.read_text().splitlines():
        promise = json.loads(line)
        if promise["at"] >= cut_ns:
            continue
        for name in ("/".join(key) for key in promise["rows"]):
            kept += 1
            if name not in found:
                raise Broken(f"the row of {name} was promised, and is lost")
        for name in ("/".join(key) for key in promise["committed"]):
            if found[name] not in (schema.COMMITTED, schema.INCOMPLETE):
                raise Broken(f"{name} was promised as committed, and is in state {found[name]}")
    return kept


def main() -> int:
    """Run the cuts on each file system and print what they came to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=100, help="on each file system")
    parser.add_argument("--on", nargs="+", choices=list(_MAKE), default=list(_MAKE))
    parser.add_argument("--items", type=int, default=400, help="items of each mirror")
    parser.add_argument("--longest", type=float, default=1.5, help="seconds after the first new request, at most")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--place", default=None, help="folder for the images")
    wanted = parser.parse_args()
    for kind in wanted.on:
        started_s = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="stacmirror-cuts-", dir=wanted.place) as place:
            try:
                tally = asyncio.run(run_cuts(kind, Path(place), wanted.cuts, wanted.items, wanted.longest, wanted.seed))
            except NoDisk as reason:
                print(f"{kind}: skipped: {reason}")
                continue
        print(f"{tally}; {wanted.items} items a mirror, {time.monotonic() - started_s:.0f} s, seed {wanted.seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
