"""A ledger whose disk is full, broken or unreadable: the disk is named (exit code 6), never a damaged ledger (9)."""

from __future__ import annotations

import builtins
import errno
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from stacmirror.errors import TargetInUse, TargetUnwritable
from stacmirror.ledger.lock import RunLock
from stacmirror.ledger.reader import LedgerReader
from stacmirror.ledger.store import LedgerStore
from tests.unit.test_ledger import commit, opened, outcome, record


def test_a_full_disk_rolls_back_and_is_named_as_often_as_it_is_met(tmp_path: Path) -> None:
    """SQLite rolls back by itself when it is full: our own ROLLBACK must not hide the reason."""
    with opened(tmp_path) as store:
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count={pages}")
        for _ in range(2):
            with pytest.raises(TargetUnwritable, match="full"):
                commit(store, *(outcome(record(f"i{n}")) for n in range(200)))
        assert store.counts().items.complete == 0
        store._db.execute("PRAGMA max_page_count=100000")
        commit(store, *(outcome(record(f"i{n}")) for n in range(200)))
        store.set_ended()


@pytest.mark.parametrize("kind", [LedgerReader, LedgerStore])
def test_a_disk_that_cannot_be_read_is_no_damaged_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[LedgerReader]
) -> None:
    """SQLite says "malformed" of a read that met EIO; a look at the file tells which of the two it is."""
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"no ledger at all" * 100)
    with pytest.raises(TargetInUse):
        kind(str(path))
    opening = builtins.open

    def failing(file: Any, *values: Any, **named: Any) -> Any:
        if file == str(path):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opening(file, *values, **named)

    monkeypatch.setattr(builtins, "open", failing)
    with pytest.raises(TargetUnwritable, match="Input/output error"):
        kind(str(path))


def test_a_failed_commit_leaves_no_transaction_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of the ledger after it has failed gets the disk's answer, not one about transactions."""

    class Failing(sqlite3.Connection):
        fails = False

        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            if statement == "COMMIT" and self.fails:
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
                raise error
            return super().execute(statement, *values)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *values, **named: connect(*values, **named, factory=Failing))
    with opened(tmp_path) as store:
        Failing.fails = True
        for _ in range(2):
            with pytest.raises(TargetUnwritable, match="disk I/O error"):
                store.set_ended()
        Failing.fails = False
        store.set_ended()


def test_a_lock_is_given_back_on_a_disk_that_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Emptying its file fails; the run must not end in a traceback for that."""
    lock = RunLock(str(tmp_path))
    lock.take()

    def failing(fd: int, length: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, "ftruncate", failing)
        lock.release()
    again = RunLock(str(tmp_path))
    again.take()
    again.release()
