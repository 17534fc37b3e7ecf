"""The n-th call fails, for every n: each kind of call to the disk, once and for ever, and what must be true after it.

    python -m tests.faults.nth_calls [--items 16] [--calls open write …]

`make nth-calls` calls it; tests/faults/test_nth_calls.py runs a sample. It is SQLite's way. The calls fail in this
process, through stand-ins for the modules that sink and ledger call: the product knows nothing of it.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stacmirror import record, sinks
from stacmirror.errors import StacmirrorError
from stacmirror.ledger import lock, store
from stacmirror.mirror import Mirror
from stacmirror.simulator import Simulator
from stacmirror.sinks import directory
from stacmirror.sinks.directory import DirectorySink
from stacmirror.sinks.durable import FsyncEach, SyncFs
from stacmirror.typed import build
from tests.conftest import SOURCE, simulated
from tests.faults import mirrors
from tests.faults.mirrors import Broken, Digests

ERRORS: dict[str, tuple[int, ...]] = {
    "open": (errno.ENOSPC, errno.EROFS, errno.EDQUOT),
    "write": (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS),
    "part": (errno.ENOSPC, errno.EIO, errno.EDQUOT),
    "fsync": (errno.EIO, errno.ENOSPC),
    "syncfs": (errno.EIO, errno.ENOSPC),
    "rename": (errno.EIO, errno.ENOSPC, errno.EROFS),
    "mkdir": (errno.ENOSPC, errno.EROFS, errno.EDQUOT),
    "commit": (errno.ENOSPC, errno.EIO),
}
"""The kinds of calls, and what each may fail with. `part` is a large file's, at the interface."""
WITHIN_S = 10.0


class Calls:
    """Counts calls of every kind; from the `n`-th of one kind on (or only then) it fails."""

    def __init__(self, kind: str = "", n: int = 0, code: int = 0, *, for_ever: bool = False) -> None:
        self._kind, self._n, self.code, self._for_ever = kind, n, code, for_ever
        self.counts = dict.fromkeys(ERRORS, 0)
        self.failed_at_s = 0.0
        self.unsynced: set[str] = set()
        """What a group's sync could not sync: the file system, or files and folders by path. (A large file's own sync
        is another matter: where it fails the file is dropped, and with it its item.)"""
        self.tried_again: list[str] = []

    def from_now(self) -> None:
        """Let the next call of its kind be the one that fails."""
        self._n = self.counts[self._kind] + 1

    def check_sync(self, kind: str, path: str) -> None:
        """The same for a sync of `path`: one that failed must never be tried again."""
        if path in self.unsynced:
            self.tried_again.append(path)
        if self.met(kind):
            if threading.current_thread().name == "commit":
                self.unsynced.add(path)
            raise OSError(self.code, os.strerror(self.code))

    def met(self, kind: str) -> bool:
        """Count a call, and return whether it fails."""
        self.counts[kind] += 1
        due = self._kind == kind and (self.counts[kind] >= self._n if self._for_ever else self.counts[kind] == self._n)
        if due and not self.failed_at_s:
            self.failed_at_s = time.monotonic()
        return due

    def check(self, kind: str) -> None:
        if self.met(kind):
            raise OSError(self.code, os.strerror(self.code))


