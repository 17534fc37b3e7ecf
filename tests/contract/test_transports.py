"""What every Transport owes, whatever the server says; and what the Router makes of it.

To add an HTTP client: a line in HTTP_TRANSPORTS.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply, Transport
from stacmirror.limits import HostLimits, origin_of
from stacmirror.transports.http import AiohttpTransport
from stacmirror.transports.router import Router
from stacmirror.transports.wire import WireTransport
from tests.contract.wire_server import KEEP, RESET, STALL, WireServer, chunked, head, ok, wire_server
from tests.unit.fakes import FakeBody, FakeClock

SMALL = 1000
LARGE = bytes(range(256)) * 4000
STALL_S, PATIENCE_S = 0.2, 30.0
"""The stall timeout of a client whose test waits for it; that of the others, on a machine that is busy itself."""

HTTP_TRANSPORTS: dict[str, Callable[..., Transport]] = {"aiohttp": AiohttpTransport, "wire": WireTransport}


@pytest.fixture
async def wire() -> AsyncIterator[WireServer]:
    async with wire_server() as server:
        yield server


@pytest.fixture(params=HTTP_TRANSPORTS)
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    values = request.node.callspec.params
    _, kind = BAD_ANSWERS.get(values.get("name"), ((), values.get("kind")))
    stall_s = STALL_S if kind == "timeout" else PATIENCE_S
    transport = HTTP_TRANSPORTS[request.param](
        user_agent="test/1", connect_timeout_s=PATIENCE_S, stall_timeout_s=stall_s
    )
    yield transport
    await transport.close()
    await transport.close()


async def fetch(transport: Transport, url: str, small_max_bytes: int = SMALL, **headers: str) -> Reply:
    return await asyncio.wait_for(transport.fetch(url, headers, small_max_bytes), PATIENCE_S)


async def whole(reply: Reply) -> bytes:
    """Read a reply to its end, small or large."""
    if reply.body is not None:
        assert reply.stream is None
        return reply.body
    assert reply.stream is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            return b"".join([chunk async for chunk in reply.stream.chunks()])
    finally:
        reply.stream.close()
        reply.stream.close()


# -- heads ---------------------------------------------------------------------------------------------------


async def test_what_is_said_twice(transport: Transport, wire: WireServer) -> None:
    """The first of two lines counts, but of codings all: a second `identity` would hide that the body is packed."""
    twice = ("Content-Encoding: gzip", "ETag: first", "Content-Encoding: identity", "ETag: second")
    reply = await fetch(transport, wire.say("/a", ok(b"x", *twice)))
    assert (reply.headers["etag"], reply.headers["content-encoding"]) == ("first", "gzip, identity")


@pytest.mark.parametrize(("raw", "location"), [("é".encode(), "/%C3%A9?a=%20b"), (b"\xe9", "/%E9?a=%20b")])
async def test_bytes_beyond_ascii_are_text_that_can_be_kept(
    transport: Transport, wire: WireServer, raw: bytes, location: str
) -> None:
    """A character for each byte, whatever alphabet it is of; and a redirect leads back to the very bytes."""
    answer = head(302, "Content-Length: 0", "Location: /RAW?a=%20b", "X-Said: RAW").replace(b"RAW", raw)
    reply = await fetch(transport, wire.say("/a", answer, KEEP))
    assert reply.headers["x-said"] == raw.decode("latin-1")
    assert reply.location == location


# -- answers as they should be -----------------------------------------------------------------------------


async def test_a_small_body_comes_whole(transport: Transport, wire: WireServer) -> None:
    """Up to the limit, a body is in the reply, with status, length and headers in lower case."""
    url = wire.say("/a", ok(b"x" * SMALL, 'ETag: "Abc"', "X-ODD-Case: One"))
    reply = await fetch(transport, url)
    assert (reply.status, reply.body, reply.stream, reply.length_bytes, reply.url) == (
        200,
        b"x" * SMALL,
        None,
        SMALL,
        url,
    )
    assert (reply.headers["etag"], reply.headers["x-odd-case"]) == ('"Abc"', "One")


async def test_a_large_body_comes_as_a_stream(transport: Transport, wire: WireServer) -> None:
    """Above the limit, nothing is held: the bytes come in chunks, all of them, once."""
    reply = await fetch(transport, wire.say("/a", ok(LARGE)))
    assert reply.body is None
    assert await whole(reply) == LARGE


@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1, 300_000])
@pytest.mark.parametrize("framing", ["chunked", "until close"])
async def test_a_body_without_a_length_comes_whole(
    transport: Transport, wire: WireServer, framing: str, size: int
) -> None:
    """Chunked or ended by the close: small ones whole, large ones as a stream that loses not one byte."""
    body = (b"0123456789" * (size // 10 + 1))[:size]
    if framing == "chunked":
        pieces = [piece for piece in (body[:7], body[7:999], body[999:]) if piece]
        url = wire.say("/a", head(200, "Transfer-Encoding: chunked"), chunked(*pieces))
    else:
        url = wire.say("/a", head(200), body)
    reply = await fetch(transport, url)
    assert reply.length_bytes is None
    assert (reply.body is not None) == (size <= SMALL)
    assert await whole(reply) == body


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body_end_with_their_head(transport: Transport, wire: WireServer, status: int) -> None:
    """204 and 304 have no body, whatever length they state."""
    reply = await fetch(transport, wire.say("/a", head(status, "Content-Length: 17"), KEEP))
    assert (reply.status, reply.body) == (status, b"")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 404, 403, 500, 503])
async def test_any_status_is_a_reply(transport: Transport, wire: WireServer, status: int) -> None:
    """Nothing is followed and nothing raised: the caller sees the status and the Location."""
    answer = head(status, "Location: /b", "Content-Length: 3") + b"odd"
    reply = await fetch(transport, wire.say("/a", answer))
    assert (reply.status, reply.headers["location"], reply.body) == (status, "/b", b"odd")
    assert len(wire.heard) == 1


async def test_connections_are_kept(transport: Transport, wire: WireServer) -> None:
    """Answers that allow it are read over one connection, small and large."""
    for n, body in enumerate((b"small", LARGE, b"small again")):
        assert await whole(await fetch(transport, wire.say(f"/{n}", ok(body), KEEP))) == body
    assert wire.connections == 1


async def test_headers_are_sent_and_only_ours(transport: Transport, wire: WireServer) -> None:
    """The request carries the given headers and our User-Agent: no cookie of an earlier answer, no credentials."""
    await fetch(transport, wire.say("/a", ok(b"", "Set-Cookie: a=b; Path=/"), KEEP))
    await fetch(transport, wire.say("/b", ok(b"")), **{"Accept-Encoding": "identity"})
    sent = {line.partition(":")[0].lower(): line.partition(": ")[2] for line in wire.heard[1].split("\r\n")[1:] if line}
    assert sent["user-agent"] == "test/1"
    assert sent["accept-encoding"] == "identity"
    assert set(sent) <= {"host", "user-agent", "accept", "accept-encoding", "connection"}


async def test_bodies_are_not_decoded(transport: Transport, wire: WireServer) -> None:
    """What is gzip on the wire is gzip in the reply."""
    packed = gzip.compress(b"plain")
    reply = await fetch(transport, wire.say("/a", ok(packed, "Content-Encoding: gzip")))
    assert reply.body == packed


@pytest.mark.parametrize(
    ("asked", "on_the_wire"),
    [
        ("/a%2Fb/c%7Ed?X-Amz-Signature=0a%2B%2f%3D&q=a+b&x=%e2%82%ac&e=", None),
        ("/a(b)*'!~;:@,$=c?d=[1]&e={2}|^", None),
        ("//double//slashes/./and/../dots", None),
        ("/a b%2F?q=c d%2B", "/a%20b%2F?q=c%20d%2B"),
        ("/\u20ac?q=\u20ac", "/%E2%82%AC?q=%E2%82%AC"),
    ],
    ids=["signed", "odd characters", "dots", "spaces", "unicode"],
)
async def test_urls_are_sent_as_they_are(
    transport: Transport, wire: WireServer, asked: str, on_the_wire: str | None
) -> None:
    """A signature covers the spelling, so a URL goes out byte for byte; only what no server would take is quoted."""
    wire.say(on_the_wire or asked, ok(b"found"))
    assert (await fetch(transport, wire.url + asked)).body == b"found"


# -- answers as they should not be -------------------------------------------------------------------------

BAD_ANSWERS = {
    "short": ([head(200, "Content-Length: 100"), b"x" * 60], "short"),
    "short and large": ([head(200, "Content-Length: 100000"), b"x" * 60_000], "short"),
    "reset midway": ([head(200, "Content-Length: 100"), b"x" * 60, RESET], "short"),
    "reset midway, large": ([head(200, "Content-Length: 100000"), b"x" * 60_000, RESET], "short"),
    "reset midway, chunked": ([head(200, "Transfer-Encoding: chunked"), chunked(b"x", end=False), RESET], "short"),
    "chunks end early": ([head(200, "Transfer-Encoding: chunked"), chunked(b"x" * 60, end=False)], "short"),
    "large chunks end early": ([head(200, "Transfer-Encoding: chunked"), chunked(b"x" * 9000, end=False)], "short"),
    "a bad chunk": ([head(200, "Transfer-Encoding: chunked"), b"5\r\nhello\r\nzz\r\n"], None),
    "no answer": ([STALL], "timeout"),
    "half a head": ([b"HTTP/1.1 200 OK\r\nContent-", STALL], "timeout"),
    "reset midway, no length": ([head(200), b"x" * 60, RESET], "short"),
    "reset midway, no length, large": ([head(200), b"x" * 60_000, RESET], "short"),
    "stall midway": ([head(200, "Content-Length: 100"), b"x" * 60, STALL], "timeout"),
    "stall midway, large": ([head(200, "Content-Length: 100000"), b"x" * 60_000, STALL], "timeout"),
    "stall midway, chunked": ([head(200, "Transfer-Encoding: chunked"), chunked(b"x", end=False), STALL], "timeout"),
    "head cut": ([b"HTTP/1.1 200 OK\r\nContent-"], "reset"),
    "head reset": ([b"HTTP/1.1 200 OK\r\nContent-", RESET], "reset"),
    "an interim answer only": ([b"HTTP/1.1 100 Continue\r\n\r\n"], "reset"),
    "closed before an answer": ([], "reset"),
    "reset before an answer": ([RESET], "reset"),
    "no HTTP": ([b"220 smtp.example.org ready\r\n\r\n"], "protocol"),
    "a header too long": ([head(200, "X-Long: " + "x" * 200_000)], "protocol"),
    "two lengths": ([head(200, "Content-Length: 3", "Content-Length: 4"), b"abcd"], "protocol"),
    "a negative length": ([head(200, "Content-Length: -3"), b"abcd"], "protocol"),
    "a length in words": ([head(200, "Content-Length: some"), b"abcd"], "protocol"),
    "a length without end": ([head(200, f"Content-Length: {10**25}"), b"abcd"], "protocol"),
    "length and chunks": ([head(200, "Content-Length: 2", "Transfer-Encoding: chunked"), chunked(b"ok")], "protocol"),
    "another coding": ([head(200, "Transfer-Encoding: gzip, chunked"), chunked(gzip.compress(b"x"))], "protocol"),
    "another protocol": ([head(101, "Upgrade: h2c", "Connection: upgrade"), STALL], "protocol"),
    "too many headers": ([head(200, *(f"X-{n}: 1" for n in range(1000)), "Content-Length: 0")], "protocol"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_a_bad_answer_is_a_transfer_error(transport: Transport, wire: WireServer, name: str) -> None:
    """Whatever is wrong with an answer is a TransferError that may be tried again, and its connection is not kept."""
    steps, kind = BAD_ANSWERS[name]
    url = wire.say("/secret-token", *steps)
    with pytest.raises(TransferError) as bad:
        await whole(await fetch(transport, url))
    assert bad.value.retryable
    assert kind is None or bad.value.kind == kind
    assert "secret" not in str(bad.value)
    await wire.until(lambda: wire.gone == wire.connections)


@pytest.mark.parametrize("surplus", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"])
async def test_surplus_bytes_are_no_answer_to_the_next_request(
    transport: Transport, wire: WireServer, surplus: bytes
) -> None:
    """Bytes behind a body's end never become (part of) another answer; the error, if there is one, is of one line."""
    errors: list[TransferError] = []
    for path, body in (("/a", b"body"), ("/b", b"good")):
        steps = (ok(body) + surplus, KEEP) if path == "/a" else (ok(body), KEEP)
        try:
            assert (await fetch(transport, wire.say(path, *steps))).body == body
        except TransferError as error:
            errors.append(error)
        await asyncio.sleep(0.02)
    assert all(error.retryable and "\n" not in str(error) for error in errors)
    assert (await fetch(transport, wire.say("/c", ok(b"better"), KEEP))).body == b"better"


