"""Read single items back from the ledger: what is there of them and what they lack. For the walk, sweeps and resume."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stacmirror.ledger import schema
from stacmirror.ledger.counts import LedgerCounts
from stacmirror.ledger.documents import read_documents
from stacmirror.ledger.file import read_failures, walk_first
from stacmirror.ledger.samples import ITEM_ROWS, sampled_rows
from stacmirror.ledger.schema import HELD, UNMET, source_pairs
from stacmirror.model import Failed, ItemKey, KnownItem, LackingItem, MissingKey, Reveal, Unit

_KNOWN = (
    "SELECT i.page, i.stored + i.absent + i.assumed, i.failed, i.run, i.receipts, i.sources, i.crc"
    f" FROM item i JOIN collection c ON c.n = i.collection {schema.OF_KEY}"
)


class LedgerReader(LedgerCounts):
    """All that a ledger says."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.on_damaged: Callable[[str], None] = _say_nothing
        """Hears once of each row whose checksum is wrong: its item is fetched again."""
        self._damaged: set[ItemKey] = set()

    def known(self, keys: Sequence[ItemKey]) -> dict[ItemKey, KnownItem]:
        """See `interfaces.Ledger.known`. A damaged row is none: its item is fetched again, and the row rewritten."""
        found: dict[ItemKey, KnownItem] = {}
        with self._reading() as connection:
            first = walk_first(connection)
            for key in keys:
                row = connection.execute(_KNOWN, schema.by_key(key)).fetchone()
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
                row = connection.execute(f"{ITEM_ROWS} {schema.OF_KEY}", schema.by_key(key)).fetchone()
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
        failed = read_failures(self._read, n)
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
        unknown = dict.fromkeys(ids)
        if unknown:  # no index is by id alone: one look at each item, not one at all items for each id
            with self._reading() as connection:
                for (id_,) in connection.execute("SELECT id FROM item WHERE page IS NOT NULL"):
                    unknown.pop(id_, None)
        return list(unknown)

    def missing_keys(self) -> list[MissingKey]:
        """Return what earlier runs learned of asset keys that may exist nowhere."""
        rows = self._rows(
            "SELECT c.id, m.key, m.seen, m.missing, m.tripped FROM missing m JOIN collection c ON c.n = m.collection"
        )
        return [MissingKey(str(c), str(k), int(s), int(m), bool(t)) for c, k, s, m, t in rows]  # type: ignore[call-overload]

    def collections(self) -> list[str]:
        """Return the ids of all collections that have items here."""
        return [str(row[0]) for row in self._rows("SELECT id FROM collection ORDER BY n")]

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


def _say_nothing(message: str) -> None:
    pass
