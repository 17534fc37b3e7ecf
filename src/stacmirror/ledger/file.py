"""Open a ledger for reading, and refuse what is none. Never writes; usable beside a running mirror.

One connection of its own, guarded by a lock, so that any thread may ask while commit writes (WAL readers see
the last transaction and block nobody).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import quote

import msgspec

from stacmirror.errors import TargetInUse, TargetUnwritable
from stacmirror.ledger import schema
from stacmirror.ledger.whole import refuse_cut_short
from stacmirror.model import Failed


class LedgerFile:
    """A ledger that can be asked. `LedgerCounts` and `LedgerReader` say what.

    Raises: TargetInUse when the file is not a ledger of a known version.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self.run = 0
        """The number of the run that reads; 0 where none does."""
        refuse_none(path)
        refuse_cut_short(path)
        try:
            self._read = sqlite3.connect(
                f"file:{quote(path)}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise unreadable(error, path) from error
        self._read.text_factory = schema.text
        try:
            refuse_foreign(self._read, path)
        except BaseException:
            self._read.close()
            raise

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Give the reading connection to one thread. Raises: TargetInUse (damaged), TargetUnwritable (the disk)."""
        with self._lock:
            try:
                yield self._read
            except (sqlite3.Error, msgspec.MsgspecError) as error:
                raise unreadable(error, self.path) from error

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with self._reading() as connection:
            return connection.execute(query, values).fetchall()

    def _count(self, query: str) -> int:
        return int(self._rows(query)[0][0])  # type: ignore[call-overload, no-any-return]

    def meta(self, key: str) -> str | None:
        """Return a value that `set_listing` and its like wrote."""
        rows = self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def walk_first(self) -> int:
        """Return the number of the first page of the walk under way: listed items of pages below it are unmet."""
        with self._reading() as connection:
            return walk_first(connection)

    def close(self) -> None:
        """Close the reading connection. May be called twice."""
        self._read.close()


def refuse_none(path: str) -> None:
    """Refuse to go on without a ledger. Raises: TargetInUse."""
    if not os.path.exists(path):
        raise TargetInUse(
            f"there is no ledger {path}",
            hint="no run came so far, or someone removed it: `stacmirror resume` begins a new one",
        )


def refuse_foreign(connection: sqlite3.Connection, path: str) -> None:
    """Refuse what is no ledger of this version, before anything is written. Raises: TargetInUse."""
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        raise unreadable(error, path) from error
    if application != schema.APPLICATION_ID:
        raise TargetInUse(f"{path} is not a ledger of stacmirror", hint="choose another target folder")
    if version > schema.VERSION:
        raise TargetInUse(
            f"{path} has version {version}, this program knows {schema.VERSION}", hint="use the newer stacmirror"
        )
    if version != schema.VERSION:
        raise TargetInUse(
            f"{path} has version {version}, this program reads {schema.VERSION}",
            hint="`stacmirror resume` brings it up to date",
        )


def disk_says(error: Exception, path: str) -> str:
    """Return what the disk is to blame for, or "" where the file is. SQLite calls a read that met EIO "malformed"."""
    if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN")):
        return str(error)
    try:
        with open(path, "rb") as file:
            file.read(1)
    except (FileNotFoundError, PermissionError):
        return ""
    except OSError as met:
        return met.strerror or str(met)
    return ""


def unreadable(error: Exception, path: str) -> TargetInUse | TargetUnwritable:
    if reason := disk_says(error, path):
        return TargetUnwritable(f"cannot read the ledger {path}: {reason}", hint="look after the disk, then resume")
    return TargetInUse(f"{path} is not a readable ledger: {error}", hint="is it another program's, or damaged?")


def walk_first(connection: sqlite3.Connection) -> int:
    """Return the number of the first page of the walk under way: items of pages below it are unmet."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'walk_first'").fetchone()
    return int(row[0]) if row is not None else 0


def read_failures(connection: sqlite3.Connection, item: object) -> list[Failed]:
    """Return what failed of the item in row `item`."""
    rows = connection.execute(
        "SELECT key, kind, message, attempts, permanent, host, run, at FROM failure WHERE item = ?", (item,)
    ).fetchall()
    return [
        Failed(key, kind, message, attempts, bool(permanent), host, run, at_s)
        for key, kind, message, attempts, permanent, host, run, at_s in rows
    ]
