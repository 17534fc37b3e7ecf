"""A ledger that was cut anywhere opens at its last whole commit, or is refused in one line; full disks cost no commit.

Row by row damage (flipped bytes) is what the rows' checksums are for; here it is files that end too early.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stacmirror.errors import StacmirrorError, TargetInUse, TargetUnwritable
from stacmirror.ledger.reader import LedgerReader
from stacmirror.ledger.reserve import Reserve
from stacmirror.ledger.store import LedgerStore
from stacmirror.model import Cursor, ItemKey, LedgerEntry
from tests.unit.test_ledger import BANDS, a_page, commit, fresh_folder, opened, outcome, record

GROUPS = 12
A_GROUP = 5


def written(folder: Path) -> None:
    """Write a ledger in `GROUPS` commits of `A_GROUP` items each, and keep its file and WAL as they are meanwhile."""
    with opened(folder) as store:
        for group in range(GROUPS):
            cursor = Cursor(f"next={group}")
            entries: list[LedgerEntry] = [a_page(group, A_GROUP, cursor=cursor, next=Cursor(f"next={group + 1}"))]
            entries += [outcome(record(f"i{group}-{n}", stored=BANDS, page=group)) for n in range(A_GROUP - 1)]
            entries.append(outcome(record(f"i{group}-f", stored=["A"], failed=["B"], page=group)))
            commit(store, *entries)
        for name in ("ledger.sqlite", "ledger.sqlite-wal"):
            shutil.copy(folder / name, folder / f"live-{name}")


def all_of(path: Path) -> int:
    """Open as `status` and as a run do, read everything, write once; return the items that are there."""
    reader = LedgerReader(str(path))
    try:
        complete = reader.counts().items.complete
        reader.failures()
        list(reader.failed_assets())
        reader.absences()
    finally:
        reader.close()
    store = LedgerStore(str(path))
    try:
        store.staged()
        store.held()
        store.resume_point()
        store.known([ItemKey("labels", "i1-1")])
        store.lacking(0, 100)
        commit(store, outcome(record("new")))
        items = store.counts().items
        assert items.listed == items.complete + items.incomplete + items.filtered + items.duplicate + items.pending
    finally:
        store.close()
    return complete


def refused_or(path: Path) -> int | None:
    """Return what `all_of` does, or None where it was refused as promised: our error, one line, with a hint."""
    refusal: StacmirrorError
    try:
        return all_of(path)
    except StacmirrorError as error:
        refusal = error
    assert refusal.exit_code in (6, 9)
    assert "\n" not in refusal.message
    assert refusal.hint
    return None


def offsets(size: int) -> list[int]:
    dice = random.Random(5)
    edges = [0, 1, 15, 16, 31, 32, 99, 100, 4095, 4096, 4097, size - 1]
    return sorted({*edges, *(dice.randrange(size) for _ in range(50)), *range(0, size, max(4096, size // 30))})


def test_a_wal_that_was_cut_ends_at_its_last_whole_commit() -> None:
    """At every length: what was committed before that point is there, whole groups of it, and more with more of it."""
    with fresh_folder() as folder:
        written(folder)
        wal = (folder / "live-ledger.sqlite-wal").read_bytes()
        found = []
        for size in [*offsets(len(wal)), len(wal)]:
            place = folder / "cut"
            place.mkdir()
            shutil.copy(folder / "live-ledger.sqlite", place / "ledger.sqlite")
            (place / "ledger.sqlite-wal").write_bytes(wal[:size])
            complete = refused_or(place / "ledger.sqlite")
            assert complete is not None or size < 60_000, "refused though tables were there"
            found.append(complete or 0)
            shutil.rmtree(place)
    assert found == sorted(found)
    assert all(complete % (A_GROUP - 1) == 0 for complete in found)
    assert found[-1] == GROUPS * (A_GROUP - 1)
    assert len(set(found)) > GROUPS / 2


def test_a_ledger_file_that_was_cut_is_refused_in_one_line() -> None:
    """At every length: read as far as it is whole, or refused; never an error of SQLite's own."""
    with fresh_folder() as folder:
        written(folder)
        content = (folder / "ledger.sqlite").read_bytes()
        refused = 0
        for size in offsets(len(content)):
            place = folder / "cut"
            place.mkdir()
            (place / "ledger.sqlite").write_bytes(content[:size])
            refused += refused_or(place / "ledger.sqlite") is None
            shutil.rmtree(place)
        assert refused > 20


@pytest.mark.parametrize("content", [b"x", b"SQLite format 3\0", b"SQLite format 3\0" + b"\xff" * 5000, b"\0" * 4096])
def test_what_only_looks_like_a_ledger_is_refused(tmp_path: Path, content: bytes) -> None:
    """A header and nothing behind it, or zeros."""
    (tmp_path / "ledger.sqlite").write_bytes(content)
    assert refused_or(tmp_path / "ledger.sqlite") is None


