"""A ledger or its WAL, cut or flipped at any offset: its last good state, or one line; a flipped row is found."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stacmirror.ledger.audit import LedgerAudit
from tests.unit.test_ledger import fresh_folder
from tests.unit.test_ledger_damage import A_GROUP, GROUPS, refused_or, written

CASES, ROW_CASES = 1_000, 200


@pytest.fixture(scope="module")
def whole() -> Iterator[Path]:
    """A folder with a ledger as it was amid its last commit (`live-…`), and as it was closed."""
    with fresh_folder() as folder:
        written(folder)
        compact = sqlite3.connect(Path(folder, "ledger.sqlite"))
        compact.execute("VACUUM")  # no copy of a row that is no row any more
        compact.close()
        yield folder


@pytest.mark.slow
@settings(max_examples=CASES, deadline=None)
@given(
    name=st.sampled_from(["ledger.sqlite", "ledger.sqlite-wal"]),
    at=st.floats(0, 1, exclude_max=True),
    bit=st.one_of(st.none(), st.integers(0, 7)),
)
def test_a_torn_ledger_opens_or_is_refused(whole: Path, name: str, at: float, bit: int | None) -> None:
    """Cut there (no bit), or a bit flipped: read and added to as usual, or refused with a hint; nothing else."""
    with fresh_folder() as folder:
        for file in ("ledger.sqlite", "ledger.sqlite-wal"):
            shutil.copy(whole / f"live-{file}", Path(folder, file))
        torn = Path(folder, name)
        content = bytearray(torn.read_bytes())
        offset = int(at * len(content))
        if bit is None:
            del content[offset:]
        else:
            content[offset] ^= 1 << bit
        torn.write_bytes(content)
        complete = refused_or(Path(folder, "ledger.sqlite"))
        if complete is not None and name.endswith("wal"):
            # Each commit of the WAL has sums of its own: what is read is a whole group's state, and never a later one.
            assert complete % (A_GROUP - 1) == 0
            assert complete <= GROUPS * (A_GROUP - 1)


@settings(max_examples=ROW_CASES, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_of_a_row_is_found(whole: Path, at: float, bit: int) -> None:
    """Anywhere in the receipts of a row on the disk: the audit names that row, and no other."""
    with fresh_folder() as folder:
        place = Path(folder, "ledger.sqlite")
        shutil.copy(whole / "ledger.sqlite", place)
        content = bytearray(place.read_bytes())
        spans = spans_of_rows(place, bytes(content))
        offset, left = 0, int(at * sum(size for _, size in spans))
        for start, size in spans:
            if left < size:
                offset = start + left
                break
            left -= size
        content[offset] ^= 1 << bit
        place.write_bytes(content)
        audit = LedgerAudit(str(place))
        try:
            faults = [row for rows in audit.slices() for row in rows if row.fault]
        finally:
            audit.close()
        assert len(faults) == 1


def spans_of_rows(path: Path, content: bytes) -> list[tuple[int, int]]:
    """Return where all rows' receipts rest in the file, each found by its own bytes."""
    ledger = sqlite3.connect(path)
    try:
        packed = {receipts for (receipts,) in ledger.execute("SELECT receipts FROM item")}
    finally:
        ledger.close()
    return [(found.start(), len(one)) for one in packed for found in re.finditer(re.escape(one), content)]
