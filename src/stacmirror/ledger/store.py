"""Write the ledger: one durable transaction a group, by the commit thread only.

The order of effects around it is commit's business (sync, write, reveal). What this file owes: what `write`
returned from is on disk (WAL, synchronous=FULL), a page settles only when all its items have a row, and no two
folders that differ only by case are both given out.
"""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from stacmirror.errors import TargetInUse, TargetUnwritable
from stacmirror.ledger import schema
from stacmirror.ledger.reader import LedgerReader, refuse_foreign
from stacmirror.ledger.schema import COMMITTED, HELD, INCOMPLETE, STAGED, UNMET
from stacmirror.model import (
    START,
    Absent,
    Cursor,
    Doubted,
    Failed,
    Forgiven,
    ItemKey,
    ItemOutcome,
    ItemRecord,
    LedgerEntry,
    ListingState,
    MissingKey,
    PageRecord,
    Receipt,
    ResumePoint,
    Reveal,
    Unit,
)
from stacmirror.names import fold

_DOCUMENTS_PER_BLOCK = 256
_ABSENT_KINDS = ("gone", "refused")


class LedgerStore(LedgerReader):
    """Implements `interfaces.Ledger`. Make it in one thread and `write` from one thread; read from any."""

    def __init__(self, path: str) -> None:
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise _unusable(error, path) from error
        try:
            self._prepare(path)
            super().__init__(path)
            self._collections: dict[str, int] = {id_: n for n, id_ in self._db.execute("SELECT n, id FROM collection")}
            self._outstanding: dict[int, int] = {}
            self._forgiven: set[tuple[str, str]] = set()
            self._doubted: set[tuple[str, str]] = set()
            self.run = int(self.meta("run") or 0) + 1
            self._set_meta("run", str(self.run))
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, path: str) -> None:
        try:
            if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                schema.create(self._db)
            refuse_foreign(self._db, path)  # before the first pragma that changes the file
            self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-4000;")
        except sqlite3.Error as error:
            raise _unusable(error, path) from error

    # -- start of a run ------------------------------------------------------------------------------------

    def staged(self) -> list[Reveal]:
        """Return the units whose rows are `staged`: their bytes were synced, only the reveal may be missing."""
        return self._reveals("state = ?", (STAGED,))

    def held(self) -> list[Reveal]:
        """Return every held unit with its names: what a sweep builds on."""
        return self._reveals("state = ?", (HELD,))

    def forget_unit(self, unit_id: str) -> None:
        """Turn the receipts of a held unit whose staged files are gone into failures, to be fetched again."""
        with self._transaction():
            for n, blob in self._db.execute("SELECT n, receipts FROM item WHERE unit = ?", (unit_id,)).fetchall():
                stored, absent = schema.unpack(blob)
                for receipt in stored:
                    self._db.execute(
                        "INSERT OR REPLACE INTO failure VALUES(?,?,?,?,?,?,?)",
                        (n, receipt.key, "lost", "the staged file is gone", 0, 0, time.time()),
                    )
                self._put_receipts(n, [], absent)

    def resume_point(self) -> ResumePoint:
        """Open the first unsettled page (or the last one) for walking, and return where it starts.

        Items of that page and of later ones become `unmet`: meeting them again is no duplicate. Positions shift with
        the listing and with the page size, so a walk by positions starts anew.
        """
        row = (
            self._db.execute(
                "SELECT number, cursor, kind, first_item FROM page WHERE settled = 0 ORDER BY number LIMIT 1"
            ).fetchone()
            or self._db.execute(
                "SELECT number, cursor, kind, first_item FROM page ORDER BY number DESC LIMIT 1"
            ).fetchone()
        )
        if row is None:
            return ResumePoint(0, START, 0)
        number, cursor, kind, first_item = row
        if kind == "position":
            number, cursor, kind, first_item = 0, START.value, START.kind, 0
        with self._transaction():
            self._db.execute(
                f"UPDATE item SET page = {UNMET} WHERE n > ? AND page >= ?",
                (first_item, number),
            )
            self._db.execute("UPDATE page SET settled = 0 WHERE number = ?", (number,))
            self._db.execute("DELETE FROM page WHERE number > ?", (number,))
        matched = self._db.execute(
            "SELECT coalesce(sum(listed - filtered - duplicate), 0) FROM page WHERE number < ?", (number,)
        ).fetchone()[0]
        return ResumePoint(number, Cursor(cursor, kind), matched)

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
        """See `interfaces.Ledger.write`."""
        touched: dict[str, Unit] = {}
        documents: list[tuple[int, bytes]] = []
        with self._transaction():
            self._confirm(in_place)
            for entry in entries:
                if isinstance(entry, ItemOutcome):
                    for record in entry.records:
                        self._put_item(record, documents)
                        touched[record.unit.id] = record.unit
                    if entry.settles and entry.page is not None:
                        self._count_off(entry.page)
                elif isinstance(entry, PageRecord):
                    self._put_page(entry)
                elif isinstance(entry, Forgiven):
                    touched.update(self._forgive(entry))
                elif isinstance(entry, Doubted):
                    self._doubt(entry)
                else:
                    self._put_missing(entry)
            for start in range(0, len(documents), _DOCUMENTS_PER_BLOCK):
                self._put_documents(documents[start : start + _DOCUMENTS_PER_BLOCK])
            return [reveal for unit in touched.values() if (reveal := self._ready(unit)) is not None]

    def release_held(self) -> list[Reveal]:
        """See `interfaces.Ledger.release_held`."""
        with self._transaction():
            self._db.execute("UPDATE item SET state = ? WHERE state = ?", (STAGED, HELD))
            rows = self._db.execute(
                "SELECT DISTINCT unit, exclusive FROM item WHERE unit IS NOT NULL AND state = ?", (STAGED,)
            ).fetchall()
            return [self._placed(Unit(unit, "", bool(exclusive))) for unit, exclusive in rows]

    def _confirm(self, units: Iterable[Unit]) -> None:
        self._db.executemany(
            f"UPDATE item SET state = CASE WHEN failed > 0 THEN {INCOMPLETE} ELSE {COMMITTED} END,"
            # The folder of an incomplete item is kept: a later sweep must find it without its label at hand.
            " folder = CASE WHEN tailed OR failed > 0 THEN folder END, unit = NULL WHERE unit = ?",
            [(unit.id,) for unit in units],
        )

    def _put_item(self, record: ItemRecord, documents: list[tuple[int, bytes]]) -> None:
        self._judge_late(record)
        blob = schema.pack(record.stored, record.absent)
        sources = self._pack_sources(record.sources)
        row = self._find(record.key)
        unit = record.unit
        values = {
            "state": HELD if record.failed else STAGED,
            "run": self.run,
            "folder": schema.pack_folder(unit.folder, record.key),
            "exclusive": int(unit.exclusive),
            "unit": unit.id,
            "stored": len(record.stored),
            "absent": sum(not outcome.assumed for outcome in record.absent),
            "assumed": sum(outcome.assumed for outcome in record.absent),
            "failed": len(record.failed),
            "bytes": sum(receipt.size_bytes for receipt in record.stored),
            "receipts": blob,
            "sources": sources,
            "crc": schema.checksum(record.key, blob, sources),
        }
        if row is None:
            values |= {
                "hash": schema.key_hash(record.key),
                "collection": self._collection(record.key.collection),
                "id": record.key.id,
                "page": record.page,
                "tailed": 0,
            }
            columns = ", ".join(values)
            marks = ", ".join("?" * len(values))
            n = self._db.execute(f"INSERT INTO item({columns}) VALUES({marks})", tuple(values.values())).lastrowid or 0
        else:
            n, tailed, folder = row
            if tailed:
                values["folder"] = folder
            if record.page is not None:
                values["page"] = record.page
            columns = ", ".join(f"{name} = ?" for name in values)
            self._db.execute(f"UPDATE item SET {columns} WHERE n = ?", (*values.values(), n))
            self._db.execute("DELETE FROM failure WHERE item = ?", (n,))
        now_s = time.time()
        self._db.executemany(
            "INSERT INTO failure VALUES(?,?,?,?,?,?,?)",
            [(n, f.key, f.kind, f.message, f.attempts, int(f.permanent), now_s) for f in record.failed],
        )
        if record.document:
            documents.append((n, record.document))

    def _judge_late(self, record: ItemRecord) -> None:
        """Apply what was learned of keys while this item was in hand: it left its worker before, and comes after."""
        collection = record.key.collection
        forgiven = [f for f in record.failed if f.kind in _ABSENT_KINDS and (collection, f.key) in self._forgiven]
        doubted = [a for a in record.absent if a.assumed and (collection, a.key) in self._doubted]
        if forgiven or doubted:
            record.failed = [f for f in record.failed if f not in forgiven] + [_doubtful(a.key) for a in doubted]
            record.absent = [a for a in record.absent if a not in doubted] + [Absent(f.key) for f in forgiven]

    def _put_documents(self, documents: Sequence[tuple[int, bytes]]) -> None:
        block = zlib.compress(b"\n".join(document for _, document in documents), 1)
        number = self._db.execute("INSERT INTO document(items, block) VALUES(?,?)", (len(documents), block)).lastrowid
        self._db.executemany("UPDATE item SET document = ? WHERE n = ?", [(number, n) for n, _ in documents])

    def _put_receipts(self, n: int, stored: Sequence[Receipt], absent: Sequence[Absent]) -> None:
        """Replace the receipts of a row, and count its failures anew."""
        blob = schema.pack(stored, absent)
        collection, id_, sources = self._db.execute(
            "SELECT c.id, i.id, i.sources FROM item i JOIN collection c ON c.n = i.collection WHERE i.n = ?", (n,)
        ).fetchone()
        self._db.execute(
            "UPDATE item SET receipts = ?, stored = ?, absent = ?, assumed = ?, bytes = ?, crc = ?,"
            " failed = (SELECT count(*) FROM failure WHERE item = n) WHERE n = ?",
            (
                blob,
                len(stored),
                sum(not outcome.assumed for outcome in absent),
                sum(outcome.assumed for outcome in absent),
                sum(receipt.size_bytes for receipt in stored),
                schema.checksum(ItemKey(collection, id_), blob, sources),
                n,
            ),
        )

    def _put_page(self, page: PageRecord) -> None:
        first_item = self._db.execute("SELECT coalesce(max(n), 0) FROM item").fetchone()[0]
        before = self._db.execute("SELECT first_item FROM page WHERE number = ?", (page.number,)).fetchone()
        if before is not None:
            first_item = min(first_item, before[0])
        for key in page.known:
            if (found := self._find(key)) is not None:
                first_item = min(first_item, found[0] - 1)
                self._db.execute("UPDATE item SET run = ?, page = ? WHERE n = ?", (self.run, page.number, found[0]))
        for key in page.known_linked:
            if (found := self._find(key)) is not None:
                self._db.execute("UPDATE item SET run = ? WHERE n = ?", (self.run, found[0]))
        settled = page.queued == 0 and not page.partial
        if not settled:
            self._outstanding[page.number] = -1 if page.partial else page.queued
        self._db.execute(
            "INSERT OR REPLACE INTO page VALUES(?,?,?,?,?,?,?,?,?,?,?)",
            (
                page.number,
                page.cursor.value,
                page.cursor.kind,
                page.listed,
                page.filtered,
                page.duplicate,
                page.queued,
                int(page.partial),
                int(settled),
                first_item,
                int(page.next is None),
            ),
        )
        # Rows of items met again are older than their page. A walk from any open page must find them all.
        self._db.execute(
            "UPDATE page SET first_item = min(first_item, ?) WHERE settled = 0 AND number < ?",
            (first_item, page.number),
        )

    def _count_off(self, number: int) -> None:
        left = self._outstanding.get(number, 0) - 1
        self._outstanding[number] = left
        if left == 0:
            del self._outstanding[number]
            self._db.execute("UPDATE page SET settled = 1 WHERE number = ?", (number,))

    def _forgive(self, entry: Forgiven) -> dict[str, Unit]:
        """Turn the failures of a key that exists nowhere into absences; return the held units this touches."""
        touched: dict[str, Unit] = {}
        self._forgiven.add((entry.collection, entry.key))
        rows = self._db.execute(
            "SELECT i.n, i.receipts, i.unit, i.exclusive FROM failure f JOIN item i ON i.n = f.item"
            f" WHERE f.key = ? AND f.kind IN {_ABSENT_KINDS} AND i.collection = ?",
            (entry.key, self._collection(entry.collection)),
        ).fetchall()
        for n, blob, unit_id, exclusive in rows:
            stored, absent = schema.unpack(blob)
            self._db.execute("DELETE FROM failure WHERE item = ? AND key = ?", (n, entry.key))
            self._put_receipts(n, stored, [*absent, Absent(entry.key)])
            if unit_id is not None:
                touched[unit_id] = Unit(unit_id, "", bool(exclusive))
            else:
                self._db.execute("UPDATE item SET state = ? WHERE n = ? AND failed = 0", (COMMITTED, n))
        return touched

    def _doubt(self, entry: Doubted) -> None:
        """Turn the assumed absences of a key that does exist into failures, for the sweep to fetch."""
        self._forgiven.discard((entry.collection, entry.key))
        self._doubted.add((entry.collection, entry.key))
        doubtful = _doubtful(entry.key)
        rows = self._db.execute(
            "SELECT n, receipts FROM item WHERE assumed > 0 AND collection = ?", (self._collection(entry.collection),)
        ).fetchall()
        for n, blob in rows:
            stored, absent = schema.unpack(blob)
            left = [outcome for outcome in absent if not (outcome.assumed and outcome.key == entry.key)]
            if len(left) == len(absent):
                continue
            self._db.execute(
                "INSERT OR REPLACE INTO failure VALUES(?,?,?,?,?,?,?)",
                (n, entry.key, doubtful.kind, doubtful.message, 0, 0, time.time()),
            )
            self._put_receipts(n, stored, left)
            self._db.execute("UPDATE item SET state = ? WHERE n = ? AND unit IS NULL", (INCOMPLETE, n))

    def _put_missing(self, entry: MissingKey) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO missing VALUES(?,?,?,?,?)",
            (self._collection(entry.collection), entry.key, entry.seen, entry.missing, int(entry.tripped)),
        )

    # -- revealing -----------------------------------------------------------------------------------------

    def _ready(self, unit: Unit) -> Reveal | None:
        """Return the unit's reveal when none of its items lacks an asset; else hold all of them."""
        lacking = self._db.execute("SELECT count(*) FROM item WHERE unit = ? AND failed > 0", (unit.id,)).fetchone()[0]
        self._db.execute("UPDATE item SET state = ? WHERE unit = ?", (HELD if lacking else STAGED, unit.id))
        return None if lacking else self._placed(unit)

    def _placed(self, unit: Unit) -> Reveal:
        """Return the reveal of a unit (by its id), in its rows' folder, under names that clash with no other item's."""
        rows = self._db.execute(
            "SELECT i.n, c.id, i.id, i.receipts, i.folder, i.tailed FROM item i JOIN collection c ON c.n = i.collection"
            " WHERE i.unit = ?",
            (unit.id,),
        ).fetchall()
        key = ItemKey(rows[0][1], rows[0][2])
        folder, tailed = schema.unpack_folder(rows[0][4], key), rows[0][5]
        if unit.exclusive and not tailed and self._folder_taken(folder):
            folder, tailed = _tail(folder, key), 1
        place, exact = schema.signed_hash(fold(folder)), schema.signed_hash(folder)
        for n, collection, id_, *_ in rows:
            self._db.execute(
                # A linked item in another's folder is like one with a tail: its own key does not lead there.
                "UPDATE item SET folder = ?, tailed = CASE WHEN ? AND page IS NULL THEN 1 ELSE ? END,"
                " place = ?, exact = ? WHERE n = ?",
                (
                    schema.pack_folder(folder, ItemKey(collection, id_)),
                    len(rows) > 1,
                    tailed,
                    place if unit.exclusive else None,
                    exact if unit.exclusive else None,
                    n,
                ),
            )
        names: dict[str, str] = {}
        for n, collection, id_, blob, _, _ in rows:
            stored, absent = schema.unpack(blob)
            if not unit.exclusive:
                stored = self._names_of_their_own(ItemKey(collection, id_), folder, stored, names)
                self._put_receipts(n, stored, absent)
            else:
                names.update({receipt.name: receipt.name for receipt in stored})
        return Reveal(Unit(unit.id, folder, unit.exclusive), names)

    def _folder_taken(self, folder: str) -> bool:
        """Return whether an item rests in a folder that differs from `folder` only by case or normal form."""
        row = self._db.execute(
            "SELECT 1 FROM item WHERE place = ? AND exact <> ? LIMIT 1",
            (schema.signed_hash(fold(folder)), schema.signed_hash(folder)),
        ).fetchone()
        return row is not None

    def _names_of_their_own(
        self, key: ItemKey, folder: str, stored: Sequence[Receipt], names: dict[str, str]
    ) -> list[Receipt]:
        """Give the second of two files with one (folded) path a name with a tail; fill `names`, return new receipts."""
        owner = schema.key_hash(key)
        renamed = []
        for receipt in stored:
            final = receipt.name
            path_hash = schema.signed_hash(fold(f"{folder}/{final}"))
            taken = self._db.execute("SELECT item_hash FROM path WHERE hash = ?", (path_hash,)).fetchone()
            if taken is not None and taken[0] != owner:
                final = _tail(final, key)
                path_hash = schema.signed_hash(fold(f"{folder}/{final}"))
            self._db.execute("INSERT OR REPLACE INTO path VALUES(?,?)", (path_hash, owner))
            names[receipt.name] = final
            renamed.append(msgspec.structs.replace(receipt, name=final))
        return renamed

    # -- small things --------------------------------------------------------------------------------------

    def _find(self, key: ItemKey) -> tuple[int, int, str | None] | None:
        number = self._collections.get(key.collection)
        rows = self._db.execute(
            "SELECT n, tailed, folder FROM item WHERE hash = ? AND collection = ? AND id = ?",
            (schema.key_hash(key), number, key.id),
        )
        found: tuple[int, int, str | None] | None = rows.fetchone()
        return found

    def _collection(self, id_: str) -> int:
        number = self._collections.get(id_)
        if number is None:
            number = self._db.execute("INSERT INTO collection(id) VALUES(?)", (id_,)).lastrowid or 0
            self._collections[id_] = number
        return number

    def _pack_sources(self, sources: Sequence[ItemKey]) -> str | None:
        if not sources:
            return None
        return msgspec.json.encode([(self._collection(key.collection), key.id) for key in sources]).decode()

    def _set_meta(self, key: str, value: str) -> None:
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES(?,?)", (key, value))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise _unusable(error, self.path) from error

    def close(self) -> None:
        """Fold the WAL into the file and close. May be called twice."""
        super().close()
        self._db.close()


def _doubtful(key: str) -> Failed:
    return Failed(key, "assumed", "assumed absent, but found elsewhere", 0)


def _tail(path: str, key: ItemKey) -> str:
    """Return `path` with a short hash of the true key: before the extension of a file, at the end of a folder."""
    stem, dot, extension = path.rpartition(".")
    mark = schema.clash_mark(key)
    return f"{stem}{mark}.{extension}" if dot and "/" not in extension and stem else f"{path}{mark}"


def _unusable(error: sqlite3.Error, path: str) -> TargetUnwritable | TargetInUse:
    code = getattr(error, "sqlite_errorname", "")
    if code.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")):
        return TargetUnwritable(f"cannot write the ledger {path}: {error}", hint="make room, then `stacmirror resume`")
    return TargetInUse(f"the ledger {path} cannot be used: {error}", hint="is it another program's file, or damaged?")
