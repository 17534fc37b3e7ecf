"""A host's budget: requests in flight, rate, pauses, and cancellation at any await."""

import asyncio

import pytest

from stacmirror.budget import HostBudget
from stacmirror.errors import TransferError
from stacmirror.limits import HostLimits
from stacmirror.pace import REFUSED, START, Fixed
from stacmirror.shortage import KIND


class FakeTime:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)
        self.now_s += seconds


def budget(in_flight_max: int, rate_per_s: float | None = None, time: FakeTime | None = None) -> HostBudget:
    time = time or FakeTime()
    return HostBudget(Fixed(in_flight_max), rate_per_s, time.now, time.sleep)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_than_allowed_are_in_flight() -> None:
    """A hundred tasks share three places; all get one in the end, and all places come back."""
    host = budget(3)
    most = 0

    async def work() -> None:
        nonlocal most
        await host.acquire()
        most = max(most, host.in_flight)
        await asyncio.sleep(0)
        host.release()

    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(work())
    assert most == 3
    assert host.in_flight == 0


async def test_places_go_to_the_first_in_line() -> None:
    """A released place is handed to who waits longest, not to who comes by."""
    host = budget(1)
    await host.acquire()
    order: list[int] = []

    async def wait(number: int) -> None:
        await host.acquire()
        order.append(number)

    tasks = [asyncio.create_task(wait(number)) for number in range(3)]
    await settle()
    for _ in tasks:
        host.release()
        await settle()
    assert order == [0, 1, 2]
    assert host.in_flight == 1


async def test_cancelled_waiter_takes_no_place() -> None:
    """A task cancelled in the queue is passed over; the place goes to the next."""
    host = budget(1)
    await host.acquire()
    first, second = asyncio.create_task(host.acquire()), asyncio.create_task(host.acquire())
    await settle()
    first.cancel()
    await settle()
    host.release()
    await settle()
    assert first.cancelled()
    assert second.done()
    host.release()
    assert host.in_flight == 0


async def test_place_handed_to_a_cancelled_task_is_handed_on() -> None:
    """Handed over and cancelled in the same breath: the place goes on to the next, not lost."""
    host = budget(1)
    await host.acquire()
    first, second = asyncio.create_task(host.acquire()), asyncio.create_task(host.acquire())
    await settle()
    host.release()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await settle()
    assert second.done()
    host.release()
    assert host.in_flight == 0


async def test_rate_spaces_requests() -> None:
    """At 10 a second, five requests are spread over four tenths of a second."""
    time = FakeTime()
    host = budget(10, 10.0, time)
    for _ in range(5):
        await host.acquire()
    assert time.now_s - 100.0 == pytest.approx(0.4)


async def test_pause_holds_requests_back() -> None:
    """A pause is waited for; a shorter one does not shorten it."""
    time = FakeTime()
    host = budget(2, None, time)
    host.pause(10.0)
    host.pause(1.0)
    assert host.wait_s() == pytest.approx(10.0)
    await host.acquire()
    assert time.now_s == pytest.approx(110.0)
    assert host.wait_s() == 0.0
    await host.acquire()
    assert time.slept == [pytest.approx(10.0)]


async def test_a_task_cancelled_in_a_pause_leaves_no_place_taken() -> None:
    """A task that waits for the end of a pause takes no place before it, and leaves none when it is cancelled."""
    never = asyncio.Event()

    async def forever(_: float) -> None:
        await never.wait()

    host = HostBudget(Fixed(1), None, lambda: 0.0, forever)
    host.pause(10.0)
    task = asyncio.create_task(host.acquire())
    await settle()
    assert host.in_flight == 0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert host.in_flight == 0


def test_each_origin_has_a_budget_of_its_own() -> None:
    """The same origin gives the same budget; another one another."""
    time = FakeTime()
    hosts = HostLimits(2, None, time.now, time.sleep)
    assert hosts.of("https://a:443") is hosts.of("https://a:443")
    assert hosts.of("https://a:443") is not hosts.of("https://b:443")
    hosts.of("https://a:443").pause(5.0)
    assert hosts.of("https://b:443").wait_s() == 0.0


