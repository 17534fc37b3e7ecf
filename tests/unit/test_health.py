"""A host's health, step by step on a fake clock: what makes it down, who is to blame, and how it comes back."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from stacmirror.budget import HostBudget
from stacmirror.errors import SourceLost, TransferError
from stacmirror.health import NO_LIMIT, Change, Health
from stacmirror.pace import Fixed, Pace
from stacmirror.retry import RetryPolicy, error_for_status, with_retries


class Bench:
    """A budget of ten places (or more) on a clock that is set by hand."""

    def __init__(self, outage_max_s: float = 100.0, places: int = 10) -> None:
        self.now_s = 1000.0
        self.changes: list[Change] = []
        self.health = Health(lambda: self.now_s, outage_max_s, lambda: 0.0, self.changes.append)
        self.budget = HostBudget(Fixed(places), None, lambda: self.now_s, self._sleep, self.health)

    async def _sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await asyncio.sleep(0)

    def ask(self) -> int:
        return self.budget.try_acquire()

    def end(self, status: int = 200, url: str = "u", kind: str = "") -> TransferError:
        """Let a request end with a status, or with an error of `kind`; return the error as it was marked."""
        error = TransferError(kind or "5xx", kind or str(status), status=0 if kind else status)
        try:
            if kind:
                self.budget.broke(self.now_s, url, error)
            elif status == 200:
                self.budget.answered(1, self.now_s)
            else:
                self.budget.refused(1, self.now_s, url, error)
        finally:
            self.budget.release()
        return error

    def bring_down(self, status: int = 503, kind: str = "") -> None:
        for url in ("a", "b", "c"):
            assert self.ask()
            self.end(status, url, kind)
        assert self.health.down


def test_doubt_waits_for_what_is_under_way() -> None:
    """After three refusals nothing new is asked, and the host is down only when the last of the others is refused."""
    bench = Bench()
    for _ in range(5):
        assert bench.ask()
    for url in ("a", "b", "c", "d"):
        bench.end(503, url)
    assert bench.ask() == 0
    assert not bench.health.down
    bench.end(503, "e")
    assert bench.health.down


def test_one_good_answer_ends_the_doubt() -> None:
    """Of five under way the last is served: the others were strays, or too many at once, and nothing is held up."""
    bench = Bench()
    for _ in range(5):
        bench.ask()
    for url in ("a", "b", "c", "d"):
        bench.end(503, url)
    bench.end(200)
    assert bench.health.most == NO_LIMIT
    assert bench.ask()
    assert bench.changes == []


def test_one_bad_object_brings_no_host_down() -> None:
    """The same address refused or broken ten times is that object's trouble."""
    bench = Bench()
    for number in range(10):
        assert bench.ask()
        bench.end(503, "same", kind="reset" if number % 2 else "")
    assert not bench.health.down


def test_a_large_body_under_way_keeps_no_doubt_alive() -> None:
    """A body that has begun is an answer: the doubt does not wait for its end."""
    bench = Bench()
    bench.ask()
    bench.budget.streams()
    bench.bring_down()


async def test_who_is_down_is_asked_once_in_a_while() -> None:
    """One request a second at first, one in three later; others are told to come back in two seconds at most."""
    bench = Bench()
    bench.ask()
    bench.end(200)
    bench.bring_down()
    asked = []
    for _ in range(5):
        await bench.budget.acquire()
        asked.append(bench.now_s)
        assert 0 < bench.budget.wait_s() <= 2.0
        with pytest.raises(TransferError) as told:
            await bench.budget.acquire(pause_max_s=1.0)
        assert told.value.kind == "paused"
        assert bench.end(503, "d").by_host
    assert [later - sooner for sooner, later in pairwise(asked)] == [2.0, 3.0, 3.0, 3.0]


async def test_a_question_whose_end_nobody_told_holds_nobody_up_for_ever() -> None:
    """Who asked was cancelled: after a quarter of a minute another asks, and the host is well again."""
    bench = Bench()
    bench.bring_down()
    await bench.budget.acquire()
    asked_s = bench.now_s
    bench.budget.release()
    await asyncio.wait_for(bench.budget.acquire(), 5)
    assert bench.now_s == asked_s + 15.0
    bench.end(200)
    assert not bench.health.down


async def test_it_comes_back_step_by_step() -> None:
    """After the first good answer four may be under way, and one more for each good answer."""
    bench = Bench()
    bench.bring_down()
    await bench.budget.acquire()
    bench.end(200)
    assert [bool(bench.ask()) for _ in range(5)] == [True, True, True, True, False]
    for _ in range(4):
        bench.end(200)
    assert sum(bool(bench.ask()) for _ in range(10)) == 8
    for _ in range(8):
        bench.end(200)
    assert sum(bool(bench.ask()) for _ in range(20)) == 10
    assert [change.down for change in bench.changes] == [True, False]


async def test_after_a_pause_it_comes_back_step_by_step() -> None:
    """Who waited out a pause finds eight places and no more, and one more for each good answer: not all in one go."""
    bench = Bench(places=40)
    bench.ask()
    bench.end(200)
    bench.budget.pause(30.0)
    assert bench.ask() == 0
    assert await bench.budget.acquire()
    assert bench.now_s == 1030.0
    assert sum(bool(bench.ask()) for _ in range(40)) == 7
    bench.end(200)
    assert sum(bool(bench.ask()) for _ in range(40)) == 2
    for _ in range(9):
        bench.end(200)
    assert sum(bool(bench.ask()) for _ in range(40)) == 18


