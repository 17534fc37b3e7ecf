"""Several requests in turn on one connection: on the wire as single ones, and what a server that breaks off costs."""

from __future__ import annotations

import asyncio

import pytest

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply
from stacmirror.transports import wire as wire_module
from stacmirror.transports.wire import WireTransport
from tests.contract.asking import MIXED, MIXED_BODIES, SMALL_MAX, bodies, in_turn, script
from tests.contract.wire_server import KEEP, RESET, STALL, Step, WireServer, chunked, head, ok


async def test_each_is_heard_of_in_its_order(client: WireTransport, server: WireServer) -> None:
    """Whoever hears is told of every answer, under its own URL."""
    urls = script(server, *MIXED)
    heard: list[str] = []

    def hear(reply: Reply) -> bool:
        heard.append(reply.url)
        return True

    assert bodies(await in_turn(client, urls, hear)) == MIXED_BODIES
    assert heard == urls


async def test_each_goes_out_when_the_one_before_is_whole(client: WireTransport, server: WireServer) -> None:
    """A server that answers nothing more sees no further request."""
    urls = script(server, [ok(b"one"), KEEP], [head(200, "Content-Length: 3") + b"t", STALL], [ok(b"three"), KEEP])
    came = await in_turn(client, urls)
    assert bodies(came[:1]) == [b"one"]
    assert isinstance(came[1], TransferError)
    assert (came[1].kind, len(came), len(server.heard)) == ("timeout", 2, 2)


async def test_whoever_hears_may_end_it(client: WireTransport, server: WireServer) -> None:
    """After False nothing more is sent, and the connection serves the next request."""
    urls = script(server, *[[ok(b"x"), KEEP]] * 4)
    assert len(await in_turn(client, urls, lambda reply: reply.url != urls[1])) == 2
    assert len(server.heard) == 2
    assert bodies(await in_turn(client, urls)) == [b"x"] * 4
    assert server.connections == 1


@pytest.mark.parametrize("cut", range(1, 60, 7))
async def test_cut_anywhere_into_packets(client: WireTransport, cut: int) -> None:
    """Where one packet ends and the next begins makes no difference."""
    answers = [b"".join(step for step in steps if isinstance(step, bytes)) for steps in MIXED]

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            for at in range(0, len(answer), cut):
                writer.write(answer[at : at + cut])
                await writer.drain()
                await asyncio.sleep(0)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        came = await in_turn(client, [f"{url}/{number}" for number in range(6)])
        assert bodies(came) == MIXED_BODIES
        await client.close()


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ([head(200, "Content-Length: 300") + b"two"], "short"),
        ([head(200, "Content-Length: 300") + b"two", RESET], "short"),
        ([b"HTTP/1.1 200 OK\r\nContent-Le"], "reset"),
        ([b"what?\r\n\r\n", KEEP], "protocol"),
        ([head(200, "Transfer-Encoding: gzip"), KEEP], "protocol"),
        ([head(200, *["X: y"] * 200), KEEP], "protocol"),
        ([head(200, "Transfer-Encoding: chunked") + b"5\r\nabc\r\nzz\r\n", KEEP], "short"),
    ],
    ids=["short", "reset midway", "cut head", "no answer", "coding", "long head", "bad chunk"],
)
async def test_what_breaks_is_one_error(
    client: WireTransport, server: WireServer, answer: list[Step], kind: str, first: bool
) -> None:
    """The error stands in its answer's place, what came before is kept, and the connection is not used again."""
    answers = [answer, [ok(b"x"), KEEP]] if first else [[ok(b"one"), KEEP], answer, [ok(b"x"), KEEP]]
    urls = script(server, *answers)
    came = await in_turn(client, urls)
    assert bodies(came[:-1]) == [b"one"][: len(answers) - 2]
    assert isinstance(came[-1], TransferError)
    assert (came[-1].kind, len(came)) == (kind, len(answers) - 1)
    assert (await client.fetch(urls[-1], {}, SMALL_MAX)).body == b"x"
    assert server.connections == 2


