"""Hosts in trouble over real sockets, with both HTTP clients: keys, links, certificates, proxies, names, clocks."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from stacmirror.errors import TransferError
from stacmirror.mirror import Mirror
from stacmirror.model import Summary
from stacmirror.settings import Settings
from stacmirror.simulator import Simulator
from stacmirror.transports.http import AiohttpTransport
from stacmirror.transports.wire import WireTransport
from tests.conftest import simulated, tree
from tests.unit.fakes import Notes

Make = Callable[..., Settings]
FULL = os.environ.get("STACMIRROR_FAULTS") == "full"
CLIENTS = pytest.mark.parametrize("client", ["wire", "aiohttp"] if FULL else ["wire"])


async def mirror(settings: Settings, key: str, notes: Notes | None = None) -> Summary:
    return await Mirror(settings, api_key=key, observer=notes or Notes()).run()


def is_whole(target: Path, simulator: Simulator, items: int) -> None:
    """Every file there is has the origin's bytes, and all are there."""
    expected = sorted(body for n in range(items) for body in simulator.expected_files(n).values())
    assert sorted(tree(target).values()) == expected
    assert [path for name in ("staging", "parts") for path in (target / ".stacmirror" / name).glob("*")] == []


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


@CLIENTS
async def test_row_1_connections_refused_for_a_while(quick_settings: Make, tmp_path: Path, client: str) -> None:
    """Storage that goes away and comes back costs no file, whatever the number of attempts; a note says both."""
    async with simulated(items=40, redirect_to="s3") as simulator, behind_a_gate(simulator) as gate:
        notes = Notes()
        endpoint = f"http://127.0.0.1:{gate.port}"
        settings = quick_settings(simulator, workers=16, retries=2, s3_endpoint=endpoint, http_client=client)
        running = asyncio.create_task(mirror(settings, simulator.key, notes))
        while len(simulator.requests) < 400:
            await asyncio.sleep(0.01)
        gate.shut()
        await asyncio.sleep(1.5)
        await gate.open()
        summary = await running
        assert (summary.verdict, summary.failures) == ("complete", [])
        is_whole(tmp_path / "mirror", simulator, 40)
    assert any("is down" in line for line in notes.lines)
    assert any("answers again" in line for line in notes.lines)


