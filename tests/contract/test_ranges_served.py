"""The rest of a large file from servers that were not written to please us: nginx, rclone (http and S3), SeaweedFS."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme
import xxhash
from aiobotocore.session import get_session

from stacmirror.clock import SystemClock
from stacmirror.interfaces import Transport
from stacmirror.limits import HostLimits
from stacmirror.model import Asset, ItemKey, Transfer, Unit, Version
from stacmirror.pipeline.progress import Progress
from stacmirror.pipeline.transfer import Fetcher
from stacmirror.ranges import version_of
from stacmirror.sinks.directory import DirectorySink
from stacmirror.transports.http import AiohttpTransport
from stacmirror.transports.router import Router
from stacmirror.transports.s3 import S3Transport
from stacmirror.transports.wire import WireTransport
from tests.parts import ASSET, left_early
from tests.servers import ACCESS_KEY, SECRET_KEY, nginx, rclone, seaweedfs

BODY = b"".join(number.to_bytes(4, "big") for number in range(750_000))
HELD = 1_234_567
CLIENTS: dict[str, Callable[..., Transport]] = {"wire": WireTransport, "aiohttp": AiohttpTransport}


class Served(NamedTuple):
    """Where the object is, where S3 is, and whether this server can be gone on with."""

    href: str
    endpoint: str = ""
    resumes: bool = True


@asynccontextmanager
async def _nginx() -> AsyncIterator[Served]:
    issued = trustme.CA().issue_cert("localhost")
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    async with nginx("etag on;", {"root/large": BODY}, chain, issued.private_key_pem.bytes()) as (port, _):
        yield Served(f"http://127.0.0.1:{port}/large")


@asynccontextmanager
async def _rclone_http() -> AsyncIterator[Served]:
    # It has no ETag, only a date.
    async with rclone("http", {"large": BODY}) as url:
        yield Served(f"{url}/large")


@asynccontextmanager
async def _rclone_s3() -> AsyncIterator[Served]:
    # It answers a range with 200, which nobody should take for all of the object.
    async with rclone("s3", {"bucket/large": BODY}) as url:
        yield Served("s3://bucket/large", url, resumes=False)


@asynccontextmanager
async def _seaweedfs() -> AsyncIterator[Served]:
    async with seaweedfs() as endpoint:
        async with get_session().create_client(
            "s3", region_name="us-east-1", endpoint_url=endpoint,
            aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
        ) as client:  # fmt: skip
            for attempt in range(50):
                try:
                    await client.create_bucket(Bucket="bucket")
                    break
                except Exception:
                    if attempt == 49:
                        raise
                    await asyncio.sleep(0.2)
            await client.put_object(Bucket="bucket", Key="large", Body=BODY)
        yield Served("s3://bucket/large", endpoint)


SERVERS = {"nginx": _nginx, "rclone-http": _rclone_http, "rclone-s3": _rclone_s3, "seaweedfs": _seaweedfs}


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
async def test_the_rest_comes_from_any_server(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By both clients: gone on with where the server can show that it is the same object, begun again where not."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    async with SERVERS[server]() as served:
        for name in CLIENTS:
            for changed in (False, True):
                await _goes_on(served, name, tmp_path / f"{name}-{changed}", changed=changed)


async def _goes_on(served: Served, client: str, target: Path, *, changed: bool) -> None:
    clock, progress = SystemClock(), Progress()
    http = CLIENTS[client](user_agent="test/1", connect_timeout_s=5.0, stall_timeout_s=10.0)
    s3 = S3Transport(
        http, endpoint=served.endpoint, unsigned=False, region="", request_payer=False,
        monotonic=clock.monotonic, wall=clock.wall,
    )  # fmt: skip
    router = Router(
        {"http": http, "s3": s3}, HostLimits(4, None, clock.monotonic, clock.sleep),
        redirects_max=2, small_max_bytes=1000, wall=clock.wall,
    )  # fmt: skip
    sink = DirectorySink(str(target))
    try:
        first = await router.open(served.href)
        assert first.stream is not None
        version = version_of(first.headers, first.length_bytes)
        first.stream.close()
        assert version.length == len(BODY)
        held = BODY[:HELD]
        if changed:  # what we have is of another version than what the server has now
            etag = f'"{"0" * 32}"' if version.etag else ""
            date = "Sat, 12 Sep 2020 12:26:40 GMT" if version.last_modified else ""
            version, held = Version(etag, date, version.md5, version.length), b"?" * HELD
        await left_early(sink, held, version)
        requests = router.requests
        transfer = Transfer(Asset(ASSET.key, served.href), "C.tif")
        fetched = await Fetcher(router, sink, clock, progress).fetch(
            ItemKey("labels", "a"), transfer, Unit("u", "f"), str
        )
        assert fetched.receipt.size_bytes == len(BODY)
        assert fetched.receipt.digest in (xxhash.xxh3_128_digest(BODY), _md5(BODY))
        sink.reveal(Unit("u", "f"), {"C.tif": "C.tif"})
        assert (target / "f/C.tif").read_bytes() == BODY
        assert router.requests - requests <= 2
        goes_on = served.resumes and not changed
        assert progress.bytes_there == (HELD if goes_on else 0)
    finally:
        await router.close()
        sink.close()


def _md5(content: bytes) -> bytes:
    return hashlib.md5(content).digest()
