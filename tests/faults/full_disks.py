"""Disks that are full after so many bytes or inodes, and what must be true then, and when there is room again.

    python -m tests.faults.full_disks [--levels 20] [--items 40] [--seed S]

`make full-disks` calls it; tests/faults/test_full_disks.py runs a short form. Needs root: the disk is a small tmpfs,
made larger afterwards. The run's own mark (--keep-free) is off, so that it meets ENOSPC wherever it is.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stacmirror.errors import StacmirrorError
from stacmirror.mirror import Mirror
from stacmirror.simulator import Simulator
from stacmirror.typed import build
from tests.conftest import SOURCE, simulated
from tests.faults import mirrors
from tests.faults.mirrors import Broken
from tests.faults.nth_calls import WITHIN_S
from tests.faults.power_cuts import NoDisk

_LEAST_BYTES = 64 << 10
_LEAST_INODES = 12


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """Mount a tmpfs with `options` (`size=1m`, `nr_inodes=99`). Raises: NoDisk."""
    folder.mkdir()
    if os.geteuid() != 0:
        raise NoDisk("only root can mount a small disk")
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode != 0:
        raise NoDisk(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        if subprocess.run(["umount", str(folder)], capture_output=True, check=False).returncode != 0:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a thread that was given up has a file open


def change(folder: Path, options: str) -> None:
    """Mount what is mounted once more, with other options."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


async def run(simulator: Simulator, target: Path, **more: object) -> tuple[int, str]:
    """Run once in this process, with no mark and no foretelling but by `more`; return exit code and reason."""
    chosen: dict[str, object] = {
        "api_url": simulator.api_url, "workers": 8, "sync_every": 0.02, "backoff": 0.01, "missing_ok": ["B10"],
        "small_file_max": mirrors.SMALL_FILE_MAX, "keep_free": 0, "keep_free_inodes": 0, "preflight": False, **more,
    }  # fmt: skip
    try:
        summary = await asyncio.wait_for(Mirror(build(SOURCE, str(target), chosen), api_key=simulator.key).run(), 60)
    except StacmirrorError as error:
        return error.exit_code, error.message
    return summary.exit_code, summary.reason


async def run_full(place: Path, items: int, levels: int, seed: int) -> None:
    """Fill `levels` disks by bytes and as many by inodes, at random sizes. Raises: Broken, NoDisk."""
    dice = random.Random(seed)
    async with simulated(items=items) as simulator:
        whole = place / "whole"
        if (await run(simulator, whole))[0] != 0:
            raise Broken("the undisturbed run is not complete")
        expected = mirrors.digests(whole)
        paths = list(whole.rglob("*"))
        most_bytes = sum(-(-path.stat().st_size // 4096) * 4096 for path in paths if path.is_file())
        for number in range(2 * levels):
            size = dice.randint(_LEAST_BYTES, int(0.95 * most_bytes))
            inodes = dice.randint(_LEAST_INODES, int(0.95 * len(paths)))
            options = f"size={size}" if number % 2 else f"nr_inodes={inodes},size=1g"
            with small_disk(place / f"disk-{number}", options) as disk:
                started_s = time.monotonic()
                code, reason = await run(simulator, disk / "mirror")
                if code != 6 or not reason:
                    raise Broken(f"seed {seed}, {options}: exit code {code}, {reason!r}")
                if time.monotonic() - started_s > WITHIN_S + 5:
                    raise Broken(f"seed {seed}, {options}: it took {time.monotonic() - started_s:.1f} s")
                try:
                    change(disk, "size=1g,nr_inodes=100000")  # to look into a ledger takes room, too
                    mirrors.check(disk / "mirror", expected)
                    code, reason = await run(simulator, disk / "mirror")
                    if code != 0:
                        raise Broken(f"with room again: exit code {code}, {reason!r}")
                    mirrors.check_end(disk / "mirror", expected, items)
                except Broken as broken:
                    raise Broken(f"seed {seed}, {options}: {broken}") from broken


def main() -> int:
    """Fill the disks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", type=int, default=20, help="random sizes, by bytes and by inodes each")
    parser.add_argument("--items", type=int, default=40, help="13 files each")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stacmirror-full-") as place:
        try:
            asyncio.run(run_full(Path(place), wanted.items, wanted.levels, wanted.seed))
        except NoDisk as reason:
            print(f"skipped: {reason}")
            return 0
    print(
        f"{wanted.levels} disks full of bytes, {wanted.levels} out of inodes: each stopped with exit code 6, nothing"
        f" half-written in sight, each resumed to the same tree; seed {wanted.seed}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
