"""A run over fake sources with a real ledger and folder: how it ends, and what is there when it has ended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stacmirror.clock import SystemClock
from stacmirror.errors import LoginRefused, SourceUnreachable, StacmirrorError, TargetUnwritable, TransferError
from stacmirror.interfaces import Clock, Opener, Reply
from stacmirror.layout import make_layout
from stacmirror.ledger.store import LedgerStore
from stacmirror.mirror import recover
from stacmirror.model import Counts, Item, Page
from stacmirror.pipeline.commit import Committer
from stacmirror.pipeline.crew import Crew
from stacmirror.pipeline.missing import MissingKeys
from stacmirror.pipeline.plan import Planner
from stacmirror.pipeline.progress import Progress
from stacmirror.pipeline.renewal import Renewal
from stacmirror.pipeline.run import Run, Shape, keys_of
from stacmirror.pipeline.stop import Stop
from stacmirror.pipeline.transfer import Fetcher
from stacmirror.pipeline.walk import Walk
from stacmirror.retry import RetryPolicy
from stacmirror.sinks.directory import DirectorySink
from tests.conftest import tree
from tests.unit.fakes import FakeCatalog, FakeOpener, Notes, an_item, pages_of, turns, until

Answers = Mapping[str, bytes | Reply | BaseException]


class Bench:
    """One run over `target`; `make_bench` closes what it opened."""

    def __init__(
        self,
        target: Path,
        pages: Mapping[str, Page | BaseException],
        *,
        items: Mapping[str, Item | BaseException] | None = None,
        answers: Answers | None = None,
        workers: int = 4,
        grace_s: float = 60.0,
        sweeps: int = 1,
        show_incomplete: bool = True,
        retries: int = 0,
        backoff_s: float = 0.0,
        layout: str = "item",
        queue_size: int = 8,
        pending_max: int = 100,
        opener: Opener | None = None,
        clock: Clock | None = None,
        sync_every_s: float = 0.01,
    ) -> None:
        self.target = target
        self.sink = DirectorySink(str(target))
        self.ledger = LedgerStore(str(target / ".stacmirror/ledger.sqlite"))
        self.catalog = FakeCatalog(pages, items or {})
        self.opener = FakeOpener(answers)
        opens: Opener = opener or self.opener
        self.stop, self.notes, self.progress = Stop(), Notes(), Progress()
        clock = clock or SystemClock()
        self.staged = recover(self.sink, self.ledger)
        self.start = self.ledger.resume_point()
        self.committer = Committer(
            self.sink,
            self.ledger,
            every_s=sync_every_s,
            every_bytes=1 << 20,
            pending_max=pending_max,
            on_written=lambda entries: self.walk.release(keys_of(entries)),
        )
        missing = MissingKeys((), 20, 100, [], self.committer.add, self.notes.note, self.progress)
        made = make_layout(layout, "")
        self.walk = Walk(
            self.catalog,
            self.ledger,
            [],
            self.committer.add,
            self.progress,
            prefetch=2,
            items_max=None,
            one_to_one=made.one_to_one,
        )
        crew = Crew(
            catalog=self.catalog,
            opener=opens,
            sink=self.sink,
            fetcher=Fetcher(opens, self.sink, clock, self.progress, any_content=True),
            planner=Planner(made, lambda key: True, self.ledger.run),
            missing=missing,
            committer=self.committer,
            progress=self.progress,
            policy=RetryPolicy(retries, backoff_s, 1000.0),
            clock=clock,
            random=lambda: 1.0,
            links=Renewal(self.catalog, clock, 3600.0),
            held_max_bytes=1 << 20,
        )
        shape = Shape(workers, queue_size, sweeps, grace_s, show_incomplete)
        self.run = Run(crew, self.walk, self.ledger, missing, self.stop, self.notes, shape)

    async def execute(self) -> None:
        await asyncio.wait_for(self.run.execute(self.start, self.staged), 60)

    def launch(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.execute())

    async def until_in_flight(self, count: int) -> None:
        async with asyncio.timeout(60):
            while self.progress.in_flight < count:
                await asyncio.sleep(0.002)

    def counts(self) -> Counts:
        counts = self.ledger.counts()
        items = counts.items
        assert items.listed == items.complete + items.incomplete + items.filtered + items.duplicate + items.pending
        return counts

    def check_whole(self) -> None:
        """Whatever ended the run: visible items are whole, and rows and names agree."""
        visible = {str(path.relative_to(self.target)) for path in self.target.glob("*/*") if path.parent.name[0] != "."}
        committed = self.ledger._rows("SELECT c.id, i.id FROM item i JOIN collection c ON c.n = i.collection"
                                      " WHERE state IN (2, 3)")  # fmt: skip
        assert {f"{collection}/{item_id}" for collection, item_id in committed} == visible
        for path, content in tree(self.target).items():
            _, item_id, name = path.split("/")
            assert content == f"bytes of http://host/{item_id}/{name.removesuffix('.tif')}".encode()
        assert not [thread for thread in threading.enumerate() if thread.name == "commit"]


@asynccontextmanager
async def a_bench(target: Path, pages: Mapping[str, Page | BaseException], **values: object) -> AsyncIterator[Bench]:
    bench = Bench(target, pages, **values)  # type: ignore[arg-type]
    try:
        yield bench
    finally:
        bench.ledger.close()
        bench.sink.close()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert others == [], "tasks were left behind"


def listing(count: int, size: int = 5) -> dict[str, Page | BaseException]:
    items = [an_item(f"i{n}", sources=[f"s{n}"], assets=("A", "B")) for n in range(count)]
    return pages_of([items[n : n + size] for n in range(0, count, size)])


async def finish(target: Path, count: int, **values: object) -> list[str]:
    """Run once more, undisturbed; check that all is there, and return what was asked for."""
    async with a_bench(target, listing(count), **values) as bench:
        await bench.execute()
        items = bench.counts().items
        assert (items.listed, items.complete) == (count, count)
        bench.check_whole()
        assert len(tree(target)) == 3 * count
        assert list((target / ".stacmirror/staging").iterdir()) == []
        return bench.opener.asked


async def test_an_undisturbed_run_brings_everything(tmp_path: Path) -> None:
    """Labels and sources, each asset asked for once."""
    asked = await finish(tmp_path, 23)
    assert len(asked) == len(set(asked)) == 3 * 23


async def test_a_soft_stop_finishes_what_is_in_hand(tmp_path: Path) -> None:
    """Items in flight come to their end and are committed; those in line are left for the next run, which ends it."""
    async with a_bench(tmp_path, listing(30)) as bench:
        bench.opener.hold = asyncio.Event()
        task = bench.launch()
        await bench.until_in_flight(4)
        bench.stop.ask()
        await asyncio.sleep(0.02)
        bench.opener.hold.set()
        await task
        assert (bench.counts().items.complete, bench.counts().listing.ended) == (4, False)
        bench.check_whole()
        first = bench.opener.asked
    again = await finish(tmp_path, 30)
    assert not set(first) & set(again), "what was committed is asked for again"


async def test_after_the_grace_items_in_hand_are_dropped(tmp_path: Path) -> None:
    """A soft stop ends within the grace, whatever the source does; nothing half-done is visible."""
    async with a_bench(tmp_path, listing(30), grace_s=0.05) as bench:
        bench.opener.hold = asyncio.Event()
        task = bench.launch()
        await bench.until_in_flight(4)
        bench.stop.ask()
        await asyncio.wait_for(task, 30)
        assert bench.counts().items.complete == 0
        bench.check_whole()
    await finish(tmp_path, 30)


async def test_a_second_stop_does_not_wait(tmp_path: Path) -> None:
    """Asked twice, the run ends at once, whatever grace is left, and commits what is whole."""
    async with a_bench(tmp_path, listing(30), workers=1) as bench:
        bench.opener.hold, bench.opener.held = asyncio.Event(), {"http://host/i2/A"}
        task = bench.launch()
        async with asyncio.timeout(60):
            while "http://host/i2/A" not in bench.opener.asked:
                await asyncio.sleep(0)
        bench.stop.ask()
        bench.stop.ask()
        await asyncio.wait_for(task, 30)
        assert bench.counts().items.complete == 2
        bench.check_whole()
    await finish(tmp_path, 30)


async def test_a_stop_does_not_wait_for_what_is_put_aside(tmp_path: Path) -> None:
    """Items that wait for their next attempt in a minute are left for the next run."""
    down: Answers = {f"http://host/i{n}/B": TransferError("5xx", "down", status=503) for n in range(30)}
    async with a_bench(tmp_path, listing(30), answers=down, retries=3, backoff_s=60.0) as bench:
        task = bench.launch()
        async with asyncio.timeout(60):
            while bench.progress.parked < 3:
                await asyncio.sleep(0.002)
        bench.stop.ask()
        await asyncio.wait_for(task, 30)
        bench.check_whole()
    await finish(tmp_path, 30)


async def test_a_stop_frees_a_feeder_at_a_full_line(tmp_path: Path) -> None:
    """The walk waits for room in the line: the stop ends it, and no further page is read."""
    async with a_bench(tmp_path, listing(60), queue_size=1, grace_s=0.02) as bench:
        bench.opener.hold = asyncio.Event()
        task = bench.launch()
        await bench.until_in_flight(4)
        # Two pages are lined up, one of them in part, two are read, and the reader holds another.
        await until(lambda: len(bench.catalog.asked) == 5)
        await turns()
        bench.stop.ask()
        await asyncio.wait_for(task, 30)
        assert len(bench.catalog.asked) == 5
    await finish(tmp_path, 60)


async def test_a_refused_login_ends_the_run_with_what_is_whole(tmp_path: Path) -> None:
    """A key withdrawn midway: LoginRefused, not a group; what is whole is committed, the next run ends it."""
    refused = LoginRefused("the key is no longer good")
    async with a_bench(tmp_path, listing(30), items={"s12": refused, "s13": refused}) as bench:
        with pytest.raises(LoginRefused):
            await bench.execute()
        assert bench.counts().items.complete > 0
        bench.check_whole()
    await finish(tmp_path, 30)


@pytest.mark.parametrize("step", ["stage", "sync", "reveal", "write"])
async def test_a_disk_that_takes_no_more_ends_the_run(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the disk says no: TargetUnwritable with exit code 6, names are whole, and the next run ends it."""
    async with a_bench(tmp_path, listing(30)) as bench:
        calls = 0
        owner = bench.ledger if step == "write" else bench.sink
        method = getattr(owner, step)

        def failing(*values: object) -> object:
            nonlocal calls
            calls += 1
            if calls >= 2:  # the shortest run has two cycles: one writes, one confirms
                raise TargetUnwritable("no space left")
            return method(*values)

        monkeypatch.setattr(owner, step, failing)
        with pytest.raises(TargetUnwritable) as full:
            await bench.execute()
        assert full.value.exit_code == 6
    await finish(tmp_path, 30)