@pytest.mark.parametrize("last", [True, False], ids=["last", "not last"])
async def test_a_surplus_answers_nobody(client: WireTransport, server: WireServer, last: bool) -> None:
    """More than was asked for ends the connection: what was asked is whole, what came unasked is under no name."""
    urls = script(server, [ok(b"one") + ok(b"EVIL"), KEEP], [ok(b"two"), KEEP])
    assert bodies(await in_turn(client, urls[:1] if last else urls)) == [b"one"]
    assert (await client.fetch(urls[1], {}, SMALL_MAX)).body == b"two"
    assert server.connections == 2


@pytest.mark.parametrize(
    ("large", "whole"),
    [
        ([head(200, "Content-Length: 5000") + b"x" * 5000, KEEP], True),
        ([head(200, "Transfer-Encoding: chunked") + chunked(b"x" * 900, b"x" * 4100), KEEP], True),
        ([head(200, "Content-Length: 6000") + b"x" * 5000], False),
        ([head(200, "Content-Length: 5000") + b"x" * 5000 + ok(b"EVIL"), KEEP], True),
    ],
    ids=["large", "chunked", "short", "surplus"],
)
async def test_a_large_body_comes_as_a_stream(
    client: WireTransport, server: WireServer, large: list[Step], whole: bool
) -> None:
    """It is the last that comes, read as it comes; a connection that took it to its end is used again."""
    urls = script(server, [ok(b"one"), KEEP], large, [ok(b"three"), KEEP])
    came = await in_turn(client, urls)
    assert bodies(came[:1]) == [b"one"]
    assert isinstance(came[1], Reply)
    assert (came[1].body, len(came)) == (None, 2)
    stream = came[1].stream
    assert stream is not None
    read = b""
    if whole:
        async for chunk in stream.chunks():
            read += chunk
        assert read == b"x" * 5000
    else:
        with pytest.raises(TransferError) as short:
            async for _ in stream.chunks():
                pass
        assert short.value.kind == "short"
    stream.close()
    assert (await client.fetch(urls[2], {}, SMALL_MAX)).body == b"three"
    assert server.connections == (2 if not whole or b"EVIL" in b"".join(map(bytes, large[:1])) else 1)


async def test_a_large_body_that_is_closed_drops_its_connection(client: WireTransport, server: WireServer) -> None:
    """Read in part, it is nobody's: the next request goes elsewhere."""
    urls = script(server, [head(200, "Content-Length: 5000") + b"x" * 2000, STALL], [ok(b"two"), KEEP])
    came = await in_turn(client, urls)
    assert isinstance(came[0], Reply)
    assert came[0].stream is not None
    came[0].stream.close()
    assert (await client.fetch(urls[1], {}, SMALL_MAX)).body == b"two"
    assert server.connections == 2


async def test_no_more_is_held_than_may_be(client: WireTransport, server: WireServer) -> None:
    """Once the bodies together reach the limit nothing more is asked; the connection is kept."""
    urls = script(server, *[[ok(b"x" * 300), KEEP]] * 6)
    assert len(await in_turn(client, urls)) == 4
    assert len(server.heard) == 4
    await client.fetch(urls[5], {}, SMALL_MAX)
    assert server.connections == 1


async def test_a_stall_ends(client: WireTransport, server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a byte of the first answer for too long it is given up: kind `timeout`."""
    monkeypatch.setattr(wire_module, "_SWEEP_S", 0.05)
    with pytest.raises(TransferError) as stalled:
        await in_turn(client, script(server, [STALL], [ok(b"two"), KEEP]))
    assert stalled.value.kind == "timeout"


async def test_cancelled_at_any_moment(client: WireTransport, server: WireServer) -> None:
    """One that is given up drops its connection; the requests of others arrive."""
    urls = script(server, *[[ok(b"x" * 100), KEEP]] * 8)
    for turns in range(24):
        task = asyncio.create_task(in_turn(client, urls))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert bodies(await in_turn(client, urls)) == [b"x" * 100] * 8


async def test_a_url_that_cannot_be_asked_is_nobody_elses_error(client: WireTransport, server: WireServer) -> None:
    """What comes before it is asked and answered, it and what comes after it is left open; alone it is the error."""
    urls = script(server, (ok(b"one"), KEEP), (ok(b"two"), KEEP))
    bad = f"{server.url}/\ud800"
    assert bodies(await in_turn(client, [urls[0], bad, urls[1]])) == [b"one"]
    with pytest.raises(TransferError) as caught:
        await in_turn(client, [bad, urls[0]])
    assert caught.value.kind == "url"
