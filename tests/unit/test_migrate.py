"""A ledger of an older version is brought up to date, whole or not at all; a newer one is refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from stacmirror.errors import TargetInUse
from stacmirror.ledger import migrate, schema
from stacmirror.ledger.reader import LedgerReader
from stacmirror.ledger.store import LedgerStore
from stacmirror.model import Cursor, ItemKey
from tests.unit.test_ledger import a_page, commit, opened, outcome, record

V1_TABLES = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE collection(n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE);
CREATE TABLE item(
  n INTEGER PRIMARY KEY,
  hash INTEGER NOT NULL,        -- of collection and id: a quarter of the size of an index over the ids
  collection INTEGER NOT NULL,
  id TEXT NOT NULL,
  state INTEGER NOT NULL,
  page INTEGER,
  run INTEGER NOT NULL,         -- the run that met or wrote it last
  place INTEGER,                -- hash of the folded folder: two folders that differ only by case meet here
  exact INTEGER,                -- hash of the folder as it is
  folder TEXT,                  -- packed; while unrevealed, and for ever where it is not what the layout derives
  tailed INTEGER NOT NULL,      -- 1: the folder is not what the layout derives
  exclusive INTEGER NOT NULL,
  unit TEXT,                    -- staging folder while unrevealed
  stored INTEGER NOT NULL, absent INTEGER NOT NULL, assumed INTEGER NOT NULL, failed INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  receipts BLOB NOT NULL,
  sources TEXT,                 -- keys of linked items, a line each
  document INTEGER,             -- the block that holds the item's JSON
  crc INTEGER NOT NULL
);
CREATE INDEX item_hash ON item(hash);
CREATE INDEX item_place ON item(place) WHERE place IS NOT NULL;
CREATE INDEX item_unit ON item(unit) WHERE unit IS NOT NULL;
CREATE INDEX item_lacking ON item(n) WHERE failed > 0;
CREATE INDEX item_unmet ON item(n) WHERE page = -1;
CREATE TABLE path(hash INTEGER PRIMARY KEY, item_hash INTEGER NOT NULL);  -- files outside folders of their own
CREATE TABLE failure(
  item INTEGER NOT NULL, key TEXT NOT NULL, kind TEXT NOT NULL, message TEXT NOT NULL,
  attempts INTEGER NOT NULL, permanent INTEGER NOT NULL, run INTEGER NOT NULL, at REAL NOT NULL,
  PRIMARY KEY(item, key)
) WITHOUT ROWID;
CREATE TABLE page(
  number INTEGER PRIMARY KEY, cursor TEXT NOT NULL, kind TEXT NOT NULL,
  listed INTEGER NOT NULL, filtered INTEGER NOT NULL, duplicate INTEGER NOT NULL, queued INTEGER NOT NULL,
  partial INTEGER NOT NULL, settled INTEGER NOT NULL,
  first_item INTEGER NOT NULL,  -- rows of this page's items are above this number
  last INTEGER NOT NULL         -- 1: it has no next page
);
CREATE INDEX page_open ON page(number) WHERE settled = 0;
CREATE TABLE missing(
  collection INTEGER NOT NULL, key TEXT NOT NULL, seen INTEGER NOT NULL, missing INTEGER NOT NULL,
  tripped INTEGER NOT NULL, PRIMARY KEY(collection, key)
) WITHOUT ROWID;
CREATE TABLE document(n INTEGER PRIMARY KEY, items INTEGER NOT NULL, block BLOB NOT NULL);
"""
"""As version 1 had it, word for word."""

_COPIED = "item", "collection", "failure", "missing", "document"


def as_version_1(folder: Path) -> Path:
    """Return a ledger of version 1: page 0 settled, page 1 with an item that has no row yet."""
    with opened(folder) as store:
        commit(store, a_page(0, 2), outcome(record("a")), outcome(record("b", failed=["B02"])))
        store.write([a_page(1, 2, cursor=Cursor("next=1")), outcome(record("c", page=1))], [])
    path = folder / "version-1" / "ledger.sqlite"
    path.parent.mkdir()
    old = sqlite3.connect(path)
    old.executescript(f"PRAGMA application_id={schema.APPLICATION_ID}; PRAGMA user_version=1; {V1_TABLES}")
    old.execute("ATTACH ? AS new", (str(folder / "ledger.sqlite"),))
    for table in _COPIED:
        columns = ", ".join(column for _, column, *_ in old.execute(f"PRAGMA main.table_info({table})"))
        old.execute(f"INSERT INTO main.{table}({columns}) SELECT {columns} FROM new.{table}")
    old.execute("INSERT INTO meta SELECT * FROM new.meta")
    old.execute(
        "INSERT INTO main.page"
        " SELECT number, cursor, kind, listed, filtered, duplicate, queued, partial, settled, 0, last"
        " FROM new.page"
    )
    old.commit()
    old.close()
    return path


def test_a_ledger_of_version_1_goes_on(tmp_path: Path) -> None:
    """Its rows, failures and pages are there; the walk goes on at the page that was not settled."""
    path = as_version_1(tmp_path)
    store = LedgerStore(str(path))
    try:
        assert store._db.execute("PRAGMA user_version").fetchone()[0] == schema.VERSION
        (items, failed) = (store.counts().items, [asset.item for asset in store.failed_assets()])
        assert (items.listed, items.complete, items.incomplete, items.pending, failed) == (4, 1, 1, 2, ["b"])
        point = store.resume_point()
        assert (point.number, point.cursor, point.listed) == (1, Cursor("next=1"), 2)
        assert store.known([ItemKey("labels", "c")])[ItemKey("labels", "c")].unmet
    finally:
        store.close()
    assert _names(path) == _names(tmp_path / "ledger.sqlite")


def _names(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    try:
        return {f"{row[0]} {row[1]}" for row in connection.execute("SELECT type, name FROM sqlite_master")}
    finally:
        connection.close()


def test_status_does_not_bring_a_ledger_up_to_date(tmp_path: Path) -> None:
    """A reader refuses an older version in one line that says what does bring it up to date, and writes nothing."""
    path = as_version_1(tmp_path)
    before = path.read_bytes()
    with pytest.raises(TargetInUse, match="version 1") as refused:
        LedgerReader(str(path))
    assert "resume" in refused.value.hint
    assert path.read_bytes() == before


def test_a_step_that_fails_leaves_the_older_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps are one transaction: cut short, the file is what it was, and the next start takes them again."""
    path = as_version_1(tmp_path)
    names = _names(path)
    with monkeypatch.context() as patched:
        patched.setattr(migrate, "STEPS", {1: (*migrate.STEPS[1], "SELECT * FROM nowhere")})
        with pytest.raises(TargetInUse):
            LedgerStore(str(path))
    assert _names(path) == names
    LedgerStore(str(path)).close()


def test_every_older_version_has_a_step() -> None:
    """No version was passed over."""
    assert sorted(migrate.STEPS) == list(range(1, schema.VERSION))
