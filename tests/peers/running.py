"""Other people's STAC servers, started on free ports of loopback with items of ours, and stopped at the end.

rustac's API server comes from PyPI; stac-fastapi-pgstac too (extra `peers`), with PostgreSQL and PostGIS from the
system's packages. What is missing skips the test, or fails it where STACMIRROR_TEST_SERVERS=required.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from tests.servers import ACCESS_KEY, SECRET_KEY, _listens, _stop, free_ports, program


def an_item(number: int, collection: str, asset_root: str) -> dict[str, Any]:
    """Return an item that every server takes, with two small assets below `asset_root`."""
    lon, lat = (number * 7) % 360 - 180 + 0.5, (number * 3) % 170 - 85 + 0.5
    id_ = f"s{number:06}"
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": id_,
        "collection": collection,
        "geometry": {"type": "Point", "coordinates": [lon, lat]},
        "bbox": [lon, lat, lon, lat],
        "properties": {
            "datetime": f"20{10 + number % 10}-{number % 12 + 1:02}-{number % 28 + 1:02}T00:00:{number % 60:02}Z",
            "eo:cloud_cover": number % 100,
        },
        "links": [],
        "assets": {
            "data": {"href": f"{asset_root}/{number % 50}.txt", "type": "text/plain", "roles": ["data"]},
            "thumb": {"href": f"{asset_root}/{number % 50}.thumb.txt", "type": "text/plain", "roles": ["thumbnail"]},
        },
    }


def a_collection(name: str) -> dict[str, Any]:
    """Return a collection for such items."""
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": name,
        "description": "made for tests",
        "license": "CC0-1.0",
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [["2010-01-01T00:00:00Z", None]]},
        },
        "links": [],
    }


@asynccontextmanager
async def rustac_api(items: Iterable[dict[str, Any]], collection: str) -> AsyncIterator[str]:
    """Run `rustac serve` over items in memory; yield the API's root."""
    binary = program("rustac")
    folder = Path(tempfile.mkdtemp(prefix="stacmirror-rustac-"))
    (folder / "collection.json").write_text(json.dumps(a_collection(collection)))
    (folder / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": list(items)}))
    try:
        [port] = free_ports(1)
        files = [str(folder / "collection.json"), str(folder / "items.json")]
        process = _start([binary, "serve", "-a", f"127.0.0.1:{port}", *files], dict(os.environ))
        try:
            if not await _listens(port, process):
                pytest.fail("rustac did not start")
            yield f"http://127.0.0.1:{port}"
        finally:
            _stop(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def pgstac_api(items: Iterable[dict[str, Any]], collection: str) -> AsyncIterator[str]:
    """Run PostgreSQL with pgstac and stac-fastapi over it; yield the API's root."""
    pypgstac, uvicorn = program("pypgstac"), program("uvicorn")
    bin_ = _postgres()
    folder = Path(tempfile.mkdtemp(prefix="stacmirror-pg-", dir="/tmp"))  # a socket's path is short
    try:
        (folder / "collection.json").write_text(json.dumps(a_collection(collection)) + "\n")
        with (folder / "items.ndjson").open("w") as file:
            file.writelines(json.dumps(item) + "\n" for item in items)
        port, api_port = free_ports(2)
        data = folder / "data"
        environ = _environ(port)
        _as_postgres([f"{bin_}/initdb", "-A", "trust", "-U", "postgres", "-D", str(data)], folder)
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        start = [f"{bin_}/pg_ctl", "-D", str(data), "-o", options, "-w", "-l", str(folder / "log"), "start"]
        _as_postgres(start, folder)
        try:
            _run([f"{bin_}/psql", "-qc", "create extension postgis"], environ)
            _run([pypgstac, "migrate"], environ)
            _run([pypgstac, "load", "collections", f"{folder}/collection.json", "--method", "insert_ignore"], environ)
            _run([pypgstac, "load", "items", f"{folder}/items.ndjson", "--method", "insert_ignore"], environ)
            app = ["--factory", "stac_fastapi.pgstac.app:create_app"]
            process = _start([uvicorn, *app, "--host", "127.0.0.1", "--port", str(api_port)], environ)
            try:
                if not await _listens(api_port, process):
                    pytest.fail("stac-fastapi-pgstac did not start")
                yield f"http://127.0.0.1:{api_port}"
            finally:
                _stop(process)
        finally:
            _as_postgres([f"{bin_}/pg_ctl", "-D", str(data), "-m", "immediate", "stop"], folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _environ(port: int) -> dict[str, str]:
    """Return the variables by which pypgstac and stac-fastapi find the database."""
    theirs = {"HOST_READER": "127.0.0.1", "HOST_WRITER": "127.0.0.1", "PORT": str(port), "USER": "postgres"}
    theirs |= {"PASS": "x", "DBNAME": "postgres"}
    ours = {"HOST": "127.0.0.1", "PORT": str(port), "USER": "postgres", "DATABASE": "postgres", "PASSWORD": "x"}
    return {
        **os.environ,
        **{f"PG{name}": value for name, value in ours.items()},
        **{f"POSTGRES_{name}": value for name, value in theirs.items()},
    }


def _start(command: list[str], environ: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _postgres() -> str:
    """Return the folder of PostgreSQL's programs, or skip (fail, where they are required)."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return str(folder)
    required = os.environ.get("STACMIRROR_TEST_SERVERS") == "required"
    (pytest.fail if required else pytest.skip)("PostgreSQL is not installed")
    raise AssertionError


def _as_postgres(command: list[str], folder: Path) -> None:
    """Run a command as a user that PostgreSQL takes: it refuses root."""
    if os.getuid() == 0:
        user = pwd.getpwnam("postgres")
        shutil.chown(folder, user.pw_uid, user.pw_gid)
        command = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *command]
    _run(command, dict(os.environ))


def _run(command: list[str], environ: dict[str, str]) -> None:
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, cwd="/tmp")
    if done.returncode:
        pytest.fail(f"{command[0]}: {done.stderr[-800:] or done.stdout[-800:]}")


async def counted(root: str, collection: str) -> tuple[int, int]:
    """Return how many items and assets pystac-client counts; in a process of its own, since it blocks."""
    code = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "from pystac_client import Client\n"
        "search = Client.open(sys.argv[1]).search(collections=[sys.argv[2]], limit=250, max_items=None)\n"
        "items = assets = 0\n"
        "for item in search.items_as_dicts():\n    items += 1; assets += len(item['assets'])\n"
        "print(items, assets)\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, root, collection, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    items, assets = said.decode().split()
    return int(items), int(assets)


async def put_objects(endpoint: str, bucket: str, objects: Mapping[str, bytes]) -> None:
    """Make a bucket of SeaweedFS, and put objects into it."""
    config = AioConfig(s3={"addressing_style": "path"}, retries={"total_max_attempts": 2})
    async with get_session().create_client(
        "s3", region_name="us-east-1", endpoint_url=endpoint, config=config,
        aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
    ) as client:  # fmt: skip
        for attempt in range(50):
            try:
                await client.create_bucket(Bucket=bucket)
                break
            except Exception:  # it listens before it can
                if attempt == 49:
                    raise
                await asyncio.sleep(0.2)
        for key, body in objects.items():
            await client.put_object(Bucket=bucket, Key=key, Body=body)
