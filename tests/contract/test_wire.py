"""What our own client owes beyond the contract: connections that nothing odd survives, and TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trustme

from stacmirror.errors import TransferError
from stacmirror.interfaces import Transport
from stacmirror.transports import wire as wire_module
from stacmirror.transports.aiohttp_answer import Pace
from stacmirror.transports.http import AiohttpTransport
from stacmirror.transports.wire import WireTransport
from tests.contract.test_transports import PATIENCE_S, whole
from tests.contract.wire_server import KEEP, STALL, WireServer, head, ok, wire_server


@pytest.fixture
async def client() -> AsyncIterator[WireTransport]:
    client = WireTransport(user_agent="test/1", connect_timeout_s=PATIENCE_S, stall_timeout_s=PATIENCE_S)
    yield client
    await client.close()


async def body(client: Transport, url: str, small_max_bytes: int = 1000) -> bytes | None:
    return (await asyncio.wait_for(client.fetch(url, {}, small_max_bytes), PATIENCE_S)).body


SECOND = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"


@pytest.mark.parametrize(
    "surplus", [b"x", b"EVIL\r\n\r\n", SECOND, SECOND[:20]], ids=["byte", "words", "answer", "half"]
)
async def test_a_surplus_ends_the_connection(client: WireTransport, server: WireServer, surplus: bytes) -> None:
    """What comes after an answer's end answers nobody: the answer is whole, its connection is not used again."""
    first = server.say("/a", ok(b"abc") + surplus, KEEP)
    second = server.say("/b", ok(b"true"), KEEP)
    assert await body(client, first) == b"abc"
    assert await body(client, second) == b"true"
    assert server.connections == 2


async def test_a_late_surplus_ends_the_connection(client: WireTransport, server: WireServer) -> None:
    """Bytes that come while nobody asks close the connection before the next request."""
    first = server.say("/a", ok(b"abc"), SECOND, KEEP)
    assert await body(client, first) == b"abc"
    await server.until(lambda: server.gone == 1)
    assert await body(client, server.say("/b", ok(b"true"), KEEP)) == b"true"
    assert server.connections == 2


async def test_interim_answers_are_passed_over(client: WireTransport, server: WireServer) -> None:
    """100 and 103 before the answer are no answer, and leave no header behind."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    reply = await client.fetch(server.say("/a", interim + ok(b"abc"), KEEP), {}, 1000)
    assert (reply.status, reply.body) == (200, b"abc")
    assert "link" not in reply.headers
    assert await body(client, server.say("/b", ok(b"again"), KEEP)) == b"again"
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        head(200, "Content-Length: 3", "Connection: close") + b"abc",
        b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        head(200, "Connection: close") + b"abc",
    ],
    ids=["close", "1.0", "until close"],
)
async def test_connections_that_close_are_not_kept(client: WireTransport, server: WireServer, answer: bytes) -> None:
    """`Connection: close`, HTTP/1.0 and a body without a length each end their connection."""
    assert await body(client, server.say("/a", answer)) == b"abc"
    assert await body(client, server.say("/b", ok(b"true"), KEEP)) == b"true"
    assert server.connections == 2


async def test_length_and_chunks_together_are_refused(client: WireTransport, server: WireServer) -> None:
    """A length beside chunks is how answers are smuggled (RFC 9112, 6.3): refused."""
    both = head(200, "Content-Length: 2", "Transfer-Encoding: chunked") + b"2\r\nok\r\n0\r\n\r\n"
    with pytest.raises(TransferError) as refused:
        await body(client, server.say("/a", both, KEEP))
    assert refused.value.kind == "protocol"


async def test_a_stale_connection_is_replaced_once(client: WireTransport, server: WireServer) -> None:
    """A kept connection that the server has closed costs no attempt: the request goes out on a new one."""
    assert await body(client, server.say("/a", ok(b"abc"), KEEP)) == b"abc"
    server.say("/b")  # closes without an answer
    with pytest.raises(TransferError) as broken:
        await body(client, server.url + "/b")
    assert broken.value.kind == "reset"
    assert server.connections == 2
    assert [heard.split()[1] for heard in server.heard] == ["/a", "/b", "/b"]


ENDLESS = {
    "header lines": [b"HTTP/1.1 200 OK\r\n"] + [b"X: %s\r\n" % (b"y" * 4000)] * 30,
    "one header": [b"HTTP/1.1 200 OK\r\nX: "] + [b"y" * 4000] * 30,
    "short headers": [b"HTTP/1.1 200 OK\r\n"] + [b"X: y\r\n"] * 200,
    "reason": [b"HTTP/1.1 200 "] + [b"y" * 4000] * 30,
    "interim answers": [b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 100] * 100,
    "trailers": [head(200, "Transfer-Encoding: chunked"), b"1\r\nx\r\n0\r\n"] + [b"X: %s\r\n" % (b"y" * 4000)] * 30,
    "chunk extensions": [head(200, "Transfer-Encoding: chunked"), b"1;"] + [b"y" * 4000] * 30,
}


@pytest.mark.parametrize("what", ENDLESS)
async def test_heads_have_limits(client: WireTransport, server: WireServer, what: str) -> None:
    """Headers, trailers and interim answers without end are given up after 64 KiB or 128 lines, as damaged."""
    with pytest.raises(TransferError) as endless:
        await body(client, server.say("/a", *ENDLESS[what], STALL))
    assert endless.value.kind == "protocol"
    await server.until(lambda: server.gone == 1)


async def test_a_surplus_without_limits_harms_no_answer(client: WireTransport, server: WireServer) -> None:
    """What comes after an answer's end is not judged: the answer was whole before it."""
    surplus = head(200, *(f"X-{n}: 1" for n in range(1000))) + head(101, "Upgrade: x", "Connection: upgrade")
    assert await body(client, server.say("/a", ok(b"abc") + surplus, KEEP)) == b"abc"


