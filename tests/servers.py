"""Real servers for tests: started on free ports of loopback, stopped at the end, skipped with a reason when absent."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

ACCESS_KEY, SECRET_KEY = "stacmirrortest", "a-secret-for-tests-only"


def free_ports(count: int) -> list[int]:
    """Return ports that are free now, whose port + 10000 is free as well (SeaweedFS speaks gRPC there).

    All are below those that systems give to connections by themselves: tests beside this one make thousands of those.
    """
    found: list[int] = []
    for port in random.sample(range(11_000, 22_000), 1000):
        try:
            with socket.socket() as probe, socket.socket() as twin:
                probe.bind(("127.0.0.1", port))
                twin.bind(("127.0.0.1", port + 10_000))
        except OSError:
            continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports from 11000 to 22000")


def program(name: str) -> str:
    """Return the path of a program beside this Python or on the PATH, or skip the test.

    Where the environment says STACMIRROR_TEST_SERVERS=required, as in CI, a missing one fails it.
    """
    beside = Path(sys.executable).parent / name
    folders = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    path = str(beside) if beside.exists() else shutil.which(name, path=folders)
    if path is None:
        required = os.environ.get("STACMIRROR_TEST_SERVERS") == "required"
        (pytest.fail if required else pytest.skip)(f"{name} is not installed")
    return path


@asynccontextmanager
async def seaweedfs() -> AsyncIterator[str]:
    """Run SeaweedFS with one identity that must sign; yield the S3 endpoint."""
    weed = program("weed")
    folder = Path(tempfile.mkdtemp(prefix="stacmirror-weed-"))
    config = folder / "s3.json"
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    config.write_text(json.dumps({"identities": [identity]}))
    try:
        for _ in range(3):  # a port may be taken between finding and binding it
            ports = free_ports(4)
            process = _start_weed(weed, folder, ports)
            try:
                # It listens before it has all its ports, and ends where one is taken.
                if await _listens(ports[3], process) and await _stays(process):
                    yield f"http://127.0.0.1:{ports[3]}"
                    return
            finally:
                _stop(process)
                for port in (port + shift for port in ports for shift in (0, 10_000)):
                    for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                        left.unlink()
        pytest.fail("SeaweedFS did not start")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def nginx(server: str, files: Mapping[str, bytes], chain_pem: bytes, key_pem: bytes) -> AsyncIterator[list[int]]:
    """Run nginx with the directives `server` over `files`; yield its ports: plain, and TLS with the certificate."""
    binary = program("nginx")
    folder = Path(tempfile.mkdtemp(prefix="stacmirror-nginx-"))
    try:
        for name, content in {"chain.pem": chain_pem, "key.pem": key_pem, **files}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        for _ in range(3):  # a port may be taken between finding and binding it
            ports = free_ports(2)
            (folder / "nginx.conf").write_text(_nginx_config(folder, server, ports))
            process = _start_nginx(binary, folder)
            try:
                if await _listens(ports[1], process):
                    yield ports
                    return
            finally:
                _stop(process)
        log = folder / "error.log"
        pytest.fail(f"nginx did not start: {log.read_text()[-500:] if log.exists() else 'no log'}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def rclone(how: str, files: Mapping[str, bytes]) -> AsyncIterator[str]:
    """Run `rclone serve HOW` over `files`; yield its URL."""
    binary = program("rclone")
    folder = Path(tempfile.mkdtemp(prefix="stacmirror-rclone-"))
    try:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
            os.utime(folder / name, (1_600_000_000, 1_600_000_000))  # a date that names one version
        for _ in range(3):  # a port may be taken between finding and binding it
            [port] = free_ports(1)
            process = _start_rclone(binary, how, port, folder)
            try:
                if await _listens(port, process):
                    yield f"http://127.0.0.1:{port}"
                    return
            finally:
                _stop(process)
        pytest.fail("rclone did not start")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start_rclone(binary: str, how: str, port: int, folder: Path) -> subprocess.Popen[bytes]:
    keys = ["--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"] if how == "s3" else []
    return subprocess.Popen(
        [binary, "serve", how, "--addr", f"127.0.0.1:{port}", *keys, str(folder)],
        env={**os.environ, "RCLONE_CONFIG": str(folder / "none")},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _start_nginx(binary: str, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [binary, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _nginx_config(folder: Path, server: str, ports: list[int]) -> str:
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
daemon off; master_process off; pid {folder}/nginx.pid;
events {{ worker_connections 512; }}
http {{
  {temporary}
  access_log off; root {folder}/root;
  ssl_certificate {folder}/chain.pem; ssl_certificate_key {folder}/key.pem;
  server {{ listen 127.0.0.1:{ports[0]}; listen 127.0.0.1:{ports[1]} ssl; {server} }}
}}
"""


def _start_weed(weed: str, folder: Path, ports: list[int]) -> subprocess.Popen[bytes]:
    master, volume, filer, s3 = ports
    return subprocess.Popen(
        [weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-master.port={master}",
         f"-volume.port={volume}", "-filer", f"-filer.port={filer}", "-s3", f"-s3.port={s3}",
         f"-s3.config={folder / 's3.json'}", "-volume.max=8", "-master.volumeSizeLimitMB=64"],
        env={**os.environ, "TMPDIR": str(folder)},  # its logs and sockets go there, too
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


async def _stays(process: subprocess.Popen[bytes]) -> bool:
    await asyncio.sleep(1)
    return process.poll() is None


async def _listens(port: int, process: subprocess.Popen[bytes]) -> bool:
    for _ in range(300):
        if process.poll() is not None:
            return False
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
            continue
        writer.close()
        await writer.wait_closed()
        return True
    return False
