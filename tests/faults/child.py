"""The program, with a hook at each step of its cycle: a child process that dies where it is told, or logs its promises.

    python -m tests.faults.child [--kill POINT:N] [--promises FILE] [--flight FILE] [--hang N]
        [--stop POINT:N] [--host NAME] -- mirror SOURCE DEST …

The hooks are wrapped around the product's own classes here, so that the product knows nothing of them. A promise is
what the ledger's `write` returned from: it is written with its time to FILE, which lies on another disk than DEST.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from stacmirror.ledger import lock
from stacmirror.ledger.pages import Pages
from stacmirror.ledger.rows import ItemRows
from stacmirror.ledger.store import LedgerStore
from stacmirror.model import ItemOutcome, LedgerEntry, Reveal, Unit
from stacmirror.pipeline.bundle import Bundle
from stacmirror.pipeline.commit import Committer
from stacmirror.pipeline.dispatch import Dispatch
from stacmirror.sinks import directory, handles
from stacmirror.sinks.directory import DirectorySink

POINTS = {
    "open": "a staged file has its name, and no byte",
    "write": "half of a staged file's bytes are written",
    "stage": "an item's files are staged; nobody has heard of it",
    "part": "a large file's first bytes are written",
    "kept": "a large file is synced, and in its unit",
    "sync": "a group is synced; no row",
    "page": "a page's row is written; no commit",
    "settled": "an item is counted off its page; no commit",
    "rows": "a group's rows are written; no commit",
    "ledger": "a group has its rows; nothing is revealed",
    "rename": "one item of a group is revealed",
    "report": "a group is revealed; nobody has heard of it",
    "recover": "what a kill left is tidied up; nothing is asked for",
    "document": "a document is written and synced; not in place",
}
"""Every named point, and what is true there."""


class Killer:
    """Ends this process, without a word, at the `n`-th passing of `point`; or does to it what `how` does."""

    def __init__(self, point: str, n: int, how: signal.Signals = signal.SIGKILL) -> None:
        self._how = how
        self._point = point
        self._left = n

    def at(self, point: str) -> None:
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), self._how)


def hook(killer: Killer) -> None:
    """Wrap every step that has a name."""
    _after(killer, "stage", DirectorySink, "stage")
    _after(killer, "sync", DirectorySink, "sync")
    _after(killer, "page", Pages, "put_page")
    _after(killer, "settled", Pages, "count_off")
    _after(killer, "rows", ItemRows, "put_documents")
    _after(killer, "ledger", LedgerStore, "write")
    _after(killer, "rename", DirectorySink, "reveal")
    _after(killer, "recover", DirectorySink, "retain")
    _after(killer, "document", directory, "fsync_path")
    part = DirectorySink.part

    def parting(*values: Any) -> Any:
        made = part(*values)
        _after(killer, "part", made, "write", is_async=True)
        _after(killer, "kept", made, "keep", is_async=True)
        return made

    DirectorySink.part = parting  # type: ignore[method-assign]
    tell = Committer._tell

    def telling(self: Committer, callback: Callable[..., None], *values: object) -> None:
        if callback.__name__ == "_report":
            killer.at("report")
        tell(self, callback, *values)

    Committer._tell = telling  # type: ignore[method-assign]
    handles.os = _Os(killer)  # type: ignore[assignment]


class _Os:
    """The module os as `handles` sees it, with two points in a staged file's way."""

    def __init__(self, killer: Killer) -> None:
        self._killer = killer

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        fd = os.open(path, flags, mode, dir_fd=dir_fd)
        if flags & os.O_CREAT:
            self._killer.at("open")
        return fd

    def write(self, fd: int, content: bytes) -> int:
        half = os.write(fd, content[: (len(content) + 1) // 2])
        self._killer.at("write")
        return half


def _after(killer: Killer, point: str, owner: Any, name: str, *, is_async: bool = False) -> None:
    inner = getattr(owner, name)

    def passing(*values: Any, **named: Any) -> Any:
        result = inner(*values, **named)
        killer.at(point)
        return result

    async def passing_async(*values: Any, **named: Any) -> Any:
        result = await inner(*values, **named)
        killer.at(point)
        return result

    setattr(owner, name, passing_async if is_async else passing)


def log_promises(path: str) -> None:
    """Write every promise to `path`: `at` (monotonic ns), `rows` and `committed` as lists of [collection, id]."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    keys: dict[str, list[list[str]]] = {}
    write = LedgerStore.write

    def writing(self: LedgerStore, entries: Sequence[LedgerEntry], in_place: Sequence[Unit]) -> list[Reveal]:
        reveals = write(self, entries, in_place)
        rows = [record for entry in entries if isinstance(entry, ItemOutcome) for record in entry.records]
        for record in rows:
            keys.setdefault(record.unit.id, []).append([record.key.collection, record.key.id])
        promise = {
            "at": time.monotonic_ns(),
            "rows": [[record.key.collection, record.key.id] for record in rows],
            "committed": [key for unit in in_place for key in keys.get(unit.id, ())],
        }
        os.write(log, json.dumps(promise).encode() + b"\n")
        return reveals

    LedgerStore.write = writing  # type: ignore[method-assign]


TAKEN, LET_GO, HANDED_OVER, HAS_ROWS = b"tlhr"


def log_flight(path: str) -> None:
    """Write a byte to `path` for each bundle that a worker takes, lets go, hands over, and that has its rows."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    take, let_go, add, write = Dispatch.take, Dispatch.let_go, Committer.add, LedgerStore.write

    async def taking(self: Dispatch) -> Bundle | None:
        bundle = await take(self)
        os.write(log, bytes([TAKEN]) * (bundle is not None))
        return bundle

    def letting_go(self: Dispatch) -> None:
        os.write(log, bytes([LET_GO]))
        let_go(self)

    def adding(self: Committer, entry: LedgerEntry) -> None:
        os.write(log, bytes([HANDED_OVER]) * isinstance(entry, ItemOutcome))
        add(self, entry)

    def writing(self: LedgerStore, entries: Sequence[LedgerEntry], in_place: Sequence[Unit]) -> list[Reveal]:
        reveals = write(self, entries, in_place)
        os.write(log, bytes([HAS_ROWS]) * sum(isinstance(entry, ItemOutcome) for entry in entries))
        return reveals

    Dispatch.take, Dispatch.let_go = taking, letting_go  # type: ignore[method-assign]
    Committer.add, LedgerStore.write = adding, writing  # type: ignore[method-assign]


def in_flight(path: str) -> int:
    """Return how many bundles had been begun and had no rows when the child died, by its log."""
    try:
        with open(path, "rb") as file:
            log = file.read()
    except FileNotFoundError:
        return 0
    # One that is handed over is let go a moment later: counted in hand and over for that moment.
    return log.count(TAKEN) - log.count(LET_GO) + log.count(HANDED_OVER) - log.count(HAS_ROWS)


def hang(n: int) -> None:
    """Let the `n`-th sync, and all after it, not return: a disk that does not answer."""
    left = n

    def hanging(self: DirectorySink) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            time.sleep(3600)
        sync(self)

    sync = DirectorySink.sync
    DirectorySink.sync = hanging  # type: ignore[method-assign]


def be_host(name: str) -> None:
    """Be a machine called `name` on storage that others see as well, where the kernel's lock is given to everyone."""
    socket.gethostname = lambda: name
    lock.is_surely_local = lambda path: False
    fcntl.flock = lambda *values: None  # type: ignore[assignment]


def main() -> None:
    """Hook, then be the program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kill", default="")
    parser.add_argument("--stop", default="")
    parser.add_argument("--host", default="")
    parser.add_argument("--promises", default="")
    parser.add_argument("--flight", default="")
    parser.add_argument("--hang", type=int, default=0)
    parser.add_argument("words", nargs="+")
    wanted = parser.parse_args()
    if wanted.flight:
        log_flight(wanted.flight)  # before the hooks: what a hook ends at `write` has its rows, and is logged so
    if wanted.host:
        be_host(wanted.host)
    if wanted.kill or wanted.stop:
        point, _, n = (wanted.kill or wanted.stop).partition(":")
        if point not in POINTS:
            sys.exit(f"no such point: {point}")
        hook(Killer(point, int(n), signal.SIGKILL if wanted.kill else signal.SIGSTOP))
    if wanted.hang:
        hang(wanted.hang)
    if wanted.promises:
        log_promises(wanted.promises)
    from stacmirror.cli.app import main as program

    sys.argv = ["stacmirror", *wanted.words]
    sys.exit(program())


if __name__ == "__main__":
    main()
