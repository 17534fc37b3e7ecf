"""Count what a growing ledger holds, look after look, each time reading only what is new.

Used by `watch` beside a running mirror. Each look opens the file, reads rows in short goes, and closes it: the mirror
folds its log (WAL) back whenever nobody reads, so a look must never last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from stacmirror.ledger.reader import LedgerReader

_ROWS = 20_000
"""Rows read in one go: some 20 ms."""


class Tallied(Struct):
    """What a ledger holds at one moment: durable rows, whether their files are visible yet or in a second."""

    items: int = 0
    """Walked items with a row."""
    lacking_items: int = 0
    """Of those: they lack assets."""
    listed: int = 0
    filtered: int = 0
    files: int = 0
    size_bytes: int = 0
    failures: dict[str, int] = {}
    """Assets that are missing, by kind, most first."""
    total: int | None = None
    """What the server says there is, or what was listed once the last page was read."""
    ended: bool = False


class Tally:
    """Of the ledger at `path`. Looks must come from one thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = 0
        self._items = self._files = self._bytes = 0
        self._lacking: dict[int, tuple[int, int]] = {}
        """Rows that lacked assets at the last look, with their files and bytes: those that change."""

    def look(self) -> Tallied:
        """Return what there is now. Raises: TargetInUse when there is no ledger (yet), or none that can be read."""
        ledger = _Reader(self._path)
        try:
            self._count_new(ledger)
            lacking_items = self._count_changed(ledger)
            listed, filtered, duplicate, walked = ledger.ask(
                "SELECT coalesce(sum(listed), 0), coalesce(sum(filtered), 0), coalesce(sum(duplicate), 0), max(last)"
                " FROM page"
            )[0]
            unmet = ledger.ask("SELECT count(*) FROM item WHERE page < ?", (ledger.walk_first(),))[0][0]
            kinds = ledger.ask("SELECT kind, count(*) FROM failure GROUP BY kind ORDER BY count(*) DESC, kind")
            total = ledger.meta("server_total")
            return Tallied(
                items=self._items,
                lacking_items=lacking_items,
                listed=listed + unmet,
                filtered=filtered,
                files=self._files,
                size_bytes=self._bytes,
                failures=dict(kinds),
                total=int(total) if total else listed + unmet - duplicate if walked else None,
                ended=ledger.meta("listing_ended") == "1",
            )
        finally:
            ledger.close()

    def _count_new(self, ledger: _Reader) -> None:
        while rows := ledger.ask(
            "SELECT n, page IS NOT NULL, stored, bytes, failed FROM item WHERE n > ? ORDER BY n LIMIT ?",
            (self._seen, _ROWS),
        ):
            for n, walked, files, size_bytes, failed in rows:
                self._items += walked
                self._files += files
                self._bytes += size_bytes
                if failed:
                    self._lacking[n] = (files, size_bytes)
            self._seen = rows[-1][0]

    def _count_changed(self, ledger: _Reader) -> int:
        """Count what came to rows that lacked something; return how many walked items lack something now."""
        now: dict[int, tuple[int, int]] = {}
        lacking_items = 0
        for n, walked, files, size_bytes in ledger.ask(
            "SELECT n, page IS NOT NULL, stored, bytes FROM item WHERE failed > 0 AND n <= ?", (self._seen,)
        ):
            now[n] = (files, size_bytes)
            lacking_items += walked
        for n, (files_before, bytes_before) in self._lacking.items():
            files, size_bytes = now.get(n) or ledger.ask("SELECT stored, bytes FROM item WHERE n = ?", (n,))[0]
            self._files += files - files_before
            self._bytes += size_bytes - bytes_before
        self._lacking = now
        return lacking_items


class _Reader(LedgerReader):
    def ask(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return self._rows(query, values)
