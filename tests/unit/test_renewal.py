"""Links that expire: whose clock counts, and how a life that is shorter than the settings say is learned."""

from __future__ import annotations

import pytest

from stacmirror.model import Asset, Item, ItemKey, Transfer
from stacmirror.pipeline.bundle import Job
from stacmirror.pipeline.renewal import Renewal
from stacmirror.pipeline.server_clock import ServerClock
from tests.unit.fakes import FakeClock, Notes

HOST = "http://host"


class Links:
    """A catalog that gives an item another link each time, read at the clock's time."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.given = 0

    async def item(self, key: ItemKey, href: str = "") -> Item:
        self.given += 1
        asset = Asset("A", f"{HOST}/download/{self.given:032x}")
        return Item(key, (asset,), (), {}, b"{}", self.clock.wall())


class Bench:
    def __init__(self, life_s: float = 3600.0) -> None:
        self.clock, self.notes = FakeClock(), Notes()
        self.links = Links(self.clock)
        self.renewal = Renewal(self.links, self.clock, life_s, self.notes.note)  # type: ignore[arg-type]

    async def job(self) -> tuple[Job, Transfer]:
        item = await self.links.item(ItemKey("c", "i"))
        job = Job(item.key, item=item)
        transfer = Transfer(item.assets[0], "A.tif")
        job.todo = [transfer]
        self.renewal.note_expiry(job)
        return job, transfer

    async def refused(self, age_s: float, host: str = HOST) -> tuple[bool, Transfer]:
        job, transfer = await self.job()
        self.clock.now_s += age_s
        return await self.renewal.mend(job, transfer, transfer.asset.href, host), transfer


async def test_a_shorter_life_is_learned() -> None:
    """Three links refused at ages from 5 to 9 s that are good again tell that they live for 9 s at most."""
    bench = Bench()
    for age_s in (9.0, 5.0, 7.0):
        mended, transfer = await bench.refused(age_s)
        assert mended
        bench.renewal.proved_good(transfer)
    job, _ = await bench.job()
    assert not bench.renewal.is_due(job)
    bench.clock.now_s += 8.2
    assert bench.renewal.is_due(job)
    assert bench.notes.lines == ["links die after 9.0s or less, not 1h 00m: renewed in time from here on"]


async def test_links_that_are_refused_for_another_reason_teach_nothing() -> None:
    """By storage behind the link, or in the second that it was made: no renewal; twenty in vain and no more."""
    bench = Bench()
    assert not (await bench.refused(60.0, "http://storage"))[0]
    assert not (await bench.refused(0.5))[0]
    for _ in range(10):
        job, transfer = await bench.job()
        for age_s, is_mended in ((60.0, True), (2.0, False)):  # the renewed one is refused when it is young
            bench.clock.now_s += age_s
            assert await bench.renewal.mend(job, transfer, transfer.asset.href, HOST) == is_mended
    for _ in range(10):
        job, transfer = await bench.job()
        for is_mended in [True] * 5 + [False]:  # or time and again, at any age
            bench.clock.now_s += 60.0
            assert await bench.renewal.mend(job, transfer, transfer.asset.href, HOST) == is_mended
    assert not (await bench.refused(60.0))[0]
    assert bench.notes.lines == []


async def test_links_that_die_in_one_instant_are_all_renewed() -> None:
    """As many as there are workers may be refused before one of them proves that age was the reason."""
    bench = Bench()
    jobs = [await bench.job() for _ in range(256)]
    bench.clock.now_s += 60.0
    mended = [await bench.renewal.mend(job, transfer, transfer.asset.href, HOST) for job, transfer in jobs]
    assert all(mended)


@pytest.mark.parametrize("jump_s", [6 * 3600.0, -6 * 3600.0, 1e8])
def test_the_servers_clock_counts(jump_s: float) -> None:
    """Once an answer had a date, our own clock may jump as it likes."""
    inner = FakeClock()
    ahead_s = 0.0

    class Jumping(FakeClock):
        def monotonic(self) -> float:
            return inner.now_s

        def wall(self) -> float:
            return 5000.0 + inner.now_s + ahead_s

    clock = ServerClock(Jumping())
    assert clock.wall() == 6000.0
    clock.heard("Thu, 01 Jan 2026 00:00:10 GMT")
    told_s = clock.wall()
    ahead_s = jump_s
    inner.now_s += 7.0
    assert clock.wall() == told_s + 7.0
    inner.now_s += 0.4
    clock.heard("Thu, 01 Jan 2026 00:00:18 GMT")  # the latest date says it best
    assert clock.wall() == told_s + 8.0
    inner.now_s += 2.0
    clock.heard("Thu, 01 Jan 2026 00:00:19 GMT")  # an answer that took its time
    assert clock.wall() == told_s + 10.0
    clock.heard("nonsense")
    clock.heard("Wed, 31 Dec 2025 23:00:00 GMT")  # set back
    assert clock.wall() == told_s - 3610.0
