"""The walk lines up each item once, records every page before its items, and comes to an end with any listing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from stacmirror.errors import ListingLoop, LoginRefused, SourceUnreachable, UsageError
from stacmirror.model import START, Cursor, Item, ItemKey, KnownItem, LedgerEntry, Page, PageRecord, ResumePoint
from stacmirror.pipeline.bundle import Bundle
from stacmirror.pipeline.dispatch import Dispatch
from stacmirror.pipeline.progress import Progress
from stacmirror.pipeline.walk import Walk
from tests.unit.fakes import FakeCatalog, FakeClock, FakeLedger, an_item, key, pages_of, turns, until

BEGIN = ResumePoint(0, START, 0)


class Odd:
    """A filter that keeps items with an odd number at the end of their id."""

    def keeps(self, item: Item) -> bool:
        return int(item.key.id[-1]) % 2 == 1

    def describe(self) -> Mapping[str, str]:
        return {}


class Nothing(Odd):
    def keeps(self, item: Item) -> bool:
        return False


class Bench:
    """A walk over fake pages. `write` says whether pages reach the ledger as they are recorded (items never do)."""

    def __init__(
        self,
        pages: Mapping[str, Page | BaseException],
        *,
        filters: tuple[Odd, ...] = (),
        items_max: int | None = None,
        one_to_one: bool = False,
        prefetch: int = 2,
        size: int = 1000,
    ) -> None:
        self.catalog = FakeCatalog(pages)
        self.ledger = FakeLedger()
        self.records: list[PageRecord] = []
        self.dispatch = Dispatch(size, 4, FakeClock().monotonic)
        self.walk = Walk(
            self.catalog,
            self.ledger,
            filters,
            self._record,
            Progress(),
            prefetch=prefetch,
            items_max=items_max,
            one_to_one=one_to_one,
        )

    def _record(self, entry: LedgerEntry) -> None:
        assert isinstance(entry, PageRecord)
        self.records.append(entry)

    async def run(self, start: ResumePoint = BEGIN) -> list[str]:
        """Walk to the end and return the ids of all bundles in line."""
        await asyncio.wait_for(self.walk.feed(self.dispatch, start), 60)
        return [bundle.walked.id for bundle in await self.rest()]

    async def rest(self) -> list[Bundle]:
        bundles = []
        while (bundle := await asyncio.wait_for(self.dispatch.take(), 60)) is not None:
            bundles.append(bundle)
        return bundles

    def totals(self) -> tuple[int, int, int, int]:
        """Return listed, filtered, duplicate, queued, and check that each page adds up."""
        for record in self.records:
            assert record.listed == record.filtered + record.duplicate + record.queued + len(record.known)
        walk = self.walk
        return walk.listed, walk.filtered, walk.duplicate, walk.queued


def numbered(first: int, count: int) -> list[Item]:
    return [an_item(f"i{n}") for n in range(first, first + count)]


async def test_items_come_in_server_order_and_pages_before_them() -> None:
    """All pages, one record each, with cursors; the listing has ended and says its total."""
    bench = Bench(pages_of([numbered(0, 3), numbered(3, 2)], total=5))
    assert await bench.run() == ["i0", "i1", "i2", "i3", "i4"]
    assert [(r.number, r.cursor.value, r.queued) for r in bench.records] == [(0, "", 3), (1, "next=1", 2)]
    assert (bench.walk.ended, bench.walk.server_total, bench.walk.error) == (True, 5, None)
    assert bench.totals() == (5, 0, 0, 5)


async def test_a_page_is_recorded_before_its_first_item_is_lined_up() -> None:
    """With a full line, the ledger has heard of the page already, so that it can settle."""
    bench = Bench(pages_of([numbered(0, 3)]), size=1)
    task = asyncio.create_task(bench.walk.feed(bench.dispatch, BEGIN))
    await until(lambda: bench.dispatch.queued == 1)
    assert [record.queued for record in bench.records] == [3]
    assert len(await bench.rest()) == 3
    await task


async def test_filters_count_what_they_reject() -> None:
    """Rejected items are counted and not lined up."""
    bench = Bench(pages_of([numbered(0, 5)]), filters=(Odd(),))
    assert await bench.run() == ["i1", "i3"]
    assert bench.totals() == (5, 3, 0, 2)


async def test_nothing_is_remembered_of_what_filters_reject() -> None:
    """Of a million items that nobody wants nothing stays in memory; of others nothing does once they have a row."""
    bench = Bench(pages_of([numbered(0, 5)]), filters=(Odd(),))
    wanted = [ItemKey("labels", item) for item in await bench.run()]
    assert set(bench.walk._conflicts._marks) == bench.walk._claimed == set(wanted)
    bench.walk.release(wanted)
    assert not bench.walk._conflicts._marks
    assert not bench.walk._claimed


async def test_one_item_listed_twice_is_fetched_once() -> None:
    """Duplicates within a page, on a later page, and in the ledger from an earlier page: each counts as one."""
    a, b, c = numbered(0, 3)
    bench = Bench(pages_of([[a, b, a], [b, c]]))
    bench.ledger.there[c.key] = KnownItem(unmet=False, listed=True, assets=1, lacking=0)
    assert await bench.run() == ["i0", "i1"]
    assert bench.totals() == (5, 0, 3, 2)


async def test_a_source_of_many_labels_is_claimed_once() -> None:
    """Labels that share a source: the first one's bundle fetches it, the others only name it."""
    labels = [an_item(f"i{n}", sources=["s", f"t{n}"]) for n in range(3)]
    bench = Bench(pages_of([labels[:2], labels[2:]]))
    await bench.walk.feed(bench.dispatch, BEGIN)
    bundles = await bench.rest()
    assert [[job.key.id for job in bundle.jobs] for bundle in bundles] == [
        ["i0", "s", "t0"],
        ["i1", "t1"],
        ["i2", "t2"],
    ]
    assert all(bundle.sources[0] == key("s", "source") for bundle in bundles)


