"""Several requests on one connection, in turn or in one write: how they are asked, and answers of every kind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply
from stacmirror.transports.wire import WireTransport
from tests.contract.wire_server import KEEP, Step, WireServer, chunked, head, ok

SMALL_MAX = 1000
PATIENCE_S = 30.0
Came = Sequence[Reply | TransferError | None]

MIXED = [
    (ok(b"one"), KEEP),
    (head(302, "Location: /there", "Content-Length: 5") + b"moved", KEEP),
    (head(200, "Transfer-Encoding: chunked") + chunked(b"th", b"ree"), KEEP),
    (head(204), KEEP),
    (b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b"five"), KEEP),
    (head(404, "Content-Length: 0"), KEEP),
]
MIXED_BODIES = [b"one", b"moved", b"three", b"", b"five", b""]


def always(reply: Reply) -> bool:
    return True


async def in_turn(client: WireTransport, urls: Sequence[str], heard: Callable[[Reply], bool] = always) -> Came:
    return await asyncio.wait_for(client.fetch_several([(url, {}) for url in urls], SMALL_MAX, heard), PATIENCE_S)


async def several(client: WireTransport, urls: Sequence[str]) -> Came:
    """Ask in one write; answers only, no errors among them."""
    replies = await asyncio.wait_for(client.fetch_several([(url, {}) for url in urls], SMALL_MAX), PATIENCE_S)
    assert None not in replies
    return replies


def bodies(came: Came) -> list[bytes | None]:
    assert all(isinstance(reply, Reply) for reply in came), came
    return [reply.body for reply in came if isinstance(reply, Reply)]


def script(server: WireServer, *answers: Sequence[Step]) -> list[str]:
    return [server.say(f"/{number}", *steps) for number, steps in enumerate(answers)]
