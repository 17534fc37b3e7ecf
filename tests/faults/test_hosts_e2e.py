"""Hosts in trouble over real sockets, with both HTTP clients: keys, links, certificates, proxies, names, clocks."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from stacmirror import health
from stacmirror.errors import TransferError
from stacmirror.simulator import Simulator
from stacmirror.transports.http import AiohttpTransport
from stacmirror.transports.wire import WireTransport
from tests.conftest import simulated
from tests.faults.invariants import hold_simulated, mends_simulated
from tests.faults.whole_runs import Make, Way, by, is_whole, mirror
from tests.unit.fakes import Notes, until


class Gate:
    """A TCP forwarder that can be shut: connections are refused, and those that were open are reset."""

    def __init__(self, port: int) -> None:
        self._target_port = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def shut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._writers |= {writer, back}

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            except OSError:
                pass
            finally:
                sink.close()

        await asyncio.gather(pump(reader, back), pump(there, writer))
        self._writers -= {writer, back}


@asynccontextmanager
async def behind_a_gate(simulator: Simulator) -> AsyncIterator[Gate]:
    """Give a gate before the simulator's S3."""
    gate = Gate(int(simulator.s3_url.rpartition(":")[2]))
    await gate.open()
    try:
        yield gate
    finally:
        gate.shut()
        await asyncio.sleep(0)


async def test_row_1_connections_refused_for_a_while(quick_settings: Make, tmp_path: Path, way: Way) -> None:
    """Storage that goes away and comes back costs no file, whatever the number of attempts; a note says both."""
    async with simulated(items=40, redirect_to="s3") as simulator, behind_a_gate(simulator) as gate:
        notes = Notes()
        endpoint = f"http://127.0.0.1:{gate.port}"
        settings = quick_settings(simulator, retries=2, s3_endpoint=endpoint, **by(way))
        running = asyncio.create_task(mirror(settings, simulator.key, notes))
        while len(simulator.requests) < 400:
            await asyncio.sleep(0.01)
        gate.shut()
        await until(lambda: any("is down" in line for line in notes.lines))
        await gate.open()
        summary = await running
        is_whole(summary, simulator, tmp_path / "mirror")
    assert any("answers again" in line for line in notes.lines)


