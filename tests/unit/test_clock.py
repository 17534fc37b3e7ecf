"""How busy our own loop is: from work, not from waiting."""

from __future__ import annotations

import time
from collections.abc import Callable

from stacmirror.clock import LoopLoad


def test_work_is_load_and_sleep_is_none() -> None:
    """A thread that computes is near 1, one that sleeps near 0; the measure is kept for a quarter of a second."""
    load = LoopLoad()
    busy = measured(work, load, lambda busy: busy > 0.5)
    assert 0.5 < busy <= 1.0
    assert load() == busy
    assert measured(lambda: time.sleep(0.3), load, lambda idle: idle < 0.3) < 0.3


def work() -> None:
    ends_s = time.monotonic() + 0.3
    while time.monotonic() < ends_s:
        pass


def measured(doing: Callable[[], None], load: LoopLoad, is_right: Callable[[float], bool]) -> float:
    """Return the load of `doing` something: of another try where the machine stood still, or woke us late."""
    for _ in range(20):
        doing()
        if is_right(found := load()):
            break
    return found
