"""Read the ledger: for resume, sweeps, status and the final counts. Never writes; usable beside a running mirror.

One connection of its own, guarded by a lock, so that any thread may ask while commit writes (WAL readers see
the last transaction and block nobody).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import msgspec

from stacmirror.errors import TargetInUse, TargetUnwritable
from stacmirror.ledger import schema
from stacmirror.ledger.documents import read_documents
from stacmirror.ledger.samples import ITEM_ROWS, sampled_rows
from stacmirror.ledger.schema import COMMITTED, HELD, UNMET
from stacmirror.ledger.whole import refuse_cut_short
from stacmirror.model import (
    AbsentKey,
    AssetCounts,
    Counts,
    Failed,
    FailedAsset,
    FailureCount,
    ItemCounts,
    ItemKey,
    KnownItem,
    LackingItem,
    ListingState,
    MissingKey,
    Reveal,
    Unit,
)

_FAILED_AT_ONCE = 1000


_SLICE_ROWS = 50_000
"""Rows that one read goes over: a tenth of a second or two."""


class LedgerReader:
    """What a ledger says.

    Raises: TargetInUse when the file is not a ledger of a known version.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self.run = 0
        self.on_damaged: Callable[[str], None] = _say_nothing
        """Hears once of each row whose checksum is wrong: its item is fetched again."""
        self._damaged: set[ItemKey] = set()
        refuse_none(path)
        refuse_cut_short(path)
        try:
            self._read = sqlite3.connect(
                f"file:{quote(path)}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise _unreadable(error, path) from error
        self._read.text_factory = schema.text
        try:
            refuse_foreign(self._read, path)
        except BaseException:
            self._read.close()
            raise

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Give the reading connection to one thread. Raises: TargetInUse (damaged), TargetUnwritable (the disk)."""
        with self._lock:
            try:
                yield self._read
            except (sqlite3.Error, msgspec.MsgspecError) as error:
                raise _unreadable(error, self.path) from error

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with self._reading() as connection:
            return connection.execute(query, values).fetchall()

    def _count(self, query: str) -> int:
        return int(self._rows(query)[0][0])  # type: ignore[call-overload, no-any-return]

    def meta(self, key: str) -> str | None:
        """Return a value that `set_listing` and its like wrote."""
        rows = self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def known(self, keys: Sequence[ItemKey]) -> dict[ItemKey, KnownItem]:
        """See `interfaces.Ledger.known`. A damaged row is none: its item is fetched again, and the row rewritten."""
        found: dict[ItemKey, KnownItem] = {}
        with self._reading() as connection:
            first = walk_first(connection)
            for key in keys:
                row = connection.execute(
                    "SELECT i.page, i.stored + i.absent + i.assumed, i.failed, i.run, i.receipts, i.sources, i.crc"
                    " FROM item i JOIN collection c ON c.n = i.collection WHERE i.hash = ? AND i.id = ? AND c.id = ?",
                    (schema.key_hash(key), key.id, key.collection),
                ).fetchone()
                if row is not None and self._is_sound(key, *row[4:]):
                    page = UNMET if row[0] is None else row[0]
                    found[key] = KnownItem(
                        row[0] is not None and page < first, row[0] is not None, row[1], row[2], page, row[3]
                    )
        return found

    def _is_sound(self, key: ItemKey, receipts: object, sources: object, crc: object) -> bool:
        """Hold a row against its checksum, and say it once where that is wrong."""
        if schema.is_sound(key, receipts, sources, crc):
            return True
        if key not in self._damaged:
            self._damaged.add(key)
            self.on_damaged(f"the ledger's row of {key} is damaged: the item is fetched again")
        return False

    def lacking(self, after_row: int, rows_max: int) -> list[LackingItem]:
        """See `interfaces.Ledger.lacking`."""
        with self._reading() as connection:
            rows = connection.execute(
                f"{ITEM_ROWS} WHERE i.failed > 0 AND i.n > ? ORDER BY i.n LIMIT ?",
                (after_row, rows_max),
            ).fetchall()
            names = dict(connection.execute("SELECT n, id FROM collection"))
            return [self._lacking_item(row, names) for row in rows]

    def rows(self, keys: Sequence[ItemKey]) -> dict[ItemKey, LackingItem]:
        """See `interfaces.Ledger.rows`."""
        found: dict[ItemKey, LackingItem] = {}
        with self._reading() as connection:
            names = dict(connection.execute("SELECT n, id FROM collection"))
            for key in keys:
                row = connection.execute(
                    f"{ITEM_ROWS} WHERE i.hash = ? AND i.id = ? AND c.id = ?",
                    (schema.key_hash(key), key.id, key.collection),
                ).fetchone()
                if row is not None:
                    found[key] = self._lacking_item(row, names)
        return found

    def documents(self, keys: Sequence[ItemKey]) -> dict[ItemKey, bytes]:
        """See `interfaces.Ledger.documents`."""
        with self._reading() as connection:
            return read_documents(connection, keys)

    def samples(self, collection: str, key: str) -> list[LackingItem]:
        """See `interfaces.Ledger.samples`."""
        with self._reading() as connection:
            names = dict(connection.execute("SELECT n, id FROM collection"))
            found = {row[0]: row for row in sampled_rows(connection, collection, key)}
            return [self._sample(row, names, key) for row in found.values()]

    def _sample(self, row: tuple[object, ...], names: dict[int, str], key: str) -> LackingItem:
        item = self._lacking_item(row, names)
        item.absent = [outcome for outcome in item.absent if outcome.key != key]
        item.failed = [Failed(key, "absent", "asked for once more", 0)]
        item.probe = True
        return item

    def _lacking_item(self, row: tuple[object, ...], names: dict[int, str]) -> LackingItem:
        n, collection, id_, unit, folder, exclusive, state, page, blob, sources, documented, crc = row
        key = ItemKey(str(collection), str(id_))
        sound = self._is_sound(key, blob, sources, crc)
        stored, absent = schema.unpack(blob) if sound else ([], [])  # type: ignore[arg-type]
        failures = self._read.execute(
            "SELECT key, kind, message, attempts, permanent, host, run, at FROM failure WHERE item = ?", (n,)
        ).fetchall()
        failed = [
            Failed(key, kind, message, n, bool(permanent), host, run, at_s)
            for key, kind, message, n, permanent, host, run, at_s in failures
        ]
        return LackingItem(
            row=int(n),  # type: ignore[call-overload]
            key=key,
            unit=Unit(str(unit or ""), schema.unpack_folder(str(folder or ""), key), bool(exclusive)),
            held=state == HELD,
            page=page if isinstance(page, int) else None,
            stored=stored,
            absent=absent,
            failed=failed if sound else [Failed("@item", schema.DAMAGED, schema.DAMAGED_ROW, 0)],
            sources=tuple(ItemKey(names[number], id_) for number, id_ in source_pairs(sources)) if sound else (),
            earlier=not sound or any(one.run < self.run for one in failed),
            documented=bool(documented),
        )

    def unknown_ids(self, ids: Sequence[str]) -> list[str]:
        """Return those of `ids` that no listed item has."""
        return [id_ for id_ in ids if not self._rows("SELECT 1 FROM item WHERE id = ? AND page IS NOT NULL", (id_,))]

    def missing_keys(self) -> list[MissingKey]:
        """Return what earlier runs learned of asset keys that may exist nowhere."""
        rows = self._rows(
            "SELECT c.id, m.key, m.seen, m.missing, m.tripped FROM missing m JOIN collection c ON c.n = m.collection"
        )
        return [MissingKey(str(c), str(k), int(s), int(m), bool(t)) for c, k, s, m, t in rows]  # type: ignore[call-overload]

    def collections(self) -> list[str]:
        """Return the ids of all collections that have items here."""
        return [str(row[0]) for row in self._rows("SELECT id FROM collection ORDER BY n")]

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
            "SELECT c.id, i.id, f.key, f.kind, f.message, f.attempts, f.at, f.host, NOT f.permanent, f.item"
            " FROM failure f"
            " JOIN item i ON i.n = f.item JOIN collection c ON c.n = i.collection"
            f" WHERE (f.item, f.key) > (?, ?) ORDER BY f.item, f.key LIMIT {_FAILED_AT_ONCE}",
            after,
        ):
            for row in rows:
                values: tuple[Any, ...] = (*row[:8], bool(row[8]))
                yield FailedAsset(*values)
            after = rows[-1][9], rows[-1][2]

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
        walked = not self._count("SELECT count(*) FROM page WHERE settled = 0")
        counts.listing = ListingState(ended, int(total) if total else None, unmet if ended and walked else 0)
        return counts

    def walk_first(self) -> int:
        """Return the number of the first page of the walk under way: listed items of pages below it are unmet."""
        with self._reading() as connection:
            return walk_first(connection)

    def run_counts(self) -> Counts:
        """See `interfaces.Ledger.run_counts`: complete and incomplete items, and their assets, of this run's rows."""
        return self._item_counts("run = ?", (self.run,))

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

    def _reveals(self, where: str, values: Sequence[object]) -> list[Reveal]:
        found: dict[str, Reveal] = {}
        for unit, folder, exclusive, blob, collection, id_ in self._rows(
            "SELECT i.unit, i.folder, i.exclusive, i.receipts, c.id, i.id FROM item i"
            f" JOIN collection c ON c.n = i.collection WHERE i.unit IS NOT NULL AND {where}",
            values,
        ):
            key = ItemKey(str(collection), str(id_))
            place = schema.unpack_folder(str(folder or ""), key)
            reveal = found.setdefault(str(unit), Reveal(Unit(str(unit), place, bool(exclusive)), {}))
            stored, _ = schema.unpack(blob)  # type: ignore[arg-type]
            # A name that got a tail for a clash was staged without it.
            mark = schema.clash_mark(key)
            reveal.names.update({receipt.name.replace(mark, ""): receipt.name for receipt in stored})
        return list(found.values())

    def close(self) -> None:
        """Close the reading connection. May be called twice."""
        self._read.close()


def _say_nothing(message: str) -> None:
    pass


def refuse_none(path: str) -> None:
    """Refuse to go on without a ledger. Raises: TargetInUse."""
    if not os.path.exists(path):
        raise TargetInUse(
            f"there is no ledger {path}",
            hint="no run came so far, or someone removed it: `stacmirror resume` begins a new one",
        )


def refuse_foreign(connection: sqlite3.Connection, path: str) -> None:
    """Refuse what is no ledger of this version, before anything is written. Raises: TargetInUse."""
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        raise _unreadable(error, path) from error
    if application != schema.APPLICATION_ID:
        raise TargetInUse(f"{path} is not a ledger of stacmirror", hint="choose another target folder")
    if version > schema.VERSION:
        raise TargetInUse(
            f"{path} has version {version}, this program knows {schema.VERSION}", hint="use the newer stacmirror"
        )
    if version != schema.VERSION:
        raise TargetInUse(
            f"{path} has version {version}, this program reads {schema.VERSION}",
            hint="`stacmirror resume` brings it up to date",
        )


def disk_says(error: Exception, path: str) -> str:
    """Return what the disk is to blame for, or "" where the file is. SQLite calls a read that met EIO "malformed"."""
    if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN")):
        return str(error)
    try:
        with open(path, "rb") as file:
            file.read(1)
    except (FileNotFoundError, PermissionError):
        return ""
    except OSError as met:
        return met.strerror or str(met)
    return ""


def _unreadable(error: Exception, path: str) -> TargetInUse | TargetUnwritable:
    if reason := disk_says(error, path):
        return TargetUnwritable(f"cannot read the ledger {path}: {reason}", hint="look after the disk, then resume")
    return TargetInUse(f"{path} is not a readable ledger: {error}", hint="is it another program's, or damaged?")


def walk_first(connection: sqlite3.Connection) -> int:
    """Return the number of the first page of the walk under way: items of pages below it are unmet."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'walk_first'").fetchone()
    return int(row[0]) if row is not None else 0


def source_pairs(packed: object) -> list[tuple[int, str]]:
    """Return the (collection number, id) pairs of a row's `sources`."""
    return msgspec.json.decode(packed, type=list[tuple[int, str]]) if isinstance(packed, str) else []
