"""The allowance of a host against made-up origins: it finds their limit without being told, and stays there."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import pytest

from stacmirror.pace import REFUSED, START, UNAVAILABLE, Pace


class World:
    """A client that always has work, and an origin with a round trip, a limit at once, and a throughput."""

    def __init__(
        self,
        *,
        ceiling: int = 256,
        round_trip_s: float = 0.08,
        at_once: int = 10_000,
        per_s: float = 1e9,
        pause_s: float = 1.0,
        demand: int = 10_000,
        busy: float = 0.1,
        stall_s: float = 0.0,
        stray: float = 0.0,
    ) -> None:
        self._stray = stray
        self.now_s = 1_000.0
        self._stall_s = stall_s
        self._random = random.Random(1)
        self._next_stall_s = self.now_s
        self.busy = busy
        self.pace = Pace(ceiling, lambda: self.now_s, lambda: self.busy)
        self.round_trip_s, self.at_once, self.per_s = round_trip_s, at_once, per_s
        self.pause_s, self.demand = pause_s, demand
        self.in_flight = 0
        self.served = 0
        self.refusals = 0
        self._ends: list[tuple[float, int, int, float]] = []
        self._server_free_s = 0.0
        self._paused_until_s = 0.0

    def run(self, seconds: float) -> float:
        """Let time pass; return the throughput."""
        until_s, served = self.now_s + seconds, self.served
        while self.now_s < until_s:
            self._ask()
            if self._ends and (self._ends[0][0] <= self._paused_until_s or self.now_s >= self._paused_until_s):
                ends_s, place, refusal, asked_s = heapq.heappop(self._ends)
                self.now_s = max(self.now_s, ends_s)
                self._stumble()
                self.pace.answered(place, self.now_s - asked_s, refusal)
                self.in_flight -= 1
                self.served += not refusal
                self.refusals += refusal > 0
                if refusal == REFUSED:
                    self._paused_until_s = self.now_s + self.pause_s
            else:
                self.now_s = max(self.now_s + 0.001, self._paused_until_s)
        return (self.served - served) / seconds

    def _stumble(self) -> None:
        """Let our own side stand still now and then (a commit, a neighbour on the core), three times a second."""
        if self._stall_s and self.now_s >= self._next_stall_s:
            self.now_s += self._random.uniform(0, 2 * self._stall_s)
            self._next_stall_s = self.now_s + self._random.uniform(0.1, 0.5)

    def _ask(self) -> None:
        while self.in_flight < min(self.pace.limit, self.demand) and self.now_s >= self._paused_until_s:
            self.in_flight += 1
            self.pace.asked(self.in_flight)
            if self.in_flight > self.at_once:
                heapq.heappush(self._ends, (self.now_s + self.round_trip_s, self.in_flight, REFUSED, self.now_s))
                continue
            self._server_free_s = max(self._server_free_s, self.now_s) + 1 / self.per_s
            stray = UNAVAILABLE if self._random.random() < self._stray else 0
            heapq.heappush(self._ends, (self._server_free_s + self.round_trip_s, self.in_flight, stray, self.now_s))


@pytest.mark.parametrize("at_once", [20, 50, 128, 200])
def test_a_limit_that_refuses_is_found(at_once: int) -> None:
    """80 ms away, 429 above so many at once: nine tenths of the best throughput in minutes two and three."""
    world = World(at_once=at_once)
    world.run(60)
    assert world.run(120) >= 0.9 * at_once / 0.08
    assert world.refusals < 20 * at_once


@pytest.mark.parametrize("per_s", [300.0, 1000.0, 2000.0])
def test_a_full_host_is_not_flooded(per_s: float) -> None:
    """Where more at once brings nothing more, growth ends; and the host's throughput is used."""
    world = World(per_s=per_s, round_trip_s=0.08)
    world.run(60)
    assert world.run(120) >= 0.9 * per_s
    assert world.pace.limit <= max(2 * START, 3 * per_s * 0.08)


@pytest.mark.parametrize(("stray", "least"), [(0.02, 0.9), (0.1, 0.02)])
def test_stray_refusals_do_not_bring_it_down(stray: float, least: float) -> None:
    """A host that says 503 to one request in fifty, whatever is asked, is used; one in ten is a host in trouble."""
    world = World(ceiling=200, stray=stray)
    world.run(60)
    assert world.run(120) >= least * 200 / 0.08
    assert world.pace.limit >= 8


def test_near_by_64_at_once_are_found_whatever_answers_take() -> None:
    """Where an answer's time is our own, it grows with what is asked at once: up to 64 that means nothing."""
    world = World(per_s=3000.0, round_trip_s=0.001)
    world.run(5)
    assert world.pace.limit >= 64


def test_an_open_host_is_used_to_the_ceiling() -> None:
    """Nothing refuses and more brings more: a minute is enough to get to what was allowed, and no further."""
    world = World(ceiling=256)
    world.run(30)
    assert world.pace.limit == 256


@pytest.mark.parametrize("at_once", [128, 10_000])
def test_hiccups_of_our_own_are_not_taken_for_a_full_host(at_once: int) -> None:
    """A client that stands still for a tenth of a second now and then climbs as high as one that does not, in time."""
    world = World(ceiling=256, at_once=at_once, stall_s=0.1)
    world.run(40)
    limits = []
    for _ in range(60):
        world.run(1)
        limits.append(world.pace.limit)
    assert sum(limits) / len(limits) >= 0.93 * min(256, at_once)


def test_a_host_that_brings_no_more_keeps_its_edge() -> None:
    """That growth brought nothing for a while does not make a refused number of requests worth another try at once."""
    world = World(at_once=128)
    world.run(10)
    first = world.refusals
    for _ in range(200):  # until it is refused again: from then on 30 s until it is probed once more
        if world.refusals == first:
            world.run(0.1)
    world.run(1.2)
    refusals = world.refusals
    assert refusals > first > 0
    world.per_s = 1000.0
    world.run(4)
    world.per_s = 1e9
    world.run(18)
    assert world.pace.limit <= 128
    assert world.refusals == refusals


def test_what_nobody_needs_does_not_grow() -> None:
    """Ten requests at once are all there is to ask: the allowance says nothing about the host, and stays."""
    world = World(demand=10)
    world.run(60)
    assert world.pace.limit == START


def test_a_busy_loop_of_our_own_freezes_it() -> None:
    """Where we are the limit, more at once would only make everyone wait."""
    world = World(busy=0.95)
    world.run(60)
    assert world.pace.limit == START
    world.busy = 0.1
    world.run(60)
    assert world.pace.limit > START


def test_a_storm_shrinks_it_and_its_end_brings_it_back() -> None:
    """A host that takes ten at once for a while, and two hundred again after."""
    world = World(at_once=200)
    world.run(60)
    world.at_once = 10
    world.run(30)
    assert world.pace.limit <= 10
    world.at_once = 200
    world.run(300)
    assert world.pace.limit > 100


@pytest.mark.parametrize("answer", ["refused", "served"])
def test_it_never_leaves_its_bounds(answer: str) -> None:
    """Whatever the answers: at least one, at most the ceiling."""
    now = [0.0]
    tick: Callable[[], float] = lambda: now[0]  # noqa: E731
    pace = Pace(5, tick, lambda: 0.0)
    for _ in range(10_000):
        now[0] += 0.01
        pace.asked(pace.limit)
        pace.answered(pace.limit, 0.1, REFUSED if answer == "refused" else 0)
        assert 1 <= pace.limit <= 5
    assert pace.limit == (1 if answer == "refused" else 5)