async def test_a_stale_connection_is_no_failure_of_the_next(transport: Transport, wire: WireServer) -> None:
    """A server that closes a kept connection: the next request succeeds, or may be tried again."""
    await fetch(transport, wire.say("/a", ok(b"a")))
    await wire.until(lambda: wire.gone == 1)
    assert (await fetch(transport, wire.say("/b", ok(b"b")))).body == b"b"


async def test_nobody_listening(transport: Transport) -> None:
    """A refused connection is kind `connect` and names host and port."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(TransferError) as refused:
            await fetch(transport, f"http://127.0.0.1:{port}/secret-token")
    assert (refused.value.kind, refused.value.retryable) == ("connect", True)
    assert str(port) in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http:",
        "http://",
        "http:///path",
        "http:/{host}/",
        "ftp://{host}/",
        " http://{host}/",
        "http://[::1/",
        "http://host:port/",
        "http://host:0/",
        "http://host:65536/",
        "http://host:\u0661/",
        "http://a..b/",
        "http://.a/",
        "http://user:secret@{host}/",
        "http://{host}\\@evil/",
        "http://{host}\r\nX-Evil: 1/",
        "http://{host}\n/",
        "http://{host} /",
        "http://{host}\0/",
        "http://{host}\x7f/",
        "http://127.0.0.1%2f/",
        "http://127.0.0.1\uff0fevil/",
        "http://\ud800.x/",
        "http://{host}/\ud800",
    ],
)
async def test_what_is_no_url(transport: Transport, wire: WireServer, url: str) -> None:
    """A href that cannot be asked, names a user or holds tricks is kind `url`, for good, and reaches no server."""
    with pytest.raises(TransferError) as refused:
        await fetch(transport, url.replace("{host}", wire.url[7:]))
    assert (refused.value.kind, refused.value.retryable) == ("url", False)
    assert "secret" not in str(refused.value)
    assert ("user:password@host" in str(refused.value)) is ("@" in url)
    assert wire.heard == []


@pytest.mark.parametrize("odd", ["\r\nX-Evil: 1", "\n", "\r", " HTTP/1.1\r\n\r\n", "\0", "\x7f", "\t"])
@pytest.mark.parametrize("where", ["/a{}b", "?a={}"], ids=["path", "query"])
async def test_line_breaks_never_reach_the_wire(transport: Transport, wire: WireServer, where: str, odd: str) -> None:
    """Whatever a URL's path or query holds, a server hears one request of one line, without controls."""
    await fetch(transport, wire.url + where.format(odd))
    (heard,) = wire.heard
    line, *headers = heard.split("\r\n")
    assert line.isprintable()
    assert len(line.split(" ")) == 3
    assert not any(header.startswith("X-Evil") for header in headers)


