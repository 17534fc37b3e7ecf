"""`--bwlimit` in virtual time: many askers together read no faster than the line, and no slower either."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any

import pytest

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply
from stacmirror.transports.bandwidth import Bandwidth, LimitedTransport
from tests.faults.virtual import VirtualLoop

RATE = 100_000
BURST = RATE * 0.25
SLACK = 1.2
"""In the first bodies the mean is not known yet."""


class Stream:
    """A large body whose chunks are all there."""

    def __init__(self, chunks: int, size: int) -> None:
        self.left, self.size, self.closed = chunks, size, False

    async def chunks(self) -> AsyncIterator[bytes]:
        while self.left:
            self.left -= 1
            yield bytes(self.size)

    def close(self) -> None:
        self.closed = True


class Origin:
    """Answers at once; writes down when how much was asked for."""

    def __init__(self, sizes: list[int], stream: Stream | None = None) -> None:
        self.sizes, self.stream = sizes, stream
        self.begun_s: list[float] = []
        self.closed = 0

    async def fetch(self, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
        self.begun_s.append(asyncio.get_running_loop().time())
        size = self.sizes[(len(self.begun_s) - 1) % len(self.sizes)]
        if size < 0:
            raise TransferError("reset", "gone")
        if self.stream is not None:
            return Reply(url, 200, {}, None, self.stream)
        return Reply(url, 200, {}, bytes(size), None)

    async def close(self) -> None:
        self.closed += 1


def virtually(work: Coroutine[Any, Any, None]) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


def limited(origin: Origin) -> LimitedTransport:
    return LimitedTransport(origin, Bandwidth(RATE, lambda: asyncio.get_running_loop().time(), asyncio.sleep))


async def ask_all(transport: LimitedTransport, requests: int, askers: int) -> float:
    """Ask so often, by so many at once; return the seconds that it took."""
    left = iter(range(requests))
    began_s = asyncio.get_running_loop().time()

    async def ask() -> None:
        for _ in left:
            try:
                await transport.fetch("http://host/a", {}, 1 << 20)
            except TransferError:
                continue

    await asyncio.gather(*[ask() for _ in range(askers)])
    return asyncio.get_running_loop().time() - began_s


@pytest.mark.parametrize("askers", [1, 16, 256])
@pytest.mark.parametrize("sizes", [[1000], [200, 20_000, 0]], ids=["alike", "apart"])
def test_small_bodies_come_as_fast_as_the_line(askers: int, sizes: list[int]) -> None:
    """2,000 bodies, by however many: as many seconds as their bytes take, but for the burst and what is under way."""

    async def work() -> None:
        took_s = await ask_all(limited(Origin(sizes)), 2000, askers)
        line_s = 2000 * sum(sizes) / len(sizes) / RATE
        under_way_s = askers * max(sizes) / RATE
        assert (line_s - under_way_s) / SLACK - 0.25 <= took_s <= line_s * SLACK

    virtually(work())


def test_the_first_bodies_are_paid_for_before_the_next_are_asked_for() -> None:
    """32 of unknown size begin at once, and end one by one: those that wait already hear of each that ends."""

    class Slow(Origin):
        async def fetch(self, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
            reply = await super().fetch(url, headers, small_max_bytes)
            await asyncio.sleep(0.1 + len(self.begun_s) / 1000)
            return reply

    async def work() -> None:
        origin = Slow([20_000])
        await ask_all(limited(origin), 60, 32)
        assert origin.begun_s[31] == origin.begun_s[0]
        assert origin.begun_s[40] - origin.begun_s[0] >= 32 * 20_000 / RATE / SLACK - 0.25
        assert origin.begun_s[-1] - origin.begun_s[0] >= 59 * 20_000 / RATE / SLACK - 0.25

    virtually(work())


def test_no_burst_after_the_line_was_busy() -> None:
    """Once the mean is known, those who wait go one after another: no second brings more than it may."""

    async def work() -> None:
        origin = Origin([1000])
        await ask_all(limited(origin), 3000, 64)
        later = origin.begun_s[1000:]
        for start in range(0, len(later) - 150, 10):
            assert later[start + 150] - later[start] > 1.0  # 150 kB, of which a burst may be 25 kB

    virtually(work())


def test_large_bodies_are_read_no_faster() -> None:
    """A body of a megabyte, by chunks: ten seconds; closing closes."""

    async def work() -> None:
        origin = Origin([0], Stream(100, 10_000))
        transport = limited(origin)
        began_s = asyncio.get_running_loop().time()
        reply = await transport.fetch("http://host/a", {}, 1 << 20)
        assert reply.stream is not None
        read = 0
        async for chunk in reply.stream.chunks():
            read += len(chunk)
        assert read == 1_000_000
        assert 9.6 <= asyncio.get_running_loop().time() - began_s <= 10.1
        reply.stream.close()
        assert origin.stream is not None
        assert origin.stream.closed
        await transport.close()
        assert origin.closed == 1

    virtually(work())


def test_what_does_not_come_costs_nothing() -> None:
    """Requests that break give back what they had taken."""

    async def work() -> None:
        origin = Origin([1000, -1, -1, -1])
        took_s = await ask_all(limited(origin), 4000, 16)
        assert took_s <= 1000 * 1000 / RATE * SLACK

    virtually(work())
