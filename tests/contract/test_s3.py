"""`s3://` over every HTTP client: what is sent, what is learned from refusals, and what a bad answer becomes."""

from __future__ import annotations

import contextlib
import socket

import pytest
from msgspec import json

from stacmirror.errors import LoginRefused, TransferError
from stacmirror.interfaces import Reply, Transport
from stacmirror.simulator import Simulator
from stacmirror.transports.aws import AwsSession
from stacmirror.transports.s3 import S3Transport
from stacmirror.transports.wire import WireTransport
from tests.conftest import simulated
from tests.contract.test_transports import fetch, transport, whole, wire
from tests.contract.wire_server import KEEP, RESET, STALL, WireServer, chunked, head, ok
from tests.unit.fakes import FakeClock

__all__ = ["transport", "wire"]

KEY = "bigearthnet/no/such/key.tif"
SECRET = "wJalrXUtnFEMI/K7MDENG"


def s3(
    http: Transport,
    endpoint: str,
    *,
    unsigned: bool = True,
    payer: bool = False,
    region: str = "",
    several: WireTransport | None = None,
) -> S3Transport:
    clock = FakeClock()
    return S3Transport(
        http,
        endpoint=endpoint,
        unsigned=unsigned,
        region=region,
        request_payer=payer,
        monotonic=clock.monotonic,
        wall=clock.wall,
        several=several,
    )


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


async def object_url(http: Transport, simulator: Simulator) -> str:
    """Return the s3:// address of an object that the simulator has."""
    item_id = simulator.item_id(0, "bigearthnet_v1_source")
    asked = f"{simulator.api_url}/collections/bigearthnet_v1_source/items/{item_id}?key={simulator.key}"
    item = await http.fetch(asked, {}, 1 << 20)
    href = json.decode(item.body or b"")["assets"]["B01"]["href"]
    return (await http.fetch(href, {}, 1 << 20)).headers["location"]


async def test_an_object_comes_small_and_large(transport: Transport) -> None:
    """Unsigned, path-style: the same bytes as a whole body and as a stream, with length, ETag and its own address."""
    async with simulated(generation=2020, items=1) as simulator:
        bucket = s3(transport, simulator.s3_url)
        url = await object_url(transport, simulator)
        small = await fetch(bucket, url, 1 << 20)
        large = await fetch(bucket, url, 10)
        assert small.body is not None
        assert (small.url, small.status, small.length_bytes, large.body) == (url, 200, len(small.body), None)
        assert await whole(large) == small.body
        assert small.headers["etag"] == large.headers["etag"]


@pytest.mark.parametrize(
    ("url", "traps", "status"),
    [
        (f"s3://radiant-mlhub/{KEY}", (), 404),
        (f"s3://radiant-mlhub/{KEY}", ("missing-403",), 403),
        ("s3://no-such-bucket/key", (), 404),
    ],
)
async def test_a_refusal_is_a_reply(transport: Transport, url: str, traps: tuple[str, ...], status: int) -> None:
    """Missing keys and buckets and denials have their status, and no body that could be taken for the object."""
    async with simulated(generation=2020, items=1, traps=traps) as simulator:
        reply = await fetch(s3(transport, simulator.s3_url), url)
        assert (reply.status, reply.body) == (status, b"")


async def test_an_errors_large_body_is_let_go(transport: Transport, wire: WireServer) -> None:
    """Also one above the small-file limit: nothing of it is read as an object."""
    wire.say("/bucket/key", head(500, "Content-Length: 90000"), b"x" * 90_000)
    reply = await fetch(s3(transport, wire.url), "s3://bucket/key")
    assert (reply.status, reply.body, reply.stream) == (500, b"", None)
    await wire.until(lambda: wire.gone == 1)


