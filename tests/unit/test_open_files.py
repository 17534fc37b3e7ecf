"""The ceiling of requests at once fits what may be open; the limit itself is raised where that is allowed."""

from __future__ import annotations

import resource

import pytest

from stacmirror.open_files import Limits, fit_open_files
from stacmirror.settings import Settings
from stacmirror.typed import build

INFINITY = resource.RLIM_INFINITY


class Process:
    """A process's limits; `kernel` is the most that it takes, whatever the hard limit says."""

    def __init__(self, soft: int, hard: int, kernel: int = 1 << 40) -> None:
        self.limits = (soft, hard)
        self.kernel = kernel
        self.notes: list[str] = []

    def write(self, limits: Limits) -> None:
        if limits[0] > self.kernel:
            raise ValueError("current limit exceeds maximum limit")
        self.limits = limits

    def fit(self, per_host: int) -> Settings:
        settings = build("mlhub:a", "b", {"per_host": per_host})
        return fit_open_files(settings, self.notes.append, lambda: self.limits, self.write)


@pytest.mark.parametrize(("soft", "hard"), [(1024, 4096), (4096, 4096), (INFINITY, INFINITY)])
def test_enough_is_left_as_it_is(soft: int, hard: int) -> None:
    """Where the default fits, nothing is changed and nothing said."""
    process = Process(soft, hard)
    assert process.fit(256).limit.per_host == 256
    assert (process.limits, process.notes) == ((soft, hard), [])


@pytest.mark.parametrize("hard", [10_000, INFINITY])
def test_the_soft_limit_is_raised_as_far_as_needed(hard: int) -> None:
    """macOS begins with 256: raised to what a run needs, not to all that is allowed; the hard limit stays."""
    process = Process(256, hard)
    assert process.fit(256).limit.per_host == 256
    assert process.limits == (128 + 3 * 256, hard)
    assert process.notes == []


@pytest.mark.parametrize(("soft", "hard", "kernel"), [(256, 512, 1 << 40), (512, 512, 1 << 40), (512, INFINITY, 512)])
def test_a_ceiling_that_does_not_fit_is_lowered(soft: int, hard: int, kernel: int) -> None:
    """Where the hard limit (or the kernel) says no, fewer requests at once, and a note that says so."""
    process = Process(soft, hard, kernel)
    assert process.fit(1000).limit.per_host == (512 - 128) // 3
    assert process.limits[0] == 512
    assert "ulimit -n" in process.notes[0]
    assert "at most 128 at once, not 1000" in process.notes[0]


def test_one_at_a_time_is_always_left() -> None:
    """A limit too small for anything leaves one request at once, to fail with its own reason if it must."""
    assert Process(64, 64).fit(256).limit.per_host == 1
