"""A disk that takes its time while the network does not: what waits for it is bounded, and so is memory (row 52)."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from typing import Any

import pytest

from stacmirror import building
from stacmirror.sinks.directory import DirectorySink
from tests.faults.invariants import Before, hold, mends
from tests.faults.world import COLLECTION, Bench, path_of, truth

UNWRITTEN, QUEUE, PAGE = 20, 10, 10
TEXT = "x" * 50_000
"""In each item, so that what waits can be weighed."""


async def at_rest(bench: Bench) -> None:
    """Wait until nobody asks for anything more: nothing new for half a second."""
    asked = -1
    while asked != len(bench.world.heard):
        asked = len(bench.world.heard)
        await asyncio.sleep(0.5)


async def test_row_52_a_disk_that_does_not_answer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first sync lasts, workers and walk stop at their bounds; then all comes, each file asked for once."""
    workers = bench.way[1]
    in_memory = UNWRITTEN + QUEUE + workers + 3 * PAGE  # of the pages: one read, one ahead, one under way
    bench.world.ids = [f"i{number}" for number in range(3 * in_memory)]
    expected = {path_of(item, "B01"): truth(item, "B01") for item in bench.world.ids}

    def edit(item: dict[str, Any]) -> None:
        item["assets"] = {"B01": item["assets"]["B01"]}
        item["properties"]["text"] = TEXT

    bench.world.edit_item = edit
    monkeypatch.setattr(building, "_UNWRITTEN_MAX", UNWRITTEN)
    answers = threading.Event()
    sync = DirectorySink.sync

    def slow(self: DirectorySink) -> None:
        answers.wait()
        sync(self)

    monkeypatch.setattr(DirectorySink, "sync", slow)
    before = Before()
    tracemalloc.start()
    try:
        running = asyncio.create_task(bench.run(queue_size=QUEUE, page_size=PAGE, page_max="5MB"))
        await at_rest(bench)
        held_bytes = tracemalloc.get_traced_memory()[0]
        asked = {path.split("/")[2] for path in bench.world.asked if path.startswith("/files/")}
        pages = bench.world.asked[f"/mlhub/v1/collections/{COLLECTION}/items"]
    finally:
        tracemalloc.stop()
        answers.set()
    run = await running
    assert UNWRITTEN // 2 <= len(asked) <= UNWRITTEN + workers  # pages count, too
    assert pages * PAGE <= in_memory
    assert held_bytes < 3 * in_memory * len(TEXT)  # each as JSON and as it was read, and what there is besides
    hold(bench, run, before, expected=expected)
    assert run.summary.exit_code == 0
    assert {bench.world.asked[f"/files/{item}/B01"] for item in bench.world.ids} == {1}
    await mends(bench, expected=expected, page_size=PAGE, page_max="5MB")
