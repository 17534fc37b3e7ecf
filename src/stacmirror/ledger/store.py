"""Write the ledger: one durable transaction a group, by the commit thread only.

The order of effects around it is commit's business (sync, write, reveal). What this file owes: what `write`
returned from is on disk (WAL, synchronous=FULL), a page settles only when all its items have a row, and no two
folders that differ only by case are both given out.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from stacmirror.errors import TargetInUse, TargetUnwritable
from stacmirror.ledger import schema
from stacmirror.ledger.file import disk_says, refuse_foreign
from stacmirror.ledger.migrate import migrate
from stacmirror.ledger.pages import Pages
from stacmirror.ledger.places import Places
from stacmirror.ledger.reader import LedgerReader
from stacmirror.ledger.reserve import Reserve
from stacmirror.ledger.rows import ItemRows
from stacmirror.ledger.schema import COMMITTED, HELD, INCOMPLETE, STAGED
from stacmirror.ledger.whole import refuse_cut_short
from stacmirror.model import (
    Doubted,
    Forgiven,
    ItemKey,
    ItemOutcome,
    ItemRecord,
    LedgerEntry,
    ListingState,
    PageRecord,
    ResumePoint,
    Reveal,
    Unit,
    WalkAgain,
)

_WAL_MAX_BYTES = 8 << 20
"""SQLite folds the WAL at 4 MiB by itself, but begins it anew only at a moment without readers."""


class LedgerStore(LedgerReader):
    """Implements `interfaces.Ledger`. Make it in one thread and `write` from one thread; read from any."""

    def __init__(self, path: str, still_ours: Callable[[], None] = lambda: None) -> None:
        """Open or make the ledger at `path`. `still_ours` is asked before each write, and raises where it is not."""
        self._still_ours = still_ours
        self._reserve = Reserve(os.path.dirname(path))
        refuse_cut_short(path)
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise _unusable(error, path) from error
        try:
            self._prepare(path)
            super().__init__(path)
            self._file = os.stat(path)
            self.run = int(self.meta("run") or 0) + 1
            self._set_meta("run", str(self.run))
            self._items = ItemRows(self._db, self.run)
            self._pages = Pages(self._db, self._items)
            self._places = Places(self._db, self._items)
            self._reserve.keep()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, path: str) -> None:
        try:
            if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                schema.create(self._db)
            migrate(self._db)
            refuse_foreign(self._db, path)  # before the first pragma that changes the file
            self._db.executescript(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-4000;"
                # Of use on macOS only, where fsync alone leaves data in the drive's cache.
                " PRAGMA fullfsync=ON; PRAGMA checkpoint_fullfsync=ON;"
            )
            self._db.execute(schema.UNVERIFIED)  # ledgers of earlier builds have none
        except sqlite3.Error as error:
            raise _unusable(error, path) from error

    # -- start of a run ------------------------------------------------------------------------------------

    def staged(self) -> list[Reveal]:
        """Return the units whose rows are `staged`: their bytes were synced, only the reveal may be missing."""
        self._mend_units()
        return self._reveals("state = ?", (STAGED,))

    def held(self) -> list[Reveal]:
        """Return every held unit with its names: what a sweep builds on."""
        self._mend_units()
        return self._reveals("state = ?", (HELD,))

    def _mend_units(self) -> None:
        """Let go of unrevealed rows whose checksum is wrong: which files they have staged cannot be known."""
        rows = self._rows(
            "SELECT i.n, c.id, i.id, i.receipts, i.sources, i.crc FROM item i JOIN collection c ON c.n = i.collection"
            " WHERE i.unit IS NOT NULL"
        )
        damaged = [row[0] for row in rows if not self._is_sound(ItemKey(str(row[1]), str(row[2])), *row[3:])]
        if damaged:
            with self._transaction():
                for n in damaged:
                    self._items.put_damaged(int(n))  # type: ignore[call-overload]

    def forget_unit(self, unit_id: str) -> None:
        """Turn the receipts of a held unit whose staged files are gone into failures, to be fetched again."""
        with self._transaction():
            for n, blob in self._db.execute("SELECT n, receipts FROM item WHERE unit = ?", (unit_id,)).fetchall():
                stored, absent = schema.unpack(blob)
                for receipt in stored:
                    self._db.execute(
                        schema.PUT_FAILURE,
                        (n, receipt.key, "lost", "the staged file is gone", 0, 0, self.run - 1, time.time(), ""),
                    )
                self._items.put_receipts(n, [], absent)

    def resume_point(self) -> ResumePoint:
        """Open the page where the walk goes on, and return where it starts; see `Pages.resume_point`."""
        with self._transaction():
            return self._pages.resume_point()

    def begin_walk(self, *, refresh: bool = False, widen: bool = False) -> None:
        """Make the next walk start anew: to hold items against the catalog, or to fetch more of each (`widen`)."""
        with self._transaction():
            self._pages.begin_walk(refresh=refresh, widen=widen)

    def set_listing(self, listing: ListingState) -> None:
        """Remember whether the last page was seen and what total the server says."""
        self._set_meta("listing_ended", "1" if listing.ended else "0")
        if listing.server_total is not None:
            self._set_meta("server_total", str(listing.server_total))

    def set_ended(self) -> None:
        """Remember when a run last ended by itself."""
        self._set_meta("ended_at", time.strftime("%Y-%m-%dT%H:%M:%S%z"))

    # -- groups --------------------------------------------------------------------------------------------

    def write(self, entries: Sequence[LedgerEntry], in_place: Sequence[Unit]) -> list[Reveal]:
        """See `interfaces.Ledger.write`. On a full disk the reserve is given up for this last group."""
        before = self._items.remembered(), self._pages.remembered()
        try:
            reveals = self._write(entries, in_place)
        except TargetUnwritable as error:
            self._items.restore(before[0])
            self._pages.restore(before[1])
            full = getattr(error.__cause__, "sqlite_errorname", "") == "SQLITE_FULL"
            if not full or not self._reserve.free():
                raise
            reveals = self._write(entries, in_place)
        self._fold_wal()
        return reveals

    def _write(self, entries: Sequence[LedgerEntry], in_place: Sequence[Unit]) -> list[Reveal]:
        touched: dict[str, Unit] = {}
        shown: set[str] = set()
        reveals: list[Reveal] = []
        # A doubt may turn a row of this very group into one that lacks an asset: then all is decided at the end.
        at_once = not any(isinstance(entry, Doubted) for entry in entries)
        with self._transaction():
            self._confirm(in_place)
            for entry in entries:
                if isinstance(entry, ItemOutcome):
                    alone = at_once and len({record.unit.id for record in entry.records}) == len(entry.records)
                    for record in entry.records:
                        reveal = self._put(record, alone=alone)
                        if reveal is None:
                            touched[record.unit.id] = record.unit
                            if entry.shows:
                                shown.add(record.unit.id)
                        else:
                            reveals.append(reveal)
                    if entry.settles and entry.page is not None:
                        self._pages.count_off(entry.page)
                elif isinstance(entry, PageRecord):
                    self._pages.put_page(entry)
                elif isinstance(entry, WalkAgain):
                    self._pages.walk_again(entry.first)
                elif isinstance(entry, Forgiven):
                    touched.update(self._items.forgive(entry))
                elif isinstance(entry, Doubted):
                    self._items.doubt(entry)
                else:
                    self._items.put_missing(entry)
            self._items.put_documents()
            for unit in touched.values():
                ready = self._places.ready(unit, anyway=unit.id in shown)
                if ready is not None:
                    reveals.append(ready)
        return reveals

    def _put(self, record: ItemRecord, *, alone: bool) -> Reveal | None:
        """Write a row; return its reveal where nothing but this row decides it: one statement in place of five."""
        unit = record.unit
        if not alone or record.failed or not unit.exclusive:
            self._items.put_item(record)
            return None
        place = self._items.put_item(record, lambda: self._places.of(unit, unit.folder, 0, record.key))
        if place is None:
            return None
        return Reveal(Unit(unit.id, place.folder), {receipt.name: receipt.name for receipt in record.stored})

    def release_held(self) -> list[Reveal]:
        """See `interfaces.Ledger.release_held`."""
        with self._transaction():
            self._db.execute("UPDATE item SET state = ? WHERE state = ?", (STAGED, HELD))
            rows = self._db.execute(
                "SELECT DISTINCT unit, exclusive FROM item WHERE unit IS NOT NULL AND state = ?", (STAGED,)
            ).fetchall()
            return [self._places.placed(Unit(unit, "", bool(exclusive))) for unit, exclusive in rows]

    def _confirm(self, units: Iterable[Unit]) -> None:
        now_s = int(time.time())
        self._db.executemany(
            f"UPDATE item SET state = CASE WHEN failed > 0 THEN {INCOMPLETE} ELSE {COMMITTED} END,"
            # The folder of an incomplete item is kept: a later sweep must find it without its label at hand.
            " folder = CASE WHEN tailed OR failed > 0 THEN folder END, unit = NULL, at = ? WHERE unit = ?",
            [(now_s, unit.id) for unit in units],
        )

    def _fold_wal(self) -> None:
        """Begin the WAL anew where readers have kept SQLite from it. Waits for readers for a moment at most."""
        try:
            if os.stat(f"{self.path}-wal").st_size > _WAL_MAX_BYTES:
                self._db.execute("PRAGMA busy_timeout = 500")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except (OSError, sqlite3.Error):
            return  # what was written is durable in the WAL as well
        finally:
            self._db.execute("PRAGMA busy_timeout = 5000")

    # -- transactions --------------------------------------------------------------------------------------

    def _set_meta(self, key: str, value: str) -> None:
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES(?,?)", (key, value))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._still_ours()
        self._refuse_gone()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # A full disk may have rolled back already, and a broken one takes no ROLLBACK: the first error counts.
                if self._db.in_transaction:
                    with suppress(sqlite3.Error):
                        self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise _unusable(error, self.path) from error

    def _refuse_gone(self) -> None:
        """Refuse to write into a file that has no name any more: it would be lost, and the run would say `complete`."""
        try:
            is_there = os.path.samestat(self._file, os.stat(self.path))
        except FileNotFoundError:
            is_there = False
        except OSError:
            return  # a disk that has failed: what is written next says so
        if not is_there:
            raise TargetInUse(
                f"the ledger {self.path} was removed or replaced while this run used it",
                hint="put it back, or `stacmirror resume`, which begins a new one and fetches all of it again",
            )

    def close(self) -> None:
        """Fold the WAL into the file and close. May be called twice."""
        super().close()
        self._db.close()
        self._reserve.free()


def _unusable(error: sqlite3.Error, path: str) -> TargetUnwritable | TargetInUse:
    if getattr(error, "sqlite_errorname", "").startswith("SQLITE_FULL"):
        return TargetUnwritable(f"cannot write the ledger {path}: {error}", hint="make room, then `stacmirror resume`")
    reason = disk_says(error, path)
    if reason or getattr(error, "sqlite_errorname", "").startswith("SQLITE_READONLY"):
        return TargetUnwritable(
            f"cannot write the ledger {path}: {reason or error}", hint="mend the target, then `stacmirror resume`"
        )
    return TargetInUse(f"the ledger {path} cannot be used: {error}", hint="is it another program's file, or damaged?")