@CLIENTS
async def test_row_28_names_that_come_and_go(
    quick_settings: Make, tmp_path: Path, client: str, monkeypatch: pytest.MonkeyPatch
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
        settings = quick_settings(simulator, workers=16, retries=2, s3_endpoint=endpoint, http_client=client)
        running = asyncio.create_task(mirror(settings, simulator.key))
        while len(simulator.requests) < 400:
            await asyncio.sleep(0.01)
        fails_until_s[0] = time.monotonic() + 1.5
        gate.shut()  # so that names have to be resolved again
        await gate.open()
        summary = await running
        assert (summary.verdict, summary.failures) == ("complete", [])
        is_whole(tmp_path / "mirror", simulator, 40)


@CLIENTS
async def test_row_18_wrong_key(quick_settings: Make, client: str) -> None:
    """A key that is refused from the start stops the run with exit 4 after one request, and says where to put it."""
    async with simulated(items=20) as simulator:
        summary = await mirror(quick_settings(simulator, http_client=client), "wrong")
        refused = [record for record in simulator.requests if record.status == 401]
        assert len(refused) == len(list(simulator.requests)) == 1
    assert summary.exit_code == 4
    assert "refused the API key" in summary.reason
    assert "MLHUB_API_KEY" in summary.hint


@CLIENTS
async def test_row_19_key_withdrawn_midway(quick_settings: Make, tmp_path: Path, client: str) -> None:
    """Nothing is asked with the key once the third refusal is read; with a new key the mirror is finished."""
    async with simulated(items=40, generation=2022) as simulator:
        simulator.on_request = lambda record: (
            "401"
            if record.server == "api" and "/download/" not in record.path and len(simulator.requests) > 500
            else None
        )
        settings = quick_settings(simulator, workers=8, http_client=client)
        summary = await mirror(settings, simulator.key)
        refused = [record for record in simulator.requests if record.status == 401]
        assert summary.exit_code == 4
        assert 1 <= len(refused) <= 3 + 8
        simulator.on_request = None
        again = await mirror(settings, simulator.key)
        assert (again.verdict, again.exit_code) == ("complete", 0)
        is_whole(tmp_path / "mirror", simulator, 40)


@CLIENTS
@pytest.mark.parametrize("told", ["the settings know the links' life", "it is learned"])
async def test_row_20_links_that_live_for_seconds(quick_settings: Make, tmp_path: Path, client: str, told: str) -> None:
    """Links that die while items wait: no asset fails, not for a moment, and an item is renewed once an expiry."""
    async with simulated(items=60, generation=2022, link_life_s=2, latency_s=0.03) as simulator:
        more = {"link_life": "2s"} if told.startswith("the settings") else {}
        notes = Notes()
        settings = quick_settings(
            simulator, workers=12, sweeps=0, retries=1, fixed_pace=True, http_client=client, **more
        )
        began_s = time.monotonic()
        summary = await mirror(settings, simulator.key, notes)
        took_s = time.monotonic() - began_s
        assert (summary.verdict, summary.failures) == ("complete", [])
        is_whole(tmp_path / "mirror", simulator, 60)
        asked = Counter(record.path for record in simulator.requests if "/items/" in record.path)
    assert took_s > 2, "no link died: the test says nothing"
    assert max(asked.values()) <= 1 + took_s / 1.0
    assert any("links die after" in line for line in notes.lines) == (told == "it is learned")


@CLIENTS
@pytest.mark.parametrize("status", ["404", "410"])
async def test_row_21_gone_is_asked_once(quick_settings: Make, tmp_path: Path, client: str, status: str) -> None:
    """An asset that is not there is asked for once in a run, told as gone, and the rest is whole."""
    async with simulated(items=30, generation=2022) as simulator:
        gone = f"/{simulator.patch_name(3)}_B02.tif"
        simulator.on_request = lambda record: status if record.path.endswith(gone) else None
        summary = await mirror(quick_settings(simulator, http_client=client), simulator.key)
        asked = sum(record.path.endswith(gone) for record in simulator.requests)
        assert len(tree(tmp_path / "mirror")) == 30 * 13 - 1
    assert asked == 1
    assert (summary.exit_code, [(f.asset, f.kind, f.count) for f in summary.failures]) == (3, [("B02", "gone", 1)])


@CLIENTS
async def test_row_15_a_server_error_for_ever(quick_settings: Make, tmp_path: Path, client: str) -> None:
    """An object that answers 500 for ever is asked as often as the settings say, told as 5xx, and delays no other."""
    async with simulated(items=30, generation=2022) as simulator:
        bad = f"/{simulator.patch_name(3)}_B02.tif"
        simulator.on_request = lambda record: "500" if record.path.endswith(bad) else None
        settings = quick_settings(simulator, http_client=client, retries=2, sweeps=1)
        summary = await mirror(settings, simulator.key)
        asked = sum(record.path.endswith(bad) for record in simulator.requests)
        assert len(tree(tmp_path / "mirror")) == 30 * 13 - 1
    assert asked == 2 * 3
    assert (summary.exit_code, [(f.asset, f.kind, f.count) for f in summary.failures]) == (3, [("B02", "5xx", 1)])


@CLIENTS
@pytest.mark.parametrize("jump_h", [6, -6, 24 * 365 * 4])
async def test_row_51_clock_jumps(
    quick_settings: Make, tmp_path: Path, client: str, jump_h: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine's clock set forth or back midway renews no link too early, none too late, and ends no wait."""
    real = time.time
    jumped = [0.0]
    async with simulated(items=40, generation=2022) as simulator:
        simulator.clock = real
        monkeypatch.setattr("stacmirror.clock.time.time", lambda: real() + jumped[0], raising=True)
        monkeypatch.setattr("stacmirror.simulator.delivery.time", _RealTime(real))
        running = asyncio.create_task(
            mirror(quick_settings(simulator, http_client=client, exclude_asset="B10"), simulator.key)
        )
        while len(simulator.requests) < 200:
            await asyncio.sleep(0.005)
        jumped[0] = jump_h * 3600.0
        summary = await running
        assert (summary.verdict, summary.failures) == ("complete", [])
        asked = Counter(record.path for record in simulator.requests if "/items/" in record.path)
    assert max(asked.values()) == 1


class _RealTime:
    """The `time` module for a server whose clock is right."""

    def __init__(self, real: Callable[[], float]) -> None:
        self.time = real


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
        is_whole(tmp_path / "mirror", simulator, 100)


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
        is_whole(tmp_path / "mirror", simulator, 60)
