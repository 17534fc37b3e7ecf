"""Several requests in one write: answers in order, and what a server that breaks it costs."""

from __future__ import annotations

import asyncio

import pytest

from stacmirror.errors import TransferError
from stacmirror.transports import wire as wire_module
from stacmirror.transports.wire import WireTransport
from tests.contract.asking import MIXED, MIXED_BODIES, SMALL_MAX, bodies, script, several
from tests.contract.wire_server import KEEP, RESET, STALL, Step, WireServer, chunked, head, ok


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
        assert bodies(replies) == MIXED_BODIES
        await client.close()


@pytest.mark.parametrize(
    "second",
    [
        [head(200, "Content-Length: 300") + b"two"],
        [head(200, "Content-Length: 300") + b"two", RESET],
        [head(200, "Content-Length: 5000") + b"x" * 5000, KEEP],
        [head(200, "Transfer-Encoding: chunked") + chunked(b"x" * 900, b"x" * 900), KEEP],
    ],
    ids=["short", "reset", "large", "large, chunked"],
)
async def test_what_is_cut_or_large_ends_it(client: WireTransport, server: WireServer, second: list[Step]) -> None:
    """The answers before are kept; it and the rest are missing, and so asked again elsewhere."""
    urls = script(server, [ok(b"one"), KEEP], second, [ok(b"three"), KEEP])
    assert bodies(await several(client, urls)) == [b"one"]
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
