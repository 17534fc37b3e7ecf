"""Commit makes outcomes last: in the right order, whole or not at all, and it is heard when it fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from stacmirror.errors import TargetUnwritable
from stacmirror.model import ItemOutcome, ItemRecord, LedgerEntry, Receipt, Reveal, Unit
from stacmirror.pipeline.commit import Committer
from tests.unit.fakes import FakeLedger, FakeSink, key


class Bench:
    """A committer between a sink and a ledger that write into one log."""

    def __init__(self, *, every_s: float = 0.0, every_bytes: int = 1 << 30, pending_max: int = 1000) -> None:
        self.log: list[str] = []
        self.sink = FakeSink(self.log)
        self.ledger = FakeLedger(self.log)
        self.written: list[LedgerEntry] = []
        self.committer = Committer(
            self.sink,
            self.ledger,
            every_s=every_s,
            every_bytes=every_bytes,
            pending_max=pending_max,
            on_written=self.written.extend,
        )

    async def submit(self, outcome: ItemOutcome) -> None:
        """Hand over an outcome as a worker does."""
        await self.committer.room()
        self.committer.add(outcome)


@asynccontextmanager
async def running(**values: object) -> AsyncIterator[Bench]:
    bench = Bench(**values)  # type: ignore[arg-type]
    bench.committer.start()
    try:
        yield bench
    finally:
        await bench.committer.close()
        if bench.committer.failed.done():
            bench.committer.failed.exception()


def an_outcome(item_id: str, size_bytes: int = 10) -> ItemOutcome:
    receipt = Receipt("A", "A.tif", size_bytes, "xxh3", bytes(16))
    record = ItemRecord(key(item_id), Unit(item_id, f"labels/{item_id}"), [receipt], page=0)
    return ItemOutcome(0, [record], fetched=1, fetched_bytes=size_bytes)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def test_sync_comes_before_the_row_and_the_row_before_the_name() -> None:
    """Effects stand in the one order that survives a power cut, and a unit is confirmed after the next sync."""
    async with running() as bench:
        await bench.submit(an_outcome("a"))
        await bench.committer.drain()
    assert bench.log == ["sync", "write a", "reveal a", "sync", "write confirm a"]


async def test_groups_overlap_by_one_sync() -> None:
    """The renames of one group are made durable by the sync of the next, not by one of their own."""
    async with running() as bench:
        for item_id in "abc":
            await bench.submit(an_outcome(item_id))
            await until(lambda item_id=item_id: f"reveal {item_id}" in bench.log)  # type: ignore[misc]
        await bench.committer.drain()
    for item_id in "abc":
        reveal = bench.log.index(f"reveal {item_id}")
        confirm = next(n for n, line in enumerate(bench.log) if item_id in line.partition("confirm")[2])
        assert bench.log[reveal:confirm].count("sync") == 1
    assert bench.ledger.confirmed == ["a", "b", "c"]


async def test_drain_waits_for_the_last_confirmation() -> None:
    """After `drain` all rows are confirmed; a second drain with nothing to do returns at once."""
    async with running(every_s=3600.0) as bench:
        for n in range(20):
            await bench.submit(an_outcome(f"i{n}"))
        await asyncio.wait_for(bench.committer.drain(), 60)
        assert len(bench.ledger.confirmed) == 20
        assert len(bench.written) == 20
        syncs = bench.log.count("sync")
        await asyncio.wait_for(bench.committer.drain(), 60)
        assert bench.log.count("sync") == syncs


async def test_two_drains_at_once_both_return() -> None:
    """Every waiter is woken."""
    async with running(every_s=3600.0) as bench:
        await bench.submit(an_outcome("a"))
        await asyncio.wait_for(asyncio.gather(bench.committer.drain(), bench.committer.drain()), 60)


async def test_after_a_drain_groups_gather_again() -> None:
    """The hurry of a drain ends with it: later entries wait for their time, or for the next drain."""
    async with running(every_s=3600.0) as bench:
        await bench.submit(an_outcome("a"))
        await bench.committer.drain()
        writes = bench.ledger.writes
        await bench.submit(an_outcome("b"))
        await asyncio.sleep(0.05)
        assert bench.ledger.writes == writes
        await asyncio.wait_for(bench.committer.drain(), 60)
        assert bench.ledger.confirmed == ["a", "b"]


async def test_many_bytes_do_not_wait_for_the_clock() -> None:
    """A group is closed by its bytes, too."""
    async with running(every_s=3600.0, every_bytes=100) as bench:
        await bench.submit(an_outcome("a", 60))
        await bench.submit(an_outcome("b", 60))
        await until(lambda: len(bench.sink.visible) == 0 and "reveal b" in bench.log)


async def test_close_commits_what_was_handed_over() -> None:
    """Closing without a drain loses nothing; closing twice is nothing."""
    async with running(every_s=3600.0) as bench:
        for n in range(10):
            await bench.submit(an_outcome(f"i{n}"))
        await bench.committer.close()
        await bench.committer.close()
        assert len(bench.ledger.confirmed) == 10


async def test_close_before_start_returns() -> None:
    """A run that fails before its first item can close all the same."""
    await asyncio.wait_for(Bench().committer.close(), 60)


async def test_units_of_an_earlier_run_are_revealed_without_rows() -> None:
    """Recovery hands over reveals only: they are synced, revealed and confirmed, and `drain` waits for them."""
    async with running(every_s=3600.0) as bench:
        bench.committer.reveal([Reveal(Unit("old", "labels/old"), {})])
        await asyncio.wait_for(bench.committer.drain(), 60)
    assert bench.log == ["sync", "write", "reveal old", "sync", "write confirm old"]


@pytest.mark.parametrize("step", ["sync", "write", "reveal", "second sync"])
async def test_a_failed_step_ends_everything_after_it(step: str) -> None:
    """The thread stops, `failed` says why, waiters and later submits raise it, and nothing further is revealed."""
    error = TargetUnwritable("no space")
    async with running() as bench:
        if step == "write":
            bench.ledger.fail_write = (1, error)
        else:
            bench.sink.failures[step.split()[-1]] = (2 if "second" in step else 1, error)
        await bench.submit(an_outcome("a"))
        with pytest.raises(TargetUnwritable):
            await asyncio.wait_for(bench.committer.drain(), 60)
        assert bench.committer.failed.exception() is error
        seen = list(bench.log)
        with pytest.raises(TargetUnwritable):
            await bench.submit(an_outcome("b"))
        with pytest.raises(TargetUnwritable):
            await bench.committer.drain()
        await asyncio.wait_for(bench.committer.close(), 60)
        assert bench.log == seen
        assert "a" not in bench.ledger.confirmed
        assert ("reveal a" in bench.log) == (step == "second sync")


async def test_a_failure_is_known_once_close_returns() -> None:
    """Whenever the thread fails, `failed` is done after `close`: no run ends well on a disk that did not."""
    for _ in range(30):
        async with running() as bench:
            bench.sink.failures["sync"] = (1, TargetUnwritable("no space"))
            await bench.submit(an_outcome("a"))
            bench.committer._thread.join(60)  # the thread is dead before the loop could hear of it
            await bench.committer.close()
            assert bench.committer.failed.done()


async def test_a_full_line_holds_submitters_back_until_rows_are_written() -> None:
    """Backpressure: at most `pending_max` entries wait, and the waiting ones go on when there is room."""
    gate = threading.Event()
    async with running(pending_max=3) as bench:
        write = bench.ledger.write

        def slow(entries: list[LedgerEntry], in_place: list[Unit]) -> list[Reveal]:
            gate.wait(60)
            return write(entries, in_place)

        bench.ledger.write = slow  # type: ignore[method-assign, assignment]
        submits = [asyncio.create_task(bench.submit(an_outcome(f"i{n}"))) for n in range(20)]
        await asyncio.sleep(0.02)
        assert sum(task.done() for task in submits) == 3
        submits[-1].cancel()
        gate.set()
        await asyncio.wait_for(asyncio.gather(*submits[:-1]), 60)
        await bench.committer.drain()
        assert len(bench.ledger.confirmed) == 19


async def test_a_failure_frees_those_who_wait_for_room() -> None:
    """Submitters that wait are told of the failure; none hangs."""
    async with running(pending_max=1, every_s=0.02) as bench:
        bench.sink.failures["sync"] = (1, TargetUnwritable("no space"))
        submits = [asyncio.create_task(bench.submit(an_outcome(f"i{n}"))) for n in range(5)]
        results = await asyncio.wait_for(asyncio.gather(*submits, return_exceptions=True), 60)
        assert [type(result) for result in results] == [type(None)] + [TargetUnwritable] * 4


async def test_nothing_is_lost_under_load() -> None:
    """Five thousand submits from a hundred tasks: each is written once, in its task's order, and confirmed."""
    async with running(pending_max=64, every_bytes=2000) as bench:

        async def submit(worker: int) -> None:
            for n in range(50):
                await bench.submit(an_outcome(f"{worker}.{n}"))

        await asyncio.wait_for(asyncio.gather(*(submit(worker) for worker in range(100))), 60)
        await bench.committer.drain()
        ids = [entry.records[0].key.id for entry in bench.ledger.entries if isinstance(entry, ItemOutcome)]
        assert len(ids) == len(set(ids)) == 5000
        assert sorted(bench.ledger.confirmed) == sorted(ids)
        for worker in range(0, 100, 17):
            mine = [int(item_id.partition(".")[2]) for item_id in ids if item_id.startswith(f"{worker}.")]
            assert mine == sorted(mine)
