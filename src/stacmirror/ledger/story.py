"""Read all that the ledger knows of one item, and ids that are like one that it does not know.

Used by `explain`. Two of its questions read every row (who names the item; near ids): a second for a million items.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from stacmirror.errors import TargetInUse
from stacmirror.ledger import schema
from stacmirror.ledger.file import read_failures, walk_first
from stacmirror.ledger.reader import LedgerReader
from stacmirror.ledger.schema import COMMITTED, HELD, INCOMPLETE, STAGED, source_pairs
from stacmirror.model import Absent, Failed, ItemKey, Receipt
from stacmirror.redact import redact_url

STATES = {HELD: "held", STAGED: "staged", COMMITTED: "committed", INCOMPLETE: "incomplete"}
_ROWS = 20_000
"""Rows read in one go, so that no reading lasts: a running mirror folds its log when nobody reads."""
_NEAR_LEAST = 0.6
"""Ids are near where so much of the longer one is a common beginning and end."""


class ItemStory(Struct):
    """One row of the ledger, with all that hangs on it.

    `page` is None where no page listed it, or where its page is to be walked again (`unmet`). `folder` is ""
    where it is what the layout derives. `at_s` is when it was committed, or written; 0 where an older version wrote it.
    """

    key: ItemKey
    state: str
    at_s: int
    run: int
    page: int | None
    cursor: str
    unmet: bool
    folder: str
    documented: bool
    sources: list[ItemKey]
    named_by: list[ItemKey]
    stored: list[Receipt]
    absent: list[Absent]
    failed: list[Failed]


class LedgerStories(LedgerReader):
    """A ledger, read item by item."""

    def stories(self, name: str) -> list[ItemStory]:
        """Return what there is of an id, in every collection that has it; `name` may also be COLLECTION/ID."""
        with self._reading() as connection:
            collections = dict(connection.execute("SELECT n, id FROM collection ORDER BY id"))
            keys = [ItemKey(collection, name) for collection in collections.values()]
            keys += [
                ItemKey(collection, name.removeprefix(f"{collection}/"))
                for collection in collections.values()
                if name.startswith(f"{collection}/")
            ]
            found = [self._story(connection, key, collections) for key in keys]
            return [story for story in found if story is not None]

    def _story(self, db: sqlite3.Connection, key: ItemKey, collections: dict[int, str]) -> ItemStory | None:
        row = db.execute(
            "SELECT i.n, i.state, i.at, i.run, i.page, i.folder, i.document IS NOT NULL, i.sources, i.receipts, i.crc"
            f" FROM item i JOIN collection c ON c.n = i.collection {schema.OF_KEY}",
            schema.by_key(key),
        ).fetchone()
        if row is None:
            return None
        n, state, at_s, run, page, folder, documented, sources, blob, crc = row
        if not schema.is_sound(key, blob, sources, crc):
            raise TargetInUse(
                f"the ledger's row of {key} is damaged",
                hint="`stacmirror verify --repair`, then `resume`, fetches the item again",
            )
        stored, absent = schema.unpack(blob)
        cursor = db.execute("SELECT cursor FROM page WHERE number = ?", (page,)).fetchone()
        return ItemStory(
            key=key,
            state=STATES[state],
            at_s=at_s,
            run=run,
            page=page if page is not None and page >= 0 else None,
            cursor=redact_url(f"?{cursor[0]}")[1:] if cursor else "",
            unmet=page is not None and page < walk_first(db),
            folder=schema.unpack_folder(folder or "", key),
            documented=bool(documented),
            sources=[ItemKey(collections[number], id_) for number, id_ in source_pairs(sources)],
            named_by=list(self._named_by(db, key, collections)),
            stored=stored,
            absent=absent,
            failed=read_failures(db, n),
        )

    def _named_by(self, db: sqlite3.Connection, key: ItemKey, collections: dict[int, str]) -> Iterator[ItemKey]:
        written = msgspec.json.encode(key.id).decode()
        rows = _by_rows(db, "collection, id, sources", "sources IS NOT NULL AND instr(sources, ?)", (written,))
        for number, id_, sources in rows:
            if any((collections[of], named) == (key.collection, key.id) for of, named in source_pairs(sources)):
                yield ItemKey(collections[number], id_)

    def near(self, name: str, count: int = 3) -> list[str]:
        """Return ids like `name`, best first: those that hold it, then those that begin and end as it does."""
        with self._reading() as connection:
            best: dict[str, float] = {}
            for (id_,) in _by_rows(connection, "id", "1", ()):
                score = _likeness(name, id_)
                if score >= _NEAR_LEAST:
                    best[id_] = score
                    if len(best) > 1000:
                        best = dict(heapq.nlargest(count, best.items(), key=lambda one: one[1]))
            return [id_ for id_, _ in heapq.nlargest(count, best.items(), key=lambda one: one[1])]


def _by_rows(db: sqlite3.Connection, columns: str, where: str, values: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    last = db.execute("SELECT coalesce(max(n), 0) FROM item").fetchone()[0]
    for start in range(0, last, _ROWS):
        yield from db.execute(
            f"SELECT {columns} FROM item WHERE n > ? AND n <= ? AND {where}", (start, start + _ROWS, *values)
        ).fetchall()


def _likeness(name: str, id_: str) -> float:
    if name and name in id_:
        return 1.0 + len(name) / len(id_)
    first = _same(name, id_)
    last = _same(name[first:][::-1], id_[first:][::-1])
    return (first + last) / max(len(name), len(id_), 1)


def _same(one: str, other: str) -> int:
    """Return how many characters two texts begin with in common."""
    for at, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return at
    return min(len(one), len(other))