@pytest.mark.parametrize("value", ["1\r\nX-Evil: 1", "1\n", "1\r", "1\0"])
async def test_headers_break_no_line(transport: Transport, wire: WireServer, value: str) -> None:
    """A header value with a line break or a NUL is refused, and nothing is asked."""
    with pytest.raises(TransferError) as refused:
        await fetch(transport, wire.url + "/a", **{"X-A": value})
    assert (refused.value.kind, refused.value.retryable) == ("url", False)
    assert wire.heard == []


async def test_a_url_may_lack_its_path(transport: Transport, wire: WireServer) -> None:
    """`http://host?query#fragment` asks for `/?query`; a scheme may be in capitals."""
    wire.say("/?a=b", ok(b"found"))
    assert (await fetch(transport, wire.url.upper() + "?a=b#c/d")).body == b"found"


async def test_an_offer_to_upgrade_is_no_upgrade(transport: Transport, wire: WireServer) -> None:
    """Servers that offer another protocol with a 200 have answered all the same."""
    offer = ok(b"abc", "Upgrade: h2,h2c", "Connection: Upgrade, Keep-Alive")
    assert (await fetch(transport, wire.say("/a", offer, KEEP))).body == b"abc"


async def test_trailers_are_no_headers(transport: Transport, wire: WireServer) -> None:
    """What follows the last chunk changes nothing of what was said before the body."""
    trailed = chunked(b"abc", end=False) + b"0\r\nETag: evil\r\nLocation: /evil\r\n\r\n"
    reply = await fetch(transport, wire.say("/a", head(200, "Transfer-Encoding: chunked", "ETag: a"), trailed, KEEP))
    assert (reply.body, reply.headers["etag"], reply.headers.get("location")) == (b"abc", "a", None)


