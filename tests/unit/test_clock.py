"""How busy our own loop is: from work, not from waiting."""

from __future__ import annotations

import time

from stacmirror.clock import LoopLoad


def test_work_is_load_and_sleep_is_none() -> None:
    """A thread that computes is near 1, one that sleeps near 0; the measure is kept for a quarter of a second."""
    load = LoopLoad()
    ends_s = time.monotonic() + 0.3
    while time.monotonic() < ends_s:
        pass
    busy = load()
    assert 0.5 < busy <= 1.0
    assert load() == busy
    time.sleep(0.3)
    assert load() < 0.3