def test_a_wal_of_another_file_is_not_taken(tmp_path: Path) -> None:
    """Another program's WAL beside our ledger: ours is read as it is, or refused."""
    with opened(tmp_path) as store:
        commit(store, a_page(0, 1), outcome(record("a")))
    foreign = sqlite3.connect(tmp_path / "foreign")
    foreign.executescript("PRAGMA journal_mode=WAL; CREATE TABLE theirs(x);")
    foreign.executemany("INSERT INTO theirs VALUES(?)", [(n,) for n in range(100)])
    foreign.commit()
    shutil.copy(tmp_path / "foreign-wal", tmp_path / "ledger.sqlite-wal")
    foreign.close()
    with pytest.raises(TargetInUse):
        all_of(tmp_path / "ledger.sqlite")


# -- readers beside a writer -------------------------------------------------------------------------------


def test_status_in_a_loop_does_not_make_the_wal_grow() -> None:
    """With a reader that never stops, and one that stopped in the middle of a listing, the WAL stays small."""
    with fresh_folder() as folder, opened(folder) as store:
        path = folder / "ledger.sqlite"
        failing = [outcome(record(f"f{n}", failed=["B"])) for n in range(1500)]
        store.write([a_page(0, 1500), *failing], [])
        stalled = LedgerReader(str(path))
        listing = stalled.failed_assets()
        next(listing)
        ended = threading.Event()
        reads = []

        def status() -> None:
            while not ended.is_set():
                reader = LedgerReader(str(path))
                reads.append(reader.counts().items.listed)
                reader.failures()
                reader.close()

        threads = [threading.Thread(target=status) for _ in range(2)]
        for thread in threads:
            thread.start()
        largest = 0
        try:
            for group in range(1, 180):
                entries = [outcome(record(f"i{group}-{n}", stored=BANDS, page=group)) for n in range(60)]
                store.write([a_page(group, 60, cursor=Cursor(f"next={group}")), *entries], [])
                largest = max(largest, os.stat(f"{path}-wal").st_size)
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        assert sum(1 for _ in listing) == 1499
        stalled.close()
        assert len(reads) > 3
        assert largest < 16 << 20


# -- a full disk -------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a tmpfs of `size`, or skip the test where that is not allowed."""
    place = folder / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> None:
    with (place / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def group_of(first: int, count: int) -> list[LedgerEntry]:
    return [outcome(record(f"i{n}", stored=BANDS, page=1)) for n in range(first, first + count)]


def test_the_last_commit_succeeds_on_a_full_disk(tmp_path: Path) -> None:
    """The group that meets the full disk is written once, whole, in the room that was kept; the next one is refused."""
    with small_disk(tmp_path, "64m") as place:
        with opened(place) as store:
            commit(store, a_page(0, 1), outcome(record("a")))
            fill(place)
            entries = [a_page(1, 300, cursor=Cursor("next=1")), *group_of(0, 300)]
            assert len(store.write(entries, [])) == 300
            assert store._rows("SELECT settled FROM page WHERE number = 1") == [(1,)]
            fill(place)
            with pytest.raises(TargetUnwritable):
                store.write(group_of(1000, 10_000), [])
        (place / "filler").unlink()
        with opened(place) as store:
            assert len(store.staged()) >= 300
            assert store.counts().items.complete == 1


def test_without_the_reserve_it_would_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard of the test above: the same group, no room kept; and what a failed group has learned is forgotten."""
    monkeypatch.setattr(Reserve, "keep", lambda self: None)
    with small_disk(tmp_path, "64m") as place:
        with opened(place) as store:
            commit(store, a_page(0, 1), outcome(record("a")))
            store.write([a_page(1, 301, cursor=Cursor("next=1"))], [])
            fill(place)
            entries = [*group_of(0, 300), outcome(record("z", collection="new", page=1))]
            with pytest.raises(TargetUnwritable):
                store.write(entries, [])
            (place / "filler").unlink()
            assert len(store.write(entries, [])) == 301
            assert store._rows("SELECT settled FROM page WHERE number = 1") == [(1,)]
        with opened(place) as store:
            assert ItemKey("new", "z") in store.known([ItemKey("new", "z")])


def test_the_reserve_is_small_on_a_small_disk_and_gone_after(tmp_path: Path) -> None:
    """It takes a small share of what is free, and nothing is left of it when the ledger is closed."""
    with small_disk(tmp_path, "16m") as place:
        with opened(place):
            assert 0 < (place / "reserve").stat().st_size <= 16 << 14
        assert not (place / "reserve").exists()


# -- a ledger that goes away -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_ledger_that_goes_away_ends_the_run(tmp_path: Path, how: str) -> None:
    """Removed, or another put in its place, while it is open: what would be written now nobody could read later."""
    with opened(tmp_path) as store:
        commit(store, a_page(0, 1), outcome(record("a")))
        path = tmp_path / "ledger.sqlite"
        path.unlink()
        if how == "replaced":
            path.write_bytes(b"")
        with pytest.raises(TargetInUse, match="was removed or replaced"):
            store.write([outcome(record("b"))], [])
