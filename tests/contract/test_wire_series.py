"""Several requests in one write: answers in order, and what a server that breaks it costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply
from stacmirror.transports import wire as wire_module
from stacmirror.transports.wire import WireTransport
from tests.contract.wire_server import KEEP, RESET, STALL, Step, WireServer, chunked, head, ok, wire_server

SMALL_MAX = 1000
PATIENCE_S = 30.0


@pytest.fixture
async def server() -> AsyncIterator[WireServer]:
    async with wire_server() as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[WireTransport]:
    client = WireTransport(user_agent="test/1", connect_timeout_s=PATIENCE_S, stall_timeout_s=0.5)
    yield client
    await client.close()


async def several(client: WireTransport, urls: Sequence[str]) -> list[Reply]:
    replies = await asyncio.wait_for(client.fetch_several([(url, {}) for url in urls], SMALL_MAX), PATIENCE_S)
    assert None not in replies
    return [reply for reply in replies if reply is not None]


def bodies(replies: Sequence[Reply]) -> list[bytes | None]:
    return [reply.body for reply in replies]


def script(server: WireServer, *answers: Sequence[Step]) -> list[str]:
    return [server.say(f"/{number}", *steps) for number, steps in enumerate(answers)]


MIXED = [
    (ok(b"one"), KEEP),
    (head(302, "Location: /there", "Content-Length: 5") + b"moved", KEEP),
    (head(200, "Transfer-Encoding: chunked") + chunked(b"th", b"ree"), KEEP),
    (head(204), KEEP),
    (b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b"five"), KEEP),
    (head(404, "Content-Length: 0"), KEEP),
]


async def test_answers_come_in_the_order_of_asking(client: WireTransport, server: WireServer) -> None:
    """Every kind of answer is whole and under its own URL; one connection, which then serves another request."""
    urls = script(server, *MIXED)
    replies = await several(client, urls)
    assert bodies(replies) == [b"one", b"moved", b"three", b"", b"five", b""]
    assert [reply.status for reply in replies] == [200, 302, 200, 204, 200, 404]
    assert [reply.url for reply in replies] == urls
    assert replies[1].headers["location"] == "/there"
    assert bodies(await several(client, urls[:2])) == [b"one", b"moved"]
    assert (await client.fetch(urls[0], {}, SMALL_MAX)).body == b"one"
    assert server.connections == 1


async def test_they_go_out_in_one_write(client: WireTransport, server: WireServer) -> None:
    """The second request is there before the first is answered."""
    first = server.say("/0", STALL)
    with pytest.raises(TransferError):
        await several(client, [first, server.url + "/1"])
    assert len(server.heard) == 1  # the server reads no further; what it would read next is there

    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(10_000))
        writer.write(ok(b"a") + ok(b"b"))
        await reader.read()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        assert bodies(await several(client, [url + "/x", url + "/y"])) == [b"a", b"b"]
        await client.close()
    assert heard[0].count(b"GET /") == 2


@pytest.mark.parametrize("cut", range(1, 60, 7))
async def test_cut_anywhere_into_packets(client: WireTransport, server: WireServer, cut: int) -> None:
    """Where one packet ends and the next begins makes no difference."""
    stream = b"".join(step for steps in MIXED for step in steps if isinstance(step, bytes))
    pieces = [stream[at : at + cut] for at in range(0, len(stream), cut)]

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"GET /5")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        replies = await several(client, [f"{url}/{number}" for number in range(6)])
        assert bodies(replies) == [b"one", b"moved", b"three", b"", b"five", b""]
        await client.close()


@pytest.mark.parametrize(
    ("second", "come"),
    [
        ([head(200, "Content-Length: 3", "Connection: close") + b"two"], 2),
        ([b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\ntwo"], 2),
        ([head(200, "Connection: close") + b"two"], 2),
        ([head(200, "Content-Length: 300") + b"two"], 1),
        ([head(200, "Content-Length: 300") + b"two", RESET], 1),
        ([], 1),
        ([head(200, "Content-Length: 5000") + b"x" * 5000, KEEP], 1),
        ([head(200, "Transfer-Encoding: chunked") + chunked(b"x" * 900, b"x" * 900), KEEP], 1),
    ],
    ids=["close", "1.0", "until close", "short", "reset", "silent", "large", "large, chunked"],
)
async def test_what_came_whole_is_kept(
    client: WireTransport, server: WireServer, second: list[Step], come: int
) -> None:
    """A server that ends the series leaves the answers before; the rest is missing, and the connection is not kept."""
    urls = script(server, [ok(b"one"), KEEP], second, [ok(b"three"), KEEP])
    assert bodies(await several(client, urls)) == [b"one", b"two"][:come]
    assert (await client.fetch(urls[2], {}, SMALL_MAX)).body == b"three"
    assert server.connections == 2


async def test_no_more_is_held_than_may_be(client: WireTransport, server: WireServer) -> None:
    """Bodies count together: the one that goes over the limit, and those after it, are missing."""
    urls = script(server, *[[ok(b"x" * 300), KEEP]] * 5)
    assert len(await several(client, urls)) == 3


@pytest.mark.parametrize(
    "answer", [b"what?\r\n\r\n", head(200, "Transfer-Encoding: gzip"), head(200, *["X: y"] * 200)], ids=repr
)
async def test_what_is_no_answer_spoils_the_series(client: WireTransport, server: WireServer, answer: bytes) -> None:
    """Bytes that cannot be followed leave no answer that could be trusted: kind `protocol`."""
    urls = script(server, [ok(b"one") + answer, KEEP], [ok(b"two"), KEEP])
    with pytest.raises(TransferError) as spoiled:
        await several(client, urls)
    assert spoiled.value.kind == "protocol"
    assert (await client.fetch(urls[1], {}, SMALL_MAX)).body == b"two"
    assert server.connections == 2


async def test_a_surplus_ends_the_connection(client: WireTransport, server: WireServer) -> None:
    """More answers than questions: those asked for are whole, the connection is not used again."""
    urls = script(server, [ok(b"one"), KEEP], [ok(b"two") + ok(b"EVIL"), KEEP], [ok(b"three"), KEEP])
    assert bodies(await several(client, urls[:2])) == [b"one", b"two"]
    assert (await client.fetch(urls[2], {}, SMALL_MAX)).body == b"three"
    assert server.connections == 2


async def test_a_stale_connection_is_replaced(client: WireTransport, server: WireServer) -> None:
    """A kept connection that the server has closed costs nothing."""
    urls = script(server, [ok(b"one"), KEEP], [ok(b"two"), KEEP])
    assert (await client.fetch(server.say("/last", ok(b"last"), RESET), {}, SMALL_MAX)).body == b"last"
    assert bodies(await several(client, urls)) == [b"one", b"two"]


async def test_a_stall_ends(client: WireTransport, server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a byte for too long the series is given up: kind `timeout`."""
    monkeypatch.setattr(wire_module, "_SWEEP_S", 0.05)
    urls = script(server, [ok(b"one"), KEEP], [head(200, "Content-Length: 3") + b"t", STALL])
    with pytest.raises(TransferError) as stalled:
        await several(client, urls)
    assert stalled.value.kind == "timeout"


async def test_cancelled_at_any_moment(client: WireTransport, server: WireServer) -> None:
    """A series given up drops its connection; the requests of others arrive."""
    urls = script(server, *[[ok(b"x" * 100), KEEP]] * 8)
    for turns in range(12):
        task = asyncio.create_task(several(client, urls))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert bodies(await several(client, urls)) == [b"x" * 100] * 8


async def test_nothing_asked(client: WireTransport) -> None:
    """No requests, no answers."""
    assert await several(client, []) == []