async def test_an_unknown_host(transport: Transport) -> None:
    """A name that does not resolve may be tried again: resolvers fail, too."""
    with pytest.raises(TransferError) as unknown:
        await fetch(transport, "http://does-not-exist.invalid/")
    assert unknown.value.retryable


@pytest.mark.parametrize("steps", [(STALL,), (head(200, "Content-Length: 50"), b"x", STALL)], ids=["head", "body"])
async def test_a_cancelled_fetch_drops_its_connection(
    transport: Transport, wire: WireServer, steps: tuple[bytes | str, ...]
) -> None:
    """Cancelled while it waits for the head or for the body: the server sees the connection go."""
    task = asyncio.create_task(transport.fetch(wire.say("/a", *steps), {}, SMALL))
    await wire.until(lambda: len(wire.heard) == 1)
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await wire.until(lambda: wire.gone == 1)


async def test_a_stream_left_early_drops_its_connection(transport: Transport, wire: WireServer) -> None:
    """Closed before its end, a large body's connection is not used again."""
    reply = await fetch(transport, wire.say("/a", head(200, "Content-Length: 100000"), b"x" * 5000, STALL))
    assert reply.stream is not None
    chunks = reply.stream.chunks()
    assert await anext(chunks)
    await chunks.aclose()  # type: ignore[attr-defined]
    reply.stream.close()
    await wire.until(lambda: wire.gone == 1)


