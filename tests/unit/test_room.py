"""Room in the target: the mark that stays free, what the first items foretell, and when a run is refused for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from stacmirror.errors import TargetUnwritable
from stacmirror.model import START, ResumePoint, Space
from stacmirror.pipeline.progress import Progress
from stacmirror.pipeline.room import Room
from stacmirror.units import parse_size, typed_size
from tests.unit.fakes import FakeClock, FakeSink, Notes

GB = 10**9


class Bench:
    """Room on a disk that has `space`, with 100 items in: 13 files of 10 kB each."""

    def __init__(self, space: Space | None, *, foretells: bool = True, total: int | None = 1_100) -> None:
        self.sink, self.notes, self.progress = FakeSink(), Notes(), Progress()
        self.sink.free = space
        self.room = Room(
            self.sink,
            self.progress,
            FakeClock(),
            self.notes.note,
            keep_bytes=GB,
            keep_inodes=5_000,
            foretells=foretells,
        )
        self.progress.items_total = total
        self.progress.items_listed = 100
        self.items(100)

    def items(self, count: int) -> None:
        self.progress.items_done = count
        self.progress.files_stored, self.progress.bytes_stored = 13 * count, 130_000 * count


def disk(free_bytes: int = 100 * GB, inodes: int | None = 10**9) -> Space:
    return Space("/mnt/data", free_bytes, inodes, 4096)


@pytest.mark.parametrize(
    ("space", "says"),
    [
        (disk(free_bytes=GB - 1), "1000.0 MB are free, and --keep-free keeps 1.0 GB"),
        (disk(inodes=4_999), "4,999 inodes are free, and keep_free_inodes keeps 5,000"),
    ],
)
def test_below_the_mark_the_run_stops(space: Space, says: str) -> None:
    """Bytes or inodes: exit code 6, with what is free, what is wanted and what to do."""
    bench = Bench(space)
    with pytest.raises(TargetUnwritable, match="nearly full") as full:
        bench.room.check()
    assert full.value.exit_code == 6
    assert says in full.value.message
    assert "162.7 MB" in full.value.message  # 1,000 items of 130 kB, 13 half blocks, a folder and a row
    assert "--keep-free" in full.value.hint


@pytest.mark.parametrize("space", [None, disk(), disk(inodes=None), disk(free_bytes=GB), disk(inodes=5_000)])
def test_above_it_or_where_nobody_knows_nothing_is_said(space: Space | None) -> None:
    """No end of room, no end of inodes, or just enough."""
    bench = Bench(space, foretells=False)
    bench.room.check()
    assert bench.notes.lines == []


@pytest.mark.parametrize(
    ("space", "amount"),
    [
        (disk(free_bytes=GB + 130_000_000), "wants 162.7 MB more of 130.0 MB that"),
        (disk(inodes=5_000 + 11_000), "wants 14,000 more of 11,000 inodes that"),
    ],
)
def test_a_mirror_that_cannot_fit_is_refused(space: Space, amount: str) -> None:
    """By the first items and the server's total; with --no-preflight it goes on to the mark."""
    with pytest.raises(TargetUnwritable, match="does not fit into /mnt/data") as refused:
        Bench(space).room.check()
    assert amount in refused.value.message
    assert "--no-preflight" in refused.value.hint
    Bench(space, foretells=False).room.check()


@pytest.mark.parametrize(
    "change",
    [
        lambda bench: bench.items(19),  # too few to tell
        lambda bench: setattr(bench.progress, "items_there", 90),  # the same: the others were there before
        lambda bench: setattr(bench.progress, "items_wanted", 200),  # --max-items
    ],
)
def test_where_nothing_is_sure_nothing_is_refused(change: Callable[[Bench], None]) -> None:
    """No total, a small sample, or fewer items wanted than there are."""
    bench = Bench(disk(free_bytes=GB + 100_000_000))
    change(bench)
    bench.room.check()
    assert bench.notes.lines == []


