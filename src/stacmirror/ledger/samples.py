"""Choose items whose absent asset is asked for once more: what was missing everywhere may be there by now.

Used by the reader. A few rows are enough, wherever they are: the ends of those that were asked for, and some of those
that never were, at random. Reads a handful of rows, not the table.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator

from stacmirror.ledger import schema
from stacmirror.model import ItemKey

ITEM_ROWS = (
    "SELECT i.n, c.id, i.id, i.unit, i.folder, i.exclusive, i.state, i.page, i.receipts, i.sources,"
    " i.document IS NOT NULL, i.crc FROM item i JOIN collection c ON c.n = i.collection"
)
"""What an item of the ledger is read from."""

_ASSUMED_SAMPLES = 3
_LOOK_AT_MAX = 50
"""Rows looked at for one sample: a key that is rarer than that among absent ones is not worth more."""


def sampled_rows(connection: sqlite3.Connection, collection: str, key: str) -> Iterator[tuple[object, ...]]:
    """Give rows (as of `ITEM_ROWS`, perhaps one twice) that are revealed, lack nothing, and have `key` absent."""
    last = connection.execute("SELECT coalesce(max(n), 0) FROM item").fetchone()[0]
    starts = [(0, "absent", "ASC"), (last, "absent", "DESC"), (last, "assumed", "DESC")]
    starts += [(random.randint(0, last), "assumed", "ASC") for _ in range(_ASSUMED_SAMPLES - 1)]  # noqa: S311
    for start, kind, order in starts:
        rows = connection.execute(
            f"{ITEM_ROWS} WHERE i.n {'<=' if order == 'DESC' else '>='} ? AND i.{kind} > 0 AND i.failed = 0"
            f" AND i.unit IS NULL AND c.id = ? ORDER BY i.n {order} LIMIT {_LOOK_AT_MAX}",
            (start, collection),
        )
        row = next((row for row in rows if _is_sound(row) and _has_absent(row, key, kind)), None)
        if row is not None:
            yield row


def _is_sound(row: tuple[object, ...]) -> bool:
    return schema.is_sound(ItemKey(str(row[1]), str(row[2])), row[8], row[9], row[11])


def _has_absent(row: tuple[object, ...], key: str, kind: str) -> bool:
    return key in schema.unpack_absent(row[8])[kind == "assumed"]  # type: ignore[arg-type]
