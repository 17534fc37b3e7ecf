"""Write pages: which are walked, which are settled, and where the next run goes on.

Used by the store inside its transactions. A page settles when each of its queued items has a row, never before: what
the walk's cursor has passed must not be lost.
"""

from __future__ import annotations

import sqlite3

from stacmirror.ledger.rows import ItemRows
from stacmirror.ledger.schema import UNMET
from stacmirror.model import START, Cursor, PageRecord, ResumePoint


class Pages:
    """The table page of one open ledger."""

    def __init__(self, db: sqlite3.Connection, rows: ItemRows) -> None:
        self._db = db
        self._rows = rows
        self._total: int | None = None
        """What the server said last of how many items there are."""
        self._outstanding: dict[int, int] = {}
        """Queued items of open pages that have no row yet."""

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
        self._db.execute(f"UPDATE item SET page = {UNMET} WHERE n > ? AND page >= ?", (first_item, number))
        # Its rows count by themselves until it is walked again.
        self._db.execute(
            "UPDATE page SET settled = 0, listed = 0, filtered = 0, duplicate = 0 WHERE number = ?", (number,)
        )
        self._db.execute("DELETE FROM page WHERE number > ?", (number,))
        matched = self._db.execute(
            "SELECT coalesce(sum(listed - filtered - duplicate), 0) FROM page WHERE number < ?", (number,)
        ).fetchone()[0]
        return ResumePoint(number, Cursor(cursor, kind), matched)

    def put_page(self, page: PageRecord) -> None:
        """Write a walked page, new or walked again, and which run met its known items."""
        if page.total is not None and page.total != self._total:
            self._total = page.total
            self._db.execute("INSERT OR REPLACE INTO meta VALUES('server_total', ?)", (str(page.total),))
        first_item = self._db.execute("SELECT coalesce(max(n), 0) FROM item").fetchone()[0]
        before = self._db.execute("SELECT first_item FROM page WHERE number = ?", (page.number,)).fetchone()
        if before is not None:
            first_item = min(first_item, before[0])
        for key in page.known:
            if (found := self._rows.find(key)) is not None:
                first_item = min(first_item, found[0] - 1)
                self._db.execute(
                    "UPDATE item SET run = ?, page = ? WHERE n = ?", (self._rows.run, page.number, found[0])
                )
        for key in page.known_linked:
            if (found := self._rows.find(key)) is not None:
                self._db.execute("UPDATE item SET run = ? WHERE n = ?", (self._rows.run, found[0]))
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

    def count_off(self, number: int) -> None:
        """Hear that one queued item of a page has a row; the last one settles the page."""
        left = self._outstanding.get(number, 0) - 1
        self._outstanding[number] = left
        if left == 0:
            del self._outstanding[number]
            self._db.execute("UPDATE page SET settled = 1 WHERE number = ?", (number,))