class _Os:
    """The module os as the product's modules see it. Half of each other write is short, without an error."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._short = False

    def __getattr__(self, name: str) -> Any:
        kinds = {"open": "open", "mkdir": "mkdir", "makedirs": "mkdir"}
        kind = {**kinds, "rename": "rename", "replace": "rename"}.get(name)
        call = getattr(os, name)
        return call if kind is None else self._failing(kind, call)

    def _failing(self, kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def checked(*values: Any, **named: Any) -> Any:
            self._calls.check(kind)
            return call(*values, **named)

        return checked

    def fsync(self, fd: int) -> None:
        self._calls.check_sync("fsync", os.readlink(f"/proc/self/fd/{fd}"))
        os.fsync(fd)

    def write(self, fd: int, content: bytes) -> int:
        if self._calls.met("write"):
            os.write(fd, content[: len(content) // 2])  # a write that fails may have written a part
            raise OSError(self._calls.code, os.strerror(self._calls.code))
        self._short = not self._short
        return os.write(fd, content[: (len(content) + 1) // 2] if self._short else content)


def _sqlite(calls: Calls) -> Any:
    class Connection(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            if statement == "COMMIT" and calls.met("commit"):
                super().execute("ROLLBACK")  # as SQLite does by itself on a full disk
                error = sqlite3.OperationalError("it failed")
                full = calls.code == errno.ENOSPC
                error.sqlite_errorname = "SQLITE_FULL" if full else "SQLITE_IOERR_WRITE"
                raise error
            return super().execute(statement, *values)

    def connect(*values: Any, **named: Any) -> sqlite3.Connection:
        return sqlite3.connect(*values, **named, factory=Connection)

    return SimpleNamespace(**{**vars(sqlite3), "connect": connect})


@contextmanager
def failing(calls: Calls, *, by_fsync: bool) -> Iterator[None]:
    """Put `calls` between the product and the disk."""
    sync, part = SyncFs.sync, DirectorySink.part

    def parting(*values: Any) -> Any:
        made = part(*values)
        for name in ("write", "keep"):
            setattr(made, name, _failing_part(calls, getattr(made, name)))
        return made

    def syncing(self: SyncFs) -> None:
        calls.check_sync("syncfs", "")
        sync(self)

    with pytest.MonkeyPatch.context() as patched:
        for module in (*_modules(sinks), record, lock):
            patched.setattr(module, "os", _Os(calls))
        patched.setattr(store, "sqlite3", _sqlite(calls))
        patched.setattr(DirectorySink, "part", parting)
        patched.setattr(SyncFs, "sync", syncing)
        if by_fsync:
            patched.setattr(directory, "make_syncer", lambda folder: FsyncEach())
        yield


def _modules(package: Any) -> list[Any]:
    """Return the loaded modules of `package` that use os."""
    modules = [module for name, module in sys.modules.items() if name.startswith(f"{package.__name__}.")]
    return [module for module in modules if hasattr(module, "os")]


def _failing_part(calls: Calls, inner: Callable[..., Any]) -> Callable[..., Any]:
    async def checked(*values: Any) -> Any:
        try:
            calls.check("part")
        except OSError as error:
            raise directory.unwritable(error, "a large file") from error
        return await inner(*values)

    return checked


class Bench:
    """Runs over one simulator, each in a fresh target."""

    def __init__(self, simulator: Simulator, place: Path, items: int) -> None:
        self._simulator = simulator
        self._place = place
        self._items = items
        self._number = 0
        self.expected: Digests = {}

    async def run(self, target: Path) -> tuple[int, str]:
        """Run once in this process; return the exit code and the reason."""
        chosen: dict[str, object] = {
            "api_url": self._simulator.api_url, "workers": 4, "sync_every": 0.02, "backoff": 0.01,
            "small_file_max": mirrors.SMALL_FILE_MAX, "missing_ok": ["B10"],
        }  # fmt: skip
        mirror = Mirror(build(SOURCE, str(target), chosen), api_key=self._simulator.key)
        try:
            summary = await asyncio.wait_for(mirror.run(), 60)
        except StacmirrorError as error:
            return error.exit_code, error.message
        return summary.exit_code, summary.reason

    async def count(self, *, by_fsync: bool) -> dict[str, int]:
        """Return how many calls of each kind an undisturbed run makes; keep its tree."""
        calls = Calls()
        target = self._fresh()
        with failing(calls, by_fsync=by_fsync):
            code, reason = await self.run(target)
        if code != 0:
            raise Broken(f"the undisturbed run ended with {code}: {reason}")
        self.expected = mirrors.digests(target)
        return calls.counts

    async def fail(self, kind: str, n: int, code: int, *, for_ever: bool) -> bool:
        """Let the n-th call fail and check; False when the run did not make so many. Raises: Broken."""
        case = f"{kind} {n} {'for ever' if for_ever else 'once'}, {errno.errorcode[code]}"
        calls = Calls(kind, n, code, for_ever=for_ever)
        target = self._fresh()
        with failing(calls, by_fsync=kind == "fsync"):
            exit_code, reason = await self.run(target)
        took_s = time.monotonic() - calls.failed_at_s
        if not calls.failed_at_s:
            return False
        # The last commit notes when the run ended, after all is said and done: it may fail and cost nothing.
        # A full disk met once is what the ledger's reserve is for: the whole transaction is made again.
        reserved = code == errno.ENOSPC and not for_ever
        done = exit_code == 0 and kind == "commit" and (reserved or calls.counts[kind] == n)
        if not done and (exit_code != 6 or not reason):
            raise Broken(f"{case}: exit code {exit_code}, {reason!r}")
        if took_s > WITHIN_S:
            raise Broken(f"{case}: stopped after {took_s:.1f} s")
        if calls.tried_again:
            raise Broken(f"{case}: tried again after it had failed: {calls.tried_again[:3]}")
        try:
            mirrors.check(target, self.expected)
            exit_code, reason = await self.run(target)
            if exit_code != 0:
                raise Broken(f"the run after it ended with {exit_code}: {reason}")
            mirrors.check_end(target, self.expected, self._items)
        except Broken as broken:
            raise Broken(f"{case}: {broken}") from broken
        shutil.rmtree(target)
        return True

    def _fresh(self) -> Path:
        self._number += 1
        return self._place / f"mirror-{self._number}"


async def run_all(place: Path, items: int, kinds: list[str]) -> None:
    """Fail every call of each kind, once and for ever, and print how many cases that were. Raises: Broken."""
    async with simulated(items=items) as simulator:
        bench = Bench(simulator, place, items)
        for kind in kinds:
            counts = await bench.count(by_fsync=kind == "fsync")
            cases = 0
            for n in range(1, counts[kind] + 1):
                code = ERRORS[kind][n % len(ERRORS[kind])]
                for for_ever in (False, True):
                    simulator.requests.clear()
                    cases += await bench.fail(kind, n, code, for_ever=for_ever)
            print(
                f"{kind}: {counts[kind]} calls, {cases} cases: each stopped as it should, each resumed to the same tree"
            )


def main() -> int:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=16, help="13 files each")
    parser.add_argument("--calls", nargs="+", choices=list(ERRORS), default=list(ERRORS))
    parser.add_argument("--place", default=None, help="folder for the mirrors")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stacmirror-calls-", dir=wanted.place) as place:
        asyncio.run(run_all(Path(place), wanted.items, wanted.calls))
    return 0


if __name__ == "__main__":
    sys.exit(main())
