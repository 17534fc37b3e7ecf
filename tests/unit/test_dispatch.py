"""Bundles reach workers: in order, bounded, set aside until they are due, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import time

import pytest

from stacmirror.pipeline.bundle import Bundle
from stacmirror.pipeline.dispatch import Dispatch
from tests.unit.fakes import FakeClock, key


def a_bundle(item_id: str) -> Bundle:
    return Bundle(key(item_id), 0, [])


def named(bundle: Bundle | None) -> str:
    assert bundle is not None
    return bundle.walked.id


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_bundles_come_in_the_order_they_were_put() -> None:
    """First in line, first taken; after the end of the line there is None for everyone."""
    dispatch = Dispatch(10, 4, FakeClock().monotonic)
    for item_id in "abc":
        await dispatch.put(a_bundle(item_id))
    dispatch.close()
    assert [named(await dispatch.take()) for _ in range(3)] == ["a", "b", "c"]
    assert await dispatch.take() is None
    assert await dispatch.take() is None


async def test_a_full_line_holds_the_feeder_back() -> None:
    """No more than `size` wait in line; each take lets one more in."""
    dispatch = Dispatch(2, 4, FakeClock().monotonic)
    putting = [asyncio.create_task(dispatch.put(a_bundle(item_id))) for item_id in "abcd"]
    await settle()
    assert [task.done() for task in putting] == [True, True, False, False]
    assert dispatch.queued == 2
    await dispatch.take()
    await settle()
    assert [task.done() for task in putting] == [True, True, True, False]
    await dispatch.take()
    await asyncio.wait_for(putting[3], 30)
    assert dispatch.queued == 2


async def test_takers_that_wait_are_woken_one_by_one() -> None:
    """Waiting workers each get one of the bundles put, none gets two and none sleeps on."""
    dispatch = Dispatch(10, 4, FakeClock().monotonic)
    taking = [asyncio.create_task(dispatch.take()) for _ in range(3)]
    await settle()
    for item_id in "abc":
        await dispatch.put(a_bundle(item_id))
    assert [named(await asyncio.wait_for(task, 30)) for task in taking] == ["a", "b", "c"]


async def test_what_is_put_aside_comes_back_when_it_is_due() -> None:
    """A parked bundle is taken before those in line once its time has come, and not before."""
    clock = FakeClock()
    dispatch = Dispatch(10, 4, clock.monotonic)
    dispatch.park(a_bundle("later"), clock.now_s + 10)
    await dispatch.put(a_bundle("a"))
    await dispatch.put(a_bundle("b"))
    assert named(await dispatch.take()) == "a"
    clock.now_s += 10
    assert named(await dispatch.take()) == "later"
    assert named(await dispatch.take()) == "b"


async def test_a_waiting_taker_wakes_for_a_parked_bundle() -> None:
    """With an empty line, a taker sleeps until the first parked bundle is due - also one parked while it slept."""
    dispatch = Dispatch(10, 4, time.monotonic)
    dispatch.park(a_bundle("late"), time.monotonic() + 60)
    taking = asyncio.create_task(dispatch.take())
    await settle()
    dispatch.park(a_bundle("soon"), time.monotonic() + 0.02)
    assert named(await asyncio.wait_for(taking, 30)) == "soon"


async def test_the_end_waits_for_what_is_parked() -> None:
    """After `close`, parked bundles are still handed out; only then takers hear None."""
    clock = FakeClock()
    dispatch = Dispatch(10, 4, clock.monotonic)
    dispatch.park(a_bundle("a"), clock.now_s)
    dispatch.close()
    assert named(await dispatch.take()) == "a"
    assert await dispatch.take() is None


async def test_closing_wakes_all_who_wait() -> None:
    """No worker and no feeder is left waiting at the end."""
    dispatch = Dispatch(1, 4, FakeClock().monotonic)
    taking = [asyncio.create_task(dispatch.take()) for _ in range(5)]
    await settle()
    dispatch.close()
    assert await asyncio.wait_for(asyncio.gather(*taking), 30) == [None] * 5


async def test_dropping_frees_a_feeder_that_waits() -> None:
    """A stop forgets the line, frees the feeder, and nothing can be put aside any more."""
    clock = FakeClock()
    dispatch = Dispatch(1, 4, clock.monotonic)
    await dispatch.put(a_bundle("a"))
    dispatch.park(a_bundle("p"), clock.now_s)
    putting = asyncio.create_task(dispatch.put(a_bundle("b")))
    await settle()
    dispatch.drop()
    await asyncio.wait_for(putting, 30)
    dispatch.park(a_bundle("q"), clock.now_s)
    assert (dispatch.queued, dispatch.parked) == (0, 0)
    assert await asyncio.wait_for(dispatch.take(), 30) is None


async def test_no_more_is_put_aside_than_allowed() -> None:
    """`can_park` says when a worker must wait itself."""
    dispatch = Dispatch(10, 2, FakeClock().monotonic)
    for n in range(2):
        assert dispatch.can_park()
        dispatch.park(a_bundle(str(n)), 0.0)
    assert not dispatch.can_park()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_cancelled_taker_hands_its_wake_up_on(when: str) -> None:
    """A taker cancelled at the moment it is woken loses no bundle: another one gets it."""
    dispatch = Dispatch(10, 4, FakeClock().monotonic)
    first, second = (asyncio.create_task(dispatch.take()) for _ in range(2))
    await settle()
    if when == "before":
        first.cancel()
    await dispatch.put(a_bundle("a"))
    if when == "after":
        first.cancel()
    assert named(await asyncio.wait_for(second, 30)) == "a"
    assert (await asyncio.gather(first, return_exceptions=True))[0].__class__ is asyncio.CancelledError


async def test_a_cancelled_putter_hands_its_place_on() -> None:
    """A feeder cancelled at the moment it may go on leaves the place to another; its bundle is not in line."""
    dispatch = Dispatch(1, 4, FakeClock().monotonic)
    await dispatch.put(a_bundle("a"))
    first, second = (asyncio.create_task(dispatch.put(a_bundle(item_id))) for item_id in "bc")
    await settle()
    await dispatch.take()
    first.cancel()
    await asyncio.wait_for(second, 30)
    await asyncio.gather(first, return_exceptions=True)
    assert named(await dispatch.take()) == "c"


async def test_every_bundle_is_taken_once_by_many_workers() -> None:
    """A thousand bundles, twenty workers that put some aside again: each comes to its end once."""
    dispatch = Dispatch(8, 40, time.monotonic)
    ended: list[str] = []
    again: set[str] = set()

    async def work() -> None:
        while (bundle := await dispatch.take()) is not None:
            await asyncio.sleep(0)
            item_id = bundle.walked.id
            if int(item_id) % 7 == 0 and item_id not in again and dispatch.can_park():
                again.add(item_id)
                dispatch.park(bundle, time.monotonic() + 0.001)
            else:
                ended.append(item_id)

    workers = [asyncio.create_task(work()) for _ in range(20)]
    for n in range(1000):
        await dispatch.put(a_bundle(str(n)))
    dispatch.close()
    await asyncio.wait_for(asyncio.gather(*workers), 10)
    assert sorted(ended, key=int) == [str(n) for n in range(1000)]


async def test_no_more_bundles_are_in_hand_than_are_of_use() -> None:
    """Workers beyond that wait; a bundle let go lets the next in, and so does one where there is more room by then."""
    useful = 2
    dispatch = Dispatch(10, 4, FakeClock().monotonic, at_once=lambda: useful)
    for item_id in "abcdef":
        await dispatch.put(a_bundle(item_id))
    taking = [asyncio.create_task(dispatch.take()) for _ in range(6)]
    await settle()
    assert sum(task.done() for task in taking) == 2
    dispatch.let_go()
    await settle()
    assert sum(task.done() for task in taking) == 3
    useful = 3
    dispatch.let_go()
    await settle()
    assert sum(task.done() for task in taking) == 5
    dispatch.close()
    for _ in range(4):
        dispatch.let_go()
    assert named(await asyncio.wait_for(taking[5], 30)) == "f"


async def test_what_is_put_aside_waits_for_room_too() -> None:
    """A bundle that is due again is not in hand before there is room for it."""
    clock = FakeClock()
    dispatch = Dispatch(10, 4, clock.monotonic, at_once=lambda: 1)
    await dispatch.put(a_bundle("a"))
    dispatch.park(a_bundle("p"), clock.now_s)
    assert named(await dispatch.take()) == "p"
    taking = asyncio.create_task(dispatch.take())
    await settle()
    assert not taking.done()
    dispatch.let_go()
    assert named(await asyncio.wait_for(taking, 30)) == "a"


async def test_a_bundle_let_go_wakes_nobody_for_nothing() -> None:
    """With nothing in line, idle workers sleep on: to wake them all cost more than the bundle had."""
    dispatch = Dispatch(10, 4, FakeClock().monotonic, at_once=lambda: 100)
    await dispatch.put(a_bundle("a"))
    await dispatch.take()
    taking = [asyncio.create_task(dispatch.take()) for _ in range(50)]
    await settle()
    before = list(dispatch._takers)
    dispatch.let_go()
    await settle()
    assert list(dispatch._takers) == before
    dispatch.close()
    await asyncio.wait_for(asyncio.gather(*taking), 30)


async def test_all_that_is_due_is_taken_by_as_many_as_there_is_room_for() -> None:
    """Three bundles put aside come due while nobody has room: one let go after another, all are taken."""
    clock, useful = FakeClock(), 1
    dispatch = Dispatch(10, 4, clock.monotonic, at_once=lambda: useful)
    await dispatch.put(a_bundle("a"))
    await dispatch.take()
    for item_id in "pqr":
        dispatch.park(a_bundle(item_id), clock.now_s)
    taking = [asyncio.create_task(dispatch.take()) for _ in range(5)]
    await settle()
    assert not any(task.done() for task in taking)
    useful = 10
    dispatch.let_go()
    await settle()
    assert sum(task.done() for task in taking) == 3
    dispatch.close()
    await asyncio.wait_for(asyncio.gather(*taking), 30)
