"""Count what a ledger holds: items, assets, what failed, what the source does not have. For status and the verdict."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from stacmirror.ledger import schema
from stacmirror.ledger.file import LedgerFile
from stacmirror.ledger.schema import COMMITTED, HELD, source_pairs
from stacmirror.model import (
    AbsentKey,
    AssetCounts,
    Counts,
    FailedAsset,
    FailureCount,
    ItemCounts,
    ItemKey,
    ListingState,
)

_FAILED_AT_ONCE = 1000
_SLICE_ROWS = 50_000
"""Rows that one read goes over: a tenth of a second or two."""


class LedgerCounts(LedgerFile):
    """What a ledger amounts to, over all runs or of this one."""

    def counts(self) -> Counts:
        """See `interfaces.Ledger.counts`. Reads every row: about a second for a million items."""
        counts = self._item_counts("1", ())
        pages = self._rows(
            "SELECT coalesce(sum(listed), 0), coalesce(sum(filtered), 0), coalesce(sum(duplicate), 0) FROM page"
        )[0]
        # Rows whose page waits to be walked again: a page that was walked for fewer items does not unlist the others.
        unmet = self._count(f"SELECT count(*) FROM item WHERE page < {self.walk_first()}")
        items = counts.items
        items.listed, items.filtered, items.duplicate = (int(value) for value in pages)  # type: ignore[call-overload]
        items.listed += unmet
        items.pending = items.listed - items.filtered - items.duplicate - items.complete - items.incomplete
        total = self.meta("server_total")
        ended = self.meta("listing_ended") == "1"
        walked = self._count("SELECT count(*) FROM page WHERE last = 1") and not self._count(
            "SELECT count(*) FROM page WHERE settled = 0"
        )
        counts.listing = ListingState(ended, int(total) if total else None, unmet if ended and walked else 0)
        return counts

    def run_counts(self) -> Counts:
        """See `interfaces.Ledger.run_counts`: complete and incomplete items, and their assets, of this run's rows."""
        return self._item_counts("run = ?", (self.run,))

    def lacking_assets(self) -> int:
        """See `interfaces.Ledger.lacking_assets`."""
        return self._count("SELECT coalesce(sum(failed), 0) FROM item WHERE failed > 0")

    def failures(self) -> list[FailureCount]:
        """Return what is missing now, most first."""
        rows = self._rows("SELECT key, kind, count(*) FROM failure GROUP BY key, kind ORDER BY count(*) DESC, key")
        return [FailureCount(str(key), str(kind), int(count)) for key, kind, count in rows]  # type: ignore[call-overload]

    def failed_since(self, kinds: Collection[str]) -> tuple[int, int]:
        """Return how many failures are of this run, and how many of `kinds` (empty: of any) of an earlier one."""
        now = before = 0
        for kind, run, count in self._rows("SELECT kind, run, count(*) FROM failure GROUP BY kind, run"):
            if run == self.run:
                now += int(count)  # type: ignore[call-overload]
            elif not kinds or kind in kinds:
                before += int(count)  # type: ignore[call-overload]
        return now, before

    def failed_assets(self) -> Iterator[FailedAsset]:
        """Give every asset that is missing now, by item; a reader that stops to look holds nothing open."""
        after: tuple[object, object] = (0, "")
        while rows := self._rows(
            "SELECT c.id, i.id, f.key, f.kind, f.message, f.attempts, f.at, f.host, NOT f.permanent, f.status,"
            " f.renewed, f.put_off, f.item"
            " FROM failure f"
            " JOIN item i ON i.n = f.item JOIN collection c ON c.n = i.collection"
            f" WHERE (f.item, f.key) > (?, ?) ORDER BY f.item, f.key LIMIT {_FAILED_AT_ONCE}",
            after,
        ):
            for row in rows:
                values: tuple[Any, ...] = (*row[:8], bool(row[8]), *row[9:12])
                yield FailedAsset(*values)
            after = rows[-1][12], rows[-1][2]

    def absences(self) -> list[AbsentKey]:
        """Return the keys that items list and the source does not have. Reads every row that lacks one."""
        counts: dict[tuple[str, str], list[int]] = {}
        with self._reading() as connection:
            for collection, id_, blob, sources, crc in connection.execute(
                "SELECT c.id, i.id, i.receipts, i.sources, i.crc FROM item i JOIN collection c ON c.n = i.collection"
                " WHERE i.absent + i.assumed > 0"
            ):
                if not schema.is_sound(ItemKey(collection, id_), blob, sources, crc):
                    continue  # nobody knows what it lacks
                for index, keys in enumerate(schema.unpack_absent(blob)):
                    for key in keys:
                        counts.setdefault((collection, key), [0, 0])[index] += 1
        return [AbsentKey(*key, *asked_assumed) for key, asked_assumed in sorted(counts.items())]

    def _item_counts(self, where: str, values: Sequence[object]) -> Counts:
        items, assets, size_bytes = ItemCounts(), AssetCounts(), 0
        for walked, state, lacks, count, stored, absent, assumed, failed, bytes_ in self._in_slices(
            "SELECT page IS NOT NULL, state, failed > 0, count(*), sum(stored), sum(absent), sum(assumed), sum(failed),"
            f" sum(bytes) FROM item WHERE {where}",
            values,
            "GROUP BY 1, 2, 3",
        ):
            assets.stored += int(stored)  # type: ignore[call-overload]
            assets.absent += int(absent)  # type: ignore[call-overload]
            assets.assumed_absent += int(assumed)  # type: ignore[call-overload]
            assets.failed += int(failed)  # type: ignore[call-overload]
            size_bytes += int(bytes_)  # type: ignore[call-overload]
            if walked and lacks:
                items.incomplete += int(count)  # type: ignore[call-overload]
            elif walked and state == COMMITTED:
                items.complete += int(count)  # type: ignore[call-overload]
            elif walked and state == HELD:
                items.incomplete += int(count)  # type: ignore[call-overload]
        assets.unverified = self._unverified(where, values)
        lacking_sources = self._complete_but_for_sources(where, values)
        items.complete -= lacking_sources
        items.incomplete += lacking_sources
        return Counts(items=items, assets=assets, bytes=size_bytes)

    def _in_slices(self, query: str, values: Sequence[object], ending: str) -> Iterator[tuple[object, ...]]:
        """Run a query over all rows, some at a time: a long read would keep the WAL of a run beside us from folding."""
        last = self._count("SELECT coalesce(max(n), 0) FROM item")
        for first in range(0, last, _SLICE_ROWS):
            yield from self._rows(f"{query} AND n > ? AND n <= ? {ending}", (*values, first, first + _SLICE_ROWS))

    def _unverified(self, where: str, values: Sequence[object]) -> int:
        if not self._rows("SELECT 1 FROM sqlite_master WHERE name = 'unverified'"):
            return 0  # a ledger that no run has opened since there is such a table
        rows = self._rows(
            "SELECT coalesce(sum(u.assets), 0) FROM unverified u JOIN item ON item.n = u.item WHERE " + where, values
        )
        return int(rows[0][0])  # type: ignore[call-overload, no-any-return]

    def _complete_but_for_sources(self, where: str, values: Sequence[object]) -> int:
        """Count items that have all their own assets but name a linked item that lacks some."""
        lacking: dict[int, set[str]] = defaultdict(set)
        for number, id_ in self._rows("SELECT collection, id FROM item WHERE failed > 0 AND page IS NULL"):
            lacking[int(number)].add(str(id_))  # type: ignore[call-overload]
        if not lacking:
            return 0
        rows = self._rows(
            f"SELECT sources FROM item WHERE {where} AND page IS NOT NULL AND failed = 0 AND state = {COMMITTED}"
            " AND sources IS NOT NULL",
            values,
        )
        return sum(any(id_ in lacking[number] for number, id_ in source_pairs(row[0])) for row in rows)
