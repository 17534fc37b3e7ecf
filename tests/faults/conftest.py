"""Which ways the rows are tried: CI the default client at 16 workers, `make faults` both clients at 1, 16 and 256."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.world import Bench, a_world

FULL = os.environ.get("STACMIRROR_FAULTS") == "full"
WAYS = [(client, n) for client in ("wire", "aiohttp") for n in (1, 16, 256)] if FULL else [("wire", 16)]


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
