"""Which ways the rows are tried: CI the default client at 16 workers, `make faults` both at 1, 16, 256. And disks."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.full_disks import small_disk
from tests.faults.power_cuts import NoDisk
from tests.faults.world import Bench, a_world

FULL = os.environ.get("STACMIRROR_FAULTS") == "full"
WAYS = [(client, n) for client in ("wire", "aiohttp") for n in (1, 16, 256)] if FULL else [("wire", 16)]

Small = Callable[[str], Path]


@pytest.fixture(params=WAYS, ids=[f"{client}-{workers}" for client, workers in WAYS])
def way(request: pytest.FixtureRequest) -> tuple[str, int]:
    """Return a client's name and a number of workers."""
    found: tuple[str, int] = request.param
    return found


@pytest.fixture
async def bench(way: tuple[str, int], tmp_path: Path) -> AsyncIterator[Bench]:
    """Give a world without faults, and a way to mirror it."""
    async with a_world() as world:
        yield Bench(world, tmp_path / "mirror", *way)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    """A maker of one small disk."""
    opened = []

    def make(options: str) -> Path:
        disk = small_disk(tmp_path / "disk", options)
        opened.append(disk)
        try:
            return disk.__enter__()
        except NoDisk as reason:
            opened.clear()
            pytest.skip(str(reason))

    yield make
    for disk in opened:
        disk.__exit__(None, None, None)
