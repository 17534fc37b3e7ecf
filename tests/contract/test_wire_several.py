"""What holds of several requests on one connection, however they are asked: in turn, or in one write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import pytest

from stacmirror.interfaces import Reply
from stacmirror.transports.wire import WireTransport
from tests.contract.asking import MIXED, MIXED_BODIES, SMALL_MAX, Came, bodies, in_turn, script, several
from tests.contract.wire_server import KEEP, RESET, Step, WireServer, head, ok

Ask: TypeAlias = Callable[[WireTransport, Sequence[str]], Awaitable[Came]]


@pytest.fixture(params=[in_turn, several], ids=["in turn", "in one write"])
def ask(request: pytest.FixtureRequest) -> Ask:
    way: Ask = request.param
    return way


async def test_answers_come_in_the_order_of_asking(ask: Ask, client: WireTransport, server: WireServer) -> None:
    """Every kind of answer is whole, under its own URL, with its own headers; one connection for all, and the next."""
    urls = script(server, *MIXED)
    came = await ask(client, urls)
    assert bodies(came) == MIXED_BODIES
    replies = [reply for reply in came if isinstance(reply, Reply)]
    assert [reply.status for reply in replies] == [200, 302, 200, 204, 200, 404]
    assert [reply.url for reply in replies] == urls
    assert [reply.headers.get("location") for reply in replies] == [None, "/there", None, None, None, None]
    assert bodies(await ask(client, urls[:2])) == [b"one", b"moved"]
    assert (await client.fetch(urls[0], {}, SMALL_MAX)).body == b"one"
    assert server.connections == 1


@pytest.mark.parametrize(
    ("second", "come"),
    [
        ([head(200, "Content-Length: 3", "Connection: close") + b"two"], 2),
        ([b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\ntwo"], 2),
        ([head(200, "Connection: close") + b"two"], 2),
        ([], 1),
    ],
    ids=["close", "1.0", "until close", "silent"],
)
async def test_what_came_whole_is_kept(
    ask: Ask, client: WireTransport, server: WireServer, second: list[Step], come: int
) -> None:
    """A server that ends the connection leaves the answers before; the rest is nobody's error, and asked elsewhere."""
    urls = script(server, [ok(b"one"), KEEP], second, [ok(b"three"), KEEP])
    assert bodies(await ask(client, urls)) == [b"one", b"two"][:come]
    assert (await client.fetch(urls[2], {}, SMALL_MAX)).body == b"three"
    assert server.connections == 2


async def test_a_stale_connection_is_replaced(ask: Ask, client: WireTransport, server: WireServer) -> None:
    """A kept connection that the server has closed costs nothing."""
    urls = script(server, [ok(b"one"), KEEP], [ok(b"two"), KEEP])
    assert (await client.fetch(server.say("/last", ok(b"last"), RESET), {}, SMALL_MAX)).body == b"last"
    assert bodies(await ask(client, urls)) == [b"one", b"two"]


async def test_nothing_asked(ask: Ask, client: WireTransport) -> None:
    """No requests, no answers."""
    assert await ask(client, []) == []
