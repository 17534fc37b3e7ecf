"""The ledger remembers: states of items, settled pages, places, failures - and all of it over any kill."""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stacmirror.errors import TargetInUse
from stacmirror.ledger import schema
from stacmirror.ledger.reader import LedgerReader
from stacmirror.ledger.store import LedgerStore
from stacmirror.model import (
    START,
    Absent,
    AbsentKey,
    Counts,
    Cursor,
    Doubted,
    Failed,
    FailureCount,
    Forgiven,
    ItemKey,
    ItemOutcome,
    ItemRecord,
    LackingItem,
    LedgerEntry,
    ListingState,
    MissingKey,
    PageRecord,
    Receipt,
    Reveal,
    Unit,
)
from stacmirror.names import fold

BANDS = tuple(f"B{n:02d}" for n in range(1, 14))


@contextmanager
def fresh_folder() -> Iterator[Path]:
    memory = "/dev/shm"  # a sync costs nothing there
    with tempfile.TemporaryDirectory(dir=memory if os.path.isdir(memory) else None) as folder:
        yield Path(folder)


@contextmanager
def opened(folder: Path) -> Iterator[LedgerStore]:
    store = LedgerStore(str(folder / "ledger.sqlite"))
    try:
        yield store
    finally:
        store.close()


def receipt(key: str = "B01", name: str = "", size_bytes: int = 10) -> Receipt:
    return Receipt(key, name or f"{key}.tif", size_bytes, "md5", hashlib.md5(key.encode()).digest())


def record(
    item_id: str,
    *,
    collection: str = "labels",
    unit: Unit | None = None,
    stored: Sequence[str] = ("B01",),
    failed: Sequence[str] = (),
    absent: Sequence[Absent] = (),
    sources: Sequence[str] = (),
    page: int | None = 0,
) -> ItemRecord:
    return ItemRecord(
        key=ItemKey(collection, item_id),
        unit=unit or Unit(f"u-{item_id}", f"{collection}/{item_id}"),
        stored=[receipt(key) for key in stored],
        absent=list(absent),
        failed=[Failed(key, "gone", "404", 1, permanent=True) for key in failed],
        sources=tuple(ItemKey("source", source) for source in sources),
        page=page,
    )


def linked(item_id: str, **values: object) -> ItemRecord:
    return record(item_id, collection="source", page=None, **values)  # type: ignore[arg-type]


def outcome(*records: ItemRecord) -> ItemOutcome:
    return ItemOutcome(records[0].page, list(records))


def a_page(number: int, queued: int, *, cursor: Cursor = START, **values: object) -> PageRecord:
    counts: dict[str, object] = {"listed": queued, "filtered": 0, "duplicate": 0} | values
    return PageRecord(number, cursor, queued=queued, **counts)  # type: ignore[arg-type]


def commit(store: LedgerStore, *entries: LedgerEntry) -> list[Reveal]:
    """Write, reveal and confirm, as two cycles of commit do."""
    reveals = store.write(list(entries), [])
    store.write([], [reveal.unit for reveal in reveals])
    return reveals


def holds(counts: Counts) -> bool:
    items = counts.items
    parts = (items.complete, items.incomplete, items.filtered, items.duplicate, items.pending)
    return items.listed == sum(parts) and min(parts) >= 0


def lacking(store: LedgerStore) -> dict[str, LackingItem]:
    return {item.key.id: item for item in store.lacking(0, 1000)}


# -- packed receipts ---------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
receipts = st.builds(
    Receipt,
    key=texts,
    name=texts.filter(lambda name: "\0" not in name),
    size_bytes=st.integers(0, 1 << 50),
    digest_kind=st.sampled_from(["md5", "xxh3"]),
    digest=st.binary(min_size=16, max_size=16),
    verified=st.booleans(),
)


@given(st.lists(receipts, max_size=15), st.lists(st.builds(Absent, texts, st.booleans()), max_size=4))
def test_receipts_come_back_as_they_were(stored: list[Receipt], absent: list[Absent]) -> None:
    """Packing loses nothing of any receipt, whatever keys and names look like."""
    found, absences = schema.unpack(schema.pack(stored, absent))
    assert found == stored
    assert sorted(absences, key=repr) == sorted(absent, key=repr)


