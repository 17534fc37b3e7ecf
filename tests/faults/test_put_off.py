"""What a worker does with an asset whose host is to blame: it waits, not for long at a time, and not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply
from tests.conftest import tree
from tests.faults.virtual import VirtualClock, VirtualLoop, wait_for_commits
from tests.unit.fakes import an_item, pages_of
from tests.unit.test_run_stop import Bench


class Overrun:
    """An opener of a host that has too many guests for one asset, until it has said so `times` times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.asked_s: list[float] = []

    async def open(self, href: str, first: Mapping[str, str] = {}, others: Mapping[str, str] = {}) -> Reply:
        if href.endswith("/i1/A"):
            self.asked_s.append(asyncio.get_running_loop().time())
            if len(self.asked_s) <= self.times:
                error = TransferError("5xx", "503 from http://host", status=503)
                error.by_host = True
                raise error
        return Reply(href, 200, {}, b"bytes", None)

    def wait_s(self, href: str) -> float:
        return 0.0

    def is_down(self, href: str) -> bool:
        return False

    def useful_at_once(self) -> int:
        return 1000


def run(target: Path, times: int) -> tuple[Bench, list[tuple[object, ...]], list[float]]:
    opener = Overrun(times)

    async def work() -> Bench:
        bench = Bench(
            target,
            pages_of([[an_item("i0"), an_item("i1")]]),
            opener=opener,  # type: ignore[arg-type]
            clock=VirtualClock(),
            retries=1,
            backoff_s=0.5,
            workers=1,
            sweeps=0,
            sync_every_s=0.0,
        )
        wait_for_commits(bench)
        await bench.run.execute(bench.start, bench.staged)
        return bench

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        bench = runner.run(work())
    told = [(f.asset, f.kind, f.attempts, f.status, f.put_off) for f in bench.ledger.failed_assets()]
    bench.ledger.close()
    bench.sink.close()
    return bench, told, [later - sooner for sooner, later in pairwise(opener.asked_s)]


def test_waits_are_short_and_cost_no_attempt(tmp_path: Path) -> None:
    """Forty such answers with one retry: the file comes, and nobody slept for longer than four seconds at a time."""
    _, _, waits = run(tmp_path, 40)
    assert sorted(tree(tmp_path)) == ["labels/i0/A.tif", "labels/i1/A.tif"]
    assert [round(wait_s, 3) for wait_s in waits[:5]] == [0.5, 1.0, 2.0, 4.0, 4.0]
    assert max(waits) < 4.001


def test_patience_ends(tmp_path: Path) -> None:
    """After `--max-outage` (here 30 minutes) such answers count, and the asset fails as any other."""
    bench, told, waits = run(tmp_path, 10_000)
    assert bench.progress.failures == 1
    assert told == [("A", "5xx", 2, 503, len(waits) - 1)]
    assert 1800 <= sum(waits) <= 1815
