"""The gate at the clients: who waited for a connection while it was shut sends nothing, whatever had begun before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from stacmirror.errors import LoginRefused
from stacmirror.gate import Gate, Standing
from stacmirror.limits import HostLimits
from stacmirror.transports.http import AiohttpTransport
from stacmirror.transports.router import Router
from stacmirror.transports.wire import WireTransport
from tests.contract.wire_server import KEEP, WireServer, ok, wire_server

Client = WireTransport | AiohttpTransport


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture(params=[WireTransport, AiohttpTransport], ids=["wire", "aiohttp"])
async def client(request: pytest.FixtureRequest, gate: Gate) -> AsyncIterator[Client]:
    made = request.param(user_agent="test/1", connect_timeout_s=5.0, stall_timeout_s=5.0, gate=gate)
    yield made
    await made.close()


@pytest.fixture
async def wire() -> AsyncIterator[WireServer]:
    async with wire_server() as server:
        server.say("/x", ok(b"found"), KEEP)
        yield server


async def begun(client: Client, wire: WireServer) -> asyncio.Task[bytes | None]:
    """Return a request that has passed the gate and has no connection yet."""

    async def fetch() -> bytes | None:
        return (await client.fetch(f"{wire.url}/x", {}, 1000)).body

    task = asyncio.create_task(fetch())
    await asyncio.sleep(0)
    assert wire.connections == 0
    return task


async def connected(wire: WireServer) -> None:
    """Wait until the connection is there, and for long enough that something could be heard on it."""
    await wire.until(lambda: wire.connections == 1)
    for _ in range(50):
        await asyncio.sleep(0.001)


async def test_what_waits_for_its_connection_waits_for_the_gate(client: Client, wire: WireServer, gate: Gate) -> None:
    """Shut meanwhile: the connection is made, and used once the doubt is over."""
    task = await begun(client, wire)
    with gate.doubt() as doubt:
        doubt.begin()
        await connected(wire)
        assert wire.heard == []
    assert await asyncio.wait_for(task, 5) == b"found"


async def test_what_waits_for_its_connection_is_not_sent_once_a_login_is_refused(
    client: Client, wire: WireServer, gate: Gate
) -> None:
    """Ended meanwhile: the request is refused as all others are, and the server never hears it."""
    task = await begun(client, wire)
    gate.end(LoginRefused("refused", hint="x"))
    with pytest.raises(LoginRefused):
        await asyncio.wait_for(task, 5)
    with pytest.raises(LoginRefused):
        await client.fetch(f"{wire.url}/x", {}, 1000)
    assert wire.heard == []


async def test_the_question_alone_passes(client: Client, wire: WireServer, gate: Gate) -> None:
    """Whoever finds out about the login asks, over a new connection as well; all others wait for what it comes to."""
    other = await begun(client, wire)
    standing: Standing[str] = Standing(gate)

    async def find_out() -> int:
        await connected(wire)
        reply = await client.fetch(f"{wire.url}/x?question", {}, 1000)
        assert [head.split(" ")[1] for head in wire.heard] == ["/x?question"]
        return reply.status

    assert await asyncio.wait_for(standing.prove(0, find_out), 5) == 404
    assert await asyncio.wait_for(other, 5) == b"found"


async def test_who_posts_waits_as_well(wire: WireServer, gate: Gate) -> None:
    """A token is asked for, or a page searched, by the same rule."""
    client = AiohttpTransport(user_agent="test/1", connect_timeout_s=5.0, stall_timeout_s=5.0, gate=gate)
    gate.end(LoginRefused("refused", hint="x"))
    with pytest.raises(LoginRefused):
        await client.post(f"{wire.url}/x", {}, b"{}", 1000)
    await client.close()
    assert wire.heard == []


async def test_several_wait_as_well(wire: WireServer, gate: Gate) -> None:
    """An item's small assets, on a connection that is kept or new."""
    client = WireTransport(user_agent="test/1", connect_timeout_s=5.0, stall_timeout_s=5.0, gate=gate)
    await client.fetch(f"{wire.url}/x", {}, 1000)
    gate.end(LoginRefused("refused", hint="x"))
    with pytest.raises(LoginRefused):
        await client.fetch_several([(f"{wire.url}/x", {})] * 2, 1000)
    await client.close()
    assert len(wire.heard) == 1


async def test_the_question_needs_no_place(client: Client, wire: WireServer, gate: Gate) -> None:
    """All places of a host may be held by those who wait for its answer."""
    limits = HostLimits(1, None, time.monotonic, asyncio.sleep)
    router = Router({"http": client}, limits, redirects_max=1, small_max_bytes=1000, wall=time.time, gate=gate)

    async def find_out() -> int:
        return (await router.ask(f"{wire.url}/x?question", {}, 1000)).status

    with gate.doubt() as doubt:
        doubt.begin()
        other = asyncio.create_task(router.ask(f"{wire.url}/x", {}, 1000))
        await asyncio.sleep(0)
        assert limits.of(wire.url).in_flight == 1
        assert await asyncio.wait_for(gate.ask(find_out), 5) == 404
    assert (await asyncio.wait_for(other, 5)).body == b"found"
