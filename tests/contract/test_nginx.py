"""Both HTTP clients against nginx, plain and over TLS: a server that was not written to please us."""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import pytest
import trustme

from stacmirror.errors import TransferError
from stacmirror.interfaces import Transport
from stacmirror.transports.http import AiohttpTransport
from stacmirror.transports.wire import WireTransport
from tests.contract.test_transports import whole
from tests.servers import nginx

SMALL, MIDDLE, LARGE = b"small" * 200, bytes(range(256)) * 128, bytes(range(256)) * 20_000
TEXT = b"some text that packs well " * 4000
CLIENTS: dict[str, Callable[..., Transport]] = {"wire": WireTransport, "aiohttp": AiohttpTransport}

SERVER = """
keepalive_requests 20; keepalive_timeout 75; etag on; types { text/plain txt; } default_type image/tiff;
gzip on; gzip_min_length 100; gzip_types text/plain;
location /to { return 302 /small; }
location /to-large { return 302 /large; }
location /nothing { return 204; }
location /silent { return 444; }
location /busy { return 503; }
location /slow { rewrite ^ /large break; limit_rate 20m; }
location /brief { rewrite ^ /small break; keepalive_timeout 0; }
"""


class Nginx(NamedTuple):
    """The addresses to ask, with and without TLS, and the context that trusts it."""

    url: str
    trusted: ssl.SSLContext


@pytest.fixture(params=["plain", "TLS"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Nginx]:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    files = {"root/small": SMALL, "root/middle": MIDDLE, "root/large": LARGE, "root/text.txt": TEXT}
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    async with nginx(SERVER, files, chain, issued.private_key_pem.bytes()) as (plain, tls):
        yield Nginx(f"https://localhost:{tls}" if request.param == "TLS" else f"http://127.0.0.1:{plain}", trusted)


@pytest.fixture(params=CLIENTS)
async def client(request: pytest.FixtureRequest, server: Nginx) -> AsyncIterator[Transport]:
    made = CLIENTS[request.param](
        user_agent="test/1", connect_timeout_s=5.0, stall_timeout_s=5.0, tls=lambda: server.trusted
    )
    yield made
    await made.close()
    await asyncio.sleep(0.02)


async def get(client: Transport, url: str, **headers: str) -> tuple[int, bytes]:
    reply = await asyncio.wait_for(client.fetch(url, headers, 100_000), 10)
    return reply.status, await whole(reply)


async def test_what_nginx_serves(client: Transport, server: Nginx) -> None:
    """Small and large files, redirects, 204, 304, 404 and 503, packed and chunked: each as it is."""
    url = server.url
    assert await get(client, url + "/small") == (200, SMALL)
    assert await get(client, url + "/middle") == (200, MIDDLE)
    assert await get(client, url + "/large") == (200, LARGE)
    assert await get(client, url + "/slow") == (200, LARGE)
    assert await get(client, url + "/brief") == (200, SMALL)
    assert (await get(client, url + "/absent"))[0] == 404
    assert (await get(client, url + "/busy"))[0] == 503
    assert await get(client, url + "/nothing") == (204, b"")
    etag = (await client.fetch(url + "/small", {}, 100_000)).headers["etag"]
    assert await get(client, url + "/small", **{"If-None-Match": etag}) == (304, b"")
    redirect = await client.fetch(url + "/to", {}, 100_000)
    assert (redirect.status, redirect.headers["location"].rpartition("/")[2]) == (302, "small")
    packed = await client.fetch(url + "/text.txt", {"Accept-Encoding": "gzip"}, 100_000)
    assert packed.headers["transfer-encoding"] == "chunked"
    assert zlib.decompress(await whole(packed), wbits=31) == TEXT


async def test_a_close_without_an_answer(client: Transport, server: Nginx) -> None:
    """nginx's 444 closes the connection: kind `reset`, and the next request is none the worse."""
    with pytest.raises(TransferError) as silent:
        await get(client, server.url + "/silent")
    assert (silent.value.kind, silent.value.retryable) == ("reset", True)
    assert await get(client, server.url + "/small") == (200, SMALL)


async def test_many_requests_at_a_time(client: Transport, server: Nginx) -> None:
    """Workers side by side, over connections that nginx closes after every twentieth request: every byte arrives."""
    wanted = {"/small": SMALL, "/middle": MIDDLE, "/to": None, "/large": LARGE}
    wrong: list[str] = []

    async def work(number: int) -> None:
        for turn in range(12):
            path = list(wanted)[(number + turn) % len(wanted)]
            status, body = await get(client, server.url + path)
            if (status, body) != (200, wanted[path]) and (status, path) != (302, "/to"):
                wrong.append(path)

    async with asyncio.TaskGroup() as group:
        for number in range(16):
            group.create_task(work(number))
    assert wrong == []


async def test_requests_that_are_cancelled(client: Transport, server: Nginx) -> None:
    """Requests given up at any moment harm no other: all others arrive whole."""
    others = [asyncio.create_task(get(client, server.url + "/middle")) for _ in range(8)]
    for n in range(40):
        task = asyncio.create_task(get(client, server.url + ("/large" if n % 2 else "/small")))
        for _ in range(n % 14):
            await asyncio.sleep(0)
        others.append(asyncio.create_task(get(client, server.url + "/middle")))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await asyncio.gather(*others) == [(200, MIDDLE)] * 48


async def test_several_requests_in_one_write(client: Transport, server: Nginx) -> None:
    """nginx answers series in order; one that it ends, after the connection's twentieth request, is short."""
    if not isinstance(client, WireTransport):
        pytest.skip("only our own client sends several requests in one write")
    wanted = {"/small": (200, SMALL), "/middle": (200, MIDDLE), "/absent": (404, None), "/nothing": (204, b"")}
    paths = [*wanted, *wanted]
    come = []
    for _ in range(6):
        replies = await client.fetch_several([(server.url + path, {}) for path in paths], 200_000)
        come.append(len(replies))
        for path, reply in zip(paths, replies, strict=False):
            assert reply is not None
            assert (reply.status, reply.body) == wanted[path] or path == "/absent"
    assert come == [8, 8, 4, 8, 8, 4]
