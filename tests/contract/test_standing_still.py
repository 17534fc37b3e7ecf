"""A process that stood still (stopped, or its loop held up, or its machine) takes that for no server's silence.

The clock here is the loop's own, put forward by the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from stacmirror.errors import TransferError
from stacmirror.interfaces import Transport
from tests.contract.test_transports import HTTP_TRANSPORTS, SMALL
from tests.contract.wire_server import STALL, Step, WireServer, chunked, head, wire_server
from tests.forward import STEP_S, Forward

STALL_S = 30.0
LONG_S = 300.0

PHASES: dict[str, tuple[bytes, bytes]] = {
    "no byte": (b"", head(200, "Content-Length: 1") + b"x"),
    "in the head": (b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 1\r\n\r\nx"),
    "in a small body": (head(200, "Content-Length: 100") + b"x", b"x" * 99),
    "in a large body": (head(200, "Content-Length: 5000") + b"x", b"x" * 4999),
    "in chunks": (head(200, "Transfer-Encoding: chunked") + b"5\r\nab", b"cde\r\n" + chunked(b"f")),
    "until close": (head(200) + b"x", b"x"),
}


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Forward:
    return Forward(monkeypatch)


@pytest.fixture(params=HTTP_TRANSPORTS)
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    made = HTTP_TRANSPORTS[request.param]
    transport = made(user_agent="test/1", connect_timeout_s=STALL_S, stall_timeout_s=STALL_S)
    yield transport
    await transport.close()


@pytest.fixture
async def wire() -> AsyncIterator[WireServer]:
    async with wire_server() as server:
        yield server


async def read(transport: Transport, url: str) -> bytes:
    reply = await transport.fetch(url, {}, SMALL)
    if reply.stream is None:
        return reply.body or b""
    try:
        return b"".join([chunk async for chunk in reply.stream.chunks()])
    finally:
        reply.stream.close()


class Talk:
    """A request whose server says a first part at once, and another when the test says so."""

    def __init__(self, transport: Transport, wire: WireServer, first: bytes, *then: Step) -> None:
        self._said = asyncio.Event()

        async def said() -> None:
            self._said.set()

        url = wire.say("/a", first, said, *then)
        self.task = asyncio.create_task(read(transport, url))

    async def under_way(self) -> None:
        """Wait until the client has what was said, and waits for more."""
        async with asyncio.timeout(STALL_S):
            await self._said.wait()
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("phase", PHASES)
async def test_a_standstill_is_no_silence(transport: Transport, wire: WireServer, clock: Forward, phase: str) -> None:
    """After minutes in which nobody listened, bytes are taken as they come: neither a time-out nor a drip."""
    first, rest = PHASES[phase]
    more = asyncio.Event()
    talk = Talk(transport, wire, first, more.wait, rest)
    await talk.under_way()
    await clock.put(LONG_S)
    assert not talk.task.done()
    more.set()
    async with asyncio.timeout(STALL_S):
        assert await talk.task


@pytest.mark.parametrize("phase", PHASES)
async def test_silence_counts_from_a_standstill_on(
    transport: Transport, wire: WireServer, clock: Forward, phase: str
) -> None:
    """An answer gets its whole stall timeout after it, and no more."""
    talk = Talk(transport, wire, PHASES[phase][0], STALL)
    await talk.under_way()
    await clock.put(LONG_S)
    await clock.go_on(STALL_S - 2)
    assert not talk.task.done()
    await clock.go_on(4.0)
    assert talk.task.done()
    with pytest.raises(TransferError) as stalled:
        await talk.task
    assert stalled.value.kind == "timeout"


async def test_a_drip_stays_one(transport: Transport, wire: WireServer, clock: Forward) -> None:
    """A body that drips is given up by the time in which it was listened to, whatever came between."""
    byte = asyncio.Semaphore(0)
    talk = Talk(transport, wire, head(200, "Content-Length: 5000"), *[byte.acquire, b"x"] * 200, STALL)
    await talk.under_way()
    steps = 0
    while not talk.task.done() and steps < 190:
        if steps == 60:
            await clock.put(LONG_S)
        byte.release()
        await clock.put(STEP_S)
        steps += 1
    for _ in range(200):  # let the server come to its end
        byte.release()
    with pytest.raises(TransferError) as slow:
        await talk.task
    assert slow.value.kind == "slow"
    assert 28.0 <= steps * STEP_S <= 40.0
