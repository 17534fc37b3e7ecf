"""Nothing waits for ever in our own client: whatever becomes of a connection, whoever waits on it hears of it.

The connections here are scripted, not opened, so that the order of events is the test's and not the machine's.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply
from stacmirror.transports import wire as wire_module
from stacmirror.transports.wire import WireTransport
from tests.contract.wire_server import chunked, head, ok

URL = "http://host.example/"
PATIENCE_S = 30.0


class FakeTransport(asyncio.Transport):
    """A socket that does what the test says. As asyncio's, it takes writes in silence once it is closing."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.protocol = protocol
        self.written: list[bytes] = []
        self.closing = False
        self.paused = False

    def write(self, data: Any) -> None:
        if not self.closing:
            self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def say(self, data: bytes) -> None:
        """Let bytes arrive, as the loop would: not while reading is paused."""
        assert not self.paused
        self.protocol.data_received(data)

    def lose(self, error: Exception | None = None) -> None:
        """Let the connection break now."""
        self.closing = True
        self.protocol.connection_lost(error)


class Network:
    """Stands in for `loop.create_connection`. `prepare` is called on each new connection before its owner has it."""

    def __init__(self) -> None:
        self.made: list[FakeTransport] = []
        self.prepare: Callable[[FakeTransport], None] = lambda transport: None

    async def connect(self, factory: Callable[[], Any], *where: Any, **how: Any) -> tuple[FakeTransport, Any]:
        protocol = factory()
        transport = FakeTransport(protocol)
        self.made.append(transport)
        protocol.connection_made(transport)
        self.prepare(transport)
        return transport, protocol

    async def asked(self, count: int = 1) -> FakeTransport:
        """Return the connection made last, once `count` requests have been written over all."""
        async with asyncio.timeout(PATIENCE_S):
            while sum(len(transport.written) for transport in self.made) < count:
                await asyncio.sleep(0)
        return self.made[-1]


@pytest.fixture
async def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", network.connect)
    monkeypatch.setattr("socket.getaddrinfo", lambda *asked, **more: [(2, 1, 6, "", ("192.0.2.1", 80))])
    return network


@pytest.fixture
async def client(network: Network) -> AsyncIterator[WireTransport]:
    client = WireTransport(user_agent="test/1", connect_timeout_s=PATIENCE_S, stall_timeout_s=30.0)
    yield client
    await client.close()


async def fetch(client: WireTransport, small_max_bytes: int = 1000) -> Reply:
    return await asyncio.wait_for(client.fetch(URL, {}, small_max_bytes), PATIENCE_S)


async def first_answer(client: WireTransport, network: Network) -> FakeTransport:
    """Ask once, and return the connection that is kept from it."""
    task = asyncio.create_task(fetch(client))
    transport = await network.asked()
    transport.say(ok(b"first"))
    assert (await task).body == b"first"
    return transport


async def test_a_late_cancel_harms_no_other_request(client: WireTransport, network: Network) -> None:
    """Cancelled after its answer has come, a request leaves the connection alone: it carries another's by now.

    This was a hang: a page read ahead was cancelled at `--max-items`, in the same turn of the loop in which its
    connection had gone to a worker, whose answer then never came.
    """
    page = asyncio.create_task(client.fetch(URL, {}, 1000))
    transport = await network.asked()
    worker = asyncio.create_task(fetch(client))  # will run before the page's task wakes up
    transport.say(ok(b"page"))
    page.cancel()
    with pytest.raises(asyncio.CancelledError):
        await page
    assert len(transport.written) == 2
    assert not transport.closing
    transport.say(ok(b"asset"))
    assert (await worker).body == b"asset"
    assert len(network.made) == 1


@pytest.mark.parametrize("how", ["lost", "closing"])
async def test_a_connection_lost_before_its_use(client: WireTransport, network: Network, how: str) -> None:
    """A connection that breaks between its making and the request is an error at once, not a wait."""

    def prepare(transport: FakeTransport) -> None:
        if how == "lost":
            transport.lose(ConnectionResetError())
        else:
            transport.protocol.eof_received()
            transport.closing = True

    network.prepare = prepare
    with pytest.raises(TransferError) as lost:
        await fetch(client)
    assert (lost.value.kind, lost.value.retryable) == ("reset", True)