async def test_row_28_names_that_come_and_go(
    quick_settings: Make, tmp_path: Path, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver that fails for a while costs no file."""
    real, fails_until_s = socket.getaddrinfo, [0.0]

    def resolve(name: Any, *args: Any, **more: Any) -> Any:
        if name == "localhost" and time.monotonic() < fails_until_s[0]:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(name, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with simulated(items=40, redirect_to="s3") as simulator, behind_a_gate(simulator) as gate:
        endpoint = f"http://localhost:{gate.port}"
        settings = quick_settings(simulator, retries=2, s3_endpoint=endpoint, **by(way))
        running = asyncio.create_task(mirror(settings, simulator.key))
        while len(simulator.requests) < 400:
            await asyncio.sleep(0.01)
        fails_until_s[0] = time.monotonic() + 1.5
        gate.shut()  # so that names have to be resolved again
        await gate.open()
        summary = await running
        is_whole(summary, simulator, tmp_path / "mirror")


def transport_of(client: str, **more: Any) -> WireTransport | AiohttpTransport:
    made = WireTransport if client == "wire" else AiohttpTransport
    return made(user_agent="t", connect_timeout_s=5.0, stall_timeout_s=5.0, **more)


@pytest.mark.parametrize("client", ["wire", "aiohttp"])
@pytest.mark.parametrize(
    ("case", "words", "hint"),
    [
        ("expired", "has expired", "date"),
        ("host", "is for another host", "address"),
        ("unknown", "is signed by nobody whom this machine trusts", "--ca-file"),
    ],
)
async def test_row_25_bad_certificates(client: str, case: str, words: str, hint: str) -> None:
    """A certificate that does not pass is told by its own reason, asked once, and never let through."""
    authority = trustme.CA()
    expires = datetime.now(UTC) - timedelta(days=2) if case == "expired" else None
    name = "other.test" if case == "host" else "localhost"
    certificate = authority.issue_cert(name, not_after=expires)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(serving)
    met = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(1)
        writer.close()

    server = await asyncio.start_server(serve, "localhost", 0, ssl=serving)
    port = server.sockets[0].getsockname()[1]

    def trusting() -> ssl.SSLContext:
        context = ssl.create_default_context()
        if case != "unknown":
            authority.configure_trust(context)
        return context

    transport = transport_of(client, tls=trusting)
    try:
        with pytest.raises(TransferError) as told:
            await transport.fetch(f"https://localhost:{port}/", {}, 1000)
    finally:
        await transport.close()
        server.close()
    assert told.value.kind == "tls"
    assert not told.value.retryable
    assert told.value.message == f"the certificate of localhost {words}"
    assert hint in told.value.hint
    assert met == []


async def test_a_dead_proxy_is_not_the_apis_fault(quick_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a proxy that is not there the run ends with exit 5, and the reason and the hint name the proxy."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        async with simulated(items=3) as simulator:
            monkeypatch.setenv("HTTP_PROXY", f"http://user:secret@127.0.0.1:{port}")
            monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{port}")
            monkeypatch.setenv("no_proxy", "")
            monkeypatch.setenv("NO_PROXY", "")
            summary = await mirror(quick_settings(simulator, retries=1), simulator.key)
            assert not list(simulator.requests)
    assert summary.exit_code == 5
    assert "proxy" in summary.reason
    assert f"127.0.0.1:{port}" in summary.reason
    assert "secret" not in json.dumps([summary.reason, summary.hint])
    assert "NO_PROXY" in summary.hint


async def test_one_failure_where_none_is_allowed(quick_settings: Make) -> None:
    """It is one asset that failed, and that is how it is said."""
    async with simulated(items=3, generation=2022) as simulator:
        settings = quick_settings(simulator, retries=0, max_failures="0", exclude_asset="B10", workers=1)
        only = f"/{simulator.patch_name(1)}_B03.tif"
        simulator.on_request = lambda record: "500" if record.path.endswith(only) else None
        summary = await mirror(settings, simulator.key)
    assert summary.reason.startswith("1 asset failed, more than --max-failures 0")


@pytest.mark.parametrize("allowed", ["5", "1%"])
async def test_failures_beyond_what_is_allowed_stop_the_run(quick_settings: Make, tmp_path: Path, allowed: str) -> None:
    """More failures than --max-failures: exit 8 with the reason, and what came is kept; the next run goes on."""
    async with simulated(items=100, generation=2022) as simulator:
        settings = quick_settings(simulator, retries=0, max_failures=allowed, exclude_asset="B10")
        # A key that is found on some items is no phantom.
        first = f"/{simulator.patch_name(0)}_B03.tif"
        simulator.on_request = lambda record: (
            "500" if record.path.endswith("_B03.tif") and not record.path.endswith(first) else None
        )
        summary = await mirror(settings, simulator.key)
        assert (summary.verdict, summary.exit_code) == ("stopped", 8)
        assert "--max-failures" in summary.reason
        assert summary.mirror.items.pending > 0
        simulator.on_request = None
        again = await mirror(quick_settings(simulator, exclude_asset="B10"), simulator.key)
        assert again.verdict == "complete"
        is_whole(again, simulator, tmp_path / "mirror")


@pytest.mark.parametrize("cap", [{"max_transfer": "200kB"}, {"max_duration": "1s"}])
async def test_caps_stop_a_run_softly(quick_settings: Make, tmp_path: Path, cap: dict[str, str]) -> None:
    """--max-transfer and --max-duration end a run with exit 8, items in hand finished; the next run goes on."""
    async with simulated(items=60, generation=2022, latency_s=0.02) as simulator:
        summary = await mirror(quick_settings(simulator, workers=4, exclude_asset="B10", **cap), simulator.key)
        assert (summary.verdict, summary.exit_code) == ("stopped", 8)
        assert next(iter(cap)).replace("_", "-") in summary.reason
        assert 0 < summary.mirror.items.complete < 60
        again = await mirror(quick_settings(simulator, exclude_asset="B10"), simulator.key)
        assert again.verdict == "complete"
        is_whole(again, simulator, tmp_path / "mirror")


async def test_row_29_all_is_gone_for_good(
    quick_settings: Make, tmp_path: Path, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """API and storage down for longer than `--max-outage`: a verdict with counts and exit 5; the next run goes on."""
    monkeypatch.setattr(health, "_PROBE_FIRST_S", 0.05)
    monkeypatch.setattr(health, "_PROBE_MAX_S", 0.1)
    async with simulated(items=40, generation=2022) as simulator:
        simulator.on_request = lambda record: "503" if len(simulator.requests) > 500 else None
        notes = Notes()
        settings = quick_settings(simulator, **by(way), max_outage="1s", exclude_asset="B10")
        summary = await mirror(settings, simulator.key, notes)
        assert (summary.verdict, summary.exit_code) == ("stopped", 5)
        assert "no answer for" in summary.reason
        assert "--max-outage" in summary.hint
        hold_simulated(tmp_path / "mirror", simulator, summary, notes.lines, cut=True)
        await mends_simulated(settings, simulator)