def test_an_item_costs_at_most_600_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An item of BigEarthNet with 13 receipts takes at most 600 bytes of the ledger, documents aside."""
    items = 3000
    with opened(tmp_path) as store:
        for start in range(0, items, 500):
            entries: list[LedgerEntry] = []
            for n in range(start, start + 500):
                name = f"bigearthnet_v1_source_S2A_MSIL2A_20170613T101031_{n // 90}_{n % 90}"
                unit = Unit(f"1-{n:x}", f"bigearthnet_v1_source/{name}")
                entries.append(outcome(record(name, collection="bigearthnet_v1_source", unit=unit, stored=BANDS)))
            commit(store, *entries)
    bytes_an_item = (tmp_path / "ledger.sqlite").stat().st_size / items
    with capsys.disabled():
        print(f" [{bytes_an_item:.0f} bytes an item] ", end="")
    assert bytes_an_item <= 600


# -- states ------------------------------------------------------------------------------------------------


def test_an_item_is_staged_then_committed(tmp_path: Path) -> None:
    """A whole item is pending until its reveal is confirmed, then complete; over a reopen it is staged in between."""
    with opened(tmp_path) as store:
        reveals = store.write([a_page(0, 1), outcome(record("a"))], [])
        assert reveals == [Reveal(Unit("u-a", "labels/a"), {"B01.tif": "B01.tif"})]
        assert (store.counts().items.pending, store.counts().items.complete) == (1, 0)
    with opened(tmp_path) as store:
        assert store.staged() == reveals
        store.write([], [reveals[0].unit])
        assert store.staged() == []
        assert (store.counts().items.pending, store.counts().items.complete) == (0, 1)


def test_a_held_item_is_revealed_when_the_sweep_completes_it(tmp_path: Path) -> None:
    """An item with a failure is held; once a sweep brings the rest, it is revealed with all names."""
    with opened(tmp_path) as store:
        assert store.write([a_page(0, 1), outcome(record("a", failed=["B02"]))], []) == []
        assert [list(reveal.names) for reveal in store.held()] == [["B01.tif"]]
        assert lacking(store)["a"].held
    with opened(tmp_path) as store:
        assert store.staged() == []
        again = record("a", stored=["B01", "B02"], page=None)
        (reveal,) = commit(store, ItemOutcome(None, [again]))
        assert set(reveal.names) == {"B01.tif", "B02.tif"}
        assert lacking(store) == {}
        assert store.held() == []
        assert store.counts().items.complete == 1


def test_giving_up_reveals_what_there_is_as_incomplete(tmp_path: Path) -> None:
    """`release_held` puts held units in place; they count as incomplete and are still lacking."""
    with opened(tmp_path) as store:
        store.write(
            [a_page(0, 2), outcome(record("a", failed=["B02"])), outcome(record("b", failed=["@item"], stored=[]))], []
        )
        reveals = store.release_held()
        assert {reveal.unit.id for reveal in reveals} == {"u-a", "u-b"}
        store.write([], [reveal.unit for reveal in reveals])
        assert (store.counts().items.incomplete, store.counts().items.pending) == (2, 0)
        assert not lacking(store)["a"].held
        assert lacking(store)["a"].unit.folder == "labels/a"


def test_label_and_source_in_one_unit_are_revealed_together(tmp_path: Path) -> None:
    """In the layouts that join label and source, the unit waits for both, whichever is late."""
    unit = Unit("u-1", "a")
    with opened(tmp_path) as store:
        label = record("a", unit=unit, stored=["labels"], sources=["s"])
        source = linked("s", unit=unit, stored=["B01"], failed=["B02"])
        assert store.write([a_page(0, 1), outcome(label, source)], []) == []
        assert store.held() == [Reveal(unit, {"labels.tif": "labels.tif", "B01.tif": "B01.tif"})]
        assert (store.counts().items.incomplete, store.counts().items.complete) == (1, 0)
        late = linked("s", unit=unit, stored=["B01", "B02"])
        (reveal,) = commit(store, ItemOutcome(None, [late]))
        assert set(reveal.names) == {"labels.tif", "B01.tif", "B02.tif"}
        assert (store.counts().items.incomplete, store.counts().items.complete) == (0, 1)


def test_a_shared_folder_is_still_known_when_a_source_is_doubted(tmp_path: Path) -> None:
    """A source in its label's folder keeps that folder: a later sweep has no label at hand to derive it from."""
    unit = Unit("u-1", "label-a")
    with opened(tmp_path) as store:
        source = linked("s", unit=unit, stored=["B01"], absent=[Absent("B10", assumed=True)])
        commit(store, a_page(0, 1), outcome(record("a", unit=unit, sources=["s"]), source))
        store.write([Doubted("source", "B10")], [])
        assert lacking(store)["s"].unit.folder == "label-a"


# -- pages -------------------------------------------------------------------------------------------------


def test_a_page_settles_only_with_the_last_of_its_items(tmp_path: Path) -> None:
    """With one queued item without a row, the resume point stays at its page."""
    second = Cursor("next=2")
    with opened(tmp_path) as store:
        store.write([a_page(0, 2), a_page(1, 1, cursor=second), outcome(record("c", page=1)), outcome(record("a"))], [])
    with opened(tmp_path) as store:
        assert store.resume_point().number == 0
        store.write([a_page(0, 1, known=(ItemKey("labels", "a"),), listed=2), outcome(record("b"))], [])
        store.write([a_page(1, 0, cursor=second, known=(ItemKey("labels", "c"),), listed=1)], [])
    with opened(tmp_path) as store:
        point = store.resume_point()
        assert (point.number, point.cursor, point.matched) == (1, second, 2)