async def test_a_closing_connection_is_not_taken(client: WireTransport, network: Network) -> None:
    """Between the server's FIN and the loop's farewell a kept connection takes writes in silence: a new one is made."""
    kept = await first_answer(client, network)
    kept.protocol.eof_received()
    kept.closing = True  # and `connection_lost` has not been called yet
    task = asyncio.create_task(fetch(client))
    fresh = await network.asked(2)
    assert fresh is not kept
    fresh.say(ok(b"second"))
    assert (await task).body == b"second"


async def test_a_stale_connection_costs_one_more_request(client: WireTransport, network: Network) -> None:
    """However many kept connections are stale: the request goes out once more, on a new one."""
    tasks = [asyncio.create_task(fetch(client)) for _ in range(3)]
    await network.asked(3)
    for transport in network.made:
        transport.say(ok(b"x"))
    await asyncio.gather(*tasks)
    task = asyncio.create_task(fetch(client))
    await network.asked(4)
    next(transport for transport in network.made if len(transport.written) == 2).lose()
    fresh = await network.asked(5)
    assert len(network.made) == 4
    fresh.lose()
    with pytest.raises(TransferError) as broken:
        await task
    assert broken.value.kind == "reset"
    assert sum(len(transport.written) for transport in network.made) == 5


async def test_a_begun_answer_is_not_asked_for_again(client: WireTransport, network: Network) -> None:
    """With one byte of an answer the server has heard the request: no second one by itself."""
    kept = await first_answer(client, network)
    task = asyncio.create_task(fetch(client))
    await network.asked(2)
    kept.say(b"H")
    kept.lose()
    with pytest.raises(TransferError) as broken:
        await task
    assert broken.value.kind == "reset"
    assert len(network.made) == 1


PHASES = {
    "no byte": (b"", "reset"),
    "in the head": (b"HTTP/1.1 200 OK\r\nContent-Le", "reset"),
    "in a small body": (head(200, "Content-Length: 100") + b"x", "short"),
    "in a large body": (head(200, "Content-Length: 5000") + b"x", "short"),
    "in chunks": (head(200, "Transfer-Encoding: chunked") + b"5\r\nab", "short"),
    "until close": (head(200) + b"x", "short"),
}


async def whole(client: WireTransport) -> bytes:
    reply = await client.fetch(URL, {}, 1000)
    if reply.stream is None:
        return reply.body or b""
    return b"".join([chunk async for chunk in reply.stream.chunks()])


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("end", ["reset", "cut"])
async def test_every_loss_reaches_who_waits(client: WireTransport, network: Network, phase: str, end: str) -> None:
    """Wherever an answer is when its connection goes, whoever waits for reply or body gets a TransferError."""
    said, kind = PHASES[phase]
    task = asyncio.create_task(asyncio.wait_for(whole(client), PATIENCE_S))
    transport = await network.asked()
    if said:
        transport.say(said)
    await asyncio.sleep(0)
    transport.lose(ConnectionResetError() if end == "reset" else None)
    with pytest.raises(TransferError) as lost:
        await task
    assert (lost.value.kind, lost.value.retryable) == (kind, True)
    assert not client._connections


@pytest.mark.parametrize("phase", PHASES)
async def test_closing_the_client_ends_every_wait(client: WireTransport, network: Network, phase: str) -> None:
    """`close` fails what is under way, drops all connections, and nothing is asked afterwards."""
    task = asyncio.create_task(asyncio.wait_for(whole(client), PATIENCE_S))
    transport = await network.asked()
    if PHASES[phase][0]:
        transport.say(PHASES[phase][0])
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(TransferError):
        await task
    assert transport.closing
    assert not client._connections
    with pytest.raises(TransferError):
        await fetch(client)
    assert len(network.made) == 1


