"""The ledger is read as a whole beside a writer, and every byte of a row that matters is held against its checksum."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from stacmirror.ledger import audit
from stacmirror.ledger.audit import LedgerAudit
from stacmirror.ledger.reader import LedgerReader
from stacmirror.ledger.repair import RepairStore
from stacmirror.model import Absent, ItemKey
from tests.unit.test_ledger import BANDS, a_page, commit, fresh_folder, lacking, linked, opened, outcome, record


def ledger_of(folder: Path, items: int) -> str:
    with opened(folder) as store:
        commit(
            store,
            a_page(0, items),
            *(
                outcome(
                    record(f"i{n}", stored=BANDS, sources=[f"s{n}"], absent=[Absent("B10")]),
                    linked(f"s{n}", stored=BANDS),
                )
                for n in range(items)
            ),
        )
    return str(folder / "ledger.sqlite")


def test_rows_come_in_slices_that_hold_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two slices a writer can fold the whole WAL back, so that it cannot grow; rows written since are met."""
    monkeypatch.setattr(audit, "_SLICE_ROWS", 7)
    with fresh_folder() as folder:
        path = ledger_of(folder, 10)
        with opened(folder) as store:
            reader = LedgerAudit(path)
            seen: list[str] = []
            for number, rows in enumerate(reader.slices()):
                seen += [row.key.id for row in rows]
                commit(store, outcome(record(f"late{number}"))) if number < 2 else None
                busy, in_wal, folded = store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                assert (busy, in_wal - folded) == (0, 0)
                assert (folder / "ledger.sqlite-wal").stat().st_size == 0
            assert len(seen) == len(set(seen)) == 22
            reader.close()


def test_every_bit_of_a_row_is_watched() -> None:
    """Whichever bit of a row's receipts, sources, sum, id, hash or counts flips: the row has a fault."""
    with fresh_folder() as folder:
        path = ledger_of(folder, 1)
        with sqlite3.connect(path) as db:
            good = db.execute("SELECT receipts, sources, crc, id, hash, stored, bytes FROM item WHERE n = 1").fetchone()
            reader = LedgerAudit(path)
            assert [row.fault for rows in reader.slices() for row in rows] == ["", ""]
            columns = ("receipts", "sources", "crc", "id", "hash", "stored", "bytes")
            for column, value in zip(columns, good, strict=True):
                for changed in flipped(value):
                    db.execute(f"UPDATE item SET {column} = ? WHERE n = 1", (changed,))
                    db.commit()
                    row = reader.again(1)
                    assert row is not None
                    assert row.fault, (column, changed)
                    if column in ("receipts", "sources", "crc"):
                        assert row.intact_key
                        assert ItemKey("labels", "i0") not in reader.known([ItemKey("labels", "i0")])
                db.execute(f"UPDATE item SET {column} = ? WHERE n = 1", (value,))
                db.commit()
            row = reader.again(1)
            assert row is not None
            assert row.fault == ""
            reader.close()
        db.close()


def flipped(value: object) -> list[object]:
    """Return `value` with each of its bits flipped once."""
    if isinstance(value, int):
        return [value ^ (1 << bit) for bit in range(31)]
    content = value.encode() if isinstance(value, str) else bytes(value)  # type: ignore[call-overload]
    found: list[object] = []
    for at in range(len(content)):
        for bit in range(7 if isinstance(value, str) else 8):
            changed = content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :]
            found.append(changed.decode() if isinstance(value, str) else changed)
    return found


def test_text_that_is_no_utf8_hides_no_row() -> None:
    """A flipped bit makes an id, or a list of sources, no UTF-8: a fault of that row, in every reader."""
    with fresh_folder() as folder:
        path = ledger_of(folder, 2)
        with sqlite3.connect(path) as db:
            db.execute("UPDATE item SET id = CAST(x'ff' || substr(CAST(id AS BLOB), 2) AS TEXT) WHERE n = 1")
            db.execute("UPDATE item SET sources = CAST(x'ff' || CAST(sources AS BLOB) AS TEXT) WHERE n = 3")
        db.close()
        reader = LedgerAudit(path)
        assert [bool(row.fault) for rows in reader.slices() for row in rows] == [True, False, True, False]
        reader.close()
        plain = LedgerReader(path)
        said: list[str] = []
        plain.on_damaged = said.append
        for _ in range(2):
            assert plain.known([ItemKey("labels", "i1")]) == {}
        assert said == ["the ledger's row of labels/i1 is damaged: the item is fetched again"]
        assert plain.absences() == []  # nobody knows what they lack
        plain.close()


def test_a_damaged_row_that_lacks_assets_lacks_all() -> None:
    """A sweep that meets a damaged row asks for the whole item, not for what the row says of it."""
    with fresh_folder() as folder, opened(folder) as store:
        commit(store, a_page(0, 1), outcome(record("a", stored=["B01"], failed=["B02"])))
        store._db.execute("UPDATE item SET receipts = x'00'")
        item = lacking(store)["a"]
        assert [failed.key for failed in item.failed] == ["@item"]
        assert (item.stored, item.absent, item.sources, item.earlier) == ([], [], (), True)


def test_counts_that_are_wrong_are_mended_without_fetching() -> None:
    """What follows from a sound row is worked out again; nothing is asked for."""
    with fresh_folder() as folder:
        path = ledger_of(folder, 1)
        with sqlite3.connect(path) as db:
            before = db.execute("SELECT * FROM item").fetchall()
            db.execute("UPDATE item SET hash = hash + 1, stored = 99, state = 9 WHERE n = 1")
        db.close()
        store = RepairStore(path)
        store.mark_rows([1], None)
        assert store._db.execute("SELECT * FROM item").fetchall() == before
        assert lacking(store) == {}  # type: ignore[arg-type]
        store.close()


def test_an_index_that_lost_a_row_is_found_and_mended() -> None:
    """SQLite's own check names a damaged index; it is built anew from the rows."""
    with fresh_folder() as folder:
        path = ledger_of(folder, 3)
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA writable_schema=ON")
            db.execute(
                "UPDATE sqlite_master SET sql = 'CREATE INDEX item_hash ON item(hash) WHERE n > 2'"
                " WHERE name = 'item_hash'"
            )
        db.close()
        with sqlite3.connect(path) as db:
            db.execute("REINDEX item_hash")
            db.execute("PRAGMA writable_schema=ON")
            db.execute("UPDATE sqlite_master SET sql = 'CREATE INDEX item_hash ON item(hash)' WHERE name = 'item_hash'")
        db.close()
        reader = LedgerAudit(path)
        assert "item_hash" in reader.check_file()
        store = RepairStore(path)
        store.reindex()
        store.close()
        assert reader.check_file() == ""
        reader.close()