def test_a_failed_item_does_not_hold_its_page_back(tmp_path: Path) -> None:
    """A held item has its row, so its page settles."""
    with opened(tmp_path) as store:
        store.write([a_page(0, 1), outcome(record("a", failed=["B02"])), a_page(1, 1, cursor=Cursor("next=1"))], [])
        assert store.resume_point().number == 1


def test_a_partial_page_never_settles(tmp_path: Path) -> None:
    """A page that `--max-items` cut is walked again, though all that was taken of it is there."""
    with opened(tmp_path) as store:
        commit(store, a_page(0, 1, partial=True), outcome(record("a")))
        assert store.resume_point().number == 0
        assert store.known([ItemKey("labels", "a")])[ItemKey("labels", "a")].unmet


def test_a_listing_by_position_is_walked_again_from_its_start(tmp_path: Path) -> None:
    """Offsets shift when items come and go (and with the page size), so a position is no place to go on from."""
    with opened(tmp_path) as store:
        at = Cursor("offset=1", "position")
        commit(store, a_page(0, 1, next=at), outcome(record("a")), a_page(1, 1, cursor=at))
        point = store.resume_point()
        assert (point.number, point.first, point.cursor, point.matched, point.again) == (2, 2, START, 0, True)
        assert store.known([ItemKey("labels", "a")])[ItemKey("labels", "a")].unmet


@pytest.mark.parametrize("kind", ["keyset", "position"])
@pytest.mark.parametrize(("left", "ended"), [(0, True), (1, False)])
def test_an_end_that_was_seen_stays_until_a_page_says_otherwise(
    kind: Literal["keyset", "position"], left: int, ended: bool, tmp_path: Path
) -> None:
    """Over runs that begin and get no page, but not where items have no row: forgotten pages do not count them."""
    at = Cursor("2", kind)
    with opened(tmp_path) as store:
        commit(store, a_page(0, 1, next=at), outcome(record("a")), a_page(1, 1 + left, cursor=at))
        commit(store, outcome(record("b", page=1)))
        store.set_listing(ListingState(True, None))
    for _ in range(2):
        with opened(tmp_path) as store:
            point = store.resume_point()
            listing = store.counts().listing
            assert (listing.ended, listing.gone) == (ended, 0)
    with opened(tmp_path) as store:
        store.write([a_page(point.number, 1, cursor=at, next=Cursor("3", kind))], [])
        assert not store.counts().listing.ended


def test_a_new_walk_that_is_asked_for_takes_the_end_back(tmp_path: Path) -> None:
    """`--refresh`, or more that is wanted: the listing is to be read anew."""
    with opened(tmp_path) as store:
        commit(store, a_page(0, 1), outcome(record("a")))
        store.set_listing(ListingState(True, None))
        store.begin_walk(refresh=True)
        assert not store.counts().listing.ended


def test_an_item_to_be_fetched_again_is_listed_once(tmp_path: Path) -> None:
    """Met by a new walk and queued: it counts as its page's from then on, and as what it is, until its new row."""
    with opened(tmp_path) as store:
        commit(store, a_page(0, 2), outcome(record("a")), outcome(record("b")))
        store.begin_walk(refresh=True)
        assert store.counts().items.listed == 2
        store.write([a_page(1, 1, listed=2, known=(ItemKey("labels", "b"),), again=(ItemKey("labels", "a"),))], [])
        items = store.counts().items
        assert (items.listed, items.complete, items.pending) == (2, 2, 0)
    with opened(tmp_path) as store:
        assert store.resume_point().number == 1
        assert store.known([ItemKey("labels", "a")])[ItemKey("labels", "a")].unmet


def test_what_a_walk_is_for_is_kept_until_its_end(tmp_path: Path) -> None:
    """Over an interruption after the last page was read but not settled; not beyond the end, nor into the next walk."""
    for rest in ([], [outcome(record("b", page=0))]):
        with opened(tmp_path) as store:
            if not rest:
                store.begin_walk(refresh=True, widen=True)
                store.write([a_page(0, 2), outcome(record("a"))], [])
            else:
                point = store.resume_point()
                assert (point.refresh, point.widen, point.began) == (True, True, 1)
                store.write([a_page(0, 1, listed=2, known=(ItemKey("labels", "a"),)), *rest], [])
    with opened(tmp_path) as store:
        store.begin_walk(refresh=True)
        point = store.resume_point()
        assert (point.refresh, point.widen, point.first) == (True, False, 1)


