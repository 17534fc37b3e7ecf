"""A disk that is full, fails, may not be written to, is slow, or has no file to open: with both clients (41 to 44, 52).

Its calls fail in this process, by tests.faults.nth_calls, so that nobody needs a disk or root for most of it.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from stacmirror.errors import StacmirrorError
from tests.contract.wire_server import KEEP, head
from tests.faults.conftest import Small
from tests.faults.full_disks import change
from tests.faults.invariants import Before, hold, mends
from tests.faults.nth_calls import Calls, failing
from tests.faults.world import Bench, always

ROOMS = {"keep_free": 0, "keep_free_inodes": 0, "preflight": False}
"""No mark of the run's own: it meets the full disk wherever it is."""
FAILING = [
    ("write", errno.ENOSPC), ("part", errno.ENOSPC), ("open", errno.ENOSPC), ("mkdir", errno.ENOSPC),
    ("commit", errno.ENOSPC), ("write", errno.EDQUOT),
    ("write", errno.EIO), ("part", errno.EIO), ("fsync", errno.EIO), ("syncfs", errno.EIO), ("rename", errno.EIO),
    ("commit", errno.EIO),
]  # fmt: skip
"""Which calls fail, and with what: data, inodes and ledger that have no room, and a disk that is ill."""
IDS = [f"{kind} {errno.errorcode[code]}" for kind, code in FAILING]


def midway(bench: Bench, call: Callable[[], object]) -> None:
    """Let `call` be called at the first request for a file of the third item."""
    called: list[object] = []

    def fault(nth: int, body: bytes) -> None:
        if not called:
            called.append(call())

    bench.world.faults["^/files/i2/"] = fault


@pytest.mark.parametrize(("kind", "code"), FAILING, ids=IDS)
async def test_rows_41_and_42_calls_fail(bench: Bench, kind: str, code: int) -> None:
    """Exit 6 with the reason, nothing half-written in sight; with room again, or mended, the rest comes, once."""
    calls = Calls(kind, sys.maxsize, code, for_ever=True)
    midway(bench, calls.from_now)
    before = Before()
    with failing(calls, by_fsync=kind == "fsync"):
        run = await bench.run()
    assert calls.failed_at_s, "it was not called any more"
    assert (run.summary.verdict, run.summary.exit_code) == ("stopped", 6)
    assert os.strerror(code) in run.summary.reason or kind == "commit"
    assert not calls.tried_again
    hold(bench, run, before, ill=True)
    await mends(bench)


@pytest.mark.parametrize("options", ["size=200k", "nr_inodes=40,size=1g"], ids=["bytes", "inodes"])
async def test_row_41_a_small_disk(bench: Bench, small: Small, options: str) -> None:
    """A disk that is full in truth: exit 6; with room again the rest comes, and nothing else."""
    disk = small(options)
    bench.target = disk / "mirror"
    before = Before()
    run = await bench.run(**ROOMS)
    assert (run.summary.verdict, run.summary.exit_code) == ("stopped", 6), run.summary.reason
    change(disk, "size=1g,nr_inodes=100000")  # to look into a ledger takes room, too
    hold(bench, run, before, ill=True)
    await mends(bench, **ROOMS)


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def read_only(target: Path) -> Iterator[dict[str, object]]:
    """Make a folder read-only: for root, whom no mode refuses, by a mount."""
    if os.geteuid() == 0:
        mounted = subprocess.run(["mount", "--bind", target, target], capture_output=True, check=False)
        if mounted.returncode != 0:
            pytest.skip(f"nothing can be mounted here: {mounted.stderr.decode().strip()}")
        try:
            change(target, "bind,ro")
            yield {}
        finally:
            subprocess.run(["umount", target], check=True)
        return
    folders = [path for path in (target, *target.rglob("*")) if path.is_dir()]
    for path in folders:
        path.chmod(0o555)
    try:
        yield {}
    finally:
        for path in folders:
            path.chmod(0o755)


@contextmanager
def made_otherwise(target: Path) -> Iterator[dict[str, object]]:
    """Have another mirror wanted there."""
    yield {"layout": "fanout"}


def marked(name: str, value: int) -> Callable[[Path], AbstractContextManager[dict[str, object]]]:
    """Give the ledger another mark, and take it back."""

    def mark(target: Path, value: int) -> int:
        with sqlite3.connect(target / ".stacmirror" / "ledger.sqlite") as ledger:
            was: int = ledger.execute(f"PRAGMA {name}").fetchone()[0]
            ledger.execute(f"PRAGMA {name} = {value}")
        ledger.close()
        return was

    @contextmanager
    def change_mark(target: Path) -> Iterator[dict[str, object]]:
        was = mark(target, value)
        yield {}
        mark(target, was)

    return change_mark


REFUSED = {
    "read-only": (read_only, 6),
    "another mirror": (made_otherwise, 2),
    "another program's file": (marked("application_id", 77), 9),
    "a later version": (marked("user_version", 9999), 9),
}


@pytest.mark.parametrize("how", REFUSED)
async def test_rows_43_and_49_refused_before_anything_is_asked(bench: Bench, how: str) -> None:
    """Read-only, another mirror's, a foreign ledger: nobody is asked, and not a byte changes; set right, it goes on."""
    make, exit_code = REFUSED[how]
    bench.world.faults["/files/i1/B01"] = always(head(404, "Content-Length: 0"), KEEP)
    before = Before()
    run = await bench.run()
    assert run.summary.exit_code == 3
    bench.world.heard.clear()
    with make(bench.target) as values:
        there = bytes_of(bench.target)
        with pytest.raises(StacmirrorError) as refused:
            await bench.run(**values)
        assert refused.value.exit_code == exit_code, refused.value.message
        assert str(bench.target) in refused.value.message
        assert bytes_of(bench.target) == there
    assert bench.world.heard == []
    hold(bench, run, before)
    await mends(bench)


class Few(Calls):
    """Calls of which some in a row find no more files to open."""

    def __init__(self, code: int, times: int) -> None:
        super().__init__("open", sys.maxsize, code, for_ever=True)
        self._times = times

    def met(self, kind: str) -> bool:
        due = super().met(kind)
        self._times -= due
        return due and self._times >= 0


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
async def test_row_44_no_more_open_files(bench: Bench, code: int) -> None:
    """For a while: the run waits, says so once, and is complete. From the start: exit 6, nobody asked."""
    calls = Few(code, 5)
    midway(bench, calls.from_now)
    before = Before()
    with failing(calls, by_fsync=False):
        run = await bench.run()
    assert calls.failed_at_s, "it was not called any more"
    assert (run.summary.verdict, run.summary.exit_code) == ("complete", 0), run.summary.reason
    assert [line.partition(" (")[0] for line in run.said] == ["too many open files and connections"]
    hold(bench, run, before)
    bench.world.heard.clear()
    with failing(Calls("open", 1, code, for_ever=True), by_fsync=False), pytest.raises(StacmirrorError) as refused:
        await bench.run()
    assert refused.value.exit_code == 6
    assert bench.world.heard == []
    await mends(bench)