async def test_a_source_that_the_ledger_has_is_not_fetched_again() -> None:
    """A linked item with a row is left alone."""
    bench = Bench(pages_of([[an_item("i0", sources=["s"])]]))
    bench.ledger.there[key("s", "source")] = KnownItem(unmet=False, listed=False, assets=1, lacking=0)
    await bench.walk.feed(bench.dispatch, BEGIN)
    assert [job.key.id for job in (await bench.rest())[0].jobs] == ["i0"]


async def test_a_shared_source_is_refused_where_the_layout_joins() -> None:
    """Two labels cannot both have the source in their folder."""
    labels = [an_item(f"i{n}", sources=["s"]) for n in range(2)]
    bench = Bench(pages_of([labels]), one_to_one=True)
    with pytest.raises(UsageError, match="more than one label"):
        await bench.walk.feed(bench.dispatch, BEGIN)


async def test_items_met_again_are_counted_once_and_not_fetched() -> None:
    """Items of an unsettled page, in the ledger already, belong to their page again - once, though listed twice."""
    a, b = numbered(0, 2)
    bench = Bench(pages_of([[a, b], [a, an_item("i9")]]))
    for item in (a, b):
        bench.ledger.there[item.key] = KnownItem(unmet=True, listed=True, assets=1, lacking=0)
    assert await bench.run() == ["i9"]
    assert [record.known for record in bench.records] == [(a.key, b.key), ()]
    assert bench.totals() == (4, 0, 1, 1)
    assert bench.walk.there == 2


@pytest.mark.parametrize(
    "following",
    [{"": "", "x": "x"}, {"": "a", "a": "a"}, {"": "a", "a": "b", "b": "a"}, {"": "a", "a": "b", "b": ""}],
    ids=["start to start", "A to A", "A to B to A", "back to start"],
)
async def test_a_listing_that_leads_back_is_left(following: dict[str, str]) -> None:
    """A cursor seen before is not asked again; what was listed is lined up, and the error says where it led."""
    pages = {at: Page((an_item(f"i{n}"),), Cursor(to)) for n, (at, to) in enumerate(following.items())}
    bench = Bench(pages)
    found = await bench.run()
    assert isinstance(bench.walk.error, ListingLoop)
    assert not bench.walk.ended
    assert len(found) == len(bench.catalog.asked) == len(set(bench.catalog.asked))


class Endless(dict[str, Page]):
    """A listing without end: each page names a new cursor. `contents` are its pages' items, over and over."""

    def __init__(self, *contents: list[Item]) -> None:
        super().__init__()
        self.contents = contents

    def __missing__(self, at: str) -> Page:
        number = int(at or 0)
        assert number < 1000, "the walk goes on for ever"
        return Page(tuple(self.contents[number % len(self.contents)]), Cursor(str(number + 1)))


@pytest.mark.parametrize(
    "contents",
    [[numbered(0, 2)], [numbered(0, 2), []], [numbered(0, 2), numbered(2, 2)], [[]]],
    ids=["one page", "an empty page between", "two pages in turn", "only empty pages"],
)
@pytest.mark.parametrize("filters", [(), (Nothing(),)], ids=["all", "none wanted"])
async def test_new_cursors_without_new_items_end_the_walk(contents: list[list[Item]], filters: tuple[Odd, ...]) -> None:
    """Pages for ever, none with a new item, wanted or not: a loop, after a bounded number of pages."""
    bench = Bench(Endless(*contents), filters=filters)
    await bench.run()
    assert isinstance(bench.walk.error, ListingLoop)
    assert len(bench.catalog.asked) < 130