def test_a_walk_that_is_begun_anew_is_for_what_the_one_before_was_for(tmp_path: Path) -> None:
    """More assets were wanted and are not there yet: `--refresh` on top of that does not forget it."""
    with opened(tmp_path) as store:
        store.begin_walk(widen=True)
        store.write([a_page(0, 2), outcome(record("a"))], [])
    with opened(tmp_path) as store:
        store.begin_walk(refresh=True)
        point = store.resume_point()
        assert (point.refresh, point.widen) == (True, True)


# -- any kill ----------------------------------------------------------------------------------------------


class Script:
    """Runs over a listing as the pipeline does: pages ahead, items in any order, writes in groups, kills."""

    def __init__(self, listing: Sequence[str], folder: Path, seed: int) -> None:
        self.listing = listing
        self.folder = folder
        self.random = random.Random(seed)
        self.items_of: dict[int, list[str]] = {}
        self.revealed: set[str] = set()

    def run(self, page_size: int, writes_max: int | None) -> bool:
        """Return True when the run came to its end, False when it was killed after `writes_max` writes."""
        with opened(self.folder) as store:
            self.check(store)
            in_place = store.staged()
            for group in self.groups(store, page_size):
                # Between ledger and reveal is a moment to be killed, too.
                if writes_max is not None and writes_max <= 0 and self.random.random() < 0.5:
                    return False
                self.reveal(in_place)
                if writes_max is not None and writes_max <= 0:
                    return False
                in_place = [*store.write(group, [reveal.unit for reveal in in_place])]
                writes_max = None if writes_max is None else writes_max - 1
                assert holds(store.counts())
            self.reveal(in_place)
            store.write([], [reveal.unit for reveal in in_place])
            return True

    def reveal(self, reveals: list[Reveal]) -> None:
        self.revealed |= {reveal.unit.folder for reveal in reveals}

    def groups(self, store: LedgerStore, page_size: int) -> Iterator[list[LedgerEntry]]:
        point = store.resume_point()
        number, at = point.number, int(point.cursor.value.removeprefix("next=") or 0)
        ready: list[LedgerEntry] = []
        waiting: list[ItemOutcome] = []
        claimed: set[str] = set()
        more = True
        while more or waiting:
            if more and len(waiting) < 7:
                ids = self.listing[at : at + page_size]
                known = store.known([ItemKey("labels", item_id) for item_id in ids])
                there = [key for key in known if known[key].unmet and key.id not in claimed]
                there_ids = {key.id for key in there}
                new = [item_id for item_id in ids if ItemKey("labels", item_id) not in known and item_id not in claimed]
                cursor = Cursor(f"next={at}") if at else START
                more = at + page_size < len(self.listing)
                ready.append(
                    a_page(
                        number,
                        len(new),
                        cursor=cursor,
                        listed=len(ids),
                        duplicate=len(ids) - len(new) - len(there_ids),
                        known=tuple(there),
                        next=Cursor(f"next={at + page_size}") if more else None,
                    )
                )
                self.items_of[number] = list(ids)
                for later in [page for page in self.items_of if page > number]:
                    del self.items_of[later]
                claimed |= set(new) | there_ids
                for n in new:
                    unit = Unit(f"{store.run}-{n}", f"labels/{n}")
                    waiting.append(outcome(record(n, unit=unit, page=number)))
                number, at = number + 1, at + page_size
            self.random.shuffle(waiting)
            for _ in range(min(len(waiting), self.random.randint(0, 4))):
                ready.append(waiting.pop())  # noqa: PERF401 - pop by pop
            if ready:
                yield ready
                ready = []

    def check(self, store: LedgerStore) -> None:
        """Every item of a settled page has a row, and the counts add up."""
        assert holds(store.counts())
        settled = store._rows("SELECT number FROM page WHERE settled = 1")
        for (number,) in settled:
            keys = [ItemKey("labels", item_id) for item_id in self.items_of[int(str(number))]]
            assert len(store.known(keys)) == len(keys), f"page {number} is settled without {keys}"


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 20),
    count=st.integers(1, 14),
    kills=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), max_size=4),
    last_size=st.integers(1, 5),
)
def test_no_kill_loses_or_doubles_an_item(seed: int, count: int, kills: list[tuple[int, int]], last_size: int) -> None:
    """Killed after any writes, any number of times, gone on with any page size: each item is listed and there once."""
    with fresh_folder() as folder:
        script = Script([f"i{n}" for n in range(count)], folder, seed)
        for writes, page_size in kills:
            script.run(page_size, writes)
        assert script.run(last_size, None)
        with opened(folder) as store:
            items = store.counts().items
            assert (items.listed, items.complete, items.duplicate, items.pending) == (count, count, 0, 0)
            rows = store._rows("SELECT count(*) FROM item")[0][0]
            assert rows == count
        assert script.revealed == {f"labels/i{n}" for n in range(count)}


