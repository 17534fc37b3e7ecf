"""Who waits for bytes: given up after the stall timeout, and nobody else; by one timer, and only while it is needed."""

from __future__ import annotations

import asyncio

import pytest

from stacmirror.transports.listening import Listening
from tests.forward import Forward

STALL_S, SWEEP_S = 8.0, 1.0
LONG_S = 300.0


class Waits:
    """Who waits."""

    def __init__(self, *, fails: bool = False) -> None:
        self.waits_since_s = 0.0
        self.given_up = False
        self._fails = fails

    def give_up(self) -> None:
        self.given_up = True
        if self._fails:
            raise RuntimeError("a bug")


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Forward:
    return Forward(monkeypatch)


async def test_only_who_waits_is_given_up(clock: Forward) -> None:
    """After the stall timeout, not before; who has what it waited for is left alone; each wait is one of its own."""
    listening, has, waits, again = Listening(STALL_S), Waits(), Waits(), Waits()
    for one in (has, waits, again):
        listening.begin(one)
    await clock.go_on(STALL_S - 1)
    for one in (has, again):
        assert listening.end(one) == pytest.approx(STALL_S - 1, abs=SWEEP_S)
    listening.begin(again)
    assert not waits.given_up
    await clock.go_on(1 + 2 * SWEEP_S)
    assert waits.given_up
    assert not has.given_up
    assert not again.given_up
    listening.close()


async def test_a_standstill_is_in_no_wait(clock: Forward) -> None:
    """Whether the timer is the first to see it, or who begins to wait, or who gets bytes at last."""
    listening, waits, other = Listening(STALL_S), Waits(), Waits()
    listening.begin(waits)
    await clock.put(LONG_S)
    await clock.go_on(1.0)
    clock.put_unseen(LONG_S)
    listening.begin(other)
    await clock.go_on(1.0)
    assert not waits.given_up
    clock.put_unseen(LONG_S)
    assert 1.9 < listening.end(waits) < 2.0 + 4 * SWEEP_S
    assert 0.9 < listening.end(other) < 1.0 + 2 * SWEEP_S
    listening.close()


async def test_the_timer_runs_while_somebody_waits(clock: Forward) -> None:
    """One for all; none once nobody waits, or after `close`; for the next who waits it begins anew."""
    listening, waits = Listening(STALL_S), Waits()
    listening.begin(waits)
    timer = listening._timer
    assert timer is not None
    for one in (Waits(), Waits()):
        listening.begin(one)
        listening.end(one)
    assert listening._timer is timer
    listening.end(waits)
    await clock.go_on(2 * SWEEP_S)
    assert listening._timer is None
    await clock.put(LONG_S)
    listening.begin(waits)
    await clock.go_on(3.0)
    assert listening.end(waits) == pytest.approx(3.0, abs=SWEEP_S)
    listening.begin(waits)
    timer = listening._timer
    assert timer is not None
    listening.close()
    assert timer.cancelled()


async def test_an_error_does_not_end_it(clock: Forward) -> None:
    """The one timer behind all waits goes on, whatever happens in one of its turns."""
    loud: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: loud.append(context))
    listening, bad, good = Listening(STALL_S), Waits(fails=True), Waits()
    listening.begin(bad)
    await clock.go_on(STALL_S + 2 * SWEEP_S)
    assert loud
    listening.end(bad)
    listening.begin(good)
    await clock.go_on(STALL_S + 2 * SWEEP_S)
    assert good.given_up
    listening.close()