# -- the router --------------------------------------------------------------------------------------------


class FakeObjects:
    """An s3 transport that has what it was given."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def fetch(self, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
        self.asked.append(url)
        return Reply(url, 200, {}, b"object", None)

    async def close(self) -> None:
        pass


class Bench:
    """A router over real HTTP and a fake S3; every host's budget can be looked at."""

    def __init__(self, http: Transport, redirects_max: int = 5) -> None:
        self.clock = FakeClock()
        self.limits = HostLimits(2, None, self.clock.monotonic, self.clock.sleep)
        self.objects = FakeObjects()
        self.router = Router(
            {"https": http, "http": http, "s3": self.objects},
            self.limits,
            redirects_max=redirects_max,
            small_max_bytes=SMALL,
            wall=self.clock.wall,
        )

    def in_flight(self) -> int:
        return sum(budget.in_flight for budget in self.limits._budgets.values())


@pytest.fixture
def bench(transport: Transport) -> Bench:
    return Bench(transport)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["{url}/b%2Fc?sig=%2B", "/b%2Fc?sig=%2B", "b%2Fc?sig=%2B", "?to=http://x/"])
async def test_redirects_are_followed(bench: Bench, wire: WireServer, status: int, location: str) -> None:
    """Absolute and relative, with any redirect status, the target's spelling kept."""
    wire.say("/b%2Fc?sig=%2B", ok(b"there"))
    wire.say("/a?to=http://x/", ok(b"there"))
    url = wire.say("/a", head(status, f"Location: {location.format(url=wire.url)}", "Content-Length: 0"))
    reply = await bench.router.open(url)
    assert reply.body == b"there"
    assert (bench.router.requests, bench.in_flight()) == (2, 0)


@pytest.mark.parametrize("redirected", [True, False])
async def test_a_range_is_asked_of_the_address_that_has_the_bytes(
    bench: Bench, wire: WireServer, redirected: bool
) -> None:
    """A link that is known to redirect hears neither of the range nor of the validator; its target hears of both."""
    headers = {"Range": "bytes=5-", "If-Range": '"one"'}
    wire.say("/object", head(206, "Content-Range: bytes 5-5/6", "Content-Length: 1"), b"x", KEEP)
    url = wire.say("/a", head(302, "Location: /object", "Content-Length: 0"), KEEP)
    reply = await bench.router.open_rest(url, headers, redirected=redirected)
    assert (reply.status, reply.body) == (206, b"x")
    link, target = ("Range: bytes=5-" in heard and 'If-Range: "one"' in heard for heard in wire.heard)
    assert (link, target) == (not redirected, True)
    assert all("Accept-Encoding: identity" in heard for heard in wire.heard)


