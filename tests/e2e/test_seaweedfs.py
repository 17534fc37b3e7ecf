"""The s3:// behind the redirects on a real S3 server that checks signatures."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from stacmirror.mirror import Mirror
from stacmirror.settings import Settings
from stacmirror.simulator import Simulator
from tests.conftest import simulated, tree
from tests.servers import ACCESS_KEY, SECRET_KEY, seaweedfs

pytestmark = pytest.mark.slow
ITEMS = 300


async def fill(endpoint: str, simulator: Simulator) -> None:
    """Put the simulator's objects into the bucket that its redirects name."""
    config = AioConfig(s3={"addressing_style": "path"}, max_pool_connections=16, retries={"total_max_attempts": 2})
    async with get_session().create_client(
        "s3", region_name="us-east-1", endpoint_url=endpoint, config=config,
        aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
    ) as client:  # fmt: skip
        for attempt in range(50):
            try:
                await client.create_bucket(Bucket="radiant-mlhub")
                break
            except Exception:
                if attempt == 49:
                    raise
                await asyncio.sleep(0.2)
        gate = asyncio.Semaphore(16)

        async def put(key: str, body: bytes) -> None:
            async with gate:
                await client.put_object(Bucket="radiant-mlhub", Key=key, Body=body)

        async with asyncio.TaskGroup() as group:
            for number in range(ITEMS):
                patch = simulator.patch_name(number)
                for asset, body in simulator.expected_files(number).items():
                    name = f"labels/{patch}.geojson" if asset == "labels" else f"{patch}/{patch}_{asset}.tif"
                    group.create_task(put(f"bigearthnet/{name}", body))


def sums(root: Path) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in tree(root).items()}


async def test_signed_s3_gives_the_same_tree(
    quick_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 items by way of SeaweedFS, signed, are the same paths and sha256 as by https; a wrong secret gets nothing."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    async with seaweedfs() as endpoint, simulated(items=ITEMS, generation=2020, log_requests=False) as simulator:
        await fill(endpoint, simulator)
        signed: dict[str, Any] = {"s3_endpoint": endpoint, "s3_unsigned": False, "workers": 16}
        summary = await Mirror(quick_settings(simulator, "s3", **signed), api_key=simulator.key).run()
        assert (summary.verdict, summary.reason) == ("complete", "")
        unsigned = {**signed, "s3_unsigned": True, "max_items": 2, "sweeps": 0}
        refused = await Mirror(quick_settings(simulator, "unsigned", **unsigned), api_key=simulator.key).run()
        assert (refused.exit_code, refused.mirror.assets.failed) == (3, 26)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
        wrong = {**signed, "max_items": 2, "sweeps": 0}
        refused = await Mirror(quick_settings(simulator, "wrong", **wrong), api_key=simulator.key).run()
        assert (refused.exit_code, refused.mirror.assets.stored) == (4, 0)
    async with simulated(items=ITEMS, generation=2022, log_requests=False) as simulator:
        await Mirror(quick_settings(simulator, "https", workers=16), api_key=simulator.key).run()
    assert len(sums(tmp_path / "s3")) == ITEMS * 13
    assert sums(tmp_path / "s3") == sums(tmp_path / "https")