@pytest.mark.parametrize(
    "change",
    [
        lambda bench: None,  # as large as the room, or nearly
        lambda bench: (  # half of the items pass the filters so far, and there is room for a third of all
            setattr(bench.progress, "items_total", 4_400),
            setattr(bench.progress, "items_listed", 200),
            setattr(bench.progress, "items_filtered", 100),
        ),
    ],
)
def test_what_may_not_fit_is_a_warning_once(change: Callable[[Bench], None]) -> None:
    """Said when it is likely, and not again every second."""
    bench = Bench(disk(free_bytes=GB + 160_000_000))
    change(bench)
    bench.room.check()
    bench.room.check()
    assert len(bench.notes.lines) == 1
    assert "may not fit into /mnt/data" in bench.notes.lines[0]


def test_without_a_total_what_is_free_is_said_once() -> None:
    """Nobody can say whether it fits: how many items like those so far there is room for, and what happens then."""
    bench = Bench(disk(free_bytes=GB + 162_700_000_000, inodes=5_000 + 14 * 2_000_000), total=None)
    bench.items(19)
    bench.room.check()
    assert bench.notes.lines == [], "too few to tell"
    bench.items(100)
    bench.room.check()
    bench.room.check()
    assert bench.notes.lines == [
        "the server names no total, so nobody can say whether the mirror fits into /mnt/data: 162.7 GB are free, room"
        " for about 1,000,000 items like those so far; short of that the run stops, resumable"
    ]
    few = Bench(disk(free_bytes=GB + 162_700_000_000, inodes=5_000 + 14 * 2_000), total=None)
    few.room.check()
    assert "162.7 GB and 28,000 inodes are free, room for about 2,000 items" in few.notes.lines[0]


@pytest.mark.parametrize("keep_bytes", [0, GB])
def test_without_a_preflight_nothing_is_said_of_totals(keep_bytes: int) -> None:
    """--no-preflight: the mark alone counts."""
    bench = Bench(disk(), foretells=False, total=None)
    bench.room.check()
    assert bench.notes.lines == []


@pytest.mark.parametrize("how", ["listing read to its end", "expected by who started it"])
def test_a_total_from_elsewhere_counts(how: str) -> None:
    """A listing that was read to its end names its total by itself, and a demo knows what it serves."""
    bench = Bench(disk(free_bytes=GB + 130_000_000), total=None)
    if how == "expected by who started it":
        bench.progress.items_expected = 1_100
    else:
        bench.progress.items_listed, bench.progress.listing_ended = 1_100, True
    with pytest.raises(TargetUnwritable, match="does not fit"):
        bench.room.check()


def test_what_an_earlier_run_brought_is_not_wanted_again() -> None:
    """A resumed run counts from where it goes on."""
    bench = Bench(disk(free_bytes=GB + 100_000_000))
    bench.room.check(ResumePoint(9, START, 900))
    assert bench.notes.lines == []


async def test_a_disk_that_fills_up_is_noticed_on_the_way() -> None:
    """The watch goes on until it is ended, or until the mark is met."""
    bench = Bench(disk())
    watch = asyncio.create_task(bench.room.watch())
    await asyncio.sleep(0.05)
    assert not watch.done()
    bench.sink.free = disk(free_bytes=0)
    with pytest.raises(TargetUnwritable, match="0 B are free"):
        await asyncio.wait_for(watch, 5)


async def test_a_disk_that_fills_fast_is_looked_at_often() -> None:
    """After a quarter of the time that it lasts at this pace, at least 50 ms; a second where nothing changes."""
    bench = Bench(disk(), foretells=False)
    frees = iter([9 * GB, 9 * GB, 8 * GB, 3 * GB, 2 * GB, 2 * GB])

    def space() -> Space:
        return disk(free_bytes=next(frees, 0))

    bench.sink.space = space  # type: ignore[method-assign]
    clock = FakeClock()
    bench.room._clock = clock
    with pytest.raises(TargetUnwritable):
        await asyncio.wait_for(bench.room.watch(), 5)
    assert clock.slept == [0.2, 1.0, 1.0, 1.0, 0.1, 0.05, 1.0]


@pytest.mark.parametrize("size_bytes", [0, 1, 1000, 1024, 20_000_000, 256 << 20, 3 << 40])
def test_a_size_is_shown_as_people_type_it(size_bytes: int) -> None:
    """And what is shown can be typed."""
    assert parse_size(typed_size(size_bytes)) == size_bytes
    assert typed_size(256 << 20) == "256MiB"