async def test_a_growing_allowance_lets_more_in() -> None:
    """When the allowance grows while others wait, a release lets in as many as there is room for; a shrunk one none."""
    allowance = Fixed(1)
    host = HostBudget(allowance, None, FakeTime().now, FakeTime().sleep)
    await host.acquire()
    waiting = [asyncio.create_task(host.acquire()) for _ in range(6)]
    await settle()
    allowance.limit = 4
    host.release()
    await settle()
    assert [task.result() for task in waiting if task.done()] == [4, 4, 4, 4]
    allowance.limit = 2
    host.release()
    host.release()
    await settle()
    assert (host.in_flight, sum(task.done() for task in waiting)) == (2, 4)
    host.release()
    await settle()
    assert sum(task.done() for task in waiting) == 5
    waiting[-1].cancel()


def test_only_hosts_asked_lately_count_as_useful() -> None:
    """A worker has one request at a time: of use are as many as the hosts in use take at once."""
    time = FakeTime()
    hosts = HostLimits(40, None, time.now, time.sleep)
    assert hosts.useful_at_once() == START
    for origin in ("http://a", "http://b"):
        hosts.of(origin).asked = True
    time.now_s += 1
    assert hosts.useful_at_once() == 80
    hosts.of("http://a").asked = True
    time.now_s += 1
    assert hosts.useful_at_once() == 40


def test_hosts_are_paced_apart() -> None:
    """With a measure of our own load each host has an allowance that learns."""
    time = FakeTime()
    hosts = HostLimits(40, None, time.now, time.sleep, busy=lambda: 0.0)
    one, other = hosts.of("http://a").allowance, hosts.of("http://b").allowance
    assert one is not other
    for _ in range(3):
        one.answered(10, 0.0, REFUSED)
    assert (one.limit, other.limit) == (8, START)


async def test_no_more_open_files_is_no_outage() -> None:
    """It is nobody's attempt and no host's fault; those in use are asked for less at once, once an instant."""
    time, heard = FakeTime(), []
    limits = HostLimits(100, None, time.now, time.sleep, busy=lambda: 0.0, on_shortage=lambda: heard.append(time.now_s))
    host, other = limits.of("https://a"), limits.of("https://b")
    for _ in range(32):
        await host.acquire()
    for n in range(20):
        error = TransferError(KIND, "Too many open files")
        host.broke(time.now_s, f"https://a/{n}", error)
        assert error.by_host
    assert (host.health.down, host.health.doubted, host.health.bad_in_a_row) == (False, False, 0)
    assert 8 <= host.allowance.limit < 16
    assert other.allowance.limit == 32
    assert len(heard) == 1
    time.now_s += 1.0
    host.broke(time.now_s, "https://a/x", TransferError(KIND, "Too many open files"))
    assert len(heard) == 2
    assert host.allowance.limit == 8


def test_a_long_pause_is_said_once() -> None:
    """Of ten seconds and more a person hears, with the host's name and how long; of the same one only once."""
    time, said = FakeTime(), list[tuple[str, float]]()
    limits = HostLimits(
        4, None, time.now, time.sleep, on_pause=lambda host, seconds: said.append((host, seconds)), name=str.upper
    )
    host = limits.of("http://host:80")
    host.pause(9.0)
    time.now_s += 9.0
    host.pause(30.0)
    host.pause(40.0)
    assert said == [("HTTP://HOST:80", 30.0)]
    time.now_s += 40.0
    host.pause(20.0)
    assert said[1:] == [("HTTP://HOST:80", 20.0)]


async def test_hosts_that_are_waited_for() -> None:
    """Those that are down, and those whose pause lasts longer than one can read; not those that are well again."""
    time = FakeTime()
    limits = HostLimits(4, None, time.now, time.sleep)
    well, down, paused = (limits.of(f"http://{name}") for name in ("well", "down", "paused"))
    assert limits.waited_for() == []
    for _ in range(3):
        await down.acquire()
    for n in range(3):
        down.broke(time.now_s, f"http://down/{n}", TransferError("connect", "refused"))
        down.release()
    paused.pause(5.0)
    well.pause(0.5)
    assert limits.waited_for() == ["http://down", "http://paused"]
    time.now_s += 5.0
    down.answered(1, time.now_s)
    assert limits.waited_for() == []
