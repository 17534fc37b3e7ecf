"""Read the ledger's rows from first to last, each held against its checksum: for `verify` and manifests.

A mirror may be running meanwhile: rows are read in slices, each a short read of its own, so that the WAL can be folded
back between two of them. What a slice says may be out of date when the tree is looked at: `again` asks once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from stacmirror.errors import TargetInUse
from stacmirror.ledger import schema
from stacmirror.ledger.reader import LedgerReader
from stacmirror.ledger.schema import COMMITTED, HELD, INCOMPLETE, STAGED, source_pairs
from stacmirror.model import ItemKey, Receipt
from stacmirror.names import fold

_SLICE_ROWS = 1000
_PATHS_A_QUERY = 500

_COLUMNS = (
    "i.n, c.id, i.id, i.hash, i.state, i.page, i.unit, i.folder, i.exclusive, i.stored, i.failed, i.bytes,"
    " i.receipts, i.sources, i.crc FROM item i LEFT JOIN collection c ON c.n = i.collection"
)


class AuditRow(Struct):
    """One item's row. `fault` says what is wrong with the row itself, or is ""; then nothing else of it is known.

    `folder` is None where it is what the layout derives. `unit` is "" once the item is revealed; `staged` says that
    its reveal was about to come. `walked` is False for an item that only a label names.
    """

    row: int
    key: ItemKey
    fault: str
    intact_key: bool
    unit: str
    staged: bool
    folder: str | None
    exclusive: bool
    walked: bool
    lacking: int
    receipts: list[Receipt]
    sources: tuple[ItemKey, ...]

    def staged_name(self, receipt: Receipt) -> str:
        """Return the name that a file has while it is staged: a tail for a clash is given later."""
        return receipt.name.replace(schema.clash_mark(self.key), "")


class LedgerAudit(LedgerReader):
    """A ledger that is read as a whole. Raises: as `LedgerReader`."""

    def slices(self, after_row: int = 0) -> Iterator[list[AuditRow]]:
        """Give all rows, in slices, in the order they were first written."""
        while True:
            found = self._rows(f"SELECT {_COLUMNS} WHERE i.n > ? ORDER BY i.n LIMIT {_SLICE_ROWS}", (after_row,))
            if not found:
                return
            rows = self._audited(found)
            if rows[-1].row <= after_row:
                raise TargetInUse(f"{self.path} is damaged: its rows go in circles", hint="restore it from a copy")
            after_row = rows[-1].row
            yield rows

    def unrevealed(self) -> list[AuditRow]:
        """Return the rows of items that are not, or not wholly, revealed."""
        return self._audited(self._rows(f"SELECT {_COLUMNS} WHERE i.unit IS NOT NULL ORDER BY i.n"))

    def again(self, row: int) -> AuditRow | None:
        """Return a row as it is now; None when there is none any more."""
        found = self._audited(self._rows(f"SELECT {_COLUMNS} WHERE i.n = ?", (row,)))
        return found[0] if found else None

    def of(self, keys: Iterable[ItemKey]) -> list[AuditRow]:
        """Return the rows of items."""
        found: list[AuditRow] = []
        for key in keys:
            rows = self._audited(self._rows(f"SELECT {_COLUMNS} WHERE i.hash = ?", (schema.key_hash(key),)))
            found += [row for row in rows if row.key == key]
        return found

    def marked(self, rows: Sequence[AuditRow]) -> bool:
        """Return whether a file of one of `rows` is marked as damaged: it may rest where it was, and has no receipt."""
        query = "SELECT 1 FROM failure WHERE item = ? AND kind = ?"
        return any(self._rows(query, (row.row, schema.DAMAGED)) for row in rows)

    def marked_assets(self) -> int:
        """Return how many assets are marked as damaged, and not yet fetched again."""
        return self._count(f"SELECT count(*) FROM failure WHERE kind = '{schema.DAMAGED}'")

    def items(self) -> int:
        """Return how many rows there are."""
        return self._count("SELECT count(*) FROM item")

    def known_paths(self, paths: Sequence[str]) -> set[str]:
        """Return those of `paths` that were given to files outside folders of their own."""
        hashes = {schema.signed_hash(fold(path)): path for path in paths}
        known: set[str] = set()
        wanted = list(hashes)
        for start in range(0, len(wanted), _PATHS_A_QUERY):
            some = wanted[start : start + _PATHS_A_QUERY]
            marks = ",".join("?" * len(some))
            known |= {
                hashes[int(row[0])]  # type: ignore[call-overload]
                for row in self._rows(f"SELECT hash FROM path WHERE hash IN ({marks})", some)
            }
        return known

    def check_file(self) -> str:
        """Return what SQLite itself finds wrong with the file, or "". One long read: not beside a running mirror."""
        found = str(self._rows("PRAGMA integrity_check(1)")[0][0])
        return "" if found == "ok" else found

    def _audited(self, found: Sequence[tuple[object, ...]]) -> list[AuditRow]:
        names = {int(n): str(id_) for n, id_ in self._rows("SELECT n, id FROM collection")}  # type: ignore[call-overload]
        return [_audit(row, names) for row in found]


def path_hash(path: str) -> int:
    """Return a 64-bit hash of a path, to remember many of them in little memory."""
    return schema.signed_hash(path)


def _audit(row: tuple[object, ...], names: dict[int, str]) -> AuditRow:
    n, collection, id_, hash_, state, page, unit, folder, exclusive, stored, failed, size, blob, sources, crc = row
    key = ItemKey(str(collection), str(id_))
    found = AuditRow(
        row=int(n),  # type: ignore[call-overload]
        key=key,
        fault="",
        intact_key=hash_ == schema.key_hash(key),
        unit=str(unit or ""),
        staged=state == STAGED,
        folder=schema.unpack_folder(folder, key) if isinstance(folder, str) else None,
        exclusive=bool(exclusive),
        walked=page is not None,
        lacking=failed if isinstance(failed, int) else 0,
        receipts=[],
        sources=(),
    )
    if not schema.is_sound(key, blob, sources, crc):
        found.fault = "its checksum is wrong"
        return found
    found.receipts, _ = schema.unpack(blob)  # type: ignore[arg-type]
    found.sources = tuple(ItemKey(names.get(number, ""), id_) for number, id_ in source_pairs(sources))
    if not found.intact_key:
        found.fault = "its index entry is wrong"
    elif stored != len(found.receipts) or size != sum(receipt.size_bytes for receipt in found.receipts):
        found.fault = "its counts are wrong"
    elif state not in (HELD, STAGED, COMMITTED, INCOMPLETE):
        found.fault = "its state is wrong"
    return found