async def test_two_errors_at_once_are_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Login and disk fail together: one of our errors is raised, no group."""
    async with a_bench(tmp_path, listing(30), items={f"s{n}": LoginRefused("no") for n in range(4)}) as bench:
        bench.committer.failed.set_exception(TargetUnwritable("no space left"))
        with pytest.raises(StacmirrorError):
            await bench.execute()


async def test_our_own_bug_is_loud_and_leaves_nothing_running(tmp_path: Path) -> None:
    """What is no error of ours surfaces; the thread has ended and what was whole is committed."""
    async with a_bench(tmp_path, listing(30), answers={"http://host/i9/A": ZeroDivisionError("a bug")}) as bench:
        with pytest.raises(ExceptionGroup) as loud:
            await bench.execute()
        assert loud.group_contains(ZeroDivisionError)
        bench.check_whole()
    await finish(tmp_path, 30)


async def test_a_cancelled_run_leaves_nothing_running(tmp_path: Path) -> None:
    """Cancelled from outside: no task and no thread is left, what is whole is committed."""
    async with a_bench(tmp_path, listing(30)) as bench:
        task = bench.launch()
        async with asyncio.timeout(60):
            while len(bench.opener.asked) < 40:
                await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        bench.check_whole()
    await finish(tmp_path, 30)


async def test_a_listing_that_breaks_off_keeps_what_it_had(tmp_path: Path) -> None:
    """The source is unreachable at page 3: the items of pages 0 to 2 are complete, and the error is told."""
    pages = listing(30)
    pages["next=3"] = SourceUnreachable("down")
    async with a_bench(tmp_path, pages) as bench:
        await bench.execute()
        assert isinstance(bench.run.error, SourceUnreachable)
        assert bench.counts().items.complete == 15
        assert not bench.run.listing.ended
        bench.check_whole()
    asked = await finish(tmp_path, 30)
    assert len(asked) == 3 * 15


async def test_a_sweep_mends_what_failed_and_keeps_what_was_there(tmp_path: Path) -> None:
    """An asset that fails at first is fetched at the end; nothing else is asked for twice."""
    bad = TransferError("5xx", "down", status=503)
    answers: dict[str, bytes | Reply | BaseException] = {"http://host/i3/B": bad, "http://host/s4/A": bad}
    again = {"i3": an_item("i3", assets=("A", "B"))}
    async with a_bench(tmp_path, listing(12), answers=answers, items=again) as bench:
        release = bench.ledger.lacking

        def mended(after_row: int, rows_max: int) -> object:
            answers.clear()
            return release(after_row, rows_max)

        bench.ledger.lacking = mended  # type: ignore[method-assign, assignment]
        await bench.execute()
        assert bench.counts().items.complete == 12
        bench.check_whole()
        assert sorted(url for url in bench.opener.asked if bench.opener.asked.count(url) > 1) == [
            *["http://host/i3/B"] * 2,
            *["http://host/s4/A"] * 2,
        ]


@pytest.mark.parametrize("show", [True, False])
async def test_what_lacks_an_asset_is_completed_by_a_later_run(tmp_path: Path, show: bool) -> None:
    """Shown or hidden meanwhile, an incomplete item needs one more request for each asset that it lacks."""
    bad: Answers = {f"http://host/{item}/A": TransferError("5xx", "down", status=503) for item in ("i3", "s4")}
    async with a_bench(tmp_path, listing(12), answers=bad, show_incomplete=show) as bench:
        await bench.execute()
        assert (bench.counts().items.complete, bench.counts().items.incomplete) == (10, 2)
        assert bench.counts().assets.failed == 2
        assert (tmp_path / "labels/i3").exists() == show
        asked = bench.opener.asked
    again = await finish(tmp_path, 12)
    assert sorted(again) == ["http://host/i3/A", "http://host/s4/A"]
    assert len(asked) == 3 * 12 + 2


async def test_a_kill_in_a_later_sweep_costs_nothing_that_was_there(tmp_path: Path) -> None:
    """An incomplete item, swept again and still incomplete at a kill: its files in place are not fetched again."""
    bad: Answers = {f"http://host/i3/{key}": TransferError("5xx", "down", status=503) for key in "AB"}
    item = an_item("i3", assets=("A", "B", "C", "D"))
    pages = pages_of([[item]])
    async with a_bench(tmp_path, pages, answers=bad) as bench:
        await bench.execute()
    half: Answers = {"http://host/i3/A": TransferError("5xx", "down", status=503)}
    async with a_bench(tmp_path, pages, answers=half, items={"i3": item}, show_incomplete=False) as bench:
        await bench.execute()  # ends as a kill before `release_held` would
        assert bench.opener.asked == ["http://host/i3/A", "http://host/i3/B"]
    async with a_bench(tmp_path, pages) as bench:
        await bench.execute()
        assert bench.opener.asked == ["http://host/i3/A"]
        assert bench.counts().items.complete == 1
    assert sorted(tree(tmp_path)) == [f"labels/i3/{key}.tif" for key in "ABCD"]


async def test_an_item_that_cannot_be_read_again_loses_nothing(tmp_path: Path) -> None:
    """In the sweep the catalog is down: what was stored stays stored, and a later run asks for the rest alone."""
    item = an_item("i0", assets=("A", "B", "C"))
    pages = pages_of([[item]])
    bad: Answers = {"http://host/i0/B": TransferError("5xx", "down", status=503)}
    async with a_bench(tmp_path, pages, answers=bad, items={"i0": SourceUnreachable("down")}) as bench:
        await bench.execute()
        assert bench.counts().items.incomplete == 1
    async with a_bench(tmp_path, pages, items={"i0": item}) as bench:
        await bench.execute()
        assert bench.opener.asked == ["http://host/i0/B"]
        assert bench.counts().items.complete == 1


async def test_a_label_and_its_source_share_a_folder(tmp_path: Path) -> None:
    """In a layout that joins them, both are revealed together, also when the source comes late."""
    bad: Answers = {"http://host/s1/A": TransferError("5xx", "down", status=503)}
    items = [an_item(f"i{n}", sources=[f"s{n}"], assets=("label",)) for n in range(3)]
    pages = pages_of([items])
    async with a_bench(tmp_path, pages, answers=bad, layout="notebook", show_incomplete=False) as bench:
        await bench.execute()
        assert sorted(path.name for path in tmp_path.iterdir()) == [".stacmirror", "i0", "i2"]
    async with a_bench(tmp_path, pages, layout="notebook") as bench:
        await bench.execute()
        assert bench.opener.asked == ["http://host/s1/A"]
        assert bench.counts().items.complete == 3
    assert {path.parent.name: None for path in tmp_path.glob("*/*") if ".stacmirror" not in path.parts} == {
        "i0": None,
        "i1": None,
        "i2": None,
    }
    assert len(list((tmp_path / "i1").iterdir())) == 2


async def test_a_pause_on_the_way_costs_no_attempt(tmp_path: Path) -> None:
    """A host behind a redirect is paused twice for a moment: without any retry allowed, the asset arrives."""
    pauses = [TransferError("paused", "a pause", retry_after_s=0.02) for _ in range(2)]
    async with a_bench(tmp_path, listing(4), retries=0, sweeps=0) as bench:
        answer = bench.opener.open

        async def open_(href: str) -> Reply:
            if href == "http://host/i0/A" and pauses:
                raise pauses.pop()
            return await answer(href)

        bench.opener.open = open_  # type: ignore[method-assign]
        await bench.execute()
        assert pauses == []
        assert bench.counts().assets.failed == 0