async def test_nobody_listening(transport: Transport) -> None:
    """A refused connection is kind `connect`."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(TransferError) as refused:
            await fetch(s3(transport, f"http://127.0.0.1:{closed.getsockname()[1]}"), f"s3://radiant-mlhub/{KEY}")
    assert (refused.value.kind, refused.value.retryable) == ("connect", True)


@pytest.mark.parametrize(
    "url", ["s3://bucket", "s3://bucket/", "s3:///key", "s3://a_b*c/key", "s3://u:p@host/key", "s3://bucket/\ud800"]
)
async def test_what_is_no_s3_address(transport: Transport, url: str) -> None:
    """Without a proper bucket and a key nothing is asked."""
    with pytest.raises(TransferError) as bad:
        await fetch(s3(transport, "http://127.0.0.1:9"), url)
    assert (bad.value.kind, bad.value.retryable) == ("url", False)


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        ([head(200, "Content-Length: 100"), b"x" * 60], "short"),
        ([head(200, "Content-Length: 100000"), b"x" * 60_000], "short"),
        ([STALL], "timeout"),
        ([head(200, "Content-Length: 100"), b"x", STALL], "timeout"),
        ([RESET], "reset"),
    ],
    ids=["short", "short and large", "no answer", "stall midway", "reset"],
)
async def test_a_bad_answer_is_a_transfer_error(
    transport: Transport, wire: WireServer, steps: list[bytes | str], kind: str
) -> None:
    """As with HTTP: an error that may be tried again, and the connection is gone."""
    wire.say("/bucket/key", *steps)
    with pytest.raises(TransferError) as bad:
        await whole(await fetch(s3(transport, wire.url), "s3://bucket/key"))
    assert (bad.value.kind, bad.value.retryable) == (kind, True)
    await wire.until(lambda: wire.gone == wire.connections)


async def test_an_object_without_a_length(transport: Transport, wire: WireServer) -> None:
    """Some S3 services send chunks: the object comes all the same."""
    wire.say("/bucket/key", head(200, "Transfer-Encoding: chunked"), chunked(b"some", b"thing"))
    assert await whole(await fetch(s3(transport, wire.url), "s3://bucket/key")) == b"something"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("s3://bucket/a?b#c.tif", "/bucket/a%3Fb%23c.tif"),
        ("s3://bucket//a.tif", "/bucket//a.tif"),
        ("s3://bucket/a%20b", "/bucket/a%20b"),
        ("s3://bucket/a+b=c", "/bucket/a%2Bb%3Dc"),
        ("s3://bucket/\u00fc", "/bucket/%C3%BC"),
        ("s3://Old_Bucket.x/a", "/Old_Bucket.x/a"),
        ("s3://bucket/a\r\nX-Evil: 1", "/bucket/a%0D%0AX-Evil%3A%201"),
    ],
)
@pytest.mark.parametrize("unsigned", [True, False])
@pytest.mark.usefixtures("credentials")
async def test_keys_are_whole(transport: Transport, wire: WireServer, url: str, path: str, unsigned: bool) -> None:
    """A key may hold `?`, `#` and a leading slash, and is percent-encoded once: what is signed is what is sent."""
    wire.say(path, ok(b"found"))
    assert (await fetch(s3(transport, wire.url, unsigned=unsigned), url)).body == b"found"


# -- credentials -------------------------------------------------------------------------------------------


async def test_no_credentials_end_the_run(transport: Transport, wire: WireServer) -> None:
    """Without credentials no object could be fetched: LoginRefused, with what to do, and nothing asked."""
    with pytest.raises(LoginRefused) as refused:
        await fetch(s3(transport, wire.url, unsigned=False), f"s3://radiant-mlhub/{KEY}")
    assert "--s3-unsigned" in refused.value.hint
    assert wire.heard == []


@pytest.mark.usefixtures("credentials")
async def test_signed_requests_say_who_asks(
    transport: Transport, wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Authorization, date, token and payer are in the head; the secret is not, and unsigned requests have none."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-a-session")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    wire.say("/bucket/key", ok(b"found"), KEEP)
    await fetch(s3(transport, wire.url, unsigned=False, payer=True), "s3://bucket/key")
    signed = wire.heard[0].lower()
    assert "authorization: aws4-hmac-sha256 credential=akidexample/" in signed
    assert "/eu-central-1/s3/aws4_request" in signed
    assert "x-amz-security-token: token-of-a-session" in signed
    assert "x-amz-request-payer: requester" in signed
    assert SECRET.lower() not in signed
    await fetch(s3(transport, wire.url, payer=True), "s3://bucket/key")
    assert "authorization" not in wire.heard[1].lower()
    assert "x-amz-request-payer: requester" in wire.heard[1].lower()


@pytest.mark.usefixtures("credentials")
async def test_several_objects_in_one_write(transport: Transport, wire: WireServer) -> None:
    """Each is signed by itself; a missing key is an answer, a refusal is left for a single request to learn from."""
    if not isinstance(transport, WireTransport):
        pytest.skip("only our own client sends several requests in one write")
    wire.say("/bucket/a", ok(b"A"), KEEP)
    wire.say("/bucket/b", refusal(404, "NoSuchKey"), KEEP)
    wire.say("/bucket/c", refusal(400, "AuthorizationHeaderMalformed", "x-amz-bucket-region: eu-west-1"), KEEP)
    wire.say("/bucket/d", ok(b"D"), KEEP)
    objects = s3(transport, wire.url, unsigned=False, several=transport)
    urls = [f"s3://bucket/{key}" for key in "abcd"]
    replies = await objects.fetch_several([(url, {}) for url in urls], 1000)
    assert [reply and (reply.url, reply.status, reply.body) for reply in replies] == [
        (urls[0], 200, b"A"), (urls[1], 404, b""), None, (urls[3], 200, b"D"),
    ]  # fmt: skip
    signatures = {
        line for head in wire.heard for line in head.lower().split("\r\n") if line.startswith("authorization")
    }
    assert (len(signatures), wire.connections) == (4, 1)


@pytest.mark.usefixtures("credentials")
async def test_several_objects_in_turn(transport: Transport, wire: WireServer) -> None:
    """A key that cannot be asked for, another spelling of the bucket, another region: nothing after them is asked."""
    if not isinstance(transport, WireTransport):
        pytest.skip("only our own client sends several requests in turn")
    wire.say("/bucket/a", ok(b"A"), KEEP)
    wire.say("/bucket/b", refusal(301, "PermanentRedirect", "x-amz-bucket-region: eu-west-1"), KEEP)
    objects = s3(transport, wire.url, unsigned=False, several=transport)
    for names in (
        ["bucket/a", "bucket/\ud800", "bucket/a"],
        ["bucket/a", "Bucket/a"],
        ["bucket/a", "bucket/b", "bucket/a"],
    ):
        wire.heard.clear()
        requests = [(f"s3://{name}", dict[str, str]()) for name in names]
        replies = await objects.fetch_several(requests, 1000, lambda reply: True)
        assert [reply and reply.body for reply in replies if isinstance(reply, Reply)] == [b"A"]
        assert len(wire.heard) == (2 if "bucket/b" in names else 1)
    with pytest.raises(TransferError):
        await objects.fetch_several([("s3://bucket/\ud800", {}), ("s3://bucket/a", {})], 1000, lambda reply: True)


def refusal(status: int, code: str, *headers: str, more: str = "") -> bytes:
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>no</Message>{more}</Error>'.encode()
    return head(status, f"Content-Length: {len(body)}", *headers) + body


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"])
async def test_refused_credentials_end_the_run(transport: Transport, wire: WireServer, code: str) -> None:
    """A key that is good for nothing: one line, the code and a hint, no secret."""
    wire.say("/bucket/key", refusal(403, code), KEEP)
    with pytest.raises(LoginRefused) as refused:
        await fetch(s3(transport, wire.url, unsigned=False), "s3://bucket/key")
    assert code in refused.value.message
    assert refused.value.hint
    assert SECRET not in refused.value.message


@pytest.mark.usefixtures("credentials")
async def test_one_refused_object_is_its_own_trouble(transport: Transport, wire: WireServer) -> None:
    """Once the credentials were good, a signature that one object refuses is that object's failure."""
    wire.say("/bucket/good", ok(b"found"), KEEP)
    wire.say("/bucket/odd", refusal(403, "SignatureDoesNotMatch"), KEEP)
    wire.say("/bucket/denied", refusal(403, "AccessDenied"), KEEP)
    bucket = s3(transport, wire.url, unsigned=False)
    assert (await fetch(bucket, "s3://bucket/denied")).status == 403
    await fetch(bucket, "s3://bucket/good")
    assert (await fetch(bucket, "s3://bucket/odd")).status == 403


