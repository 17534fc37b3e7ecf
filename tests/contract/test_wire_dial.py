"""How our own client comes to a connection: names, addresses, TLS, and never longer than it may take."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trustme
import uvloop

from stacmirror.errors import TransferError
from stacmirror.transports import wire_dial
from stacmirror.transports.wire import WireTransport
from tests.contract.wire_server import KEEP, WireServer, head, ok

CONNECT_S, PATIENCE_S = 0.4, 30.0


@pytest.fixture
async def client() -> AsyncIterator[WireTransport]:
    client = WireTransport(user_agent="test/1", connect_timeout_s=PATIENCE_S, stall_timeout_s=PATIENCE_S)
    yield client
    await client.close()


class Names:
    """Stands in for the system's resolver: every name has `addresses`, and `asked` counts."""

    def __init__(self) -> None:
        self.addresses = ["127.0.0.1"]
        self.asked = 0

    def getaddrinfo(self, name: str, port: int, **more: Any) -> list[tuple[Any, ...]]:
        self.asked += 1
        return [(0, 1, 6, "", (address, port)) for address in self.addresses]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    return names


@pytest.fixture
async def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of the addresses that are tried; 192.0.2.* swallow packets, 198.51.100.* refuse."""
    loop, tried = asyncio.get_running_loop(), list[str]()
    connect = loop.create_connection

    async def watched(factory: Callable[[], Any], address: str, port: int, **how: Any) -> Any:
        tried.append(address)
        if address.startswith("192.0.2."):
            await asyncio.sleep(60)
        if address.startswith("198.51.100."):
            raise ConnectionRefusedError(111, "Connection refused")
        return await connect(factory, address, port, **how)

    monkeypatch.setattr(loop, "create_connection", watched)
    return tried


async def body(client: WireTransport, url: str) -> bytes | None:
    return (await asyncio.wait_for(client.fetch(url, {}, 1000), PATIENCE_S)).body


@pytest.mark.parametrize("first", ["198.51.100.1", "192.0.2.1", "::1"], ids=["refuses", "swallows", "IPv6"])
async def test_the_next_address_is_tried(
    client: WireTransport, server: WireServer, names: Names, dialled: list[str], first: str
) -> None:
    """Where one address of a name is dead, the next is asked in time, and is in front from then on."""
    names.addresses = [first, "127.0.0.1"]
    if first.startswith("192"):
        client._dialer._connect_timeout_s = 6.0  # half of it for each: enough for the second on any machine
    at = server.url.replace("127.0.0.1", "host.example")
    server.say("/a", ok(b"abc", "Connection: close"))
    assert await body(client, at + "/a") == b"abc"
    assert await body(client, at + "/a") == b"abc"
    assert dialled == [first, "127.0.0.1", "127.0.0.1"]
    assert "Host: host.example:" in server.heard[0]


@pytest.mark.parametrize("dead", [["198.51.100.1", "198.51.100.2"], ["192.0.2.1", "192.0.2.2"], []])
async def test_no_address_answers(client: WireTransport, names: Names, dialled: list[str], dead: list[str]) -> None:
    """When none answers, it is kind `connect` within the time for connecting, and the name is asked for anew."""
    names.addresses = dead
    client._dialer._connect_timeout_s = CONNECT_S
    for asked in (1, 2):
        began_s = asyncio.get_running_loop().time()
        with pytest.raises(TransferError) as failed:
            await body(client, "http://host.example/")
        assert (failed.value.kind, failed.value.retryable) == ("connect", True)
        assert asyncio.get_running_loop().time() - began_s < CONNECT_S + 20
        assert names.asked == asked
    assert dialled == dead * 2


async def test_names_are_asked_for_once(
    client: WireTransport, server: WireServer, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One question for all who connect at a time; its answer is kept, but not for ever."""
    at = server.url.replace("127.0.0.1", "host.example")
    server.say("/a", ok(b"abc", "Connection: close"))
    await asyncio.gather(*(body(client, at + "/a") for _ in range(10)))
    assert names.asked == 1
    monkeypatch.setattr(wire_dial, "_DNS_LIFE_S", -1.0)
    client._dialer._addresses.clear()
    await body(client, at + "/a")
    await body(client, at + "/a")
    assert names.asked == 3