async def test_a_relative_location_may_hold_a_url(bench: Bench, wire: WireServer) -> None:
    """`/?u=http://…` is a path, not an address with a scheme."""
    wire.say("/?u=http://x/", ok(b"there"))
    assert (
        await bench.router.open(wire.say("/a", head(302, "Location: /?u=http://x/", "Content-Length: 0")))
    ).body == b"there"


async def test_a_redirect_to_s3_is_asked_of_s3(bench: Bench, wire: WireServer) -> None:
    """`s3://` in a Location goes to the S3 transport, as it is written."""
    url = wire.say("/a", head(302, "Location: s3://bucket/key with%20odd/B01.tif", "Content-Length: 0"))
    reply = await bench.router.open(url)
    assert reply.body == b"object"
    assert bench.objects.asked == ["s3://bucket/key with%20odd/B01.tif"]
    assert bench.in_flight() == 0


@pytest.mark.parametrize(
    "to", ["file:///etc/passwd", "file:/etc/passwd", "ftp://host/x", "data:text/plain,x", "gopher://x/"]
)
async def test_other_schemes_are_refused(bench: Bench, wire: WireServer, to: str) -> None:
    """Neither a redirect nor an href leads to files or other protocols."""
    with pytest.raises(TransferError) as refused:
        await bench.router.open(wire.say("/a", head(302, f"Location: {to}", "Content-Length: 0")))
    assert (refused.value.kind, refused.value.retryable) == ("scheme", False)
    with pytest.raises(TransferError):
        await bench.router.open(to)
    assert bench.in_flight() == 0


async def test_a_redirect_loop_ends(bench: Bench, wire: WireServer) -> None:
    """After `redirects_max` hops it is over, for good."""
    url = wire.say("/a", head(302, "Location: /a", "Content-Length: 0"))
    with pytest.raises(TransferError) as loop:
        await bench.router.open(url)
    assert (loop.value.kind, loop.value.retryable) == ("redirect", False)
    assert (bench.router.requests, bench.in_flight()) == (6, 0)


async def test_a_redirect_to_nowhere(bench: Bench, wire: WireServer) -> None:
    """No Location: an error that names the status."""
    with pytest.raises(TransferError, match="302") as nowhere:
        await bench.router.open(wire.say("/a", head(302, "Content-Length: 0")))
    assert nowhere.value.kind == "redirect"
    assert bench.in_flight() == 0


async def test_a_redirect_with_a_large_body_holds_nothing(bench: Bench, wire: WireServer) -> None:
    """The body of a redirect is not read, and its place is given back."""
    wire.say("/b", ok(b"there"))
    url = wire.say("/a", head(302, "Location: /b", "Content-Length: 100000"), b"x" * 5000, STALL)
    assert (await bench.router.open(url)).body == b"there"
    assert bench.in_flight() == 0


async def test_a_large_body_keeps_its_place_until_it_is_closed(bench: Bench, wire: WireServer) -> None:
    """The host's budget counts a stream for as long as it runs, and only once."""
    reply = await bench.router.open(wire.say("/a", ok(LARGE)))
    assert bench.in_flight() == 1
    assert await whole(reply) == LARGE
    assert bench.in_flight() == 0


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_a_bad_answer_gives_its_place_back(bench: Bench, wire: WireServer, name: str) -> None:
    """Whatever goes wrong, no host's budget leaks."""
    with pytest.raises(TransferError):
        await whole(await bench.router.open(wire.say("/a", *BAD_ANSWERS[name][0])))
    assert bench.in_flight() == 0


async def test_a_cancelled_request_gives_its_place_back(bench: Bench, wire: WireServer) -> None:
    """Cancelled in flight or in line, a request holds no place; the next in line gets it."""
    url = wire.say("/a", STALL)
    tasks = [asyncio.create_task(bench.router.open(url)) for _ in range(4)]
    await wire.until(lambda: len(wire.heard) == 2)
    for task in (tasks[0], tasks[2]):
        task.cancel()
    await wire.until(lambda: len(wire.heard) == 3)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert bench.in_flight() == 0