@pytest.mark.usefixtures("credentials")
async def test_credentials_are_asked_for_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many objects, one question to the SDK; ten seconds later another, so that a refresh is seen."""
    clock = FakeClock()
    session = AwsSession(clock.monotonic)
    first = await session.credentials()
    monkeypatch.setattr(session._found, "get_frozen_credentials", None)
    assert await session.credentials() is first
    assert session.fresh_credentials() is first
    clock.now_s += 11
    assert session.fresh_credentials() is None
    with pytest.raises(LoginRefused):
        await session.credentials()


@pytest.mark.usefixtures("credentials")
async def test_a_profile_that_is_not_there(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's complaint is one line with a hint, at the first object."""
    monkeypatch.setenv("AWS_PROFILE", "nonesuch")
    with pytest.raises(LoginRefused) as refused:
        await fetch(s3(transport, "", unsigned=False), "s3://bucket/key")
    assert "AWS_PROFILE" in refused.value.hint


# -- what is learned ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize(
    "steps",
    [
        (refusal(301, "PermanentRedirect", "x-amz-bucket-region: eu-west-3"), KEEP),
        (refusal(400, "AuthorizationHeaderMalformed", more="<Region>eu-west-3</Region>"), KEEP),
        (refusal(400, "AuthorizationHeaderMalformed", "x-amz-bucket-region: eu-west-3"), KEEP),
    ],
    ids=["301", "400 in the body", "400 in the head"],
)
async def test_a_buckets_region_is_learned_once(
    transport: Transport, wire: WireServer, steps: tuple[bytes | str, ...]
) -> None:
    """The refusal that names the region costs one request a bucket, not one an object."""
    wire.say("/bucket/key", *steps)
    wire.say("/bucket/other", ok(b"found"), KEEP)
    bucket = s3(transport, wire.url, unsigned=False)
    await fetch(bucket, "s3://bucket/key")
    assert [("us-east-1" in heard, "eu-west-3" in heard) for heard in wire.heard] == [(True, False), (False, True)]
    assert (await fetch(bucket, "s3://bucket/other")).body == b"found"
    assert "eu-west-3" in wire.heard[-1]
    assert len(wire.heard) == 3


