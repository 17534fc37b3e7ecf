"""Fixtures for all tests: the simulator in this process, and settings that do not wait."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from stacmirror.settings import Settings
from stacmirror.simulator import Simulator, SimulatorSettings
from stacmirror.typed import build

SOURCE = "mlhub:bigearthnet_v1_labels"


@asynccontextmanager
async def simulated(**wanted: Any) -> AsyncIterator[Simulator]:
    """Run a simulator with a request log in this process."""
    wanted.setdefault("items", 20)
    wanted.setdefault("log_requests", True)
    async with Simulator(SimulatorSettings(**wanted)) as simulator:
        yield simulator


@pytest.fixture
def quick_settings(tmp_path: Path) -> Callable[..., Settings]:
    """Return a maker of settings for a run against a simulator: small waits, target below tmp_path."""

    def make(simulator: Simulator, target: str | Path = "mirror", **values: object) -> Settings:
        chosen: dict[str, object] = {
            "api_url": simulator.api_url,
            "workers": 8,
            "backoff": 0.01,
            "sync_every": 0.05,
            "s3_endpoint": simulator.s3_url,
            "s3_unsigned": True,
        }
        chosen.update(values)
        return build(SOURCE, str(tmp_path / target), chosen)

    return make


def tree(root: Path) -> dict[str, bytes]:
    """Return every file below `root` but the tool's own folder and the collections' documents, by path."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
        and ".stacmirror" not in path.parts
        and path.name not in ("collection.json", "CITATION.txt", "LICENSE.txt")
    }