def test_items_met_again_twice_are_no_duplicates(tmp_path: Path) -> None:
    """Two interrupted walks over the same page: its items, in the ledger since the first, are met a third time."""
    keys = [ItemKey("labels", f"i{n}") for n in range(3)]
    one, two = Cursor("next=1"), Cursor("next=2")
    with opened(tmp_path) as store:  # pages 0, 1, 2; of page 0 nothing arrives, of 1 and 2 everything
        entries = [a_page(0, 1), a_page(1, 1, cursor=one), a_page(2, 1, cursor=two)]
        store.write([*entries, outcome(record("i2", page=2)), outcome(record("i1", page=1))], [])
    with opened(tmp_path) as store:  # page 0 arrives, page 1 is met again, and one item of it is new
        assert store.resume_point().number == 0
        more = [outcome(record(f"x{n}")) for n in range(3)]
        store.write([a_page(0, 4), outcome(record("i0")), *more], [])
        store.write([a_page(1, 1, cursor=one, known=(keys[1],), listed=2)], [])
        store.write([a_page(2, 0, cursor=two, known=(keys[2],), listed=1)], [])
    with opened(tmp_path) as store:
        assert store.resume_point().number == 1
        known = store.known(keys)
        assert [known[key].unmet for key in keys] == [False, True, True]


# -- counts ------------------------------------------------------------------------------------------------