@pytest.mark.parametrize("phase", PHASES)
async def test_every_wait_has_a_deadline(network: Network, phase: str) -> None:
    """Without a byte for the stall timeout, whoever waits for reply or body gets kind `timeout`."""
    client = WireTransport(user_agent="test/1", connect_timeout_s=PATIENCE_S, stall_timeout_s=0.05)
    task = asyncio.create_task(asyncio.wait_for(whole(client), PATIENCE_S))
    transport = await network.asked()
    if PHASES[phase][0]:
        transport.say(PHASES[phase][0])
    with pytest.raises(TransferError) as stalled:
        await task
    assert stalled.value.kind == "timeout"
    assert transport.closing
    await client.close()


async def test_an_error_in_the_sweep_does_not_end_it(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one timer behind all deadlines goes on, whatever happens in one of its turns."""
    client = WireTransport(user_agent="test/1", connect_timeout_s=PATIENCE_S, stall_timeout_s=0.05)
    loud: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: loud.append(context))
    judge, calls = client._judge, iter([True])

    def failing(*values: Any) -> None:
        if next(calls, False):
            raise RuntimeError("a bug")
        judge(*values)

    monkeypatch.setattr(client, "_judge", failing)
    with pytest.raises(TransferError) as stalled:
        await fetch(client)
    assert stalled.value.kind == "timeout"
    assert len(loud) == 1
    await client.close()


async def test_waiting_for_a_first_byte_is_not_slow(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lowest speed is that of an answer that has begun; until then the stall timeout alone counts."""
    monkeypatch.setattr(wire_module, "_SLOW_WINDOW_S", 0.03)
    monkeypatch.setattr(wire_module, "_SWEEP_S", 0.01)
    client = WireTransport(user_agent="test/1", connect_timeout_s=PATIENCE_S, stall_timeout_s=PATIENCE_S)
    task = asyncio.create_task(fetch(client))
    transport = await network.asked()
    await asyncio.sleep(0.2)
    transport.say(ok(b"at last"))
    assert (await task).body == b"at last"
    await client.close()


async def test_a_closed_body_wakes_its_reader(client: WireTransport, network: Network) -> None:
    """A reader that waits for a chunk while another closes the body gets an error, and the connection goes."""
    task = asyncio.create_task(fetch(client))
    transport = await network.asked()
    transport.say(head(200, "Content-Length: 5000"))
    stream = (await task).stream
    assert stream is not None
    chunks = stream.chunks()
    reader = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0)
    stream.close()
    with pytest.raises(TransferError):
        await asyncio.wait_for(reader, PATIENCE_S)
    assert transport.closing


@pytest.mark.parametrize("reads", [True, False], ids=["read", "unread"])
async def test_a_body_that_ends_while_paused(client: WireTransport, network: Network, reads: bool) -> None:
    """A body that came whole before its slow reader took it: the connection reads again, for the next request."""
    task = asyncio.create_task(fetch(client))
    transport = await network.asked()
    large = b"x" * (3 << 20)
    transport.say(ok(large))
    stream = (await task).stream
    assert stream is not None
    if not reads:
        stream.close()
    second = asyncio.create_task(fetch(client))
    await network.asked(2)
    transport.say(ok(b"y" * (3 << 20))[: 2 << 20])
    assert transport.paused
    if reads:
        assert b"".join([chunk async for chunk in stream.chunks()]) == large
        stream.close()
    assert transport.paused  # the first reader has no say any more
    assert (await second).stream is not None
    assert not transport.closing
    assert len(network.made) == 1


async def test_a_cancelled_body_drops_its_connection(client: WireTransport, network: Network) -> None:
    """A reader cancelled in mid-body, and the body closed: the connection carries no other request."""
    task = asyncio.create_task(asyncio.wait_for(fetch(client), PATIENCE_S))
    transport = await network.asked()
    transport.say(head(200, "Content-Length: 5000") + b"x")
    stream = (await task).stream
    assert stream is not None

    async def read() -> None:
        try:
            async for _ in stream.chunks():
                pass
        finally:
            stream.close()

    reader = asyncio.create_task(read())
    await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert transport.closing
    await asyncio.sleep(0)
    assert not client._connections


