"""Write pages: which are walked, which are settled, and where the next run goes on.

Used by the store inside its transactions. A page settles when each of its queued items has a row, never before: what
the walk's cursor has passed must not be lost.

A walk from the start numbers its pages from `first` on, above all pages before. So an item whose page is below `first`
has not been met by this walk, and beginning anew costs no write an item.
"""

from __future__ import annotations

import sqlite3

from stacmirror.ledger.rows import ItemRows
from stacmirror.ledger.schema import UNMET
from stacmirror.model import START, Cursor, PageRecord, ResumePoint

FIRST, REFRESH, WIDEN, BEGAN = "walk_first", "walk_refresh", "walk_widen", "walk_began"
"""Keys of `meta` that describe the walk under way."""


class Pages:
    """The table page of one open ledger."""

    def __init__(self, db: sqlite3.Connection, rows: ItemRows) -> None:
        self._db = db
        self._rows = rows
        self._total: int | None = None
        """What the server said last of how many items there are."""
        self._outstanding: dict[int, int] = {}
        """Queued items of open pages that have no row yet."""

    def remembered(self) -> dict[int, int]:
        """Return what is kept in memory, for `restore` when a transaction fails."""
        return dict(self._outstanding)

    def restore(self, remembered: dict[int, int]) -> None:
        """Go back to what `remembered` returned."""
        self._outstanding = remembered

    def resume_point(self) -> ResumePoint:
        """Open the first unsettled page (or the last one) for walking, and return where it starts.

        Items of that page and of later ones become `unmet`: meeting them again is no duplicate. Positions shift with
        the listing and with the page size, so a walk by positions starts anew. That the listing had ended stays true
        until a page says otherwise.
        """
        self._doubt_end()
        row = self._db.execute(
            "SELECT number, cursor, kind, listed FROM page WHERE settled = 0 ORDER BY number LIMIT 1"
        ).fetchone()
        if row is None:
            row = self._db.execute(
                "SELECT number, cursor, kind, listed FROM page ORDER BY number DESC LIMIT 1"
            ).fetchone()
            self._forget_what_for()
        if row is None:
            return self._point(self._number(FIRST), START, 0)
        number, cursor, kind, listed = row
        if kind == "position":
            self.walk_again(self._next_number())
            return self._point(self._number(FIRST), START, 0, again=True)
        self._db.execute(f"UPDATE item SET page = {UNMET} WHERE page >= ?", (number,))
        # Its rows count by themselves until it is walked again.
        self._db.execute(
            "UPDATE page SET settled = 0, listed = 0, filtered = 0, duplicate = 0 WHERE number = ?", (number,)
        )
        self._db.execute("DELETE FROM page WHERE number > ?", (number,))
        return self._point(number, Cursor(cursor, kind), listed)

    def _point(self, number: int, cursor: Cursor, listed: int, *, again: bool = False) -> ResumePoint:
        matched = self._db.execute(
            "SELECT coalesce(sum(listed - filtered - duplicate), 0) FROM page WHERE number < ?", (number,)
        ).fetchone()[0]
        return ResumePoint(
            number,
            cursor,
            matched,
            first=self._number(FIRST),
            listed=listed,
            again=again,
            refresh=bool(self._number(REFRESH)),
            widen=bool(self._number(WIDEN)),
            began=self._number(BEGAN),
        )

    def begin_walk(self, *, refresh: bool, widen: bool) -> None:
        """Make the next walk start anew. What it is for is remembered until it has come to its end."""
        self._forget_what_for()
        self.walk_again(self._next_number())
        self._set("listing_ended", 0)
        self._set(BEGAN, self._rows.run)
        if refresh:
            self._set(REFRESH, 1)
        if widen:
            self._set(WIDEN, 1)

    def walk_again(self, first: int) -> None:
        """Forget all pages: the items they listed are `unmet`, and count by themselves until they are met again."""
        self._doubt_end()
        self._db.execute("DELETE FROM page")
        self._outstanding.clear()
        self._set(FIRST, first)

    def _doubt_end(self) -> None:
        """Forget that the listing has ended where a page is about to be forgotten with items that have no row yet.

        A settled page that an earlier run only opened again lists nothing, and is no reason.
        """
        if self._db.execute("SELECT 1 FROM page WHERE settled = 0 AND (listed > 0 OR partial = 1) LIMIT 1").fetchone():
            self._set("listing_ended", 0)

    def _forget_what_for(self) -> None:
        """Forget what the walk was for, once every page of it is settled, and the last one was seen."""
        unsettled = self._db.execute("SELECT 1 FROM page WHERE settled = 0 LIMIT 1").fetchone()
        last = self._db.execute("SELECT last FROM page ORDER BY number DESC LIMIT 1").fetchone()
        if unsettled is None and last is not None and last[0]:
            self._db.execute("DELETE FROM meta WHERE key IN (?, ?)", (REFRESH, WIDEN))

    def _next_number(self) -> int:
        row = self._db.execute("SELECT max(number) FROM page").fetchone()
        return self._number(FIRST) if row[0] is None else int(row[0]) + 1

    def _number(self, key: str) -> int:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return int(row[0]) if row is not None else 0

    def _set(self, key: str, value: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES(?,?)", (key, str(value)))

    def put_page(self, page: PageRecord) -> None:
        """Write a walked page, new or walked again, and which run met its known items."""
        if page.total is not None and page.total != self._total:
            self._total = page.total
            self._db.execute("INSERT OR REPLACE INTO meta VALUES('server_total', ?)", (str(page.total),))
        for key in page.known:
            if (found := self._rows.find(key)) is not None:
                self._db.execute(
                    "UPDATE item SET run = ?, page = ? WHERE n = ?", (self._rows.run, page.number, found[0])
                )
        for key in page.known_linked:
            if (found := self._rows.find(key)) is not None:
                self._db.execute("UPDATE item SET run = ? WHERE n = ?", (self._rows.run, found[0]))
        for key in page.again:
            if (found := self._rows.find(key)) is not None:
                self._db.execute("UPDATE item SET page = ? WHERE n = ?", (page.number, found[0]))
        if page.next is not None or page.partial:
            self._set("listing_ended", 0)
        settled = page.queued == 0 and not page.partial
        if not settled:
            self._outstanding[page.number] = -1 if page.partial else page.queued
        self._db.execute(
            "INSERT OR REPLACE INTO page VALUES(?,?,?,?,?,?,?,?,?,?)",
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
                int(page.next is None),
            ),
        )

    def count_off(self, number: int) -> None:
        """Hear that one queued item of a page has a row; the last one settles the page."""
        left = self._outstanding.get(number, 0) - 1
        self._outstanding[number] = left
        if left == 0:
            del self._outstanding[number]
            self._db.execute("UPDATE page SET settled = 1 WHERE number = ?", (number,))
