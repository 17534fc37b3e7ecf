"""A run with --bwlimit brings what one without it brings. How fast it may be: tests/unit/test_bandwidth.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stacmirror.mirror import Mirror
from stacmirror.settings import Settings
from tests.conftest import simulated, tree

Make = Callable[..., Settings]


@pytest.mark.parametrize("http_client", ["wire", "aiohttp"])
async def test_the_tree_is_the_same(quick_settings: Make, tmp_path: Path, http_client: str) -> None:
    """Small files and large ones, redirects, faults and S3, through a line that is shared."""
    async with simulated(items=6, large={"B02": 3 << 20}, faults={"blobs:reset": 0.05}, generation=2021) as simulator:
        free = Mirror(quick_settings(simulator, "free"), api_key=simulator.key)
        assert (await free.run()).exit_code == 0
        settings = quick_settings(simulator, "limited", http_client=http_client, bwlimit="30M", learn_redirects=True)
        summary = await Mirror(settings, api_key=simulator.key).run()
    assert (summary.exit_code, summary.reason) == (0, "")
    assert tree(tmp_path / "limited") == tree(tmp_path / "free")