async def test_kept_connections_are_few_and_short_lived(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most `kept_max` stay idle at one origin, and none for longer than its life."""
    monkeypatch.setattr(wire_module, "_SWEEP_S", 0.01)
    client = WireTransport(user_agent="test/1", connect_timeout_s=PATIENCE_S, stall_timeout_s=30.0, kept_max=2)
    tasks = [asyncio.create_task(fetch(client)) for _ in range(5)]
    await network.asked(5)
    for transport in network.made:
        transport.say(ok(b"x"))
    await asyncio.gather(*tasks)
    assert [transport.closing for transport in network.made].count(False) == 2
    monkeypatch.setattr(wire_module, "_IDLE_MAX_S", 0.1)
    async with asyncio.timeout(PATIENCE_S):
        while client._connections:
            await asyncio.sleep(0.01)
    await client.close()


class Storm:
    """Requests, bytes, cancellations and losses in an order drawn by lot; every answer names its request."""

    def __init__(self, client: WireTransport, network: Network, chance: random.Random) -> None:
        self.client = client
        self.network = network
        self.chance = chance
        self.tasks: dict[int, asyncio.Task[bytes]] = {}
        self.unsaid: dict[FakeTransport, list[bytes]] = {}
        self.answered: dict[FakeTransport, int] = {}

    async def run(self, steps: int) -> None:
        acts = [self.ask] * 4 + [self.say] * 12 + [self.cancel] * 2 + [self.lose, self.fin]
        for _ in range(steps):
            self.chance.choice(acts)()
            if self.chance.random() < 0.5:
                await asyncio.sleep(0)

    def ask(self) -> None:
        number = len(self.tasks)
        self.tasks[number] = asyncio.create_task(self._read(number))

    async def _read(self, number: int) -> bytes:
        reply = await self.client.fetch(f"{URL}{number}", {}, 1000)
        if reply.stream is None:
            return reply.body or b""
        try:
            return b"".join([chunk async for chunk in reply.stream.chunks()])
        finally:
            reply.stream.close()

    def cancel(self) -> None:
        if self.tasks:
            self.chance.choice(list(self.tasks.values())).cancel()

    def _open(self) -> list[FakeTransport]:
        return [transport for transport in self.network.made if not transport.closing]

    def say(self) -> None:
        for transport in self._open():
            heard = self.answered.get(transport, 0)
            if not self.unsaid.get(transport) and len(transport.written) > heard:
                self.answered[transport] = heard + 1
                self.unsaid[transport] = self._pieces(transport.written[heard].split(b" ")[1])
        speakers = [transport for transport in self._open() if self.unsaid.get(transport) and not transport.paused]
        if speakers:
            transport = self.chance.choice(speakers)
            transport.say(self.unsaid[transport].pop(0))

    def _pieces(self, path: bytes) -> list[bytes]:
        body = (path + b" ") * self.chance.choice([1, 300, 90_000])
        if self.chance.random() < 0.5:
            whole = ok(body)
        else:
            whole = head(200, "Transfer-Encoding: chunked") + chunked(body[:500], *filter(None, [body[500:]]))
        cut = self.chance.randrange(1, len(whole))
        return [whole[:cut], whole[cut:]]

    def lose(self) -> None:
        if self._open():
            self.chance.choice(self._open()).lose(ConnectionResetError())

    def fin(self) -> None:
        if self._open():
            transport = self.chance.choice(self._open())
            transport.protocol.eof_received()
            transport.close()


@pytest.mark.parametrize("seed", range(12))
async def test_any_order_of_events_ends_every_wait(client: WireTransport, network: Network, seed: int) -> None:
    """Whatever happens in whatever order: nobody gets another's answer, and nobody waits once all are gone."""
    storm = Storm(client, network, random.Random(seed))
    await storm.run(400)
    async with asyncio.timeout(PATIENCE_S):
        while any(not task.done() for task in storm.tasks.values()):
            storm.say()
            await asyncio.sleep(0)
    came = 0
    for number, task in storm.tasks.items():
        if not task.cancelled() and task.exception() is None:
            came += 1
            assert set(task.result().split()) == {b"/%d" % number}
        elif not task.cancelled():
            assert isinstance(task.exception(), TransferError)
    assert came > 10
    await client.close()
    assert not client._connections