def test_a_crowd_is_to_blame_only_while_it_can_be() -> None:
    """Refusals among good answers are the crowd's; more in a row than are under way are not, and count as attempts."""
    bench = Bench()
    for _ in range(3):
        bench.ask()
    assert bench.end(503, "a").by_host  # two more are under way: they may be what is too much
    bench.end(200)
    assert bench.end(503, "a").by_host
    bench.ask()
    assert not bench.end(503, "a").by_host  # it was asked alone
    for _ in range(120):
        bench.ask()
        bench.end(200)
    for _ in range(2):
        bench.ask()
    assert not bench.end(503, "a").by_host  # 4 in 126 are a crowd no more: a stray is its asset's own


def test_an_outage_teaches_the_pace_nothing() -> None:
    """Refusals of one host shrink what it gets at once; when they prove to be an outage, it is as before."""
    bench = Bench()
    pace = Pace(100, lambda: bench.now_s, lambda: 0.0)
    before = pace.limit
    bench.budget.allowance = pace
    for _ in range(20):
        assert bench.ask()
    for number in range(19):
        bench.end(503, f"u{number}")
    assert pace.limit < before
    bench.end(503, "last")
    assert bench.health.down
    assert pace.limit == before


async def test_what_was_asked_before_it_went_down_is_no_probe() -> None:
    """An answer that comes late is the outage's, and moves no question that is to come."""
    bench = Bench()
    bench.ask()
    bench.end(200)
    asked_s = bench.now_s
    bench.now_s += 1.0
    bench.bring_down(kind="connect")
    wait_s = bench.budget.wait_s()
    late = TransferError("reset", "reset")
    bench.budget.broke(asked_s, "e", late)
    assert late.by_host
    assert bench.budget.wait_s() == wait_s


async def test_blame() -> None:
    """No connection is the host's fault, once it has answered; 429 and 503 while it is down; 500 and 502 never."""
    bench = Bench()
    assert bench.ask()
    assert not bench.end(kind="connect").by_host  # it never answered: perhaps there is no such host
    bench.ask()
    bench.end(200)
    bench.ask()
    assert bench.end(kind="connect").by_host
    for status, by_host in ((500, False), (502, False), (503, True), (429, True)):
        bench = Bench()
        for _ in range(50):
            bench.ask()
            bench.end(200)
        bench.bring_down()
        await bench.budget.acquire()
        assert bench.end(status, "d").by_host is by_host


async def test_an_outage_has_an_end() -> None:
    """Beyond the longest outage the run's own error is raised, by the probe and by all who come after it."""
    bench = Bench(outage_max_s=60.0)
    bench.budget.name = "https://host"
    bench.ask()
    bench.end(200)
    bench.bring_down(kind="connect")
    for _ in range(21):
        await bench.budget.acquire()
        bench.end(kind="connect")
    await bench.budget.acquire()
    with pytest.raises(SourceLost, match=r"no answer for 1m 0\ds from https://host: connect"):
        bench.end(kind="connect")
    with pytest.raises(SourceLost):
        await bench.budget.acquire()


async def test_a_host_that_never_answered_is_given_up() -> None:
    """After a quarter of a minute whoever wants something of it hears so at once, but for a question a minute."""
    bench = Bench()
    bench.bring_down(kind="dns")
    for _ in range(10):
        await bench.budget.acquire()
        bench.end(kind="dns")
        if bench.health.given_up:
            break
    began_s = bench.now_s
    for _ in range(3):
        with pytest.raises(TransferError, match="given up") as told:
            await bench.budget.acquire()
        assert (told.value.kind, told.value.retryable) == ("dns", False)
    assert bench.now_s == began_s <= 1020
    bench.now_s += 60.0
    await bench.budget.acquire()
    bench.end(200)
    assert bench.ask()


async def test_what_the_host_is_to_blame_for_is_no_attempt() -> None:
    """A page that meets ten such errors and two of its own is had with two retries; a third of its own is too many."""

    async def pages(own: int) -> str:
        left = [*["host"] * 10, *["own"] * own]

        async def ask() -> str:
            if not left:
                return "page"
            error = TransferError("5xx", "503", status=503)
            error.by_host = left.pop() == "host"
            raise error

        async def sleep(seconds: float) -> None:
            await asyncio.sleep(0)

        return await with_retries(ask, RetryPolicy(retries=2), lambda: 0.5, sleep, lambda *_: None)

    assert await pages(2) == "page"
    with pytest.raises(TransferError):
        await pages(3)


async def test_waits_for_a_host_do_not_grow_beyond_seconds() -> None:
    """However often the host is to blame, nobody sleeps for a minute when it is back; and that has an end."""
    waits: list[float] = []

    async def ask() -> str:
        error = TransferError("connect", "no connection")
        error.by_host = True
        raise error

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    policy = RetryPolicy(retries=1, first_s=0.5, max_s=60.0, outage_max_s=100.0)
    with pytest.raises(TransferError):
        await with_retries(ask, policy, lambda: 1.0, sleep, lambda *_: None)
    assert waits[:5] == [0.5, 1.0, 2.0, 4.0, 4.0]
    assert max(waits) == 4.0
    assert 100.0 <= sum(waits) <= 105.0


def test_retry_after_as_a_date_is_read_by_the_servers_clock() -> None:
    """A clock of ours that is six hours off changes nothing about a pause of 30 seconds."""
    headers = {"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}
    for ours_s in (0.0, 1.8e9):
        assert error_for_status(429, headers, "x", ours_s).retry_after_s == 30.0