async def test_a_cancelled_question_is_answered_to_others(
    client: WireTransport, server: WireServer, names: Names
) -> None:
    """Whoever asked for a name first may go: the others who wait for it get their answer."""
    server.say("/a", ok(b"abc"))
    at = server.url.replace("127.0.0.1", "host.example")
    first, second = (asyncio.create_task(body(client, at + "/a")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == b"abc"


async def test_an_ipv6_address_is_asked(client: WireTransport) -> None:
    """`http://[::1]:port/` works, with its brackets in the Host header only."""
    heard = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(ok(b"six", "Connection: close"))
        writer.close()

    try:
        served = await asyncio.start_server(serve, "::1", 0)
    except OSError:
        pytest.skip("no IPv6 on this machine")
    port = served.sockets[0].getsockname()[1]
    assert await body(client, f"http://[::1]:{port}/") == b"six"
    assert f"Host: [::1]:{port}\r\n".encode() in heard[0]
    served.close()


async def test_the_client_closed_while_it_connects(client: WireTransport, server: WireServer) -> None:
    """A connection that stands only after `close` is dropped, and who waited for it gets an error."""
    task = asyncio.create_task(body(client, server.say("/a", ok(b"abc"), KEEP)))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(TransferError):
        await task
    assert server.heard == []
    assert not client._connections


# -- TLS ---------------------------------------------------------------------------------------------------

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's context for `localhost`, and a client's that trusts it."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return server, client


def over_tls(
    loop: str,
    answer: Callable[[asyncio.StreamWriter], Awaitable[None]],
    ask: Callable[[WireTransport, str], Awaitable[None]],
    served: ssl.SSLContext,
    trusted: ssl.SSLContext,
) -> None:
    """Run `ask` against a TLS server that does `answer` to each request, on one kind of loop."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.transport.abort()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=served)
        client = WireTransport(
            user_agent="t", connect_timeout_s=PATIENCE_S, stall_timeout_s=PATIENCE_S, tls=lambda: trusted
        )
        try:
            async with asyncio.timeout(60):
                await ask(client, f"https://LocalHost:{server.sockets[0].getsockname()[1]}/")
        finally:
            await client.close()
            server.close()
            await asyncio.sleep(0.05)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("cut", [False, True])
def test_a_cut_is_no_end_over_tls(loop: str, cut: bool) -> None:
    """A body that ends with the close is whole with TLS's farewell, and short without (RFC 9112, 9.8)."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(head(200) + b"x" * 100)
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.transport.abort() if cut else writer.close()

    async def ask(client: WireTransport, url: str) -> None:
        if not cut:
            assert await body(client, url) == b"x" * 100
            return
        with pytest.raises(TransferError) as short:
            await body(client, url)
        assert short.value.kind == "short"

    over_tls(loop, answer, ask, *contexts())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_slow_reader_over_tls(loop: str) -> None:
    """A large body that ends with the close while its reader is behind: not a byte is lost, little is held."""
    large = bytes(range(256)) * 40_000

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(head(200) + large)
        await writer.drain()
        writer.close()

    async def ask(client: WireTransport, url: str) -> None:
        stream = (await client.fetch(url, {}, 1000)).stream
        assert stream is not None
        await asyncio.sleep(0.1)
        assert stream._held_bytes < 3 << 20  # type: ignore[attr-defined]
        got = bytearray()
        async for chunk in stream.chunks():
            got += chunk
            await asyncio.sleep(0.0001)
        stream.close()
        assert bytes(got) == large

    over_tls(loop, answer, ask, *contexts())


@pytest.mark.parametrize("loop", LOOPS)
def test_connections_are_kept_and_named_over_tls(loop: str) -> None:
    """The server hears the name (SNI), once for many requests; a trusted certificate is looked at by default."""
    served, trusted = contexts()
    named: list[str] = []
    served.sni_callback = lambda tls, name, context: named.append(name)

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(ok(b"abc"))

    async def ask(client: WireTransport, url: str) -> None:
        for _ in range(3):
            assert await body(client, url) == b"abc"
        assert named == ["localhost"]

    over_tls(loop, answer, ask, served, trusted)
    default = WireTransport(user_agent="t", connect_timeout_s=PATIENCE_S, stall_timeout_s=PATIENCE_S)._dialer._context()
    assert default.check_hostname
    assert default.verify_mode is ssl.CERT_REQUIRED
