"""Write down what `verify --repair` found, so that the next run fetches it again: files, and whole rows.

The caller holds the run lock. A damaged file becomes a failure of its item: the run's sweeps ask for it, stage and sync
it, and put it in the place of the damaged one. Nothing is deleted here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from stacmirror.ledger import schema
from stacmirror.ledger.file import refuse_none
from stacmirror.ledger.schema import COMMITTED, INCOMPLETE, source_pairs
from stacmirror.ledger.store import LedgerStore
from stacmirror.model import Failed, ItemKey, ItemRecord, Unit


class RepairStore(LedgerStore):
    """A ledger that marks damage. Raises: as `LedgerStore`; TargetInUse where there is none, which would be made."""

    def __init__(self, path: str, still_ours: Callable[[], None] = lambda: None) -> None:
        refuse_none(path)
        super().__init__(path, still_ours)
        self._db.text_factory = schema.text

    def reindex(self) -> None:
        """Build the indexes anew from the rows."""
        with self._transaction():
            self._db.execute("REINDEX")

    def mark_files(self, files: Mapping[int, Mapping[str, str]]) -> None:
        """Turn receipts into failures: for each row, asset keys and what is wrong with their files."""
        with self._transaction():
            for n, lost in files.items():
                self._mark_row_files(n, lost)

    def _mark_row_files(self, n: int, lost: Mapping[str, str]) -> None:
        stored, absent = schema.unpack(self._db.execute("SELECT receipts FROM item WHERE n = ?", (n,)).fetchone()[0])
        lost = {receipt.key: lost[receipt.key] for receipt in stored if receipt.key in lost}
        now_s = time.time()
        self._db.executemany(
            schema.PUT_FAILURE,
            [(n, key, schema.DAMAGED, detail, 0, 0, self.run - 1, now_s, "") for key, detail in lost.items()],
        )
        self._items.put_receipts(n, [receipt for receipt in stored if receipt.key not in lost], absent)
        self._db.execute(f"UPDATE item SET state = {INCOMPLETE} WHERE n = ? AND state = {COMMITTED}", (n,))

    def mark_rows(self, rows: Sequence[int], label_folder: Callable[[ItemKey], str] | None) -> None:
        """Have the items of damaged rows fetched again.

        A row whose identity is damaged too is taken out, and what listed it is read again. `label_folder` gives the
        folder of a label, where the layout keeps its source there.
        """
        with self._transaction():
            lost = [self._mark_row(n) for n in rows]
            if any(lost):
                # From its start: what has a row is met again, and not asked for.
                self._pages.begin_walk(refresh=False, widen=False)
                if label_folder is not None:
                    self._drop_orphans()
                self._restore_sources(label_folder)

    def _mark_row(self, n: int) -> bool:
        """Mark one row; return whether it had to go."""
        row = self._db.execute(
            "SELECT c.id, i.id, i.hash, i.receipts, i.sources, i.crc FROM item i"
            " LEFT JOIN collection c ON c.n = i.collection WHERE i.n = ?",
            (n,),
        ).fetchone()
        key = ItemKey(str(row[0]), str(row[1]))
        if schema.is_sound(key, *row[3:]):  # what the checksum does not cover follows from what it does
            self._db.execute("UPDATE item SET hash = ? WHERE n = ?", (schema.key_hash(key), n))
            self._items.put_receipts(n, *schema.unpack(row[3]))
            self._db.execute(
                f"UPDATE item SET state = CASE WHEN failed THEN {INCOMPLETE} ELSE {COMMITTED} END"
                " WHERE n = ? AND unit IS NULL",
                (n,),
            )
            return False
        if row[2] == schema.key_hash(key):
            self._items.put_damaged(n)
            return False
        self._delete(n)
        return True

    def _drop_orphans(self) -> None:
        """Take out linked items that no label names: where the two share a folder, they are fetched together again."""
        named = set()
        for (packed,) in self._db.execute("SELECT sources FROM item WHERE sources IS NOT NULL"):
            named.update(source_pairs(packed))
        linked = self._db.execute("SELECT n, collection, id FROM item WHERE page IS NULL").fetchall()
        for n, collection, id_ in linked:
            if (collection, id_) not in named:
                self._delete(n)

    def _delete(self, n: int) -> None:
        self._db.execute("DELETE FROM failure WHERE item = ?", (n,))
        self._db.execute("DELETE FROM item WHERE n = ?", (n,))

    def _restore_sources(self, label_folder: Callable[[ItemKey], str] | None) -> None:
        """Give a row to every linked item that a label names and that has none, to be fetched by a sweep."""
        names = dict(self._db.execute("SELECT n, id FROM collection"))
        labels = self._db.execute(
            "SELECT c.id, i.id, i.folder, i.sources FROM item i JOIN collection c ON c.n = i.collection"
            " WHERE i.sources IS NOT NULL"
        ).fetchall()
        for collection, id_, folder, packed in labels:
            label = ItemKey(collection, id_)
            for number, source_id in source_pairs(packed):
                source = ItemKey(names[number], source_id)
                if self._items.find(source) is not None:
                    continue
                place = ""
                if label_folder is not None:
                    place = schema.unpack_folder(folder, label) if folder else label_folder(label)
                failed = [Failed("@item", schema.DAMAGED, schema.DAMAGED_ROW, 0)]
                self._items.put_item(ItemRecord(source, Unit("", place), failed=failed))
                n = (self._items.find(source) or (0,))[0]
                self._db.execute(
                    f"UPDATE item SET state = {INCOMPLETE}, unit = NULL, run = ?, tailed = ? WHERE n = ?",
                    (self.run - 1, int(bool(place)), n),
                )
                self._db.execute("UPDATE failure SET run = ? WHERE item = ?", (self.run - 1, n))