async def test_a_slow_reader_stops_the_server(client: WireTransport, server: WireServer) -> None:
    """A large body that nobody reads is held to about a MiB, then read to its end without a byte lost."""
    large = bytes(range(256)) * 80_000
    reply = await client.fetch(server.say("/a", ok(large), KEEP), {}, 1000)
    assert reply.stream is not None
    await asyncio.sleep(0.2)
    assert reply.stream._held_bytes < 3 << 20  # type: ignore[attr-defined]
    assert b"".join([chunk async for chunk in reply.stream.chunks()]) == large
    reply.stream.close()
    assert await body(client, server.say("/b", ok(b"kept"), KEEP)) == b"kept"
    assert server.connections == 1


CLIENTS: dict[str, Callable[..., Transport]] = {"wire": WireTransport, "aiohttp": AiohttpTransport}


@pytest.mark.parametrize("made", CLIENTS.values(), ids=CLIENTS)
@pytest.mark.parametrize("small_max_bytes", [10, 5000], ids=["large", "small"])
async def test_a_drip_is_given_up(
    made: Callable[..., Transport], small_max_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then is a sign of life, and still too slow: the lowest speed ends it, with either client."""
    monkeypatch.setattr(wire_module, "_SWEEP_S", 0.05)
    client: Any = made(user_agent="t", connect_timeout_s=PATIENCE_S, stall_timeout_s=PATIENCE_S)
    if isinstance(client, WireTransport):  # as it is never shorter than the stall timeout
        client._slow_window_s, client._slowest_bytes_per_s = 0.2, 1000.0
    else:
        client._pace = Pace(0.2, 1000.0)
    ended = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(200, "Content-Length: 1000"))
        try:
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
            ended.set()

    dripping = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = dripping.sockets[0].getsockname()[1]
    with pytest.raises(TransferError) as slow:
        await whole(await asyncio.wait_for(client.fetch(f"http://127.0.0.1:{port}/", {}, small_max_bytes), PATIENCE_S))
    assert slow.value.kind == "slow"
    await client.close()
    await asyncio.wait_for(ended.wait(), PATIENCE_S)
    dripping.close()
    await asyncio.sleep(0.01)


# -- TLS ---------------------------------------------------------------------------------------------------


@pytest.fixture(params=CLIENTS)
def make_client(request: pytest.FixtureRequest) -> Callable[[ssl.SSLContext | None], Transport]:
    def make(trusted: ssl.SSLContext | None) -> Transport:
        more = {"tls": lambda: trusted} if trusted is not None else {}
        return CLIENTS[request.param](user_agent="t", connect_timeout_s=PATIENCE_S, stall_timeout_s=PATIENCE_S, **more)

    return make


def contexts(host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's context for `host`, and a client's that trusts it."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert(host).configure_cert(server)
    authority.configure_trust(client)
    return server, client


async def test_tls_works(make_client: Callable[..., Transport]) -> None:
    """Over TLS: small and large bodies, one connection kept."""
    served, trusted = contexts("localhost")
    client = make_client(trusted)
    async with wire_server(served) as server:
        at = server.url.replace("http://127.0.0.1", "https://localhost")
        server.say("/a", ok(b"small"), KEEP)
        server.say("/b", ok(b"y" * 300_000), KEEP)
        assert await body(client, at + "/a") == b"small"
        reply = await client.fetch(at + "/b", {}, 1000)
        assert reply.stream is not None
        assert len(b"".join([chunk async for chunk in reply.stream.chunks()])) == 300_000
        reply.stream.close()
        assert await body(client, at + "/a") == b"small"
        assert server.connections == 1
        await client.close()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("wrong", ["authority", "host"])
async def test_untrusted_certificates_are_refused(make_client: Callable[..., Transport], wrong: str) -> None:
    """An unknown authority or another host's certificate ends it, with kind `tls`, and no request is sent."""
    served, trusted = contexts("localhost" if wrong == "authority" else "elsewhere.example")
    client = make_client(trusted if wrong == "host" else None)
    async with wire_server(served) as server:
        at = server.url.replace("http://127.0.0.1", "https://localhost")
        with pytest.raises(TransferError) as refused:
            await body(client, at + "/a")
        assert (refused.value.kind, refused.value.retryable) == ("tls", False)
        assert server.heard == []
        await client.close()
        await asyncio.sleep(0.05)