async def test_a_long_pause_behind_a_redirect_is_the_callers(bench: Bench, wire: WireServer) -> None:
    """A worker has other work than to sit a pause out: `open` says how long, asks nobody, and holds no place."""
    wire.say("/b", ok(b"there"))
    url = wire.say("/a", head(302, f"Location: {wire.url.replace('127.0.0.1', 'localhost')}/b", "Content-Length: 0"))
    bench.limits.of(origin_of(wire.url.replace("127.0.0.1", "localhost"))).pause(30.0)
    with pytest.raises(TransferError) as paused:
        await bench.router.open(url)
    assert (paused.value.kind, paused.value.retryable, paused.value.retry_after_s) == ("paused", True, 30.0)
    assert (len(wire.heard), bench.in_flight(), bench.clock.slept) == (1, 0, [])
    bench.clock.now_s += 30
    assert (await bench.router.open(url)).body == b"there"


@pytest.mark.parametrize(
    ("status", "headers", "pause_s"),
    [
        (503, ["Retry-After: 7"], 7.0),
        (429, ["Retry-After: 1000000000"], 600.0),
        (429, [], 1.0),
        (503, [], 0.0),
        (500, ["Retry-After: nonsense"], 0.0),
    ],
)
async def test_a_busy_host_is_left_alone(
    bench: Bench, wire: WireServer, status: int, headers: list[str], pause_s: float
) -> None:
    """`Retry-After` pauses the whole host, capped; 429 without one for a second; the error may be tried again."""
    url = wire.say("/a", head(status, *headers, "Content-Length: 100000"), b"x" * 5000, STALL)
    with pytest.raises(TransferError) as later:
        await bench.router.open(url)
    assert (later.value.status, later.value.retryable) == (status, True)
    assert bench.router.wait_s(wire.url + "/other") == pause_s
    assert bench.in_flight() == 0
    if pause_s > 1:
        with pytest.raises(TransferError, match="pause"):
            await bench.router.open(wire.url + "/b")
    assert (await bench.router.ask(wire.say("/b", ok(b"b")), {}, 100)).body == b"b"
    assert sum(bench.clock.slept) == pause_s


async def test_pages_are_decoded(bench: Bench, wire: WireServer) -> None:
    """A page that comes as gzip is given plain; the request offers gzip."""
    reply = await bench.router.ask(wire.say("/a", ok(gzip.compress(b"page" * 500), "Content-Encoding: GZIP")), {}, 5000)
    assert reply.body == b"page" * 500
    assert "accept-encoding: gzip" in wire.heard[0].lower()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (gzip.compress(bytes(5_000_000)), "too-large"),
        (gzip.compress(b"page" * 500)[:-20], "short"),
        (b"no gzip at all", "encoding"),
        (b"x" * 6000, "too-large"),
    ],
    ids=["bomb", "cut", "damaged", "large"],
)
async def test_pages_are_capped(bench: Bench, wire: WireServer, body: bytes, kind: str) -> None:
    """Too large (on the wire or decoded), cut and damaged pages are errors, and hold no place."""
    with pytest.raises(TransferError) as bad:
        await bench.router.ask(wire.say("/a?key=secret", ok(body, "Content-Encoding: gzip")), {}, 5000)
    assert bad.value.kind == kind
    assert "secret" not in str(bad.value)
    assert bench.in_flight() == 0


async def test_the_same_host_shares_a_budget_and_others_do_not() -> None:
    """Origins are told apart by scheme, host and port, whatever the path's or the name's spelling."""
    assert origin_of("http://Host:80/a?x=http://other/") == origin_of("http://host:80?b") == "http://host:80"
    assert origin_of("http://host:81/") != origin_of("http://host:80/")
    assert origin_of("s3://Bucket/key/x") == "s3://bucket"


async def test_a_stream_can_be_closed_twice(bench: Bench) -> None:
    """A second close gives no second place back."""
    body = FakeBody([b"x"])

    async def large(url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
        return Reply(url, 200, {}, None, body)

    bench.objects.fetch = large  # type: ignore[method-assign]
    reply = await bench.router.open("s3://bucket/key")
    assert reply.stream is not None
    reply.stream.close()
    reply.stream.close()
    assert bench.in_flight() == 0
