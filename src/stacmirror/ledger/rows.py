"""Write items' rows: receipts, failures, documents, and what was learned of asset keys.

Used by the store inside its transactions; the commit thread's only.
"""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from stacmirror.ledger import schema
from stacmirror.ledger.schema import COMMITTED, HELD, INCOMPLETE, STAGED
from stacmirror.model import (
    Absent,
    Doubted,
    Failed,
    Forgiven,
    ItemKey,
    ItemRecord,
    MissingKey,
    Receipt,
    Unit,
)

_DOCUMENTS_PER_BLOCK = 256
_ABSENT_KINDS = ("gone", "refused")
_FORGIVEN_KINDS = (*_ABSENT_KINDS, "unadopted")
"""What becomes an absence with a key that exists nowhere; what nobody asked for, an assumed one."""
_DOUBTED_MESSAGE = "taken to be missing everywhere, but found elsewhere"


class Place(NamedTuple):
    """Where a row's folder rests: `tailed` is 1 where that is not what the layout derives; and its hashes."""

    folder: str
    tailed: int
    folded: int
    exact: int


class ItemRows:
    """The tables item, failure, document, missing and collection of one open ledger."""

    def __init__(self, db: sqlite3.Connection, run: int) -> None:
        self._db = db
        self.run = run
        self._collections: dict[str, int] = {id_: n for n, id_ in db.execute("SELECT n, id FROM collection")}
        self._documents: list[tuple[int, bytes]] = []

    def remembered(self) -> dict[str, int]:
        """Return what is kept in memory, for `restore` when a transaction fails."""
        return dict(self._collections)

    def restore(self, remembered: dict[str, int]) -> None:
        """Go back to what `remembered` returned."""
        self._collections = remembered
        self._documents = []

    def put_item(self, record: ItemRecord, place_new: Callable[[], Place] | None = None) -> Place | None:
        """Write one item's row, new or again; its document waits for `put_documents`.

        `place_new` is asked where a new row's folder rests; the place that it gave is returned, and then nothing is
        left to be decided about the row.
        """
        blob = schema.pack(record.stored, record.absent)
        sources = self._pack_sources(record.sources)
        row = self.find(record.key)
        place = place_new() if place_new is not None and row is None else None
        unit = record.unit
        values = {
            "state": HELD if record.failed else STAGED,
            "run": self.run,
            "at": int(time.time()),
            "folder": schema.pack_folder(unit.folder if place is None else place.folder, record.key),
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
                "collection": self.collection(record.key.collection),
                "id": record.key.id,
                "page": record.page,
                "tailed": 0 if place is None else place.tailed,
                "place": None if place is None else place.folded,
                "exact": None if place is None else place.exact,
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
        if record.failed:
            self._db.executemany(schema.PUT_FAILURE, [self._failure_row(n, failed) for failed in record.failed])
        self._put_unverified(n, record.stored, is_new=row is None)
        if record.document:
            self._documents.append((n, record.document))
        return place

    def _failure_row(self, n: int, failed: Failed) -> tuple[object, ...]:
        run, at_s = failed.run or self.run, failed.at_s or time.time()
        kind, message = failed.kind, failed.message
        told = failed.status, failed.renewed, failed.put_off
        return n, failed.key, kind, message, failed.attempts, int(failed.permanent), run, at_s, failed.host, *told

    def _put_unverified(self, n: int, stored: Sequence[Receipt], *, is_new: bool) -> None:
        """Count those that nothing showed to be whole: a row for the few items that have some."""
        assets = sum(not receipt.verified for receipt in stored)
        if assets:
            self._db.execute("INSERT OR REPLACE INTO unverified VALUES(?,?)", (n, assets))
        elif not is_new:
            self._db.execute("DELETE FROM unverified WHERE item = ?", (n,))

    def put_documents(self) -> None:
        """Write the documents of the items put since the last call, in compressed blocks."""
        documents, self._documents = self._documents, []
        for start in range(0, len(documents), _DOCUMENTS_PER_BLOCK):
            self._put_block(documents[start : start + _DOCUMENTS_PER_BLOCK])

    def _put_block(self, documents: Sequence[tuple[int, bytes]]) -> None:
        block = zlib.compress(b"\n".join(document for _, document in documents), 1)
        number = self._db.execute("INSERT INTO document(items, block) VALUES(?,?)", (len(documents), block)).lastrowid
        self._db.executemany("UPDATE item SET document = ? WHERE n = ?", [(number, n) for n, _ in documents])

    def put_receipts(self, n: int, stored: Sequence[Receipt], absent: Sequence[Absent]) -> None:
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
        self._put_unverified(n, stored, is_new=False)

    def put_damaged(self, n: int) -> None:
        """Make a row whose checksum is wrong one of an item that was never fetched: a sweep brings all of it again."""
        self._db.execute("DELETE FROM failure WHERE item = ?", (n,))
        self._db.execute(
            schema.PUT_FAILURE, schema.unasked(n, "@item", schema.DAMAGED, schema.DAMAGED_ROW, self.run - 1)
        )
        self._db.execute(
            "UPDATE item SET sources = NULL, state = ?, unit = NULL WHERE n = ?",
            (INCOMPLETE, n),
        )
        self.put_receipts(n, [], [])

    def forgive(self, entry: Forgiven) -> dict[str, Unit]:
        """Turn the failures of a key that exists nowhere into absences; return the held units this touches."""
        touched: dict[str, Unit] = {}
        rows = self._db.execute(
            "SELECT i.n, i.id, i.receipts, i.sources, i.crc, i.unit, i.exclusive, f.kind FROM failure f"
            " JOIN item i ON i.n = f.item"
            f" WHERE f.key = ? AND f.kind IN {_FORGIVEN_KINDS} AND i.collection = ?",
            (entry.key, self.collection(entry.collection)),
        ).fetchall()
        for n, id_, blob, sources, crc, unit_id, exclusive, kind in rows:
            if not schema.is_sound(ItemKey(entry.collection, id_), blob, sources, crc):
                continue  # a sweep fetches all of it again
            stored, absent = schema.unpack(blob)
            self._db.execute("DELETE FROM failure WHERE item = ? AND key = ?", (n, entry.key))
            absence = Absent(entry.key, assumed=kind not in _ABSENT_KINDS)
            self.put_receipts(n, stored, [*absent, absence])
            if unit_id is not None:
                touched[unit_id] = Unit(unit_id, "", bool(exclusive))
            else:
                self._db.execute("UPDATE item SET state = ? WHERE n = ? AND failed = 0", (COMMITTED, n))
        return touched

    def doubt(self, entry: Doubted) -> None:
        """Turn the absences of a key that does exist into failures of an earlier run: a sweep asks again."""
        rows = self._db.execute(
            "SELECT n, id, receipts, sources, crc FROM item WHERE absent + assumed > 0 AND collection = ?",
            (self.collection(entry.collection),),
        )
        doubted = [
            n
            for n, id_, blob, sources, crc in rows
            if schema.is_sound(ItemKey(entry.collection, id_), blob, sources, crc)
            and any(entry.key in keys for keys in schema.unpack_absent(blob))
        ]
        for n in doubted:
            self._doubt_row(n, entry.key)

    def _doubt_row(self, n: int, key: str) -> None:
        stored, absent = schema.unpack(self._db.execute("SELECT receipts FROM item WHERE n = ?", (n,)).fetchone()[0])
        self._db.execute(schema.PUT_FAILURE, schema.unasked(n, key, "gone", _DOUBTED_MESSAGE, self.run - 1))
        self.put_receipts(n, stored, [outcome for outcome in absent if outcome.key != key])
        self._db.execute("UPDATE item SET state = ? WHERE n = ? AND unit IS NULL", (INCOMPLETE, n))

    def put_missing(self, entry: MissingKey) -> None:
        """Keep what is known of a key that may exist nowhere."""
        self._db.execute(
            "INSERT OR REPLACE INTO missing VALUES(?,?,?,?,?)",
            (self.collection(entry.collection), entry.key, entry.seen, entry.missing, int(entry.tripped)),
        )

    def find(self, key: ItemKey) -> tuple[int, int, str | None] | None:
        """Return number, `tailed` and folder of an item's row, or None."""
        number = self._collections.get(key.collection)
        rows = self._db.execute(
            "SELECT n, tailed, folder FROM item WHERE hash = ? AND collection = ? AND id = ?",
            (schema.key_hash(key), number, key.id),
        )
        found: tuple[int, int, str | None] | None = rows.fetchone()
        return found

    def collection(self, id_: str) -> int:
        """Return a collection's number, giving it one at its first use."""
        number = self._collections.get(id_)
        if number is None:
            number = self._db.execute("INSERT INTO collection(id) VALUES(?)", (id_,)).lastrowid or 0
            self._collections[id_] = number
        return number

    def _pack_sources(self, sources: Sequence[ItemKey]) -> str | None:
        if not sources:
            return None
        return msgspec.json.encode([(self.collection(key.collection), key.id) for key in sources]).decode()
