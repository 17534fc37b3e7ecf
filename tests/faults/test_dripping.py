"""Connections that drip: given up, and the others go on at their own rate. The latter on the test's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply
from stacmirror.status import read_failed
from stacmirror.transports import http, wire
from tests.contract.wire_server import DRIP, Step, head
from tests.faults.invariants import Before, hold, mends
from tests.faults.virtual import World, run
from tests.faults.world import Bench

LATENCY_S, DRIP_S = 1.0, 30.0
WORKERS, ITEMS = 64, 2600


class Dripping(World):
    """A host of which every other connection drips, until it is given up by the lowest speed, and opened anew.

    Connections are kept as the lean client keeps them: the one that was used last is used next.
    """

    def __init__(self, *, drips: bool) -> None:
        super().__init__(lambda at_s, url: 200, LATENCY_S)
        self._drips = drips
        self._made = 0
        self._idle: list[bool] = []
        self.dripped = 0

    async def fetch(self, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
        if self._idle:
            bad = self._idle.pop()
        else:
            self._made += 1
            bad = self._drips and self._made % 2 == 1
        if bad:
            self.dripped += 1
            await asyncio.sleep(DRIP_S)
            raise TransferError("slow", "30 bytes in 30 s")
        reply = await super().fetch(url, headers, small_max_bytes)
        self._idle.append(bad)
        return reply


@pytest.mark.parametrize("fixed", [True, False], ids=["fixed pace", "found pace"])
def test_half_of_the_connections_drip(tmp_path: Path, fixed: bool) -> None:
    """While half of the connections drip, files come at 45 % of the rate without, at least; none is lost.

    The first half minute is the worst: then drips are given up, and of the connections in their place half are good.
    """
    rates = {}
    for drips in (False, True):
        world = Dripping(drips=drips)
        ran = run(
            tmp_path / str(drips),
            world.rule,
            items=ITEMS,
            workers=WORKERS,
            per_host=WORKERS,
            fixed=fixed,
            world=world,
        )
        assert ran.error is None
        assert not ran.failures
        assert ran.counts.items.complete == ITEMS
        assert (world.dripped > WORKERS // 3) == drips
        rates[drips] = len(world.between(10.0, 30.0, 200)) / 20.0
    assert rates[True] >= 0.45 * rates[False], rates
    assert rates[False] > 0.9 * WORKERS / LATENCY_S


@pytest.mark.parametrize("asset", ["B01", "B02"], ids=["small", "large"])
async def test_a_drip_is_deferred(bench: Bench, monkeypatch: pytest.MonkeyPatch, asset: str) -> None:
    """Below the lowest speed once: right at another attempt. For ever: a failure; the others come (row 10)."""
    for module in (wire, http):
        monkeypatch.setattr(module, "_SLOW_WINDOW_S", 0.3)

    def drips(nth: int, body: bytes) -> Sequence[Step]:
        return head(200, f"Content-Length: {len(body)}"), body[:50], DRIP

    bench.world.faults[f"/files/i1/{asset}"] = lambda nth, body: drips(nth, body) if nth == 1 else None
    bench.world.faults[f"/files/i3/{asset}"] = drips
    before = Before()
    run = await bench.run(stall_timeout=0.3, lowest_speed="1KiB", retries=1)
    hold(bench, run, before)
    assert run.summary.exit_code == 3
    assert {(f.item, f.asset, f.kind) for f in read_failed(str(bench.target))} == {("i3", asset, "slow")}
    await mends(bench)
