"""Decide where a unit is revealed: in its rows' folder, under names that clash with no other item's.

Used by the store inside its transactions. Two folders (or files outside folders of their own) that differ only by
case or normal form are one on some file systems: the second gets a tail, and its rows remember it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from stacmirror.ledger import schema
from stacmirror.ledger.rows import ItemRows, Place
from stacmirror.ledger.schema import HELD, STAGED
from stacmirror.model import ItemKey, Receipt, Reveal, Unit
from stacmirror.names import fold


class Places:
    """The places of one open ledger's items."""

    def __init__(self, db: sqlite3.Connection, rows: ItemRows) -> None:
        self._db = db
        self._rows = rows

    def ready(self, unit: Unit, *, anyway: bool = False) -> Reveal | None:
        """Return the unit's reveal when none of its items lacks an asset, or `anyway`; else hold all of them."""
        lacking = (
            not anyway
            and self._db.execute("SELECT count(*) FROM item WHERE unit = ? AND failed > 0", (unit.id,)).fetchone()[0]
        )
        self._db.execute("UPDATE item SET state = ? WHERE unit = ?", (HELD if lacking else STAGED, unit.id))
        return None if lacking else self.placed(unit)

    def placed(self, unit: Unit) -> Reveal:
        """Return the reveal of a unit (by its id), in its rows' folder, under names that clash with no other item's."""
        rows = self._db.execute(
            "SELECT i.n, c.id, i.id, i.receipts, i.folder, i.tailed FROM item i JOIN collection c ON c.n = i.collection"
            " WHERE i.unit = ?",
            (unit.id,),
        ).fetchall()
        key = ItemKey(rows[0][1], rows[0][2])
        folder, tailed, place, exact = self.of(unit, schema.unpack_folder(rows[0][4], key), rows[0][5], key)
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
                self._rows.put_receipts(n, stored, absent)
            else:
                names.update({receipt.name: receipt.name for receipt in stored})
        return Reveal(Unit(unit.id, folder, unit.exclusive), names)

    def of(self, unit: Unit, folder: str, tailed: int, key: ItemKey) -> Place:
        """Return where `folder` rests: with a tail where another item's differs from it only by case or normal form."""
        folded, exact = schema.signed_hash(fold(folder)), schema.signed_hash(folder)
        if unit.exclusive and not tailed:
            taken = self._db.execute("SELECT 1 FROM item WHERE place = ? AND exact <> ? LIMIT 1", (folded, exact))
            if taken.fetchone() is not None:
                folder, tailed = _tail(folder, key), 1
                folded, exact = schema.signed_hash(fold(folder)), schema.signed_hash(folder)
        return Place(folder, tailed, folded, exact)

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


def _tail(path: str, key: ItemKey) -> str:
    """Return `path` with a short hash of the true key: before the extension of a file, at the end of a folder."""
    stem, dot, extension = path.rpartition(".")
    mark = schema.clash_mark(key)
    return f"{stem}{mark}.{extension}" if dot and "/" not in extension and stem else f"{path}{mark}"