async def test_an_empty_page_with_a_next_is_a_page() -> None:
    """Paging goes on over empty pages, and a last empty page ends the listing."""
    bench = Bench(pages_of([numbered(0, 1), [], [], numbered(1, 1), []]))
    assert await bench.run() == ["i0", "i1"]
    assert bench.walk.ended
    assert bench.walk.error is None


async def test_the_limit_stops_within_a_page() -> None:
    """`--max-items` counts matching items; the page it cuts is partial, and the listing has not ended."""
    bench = Bench(pages_of([numbered(0, 4), numbered(4, 4)]), filters=(Odd(),), items_max=3)
    assert await bench.run() == ["i1", "i3", "i5"]
    assert [record.partial for record in bench.records] == [False, True]
    assert (bench.walk.limited, bench.walk.ended) == (True, False)
    assert bench.totals() == (6, 3, 0, 3)


async def test_the_limit_counts_items_of_earlier_runs() -> None:
    """Matching items before the resume point and those met again count for the limit."""
    a, b, c = numbered(0, 3)
    bench = Bench({"next=1": Page((a, b, c), None)}, items_max=10)
    bench.ledger.there[a.key] = KnownItem(unmet=True, listed=True, assets=1, lacking=0)
    assert await bench.run(ResumePoint(1, Cursor("next=1"), 8)) == ["i1"]
    assert bench.walk.limited


async def test_a_limit_at_the_very_end_is_an_ended_listing() -> None:
    """Exactly as many items as wanted: the listing has ended and nothing is partial."""
    bench = Bench(pages_of([numbered(0, 2), numbered(2, 2)]), items_max=4)
    assert len(await bench.run()) == 4
    assert bench.walk.ended
    assert not bench.records[-1].partial


async def test_trouble_behind_the_limit_is_nobodys() -> None:
    """A page read ahead that fails is no error of a walk that needed no more pages."""
    pages = pages_of([numbered(0, 2), numbered(2, 2)])
    pages["next=1"] = SourceUnreachable("down")
    bench = Bench(pages, items_max=2, size=1)
    task = asyncio.create_task(bench.walk.feed(bench.dispatch, BEGIN))
    await until(lambda: bench.walk.error is not None)
    assert len(await bench.rest()) == 2
    await task
    assert bench.walk.limited
    assert bench.walk.error is None


@pytest.mark.parametrize("error", [SourceUnreachable("down"), LoginRefused("no key")])
async def test_what_was_listed_before_an_error_is_lined_up(error: Exception) -> None:
    """A page that cannot be read ends the listing, not the items before it."""
    pages = pages_of([numbered(0, 2), numbered(2, 2)])
    pages["next=1"] = error
    bench = Bench(pages)
    assert await bench.run() == ["i0", "i1"]
    assert type(bench.walk.error) is type(error)
    assert str(error) in str(bench.walk.error)
    assert not bench.walk.ended


async def test_our_own_bug_in_the_reader_is_loud() -> None:
    """What is no error of the source surfaces from `feed`, and takers are not left waiting."""
    pages = pages_of([numbered(0, 2), numbered(2, 2)])
    pages["next=1"] = ZeroDivisionError("a bug")
    bench = Bench(pages)
    with pytest.raises(ZeroDivisionError):
        await bench.run()
    assert len(await bench.rest()) == 2


@pytest.mark.parametrize("size", [1, 3])
async def test_a_cancelled_walk_does_not_hang(size: int) -> None:
    """Cancelled while the line is full and pages are read ahead: it ends, its page has not settled, takers end."""
    bench = Bench(pages_of([numbered(n, 5) for n in range(0, 50, 5)]), size=size, prefetch=1)
    task = asyncio.create_task(bench.walk.feed(bench.dispatch, BEGIN))
    # One page is lined up in part, one is read, and the reader holds another.
    await until(lambda: bench.dispatch.queued == size and len(bench.catalog.asked) == 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)
    assert len(await bench.rest()) == size
    assert bench.records[-1].queued == 5
    assert len(bench.catalog.asked) == 3


async def test_pages_are_read_no_further_than_the_prefetch() -> None:
    """While the line is full, the reader stops after the pages it may hold."""
    bench = Bench(pages_of([numbered(n, 5) for n in range(0, 500, 5)]), size=1, prefetch=3)
    task = asyncio.create_task(bench.walk.feed(bench.dispatch, BEGIN))
    # One is lined up in part, three are read, and the reader holds another.
    await until(lambda: bench.dispatch.queued == 1 and len(bench.catalog.asked) == 5)
    await turns()
    assert len(bench.catalog.asked) == 5
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_released_claims_are_found_in_the_ledger() -> None:
    """When items have rows, their claims go: memory does not grow with the listing, and they stay duplicates."""
    a = an_item("i0", sources=["s"])
    bench = Bench(pages_of([[a], [a]]))
    await bench.walk.feed(bench.dispatch, BEGIN)
    bench.walk.release([a.key, key("s", "source")])
    assert bench.walk._claimed == set()