scripts = st.lists(
    st.one_of(
        st.tuples(st.just("item"), st.integers(0, 6), st.sets(st.sampled_from("ABC")), st.sampled_from("FGAS")),
        st.tuples(st.just("forgive"), st.sampled_from("ABC")),
        st.tuples(st.just("doubt"), st.sampled_from("ABC")),
        st.tuples(st.just("release")),
        st.tuples(st.just("reopen")),
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(scripts)
def test_counts_add_up_after_every_write(script: list[tuple[object, ...]]) -> None:
    """Whatever is written in whatever order: listed = complete + incomplete + filtered + duplicate + pending."""
    with fresh_folder() as folder:
        store = LedgerStore(str(folder / "ledger.sqlite"))
        try:
            store.write([a_page(0, 7, listed=12, filtered=3, duplicate=2)], [])
            in_place: list[Unit] = []
            for number, step in enumerate(script):
                entries: list[LedgerEntry] = []
                if step[0] == "item":
                    entries.append(outcome(_odd_record(number, *step[1:])))  # type: ignore[arg-type]
                elif step[0] == "forgive":
                    entries.append(Forgiven("labels", str(step[1])))
                elif step[0] == "doubt":
                    entries.append(Doubted("labels", str(step[1])))
                elif step[0] == "release":
                    store.write([], in_place)
                    in_place = [reveal.unit for reveal in store.release_held()]
                else:
                    store.close()
                    store = LedgerStore(str(folder / "ledger.sqlite"))
                    in_place = [reveal.unit for reveal in store.staged()]
                in_place = [reveal.unit for reveal in store.write(entries, in_place)]
                _check_rows(store)
        finally:
            store.close()


def _odd_record(number: int, item: int, keys: set[str], how: str) -> ItemRecord:
    stored = [key for key in "ABC" if key not in keys]
    absent = [Absent(key, how == "S") for key in sorted(keys)] if how in "AS" else []
    failed = sorted(keys) if how in "FG" else []
    return record(f"i{item}", unit=Unit(f"u{number}", f"labels/i{item}"), stored=stored, failed=failed, absent=absent)


def _check_rows(store: LedgerStore) -> None:
    counts = store.counts()
    assert holds(counts)
    rows = store._rows("SELECT i.n, failed, receipts, crc, c.id, i.id, sources, stored, absent, assumed FROM item i"
                       " JOIN collection c ON c.n = i.collection")  # fmt: skip
    for n, failed, blob, crc, collection, item_id, sources, *numbers in rows:
        listed = store._rows("SELECT count(*) FROM failure WHERE item = ?", (n,))[0][0]
        assert failed == listed
        stored, absent = schema.unpack(blob)  # type: ignore[arg-type]
        assert numbers == [len(stored), sum(not a.assumed for a in absent), sum(a.assumed for a in absent)]
        assert len(stored) + len(absent) + int(str(failed)) == 3, "an asset has no outcome, or two"
        assert crc == schema.checksum(ItemKey(str(collection), str(item_id)), blob, sources)  # type: ignore[arg-type]


def test_a_label_whose_source_lacks_an_asset_is_incomplete(tmp_path: Path) -> None:
    """A label with all of its own assets counts as incomplete while a linked item lacks one, and complete after."""
    with opened(tmp_path) as store:
        commit(store, a_page(0, 2), outcome(record("a", sources=["s", "t"]), linked("s"), linked("t", failed=["B02"])))
        commit(store, outcome(record("b", sources=["s"])))
        reveals = store.release_held()
        store.write([], [reveal.unit for reveal in reveals])
        items = store.counts().items
        assert (items.complete, items.incomplete) == (1, 1)
        commit(store, ItemOutcome(None, [linked("t", unit=Unit("u-again", "source/t"), stored=["B01", "B02"])]))
        assert store.counts().items.complete == 2


def test_run_counts_are_of_this_run_only(tmp_path: Path) -> None:
    """What an earlier run committed is in the mirror's counts and not in this run's."""
    with opened(tmp_path) as store:
        commit(store, a_page(0, 1), outcome(record("a")))
        assert store.run_counts().items.complete == 1
    with opened(tmp_path) as store:
        assert store.run_counts().items.complete == 0
        assert store.counts().items.complete == 1


# -- keys that exist nowhere -------------------------------------------------------------------------------


def test_forgiving_a_key_reveals_what_lacked_nothing_else(tmp_path: Path) -> None:
    """Failures of the key become absences: units that lack only it are revealed, others stay held."""
    with opened(tmp_path) as store:
        store.write(
            [
                a_page(0, 3),
                outcome(record("a", failed=["B10"])),
                outcome(record("b", failed=["B10", "B02"])),
                outcome(record("c", collection="other", failed=["B10"])),
            ],
            [],
        )
        reveals = commit(store, Forgiven("labels", "B10"), MissingKey("labels", "B10", 3, 3, True))
        assert [reveal.unit.id for reveal in reveals] == ["u-a"]
        assert {item: [f.key for f in found.failed] for item, found in lacking(store).items()} == {
            "b": ["B02"],
            "c": ["B10"],
        }
        assert store.counts().assets.absent == 2
        assert store.missing_keys() == [MissingKey("labels", "B10", 3, 3, True)]


def test_forgiving_mends_items_revealed_as_incomplete(tmp_path: Path) -> None:
    """An incomplete item that lacked only the key is complete, without being revealed again."""
    with opened(tmp_path) as store:
        store.write([a_page(0, 1), outcome(record("a", failed=["B10"]))], [])
        store.write([], [reveal.unit for reveal in store.release_held()])
        assert commit(store, Forgiven("labels", "B10")) == []
        assert (store.counts().items.complete, store.counts().items.incomplete) == (1, 0)


def test_a_doubted_key_is_lacking_where_it_was_asked_for_too(tmp_path: Path) -> None:
    """An outage that looked like a phantom key: what was asked for and forgiven is a failure again, to be fetched."""
    with opened(tmp_path) as store:
        asked, assumed = Absent("B10"), Absent("B10", assumed=True)
        entries = [outcome(record("a", absent=[asked])), outcome(record("b", absent=[assumed, Absent("B11")]))]
        commit(store, a_page(0, 3), *entries, outcome(record("c", stored=["B10"])))
        store.write([Doubted("labels", "B10")], [])
        found = lacking(store)
        assert {item: [failed.key for failed in found[item].failed] for item in found} == {"a": ["B10"], "b": ["B10"]}
        assert found["b"].absent == [Absent("B11")]
        assert all(item.earlier for item in found.values())
        assert store.counts().items.incomplete == 2


def test_samples_are_of_those_asked_for_and_of_those_that_were_not(tmp_path: Path) -> None:
    """Both ends of what was asked for, and at least one that was assumed; what lacks something else is left alone."""
    with opened(tmp_path) as store:
        absences = {name: [Absent("B10", assumed=name in "de")] for name in "abcde"}
        commit(store, a_page(0, 6), *(outcome(record(name, absent=absences[name])) for name in "abcde"))
        store.write([outcome(record("f", absent=[Absent("B10")], failed=["B02"]))], [])
        samples = {item.key.id: item for item in store.samples("labels", "B10")}
        assert {"a", "c", "e"} <= set(samples) <= {"a", "c", "d", "e"}
        assert all(item.probe and not item.absent for item in samples.values())
        assert {failed.key for item in samples.values() for failed in item.failed} == {"B10"}
        assert store.absences() == [AbsentKey("labels", "B10", asked=4, assumed=2)]
        assert store.samples("labels", "B99") == store.samples("nonesuch", "B10") == []


def test_what_failed_in_an_earlier_run_is_told_apart(tmp_path: Path) -> None:
    """`earlier` is true until this run has asked."""
    with opened(tmp_path) as store:
        store.write([a_page(0, 1), outcome(record("a", failed=["B02"]))], [])
        assert not lacking(store)["a"].earlier
    with opened(tmp_path) as store:
        assert lacking(store)["a"].earlier
        store.write([ItemOutcome(None, [record("a", failed=["B02"], page=None)])], [])
        assert not lacking(store)["a"].earlier


def test_every_failed_asset_is_named(tmp_path: Path) -> None:
    """With item, key, kind and message; counted by key and kind."""
    with opened(tmp_path) as store:
        store.write(
            [a_page(0, 2), outcome(record("a", failed=["B02", "B03"])), outcome(record("b", failed=["B02"]))], []
        )
        assert [(f.collection, f.item, f.asset, f.kind) for f in store.failed_assets()] == [
            ("labels", "a", "B02", "gone"),
            ("labels", "a", "B03", "gone"),
            ("labels", "b", "B02", "gone"),
        ]
        assert store.failures() == [FailureCount("B02", "gone", 2), FailureCount("B03", "gone", 1)]
        assert store.lacking_assets() == 3


def test_an_item_doubted_in_the_group_that_writes_it_is_held(tmp_path: Path) -> None:
    """Outcome and doubt in one group: the unit is not revealed as if it were whole."""
    with opened(tmp_path) as store:
        entry = outcome(record("a", absent=[Absent("B10", assumed=True)]))
        assert store.write([a_page(0, 1), entry, Doubted("labels", "B10")], []) == []
        assert lacking(store)["a"].held


# -- places ------------------------------------------------------------------------------------------------


def test_folders_that_differ_by_case_get_apart_and_stay_there(tmp_path: Path) -> None:
    """The second of two clashing folders gets a tail, and keeps it over a reopen and over a sweep."""
    with opened(tmp_path) as store:
        (first,) = commit(store, a_page(0, 3), outcome(record("Ab")))
        store.write([outcome(record("aB", failed=["B02"]))], [])
        (second,) = store.release_held()
        store.write([], [second.unit])
        assert first.unit.folder == "labels/Ab"
        assert second.unit.folder != "labels/aB"
        assert fold(second.unit.folder) != fold(first.unit.folder)
        (other,) = commit(store, outcome(record("c")))
        assert other.unit.folder == "labels/c"
    with opened(tmp_path) as store:
        found = lacking(store)["aB"]
        assert found.unit.folder == second.unit.folder
        swept = record("aB", unit=Unit("2-1", "labels/aB"), stored=["B01", "B02"], page=None)
        (again,) = commit(store, ItemOutcome(None, [swept]))
        assert again.unit == Unit("2-1", second.unit.folder)
        (first_again,) = commit(store, ItemOutcome(None, [record("Ab", unit=Unit("2-2", "labels/Ab"), page=None)]))
        assert first_again.unit.folder == "labels/Ab"


def test_two_clashing_folders_in_one_group_get_apart(tmp_path: Path) -> None:
    """Both of one transaction, in composed and decomposed form: two places."""
    with opened(tmp_path) as store:
        reveals = store.write([a_page(0, 2), outcome(record("\u00e9")), outcome(record("e\u0301"))], [])
        folders = {fold(reveal.unit.folder) for reveal in reveals}
        assert len(folders) == 2
        assert sorted(store.staged(), key=repr) == sorted(reveals, key=repr)


def test_paths_that_clash_in_a_shared_folder_get_apart(tmp_path: Path) -> None:
    """Where items share a folder, the second of two equal paths gets a tail; staged names stay what they were."""
    with opened(tmp_path) as store:
        reveals = store.write(
            [
                a_page(0, 2),
                outcome(record("a", unit=Unit("u1", "all", exclusive=False))),
                outcome(record("b", unit=Unit("u2", "ALL", exclusive=False))),
            ],
            [],
        )
        assert reveals[0].names == {"B01.tif": "B01.tif"}
        (final,) = reveals[1].names.values()
        assert list(reveals[1].names) == ["B01.tif"]
        assert final != "B01.tif"
        assert final.endswith(".tif")
    with opened(tmp_path) as store:
        assert store.staged() == reveals
        store.write([], [reveal.unit for reveal in reveals])
        again = record("b", unit=Unit("u3", "ALL", exclusive=False), page=None)
        again.stored = [receipt("B01", final), receipt("B02")]
        (reveal,) = commit(store, ItemOutcome(None, [again]))
        assert reveal.names == {final: final, "B02.tif": "B02.tif"}


# -- recovery ----------------------------------------------------------------------------------------------


def test_forgetting_a_unit_asks_for_everything_again(tmp_path: Path) -> None:
    """Receipts of staged files that are gone become failures that a sweep may mend; absences stay."""
    with opened(tmp_path) as store:
        store.write(
            [a_page(0, 1), outcome(record("a", stored=["B01", "B02"], failed=["B03"], absent=[Absent("B10")]))], []
        )
        store.forget_unit("u-a")
        found = lacking(store)["a"]
        assert {failed.key for failed in found.failed} == {"B01", "B02", "B03"}
        assert {failed.key for failed in found.failed if not failed.permanent} == {"B01", "B02"}
        assert (found.stored, found.absent, found.held) == ([], [Absent("B10")], True)
        assert store.counts().assets.stored == 0


# -- files that are no ledger ------------------------------------------------------------------------------


def test_a_foreign_sqlite_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Another program's database is not opened for writing: not one byte of it changes."""
    path = tmp_path / "ledger.sqlite"
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE theirs(x)")
    foreign.close()
    before = path.read_bytes()
    with pytest.raises(TargetInUse) as refused:
        LedgerStore(str(path))
    assert "\n" not in str(refused.value)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["ledger.sqlite"]


@pytest.mark.parametrize("kind", [LedgerStore, LedgerReader])
def test_a_file_of_another_version_is_refused(tmp_path: Path, kind: type[LedgerReader]) -> None:
    """A newer ledger is not touched; the message names both versions."""
    with opened(tmp_path) as store:
        store._db.execute("PRAGMA user_version = 99")
    with pytest.raises(TargetInUse, match="version 99"):
        kind(str(tmp_path / "ledger.sqlite"))


@pytest.mark.parametrize("kind", [LedgerStore, LedgerReader])
def test_what_is_no_database_is_refused(tmp_path: Path, kind: type[LedgerReader]) -> None:
    """A file that is not SQLite's is refused in one line."""
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is no database, and it is longer than a header of one hundred bytes. " * 30)
    with pytest.raises(TargetInUse) as refused:
        kind(str(path))
    assert "\n" not in str(refused.value)


def test_a_ledger_whose_making_was_cut_short_is_made_again(tmp_path: Path) -> None:
    """A kill while the file was laid out leaves no mirror that cannot start."""
    (tmp_path / "ledger.sqlite").write_bytes(b"")
    with opened(tmp_path) as store:
        assert store.resume_point().cursor == START


def test_damage_met_while_reading_is_our_error(tmp_path: Path) -> None:
    """A page of the file that is damaged raises TargetInUse, not SQLite's own."""
    with opened(tmp_path) as store:
        commit(store, a_page(0, 200), *[outcome(record(f"i{n}", stored=BANDS)) for n in range(200)])
    path = tmp_path / "ledger.sqlite"
    content = bytearray(path.read_bytes())
    content[4096 * 3 :] = b"\xff" * len(content[4096 * 3 :])
    path.write_bytes(content)
    reader = LedgerReader(str(path))
    try:
        with pytest.raises(TargetInUse):
            reader.counts()
        with pytest.raises(TargetInUse):
            reader.known([ItemKey("labels", "i7")])
        with pytest.raises(TargetInUse):
            reader.lacking(0, 10)
    finally:
        reader.close()


# -- times, hosts, and older versions ----------------------------------------------------------------------


def as_version_2(folder: Path) -> None:
    """Take from a ledger what versions 3 and 4 brought."""
    db = sqlite3.connect(folder / "ledger.sqlite")
    for column in ("host", "status", "renewed", "put_off"):
        db.execute(f"ALTER TABLE failure DROP COLUMN {column}")
    db.executescript("ALTER TABLE item DROP COLUMN at; PRAGMA user_version=2;")
    db.close()


def test_an_older_ledger_is_brought_up_to_date() -> None:
    """A store opens a ledger of version 2 and keeps all that was in it; a reader says who brings it up to date."""
    with fresh_folder() as folder:
        with opened(folder) as store:
            commit(store, a_page(0, 2), outcome(record("a")), outcome(record("b", failed=["B02"])))
        as_version_2(folder)
        with pytest.raises(TargetInUse, match="version 2"):
            LedgerReader(str(folder / "ledger.sqlite"))
        with opened(folder) as store:
            assert lacking(store)["b"].failed[0].host == ""
            assert store.known([ItemKey("labels", "a")])
            commit(store, outcome(record("c", page=None)))
        reader = LedgerReader(str(folder / "ledger.sqlite"))
        assert reader._rows("SELECT id FROM item WHERE at > 0") == [("c",)]
        reader.close()


def test_the_ledger_keeps_when_and_where() -> None:
    """A committed row has the time of its commit, a failure its host and time; a failure that is kept, its old ones."""
    with fresh_folder() as folder, opened(folder) as store:
        reveals = store.write([a_page(0, 2), outcome(record("a"))], [])
        store._db.execute("UPDATE item SET at = 5")
        store.write([], [reveal.unit for reveal in reveals])
        assert int(store._rows("SELECT at FROM item")[0][0]) > 5  # type: ignore[call-overload]
        item = record("b")
        again = Failed("B02", "5xx", "503", 6, host="https://blobs", status=503, renewed=2, put_off=7)
        item.failed = [again, Failed("B03", "gone", "404", 1, run=1, at_s=7.5)]
        commit(store, outcome(item))
        now, kept = lacking(store)["b"].failed
        assert (now.host, now.run) == ("https://blobs", store.run)
        assert (now.status, now.renewed, now.put_off) == (503, 2, 7)
        assert now.at_s > 7.5
        assert (kept.run, kept.at_s) == (1, 7.5)
