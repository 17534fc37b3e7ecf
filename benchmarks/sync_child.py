"""The product with another way to sync, for `durability` only: `python -m benchmarks.sync_child none|fsync WORDS…`.

`none` syncs nothing, and neither does its ledger: what it writes does not survive a power cut. `fsync` syncs file by
file, as on file systems whose syncfs cannot be trusted. The product itself has no such switch.
"""

from __future__ import annotations

import sys
from typing import Any

from stacmirror import mirror
from stacmirror.cli import app
from stacmirror.ledger import store
from stacmirror.sinks import directory, durable


class _Unsynced:
    listens = False

    def wrote(self, path: str) -> None:
        pass

    def sync(self) -> None:
        pass

    def close(self) -> None:
        pass


class _UnsyncedLedger(store.LedgerStore):
    def _prepare(self, path: str) -> None:
        super()._prepare(path)
        self._db.execute("PRAGMA synchronous=OFF")


def _nothing(path: str) -> None:
    pass


def main() -> None:
    """Change the way to sync, then be the program."""
    way, sys.argv = sys.argv[1], ["stacmirror", *sys.argv[2:]]
    sink: Any = directory
    if way == "fsync":
        sink.make_syncer = lambda folder: durable.FsyncEach()
    else:
        sink.make_syncer = lambda folder: _Unsynced()
        sink.fsync_path = _nothing
        root: Any = mirror
        root.LedgerStore = _UnsyncedLedger
    app.main()


if __name__ == "__main__":
    main()
