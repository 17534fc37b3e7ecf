"""Both HTTP clients connect to nothing that the guard does not admit, however it is spelled, and ask it once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from stacmirror.errors import TransferError
from stacmirror.interfaces import Transport
from stacmirror.transports.guard import Guard
from stacmirror.transports.http import AiohttpTransport
from stacmirror.transports.wire import WireTransport
from tests.contract.wire_server import KEEP, WireServer, ok, wire_server

PUBLIC = "93.184.216.34"
CLIENTS: dict[str, Callable[[Guard], Transport]] = {
    "aiohttp": lambda guard: AiohttpTransport(
        user_agent="test/1", connect_timeout_s=2.0, stall_timeout_s=2.0, guard=guard
    ),
    "wire": lambda guard: WireTransport(user_agent="test/1", connect_timeout_s=2.0, stall_timeout_s=2.0, guard=guard),
}
SPELLINGS = [
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.0.0.1.",
    "localhost", "LocalHost.", "0.0.0.0", "0", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "127\u30020\u30020\u30021", "\uff11\uff12\uff17.0.0.1", "\u2460\u2461\u2466.0.0.1", "[::]", "inside.example.org",
]  # fmt: skip


class Watched(Guard):
    """Counts what it is asked."""

    asked = 0

    def admit(self, name: str, port: int, addresses: Sequence[str]) -> list[str]:
        self.asked += 1
        return super().admit(name, port, addresses)


@pytest.fixture
async def server() -> AsyncIterator[WireServer]:
    async with wire_server() as server:
        server.say("/a", ok(b"body"), KEEP)
        yield server


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """The guard of a run that began in public; `inside.example.org` is a name of loopback."""
    real = socket.getaddrinfo

    def getaddrinfo(name: Any, port: Any, *more: Any, **how: Any) -> Any:
        return real("127.0.0.1" if name in ("inside.example.org", b"inside.example.org") else name, port, *more, **how)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    guard = Watched("api.example.org")
    guard.admit("api.example.org", 443, [PUBLIC])
    return guard


@pytest.fixture(params=CLIENTS)
async def client(request: pytest.FixtureRequest, guard: Watched) -> AsyncIterator[Transport]:
    client = CLIENTS[request.param](guard)
    yield client
    await client.close()


@pytest.mark.parametrize("host", SPELLINGS)
async def test_no_spelling_leads_inside(client: Transport, server: WireServer, host: str) -> None:
    """Decimal, hex, octal, short, mapped, full-width, by name: nobody is connected to."""
    url = f"{server.url.replace('127.0.0.1', host)}/a"
    with pytest.raises(TransferError) as caught:
        await asyncio.wait_for(client.fetch(url, {}, 1000), 5)
    assert caught.value.kind in ("host", "url", "dns")  # what is no address to anyone is refused as that
    if host in ("127.0.0.1", "2130706433", "localhost", "[::ffff:127.0.0.1]", "inside.example.org"):
        assert caught.value.kind == "host"
    assert server.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "inside.example.org"])
async def test_a_source_on_this_machine_may_lead_there(server: WireServer, guard: Watched, host: str) -> None:
    """Where the source is on loopback its links may lead to loopback: the simulator, a tunnel."""
    for name, make in CLIENTS.items():
        home = Guard("source.example.org")
        home.admit("source.example.org", 80, ["127.0.0.1"])
        client = make(home)
        try:
            reply = await client.fetch(f"{server.url.replace('127.0.0.1', host)}/a", {}, 1000)
            assert reply.body == b"body", name
        finally:
            await client.close()


async def test_a_kept_connection_is_asked_about_once(server: WireServer) -> None:
    """Twenty requests over one connection ask the guard once: it costs nothing where files are fetched."""
    for make in CLIENTS.values():
        guard = Watched("127.0.0.1")
        client = make(guard)
        try:
            for _ in range(20):
                await client.fetch(f"{server.url}/a", {}, 1000)
        finally:
            await client.close()
        assert guard.asked == 1