@pytest.mark.usefixtures("credentials")
async def test_a_region_that_goes_round_in_circles_ends(transport: Transport, wire: WireServer) -> None:
    """A server that names another region each time is asked three times, not for ever."""
    answers = [refusal(301, "PermanentRedirect", f"x-amz-bucket-region: eu-west-{n}") for n in range(9)]

    class Fickle(dict[str, list[bytes | str]]):
        def get(self, path: str, default: object = None) -> list[bytes | str]:
            return [answers.pop(0), KEEP]

    wire.scripts = Fickle()  # type: ignore[assignment]
    bucket = s3(transport, wire.url, unsigned=False)
    assert (await fetch(bucket, "s3://bucket/key")).status == 301
    assert len(wire.heard) == 3


@pytest.mark.usefixtures("credentials")
async def test_a_region_that_is_none_is_not_learned(
    transport: Transport, wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that names nonsense fails its object, not the run."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", wire.url)
    wire.say("/bucket/key", refusal(301, "PermanentRedirect", "x-amz-bucket-region: -"), KEEP)
    assert (await fetch(s3(transport, "", unsigned=False), "s3://bucket/key")).status == 301


@pytest.mark.usefixtures("credentials")
async def test_the_servers_clock_is_learned(transport: Transport, wire: WireServer) -> None:
    """A clock that is wrong by an hour costs one request: the next ones carry the server's time."""
    date = "Date: Sat, 21 Nov 2020 23:06:40 GMT"
    wire.say("/bucket/key", refusal(403, "RequestTimeTooSkewed", date), KEEP)
    wire.say("/bucket/other", ok(b"found"), KEEP)
    bucket = s3(transport, wire.url, unsigned=False)
    await fetch(bucket, "s3://bucket/key")
    assert "x-amz-date: 20201121t2306" not in wire.heard[0].lower()
    assert "x-amz-date: 20201121t2306" in wire.heard[1].lower()
    await fetch(bucket, "s3://bucket/other")
    assert "x-amz-date: 20201121t2306" in wire.heard[-1].lower()


class Asked:
    """An HTTP transport that notes what it is asked for."""

    def __init__(self) -> None:
        self.urls: list[str] = []

    async def fetch(self, url: str, headers: object, small_max_bytes: int) -> object:
        self.urls.append(url)
        raise TransferError("connect", "made up")


@pytest.mark.parametrize(
    ("url", "region", "asked"),
    [
        ("s3://bucket/a/b", "", "https://bucket.s3.amazonaws.com/a/b"),
        ("s3://bucket/a/b", "eu-west-3", "https://bucket.s3.eu-west-3.amazonaws.com/a/b"),
        ("s3://dotted.bucket/a", "eu-west-3", "https://s3.eu-west-3.amazonaws.com/dotted.bucket/a"),
        ("s3://Upper_Case/a", "eu-west-3", "https://s3.eu-west-3.amazonaws.com/Upper_Case/a"),
        ("s3://bucket/a", "cn-north-1", "https://bucket.s3.cn-north-1.amazonaws.com.cn/a"),
    ],
)
async def test_where_aws_is_asked(url: str, region: str, asked: str) -> None:
    """Buckets go into the host name where a certificate can have it, by the SDK's endpoint of the region."""
    http = Asked()
    with contextlib.suppress(TransferError):
        await s3(http, "", region=region).fetch(url, {}, 100)  # type: ignore[arg-type]
    assert http.urls == [asked]


async def test_an_endpoint_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_ENDPOINT_URL_S3 is heeded, path-style."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000")
    http = Asked()
    with contextlib.suppress(TransferError):
        await s3(http, "").fetch("s3://bucket/a", {}, 100)  # type: ignore[arg-type]
    assert http.urls == ["http://127.0.0.1:9000/bucket/a"]
