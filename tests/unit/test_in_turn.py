"""An item's assets in turn: what the hosts' budgets hear, where it ends early, and what a worker is left with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import pytest

from stacmirror.errors import SourceLost, TransferError
from stacmirror.interfaces import Reply
from stacmirror.limits import HostLimits
from stacmirror.pace import REFUSED
from stacmirror.transports.in_turn import InTurn
from stacmirror.transports.router import Router
from tests.unit.fakes import FakeClock, a_reply

Requests = Sequence[tuple[str, Mapping[str, str]]]
SMALL_MAX = 1000


def redirect(url: str) -> Reply:
    return a_reply(url, 302, {"location": f"https://blobs/{url.rpartition('/')[2]}"}, b"")


def as_it_should(url: str) -> Reply | TransferError:
    return redirect(url) if url.startswith("https://api/") else a_reply(url, 200, {}, f"body of {url}".encode())


class Server:
    """Answers each URL by `answer`, in turn; `asked` has the URLs, `meanwhile` happens before each answer."""

    def __init__(self, answer: Callable[[str], Reply | TransferError] = as_it_should) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.single: list[str] = []
        self.meanwhile: Callable[[str], None] = lambda url: None
        self.waits: asyncio.Event | None = None

    async def fetch(self, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
        self.single.append(url)
        reply = self.answer(url)
        if isinstance(reply, TransferError):
            raise reply
        return reply

    async def fetch_several(
        self, requests: Requests, small_max_bytes: int, heard: Callable[[Reply], bool] | None = None
    ) -> list[Reply | TransferError | None]:
        assert heard is not None, "nobody asked for pipelining"
        came: list[Reply | TransferError | None] = []
        for url, _ in requests:
            self.asked.append(url)
            if self.waits is not None:
                await self.waits.wait()
            self.meanwhile(url)
            reply = self.answer(url)
            if isinstance(reply, TransferError) and not came:
                raise reply
            came.append(reply)
            if isinstance(reply, TransferError) or reply.stream is not None or not heard(reply):
                break
        return came

    async def close(self) -> None:
        pass


class Way:
    def __init__(self, server: Server, *, at_once: int = 4, outage_max_s: float = 1800.0) -> None:
        self.server, self.clock = server, FakeClock()
        limits = HostLimits(at_once, None, self.clock.monotonic, self.clock.sleep, outage_max_s=outage_max_s)
        self.router = Router(
            {"https": server, "http": server},
            limits,
            redirects_max=5,
            small_max_bytes=SMALL_MAX,
            wall=self.clock.wall,
            several={"https": server, "http": server},
        )
        self.in_turn = InTurn(self.router, SMALL_MAX, 5)

    async def open(self, *names: str) -> list[Reply | TransferError | None]:
        return await self.in_turn.open_several([f"https://api/{name}" for name in names])

    def in_flight(self) -> list[int]:
        return [self.router.budget(f"https://{host}/").in_flight for host in ("api", "blobs")]


def bodies(came: Sequence[Reply | TransferError | None]) -> list[bytes | None]:
    """Return the bodies that came; None where a redirect is all there is as well."""
    return [reply.body if isinstance(reply, Reply) and reply.status != 302 else None for reply in came]


def body(name: str) -> bytes:
    return f"body of https://blobs/{name}".encode()


def blobs(spoiled: str, by: Reply | TransferError) -> Callable[[str], Reply | TransferError]:
    """All is as it should be, but for the blob `spoiled`."""
    return lambda url: by if url == f"https://blobs/{spoiled}" else as_it_should(url)


async def test_redirects_first_then_what_they_lead_to() -> None:
    """All of one host, then all of the next; each request is counted, and places are given back."""
    way = Way(Server())
    assert bodies(await way.open("a", "b", "c")) == [body("a"), body("b"), body("c")]
    assert way.server.asked == [f"https://{host}/{name}" for host in ("api", "blobs") for name in "abc"]
    assert (way.router.requests, way.in_flight()) == (6, [0, 0])
    assert way.router.budget("https://blobs/").witness == "https://blobs/c"


async def test_one_place_at_a_host_for_all_of_an_item() -> None:
    """While an item's requests go out in turn it holds one place, and others wait for theirs."""
    way = Way(Server(), at_once=1)
    way.server.waits = asyncio.Event()
    tasks = [asyncio.create_task(way.open(*names)) for names in ("ab", "cd")]
    await asyncio.sleep(0)
    assert way.in_flight()[0] == 1
    assert way.server.asked == ["https://api/a"]
    way.server.waits.set()
    assert [bodies(await task) for task in tasks] == [[body("a"), body("b")], [body("c"), body("d")]]


@pytest.mark.parametrize("status", [429, 503])
async def test_a_host_that_says_later_ends_it(status: int) -> None:
    """The answer is one failed attempt with its wait, heard of by the host's budget; what follows is not sent."""
    later = a_reply("https://blobs/b", status, {"retry-after": "7"}, b"")
    way = Way(Server(blobs("b", later)))
    came = await way.open("a", "b", "c")
    assert bodies(came) == [body("a"), None, None]
    error = came[1]
    assert isinstance(error, TransferError)
    assert (error.status, error.retry_after_s, error.host) == (status, 7.0, "https://blobs")
    assert isinstance(came[2], Reply)
    assert came[2].status == 302  # where its link leads is known
    assert way.server.asked[-1] == "https://blobs/b"
    assert way.router.budget("https://blobs/").witness == "https://blobs/a"
    assert way.router.budget("https://blobs/").health.bad_in_a_row == 1
    assert (way.in_flight(), way.router.requests) == ([0, 0], 5)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
@pytest.mark.parametrize("host", ["api", "blobs"])
async def test_an_answer_that_is_no_file_is_the_workers_to_judge(status: int, host: str) -> None:
    """As it came. What follows is not sent, since it would go the same way; but for a file missing behind its link."""
    url = f"https://{host}/b"
    way = Way(Server(lambda asked: a_reply(url, status, {}, b"no") if asked == url else as_it_should(asked)))
    came = await way.open("a", "b", "c")
    assert isinstance(came[1], Reply)
    goes_on = host == "blobs" and status in (404, 410)
    assert (came[1].status, bodies(came)[2]) == (status, body("c") if goes_on else None)
    assert way.router.budget("https://blobs/").health.bad_in_a_row == 0


@pytest.mark.parametrize("broken", ["a", "b"])
async def test_a_connection_that_breaks_is_an_attempt(broken: str) -> None:
    """The error stands in its answer's place, with its host, and the host's budget has heard of it."""
    way = Way(Server(blobs(broken, TransferError("timeout", "no byte"))))
    came = await way.open("a", "b", "c")
    error = came["abc".index(broken)]
    assert isinstance(error, TransferError)
    assert (error.kind, error.host) == ("timeout", "https://blobs")
    assert isinstance(came[2], Reply)
    assert came[2].status == 302
    assert bodies(came)[: "abc".index(broken)] == [body("a")][: "abc".index(broken)]
    assert way.router.budget("https://blobs/").health.bad_in_a_row == 1
    assert way.in_flight() == [0, 0]


async def test_a_pause_stops_those_under_way() -> None:
    """A pause that somebody else was asked for ends it after the answer under way."""
    way = Way(Server())
    way.server.meanwhile = lambda url: way.router.budget(url).pause(5.0) if url == "https://api/b" else None
    came = await way.open("a", "b", "c")
    assert bodies(came) == [body("a"), body("b"), None]
    assert "https://api/c" not in way.server.asked


async def test_a_smaller_allowance_takes_the_place_back() -> None:
    """When the host's allowance shrinks below what is in flight, places are given back at the next answer."""

    class Shrinking:
        limit = 2

        def asked(self, place: int) -> None: ...

        def answered(self, place: int, seconds: float, refusal: int = 0) -> None:
            self.limit = 0

        def outage(self) -> None: ...

    way = Way(Server())
    way.router.budget("https://api/").allowance = Shrinking()
    came = await way.open("a", "b")
    assert bodies(came) == [body("a"), None]


async def test_a_paused_or_dead_host_is_left_to_the_worker() -> None:
    """Nothing is sent to a host with a long pause, nor to one that is down."""
    for paused in (True, False):
        way = Way(Server())
        if paused:
            way.router.budget("https://api/").pause(30.0)
        else:
            way.router.budget("https://api/").health.down = True
        assert await way.open("a", "b") == [None, None]
        assert (way.server.asked, way.in_flight()) == ([], [0, 0])


async def test_an_outage_without_end_ends_the_run() -> None:
    """SourceLost is nobody's failed attempt: it goes through, and the place is given back."""
    way = Way(Server(), outage_max_s=60.0)
    health = way.router.budget("https://api/").health

    def lost(url: str) -> Reply | TransferError:
        health.lost = True
        return TransferError("connect", "refused")

    way.server.answer = lost
    with pytest.raises(SourceLost):
        await way.open("a", "b")
    assert way.in_flight() == [0, 0]


async def test_the_pace_hears_of_each_answer() -> None:
    """Each answer has a time of its own: what a host can bear is judged as if requests were asked one by one."""
    heard: list[tuple[int, float, int]] = []

    class Listening:
        limit = 4

        def asked(self, place: int) -> None: ...

        def answered(self, place: int, seconds: float, refusal: int = 0) -> None:
            heard.append((place, seconds, refusal))

        def outage(self) -> None: ...

    way = Way(Server(lambda url: a_reply(url, 429 if url == "https://api/c" else 302, {"location": "ftp://x/y"}, b"")))
    way.server.meanwhile = lambda url: setattr(way.clock, "now_s", way.clock.now_s + 1.0)
    way.router.budget("https://api/").allowance = Listening()
    await way.open("a", "b", "c")
    assert heard == [(1, 1.0, 0), (1, 1.0, 0), (1, 1.0, REFUSED)]


async def test_the_pace_hears_which_of_all_a_request_is() -> None:
    """A refusal counts for as many as were under way when its request was sent, not when the place was had."""
    asked: list[int] = []
    refused: list[int] = []

    class Listening:
        limit = 4

        def asked(self, place: int) -> None:
            asked.append(place)

        def answered(self, place: int, seconds: float, refusal: int = 0) -> None:
            if refusal:
                refused.append(place)

        def outage(self) -> None: ...

    way = Way(Server(lambda url: a_reply(url, 429 if url == "https://api/c" else 302, {"location": "ftp://x/y"}, b"")))
    budget = way.router.budget("https://api/")
    budget.allowance = Listening()

    def others_come(url: str) -> None:
        if url == "https://api/a":
            assert (budget.try_acquire(), budget.try_acquire()) == (2, 3)

    way.server.meanwhile = others_come
    await way.open("a", "b", "c")
    assert asked == [1, 2, 3, 3, 3]
    assert refused == [3]


@pytest.mark.parametrize(
    ("location", "kind"),
    [("", "redirect"), ("https://api/loop", "redirect"), ("ftp://host/x", "scheme"), ("http://blobs/a", "redirect")],
)
async def test_redirects_that_lead_nowhere(location: str, kind: str) -> None:
    """No Location, a loop, another scheme, down to http: the error that asking by itself would have, nobody asked."""
    way = Way(Server(lambda url: a_reply(url, 302, {"location": location} if location else {}, b"")))
    for error in await way.open("a", "b"):
        assert isinstance(error, TransferError)
        assert error.kind == kind
    assert not [url for url in way.server.asked if not url.startswith("https://api/")]
    assert way.in_flight()[0] == 0


@pytest.mark.parametrize(("redirects", "kind"), [(5, ""), (6, "redirect")])
@pytest.mark.parametrize("handed_over", range(4))
async def test_the_limit_of_redirects_is_one_for_all_of_them(redirects: int, kind: str, handed_over: int) -> None:
    """A chain handed over midway, since a large body came between, is followed for what is left, and no further."""

    def answer(url: str) -> Reply:
        name, hop = url[-2], int(url[-1])
        if (name, hop) == ("b", handed_over):
            return a_reply(url, 200, {}, None, Large())  # type: ignore[arg-type]
        if (name, hop) == ("a", redirects):
            return a_reply(url, 200, {}, b"here")
        return a_reply(url, 302, {"location": f"{url[:-1]}{hop + 1}"}, b"")

    way = Way(Server(answer))
    led, large = await way.open("a0", "b0")
    assert isinstance(led, Reply)
    assert isinstance(large, Reply)
    assert (led.status, led.hops, large.status) == (302, handed_over, 200)
    try:
        outcome: object = (await way.router.follow(led, "https://api/a0")).body
    except TransferError as error:
        outcome = error.kind
    assert outcome == (kind or b"here")
    asked = [url for url in way.server.asked + way.server.single if url[-2] == "a"]
    assert asked == [f"https://api/a{hop}" for hop in range(6)]


async def test_down_to_http_where_it_is_allowed() -> None:
    """With `--allow-http` the redirect is followed."""

    def answer(url: str) -> Reply | TransferError:
        if url.startswith("https://api/"):
            return a_reply(url, 302, {"location": "http://blobs/a"}, b"")
        return as_it_should(url)

    way = Way(Server(answer))
    way.router.allow_http = True
    assert bodies(await way.open("a")) == [b"body of http://blobs/a"]


class Large:
    """A large body that counts how often it was closed."""

    def __init__(self) -> None:
        self.closed = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        yield b"x"

    def close(self) -> None:
        self.closed += 1


async def test_a_large_body_ends_it_and_keeps_its_place() -> None:
    """It comes as a stream, nothing more is asked, and its place is free once it is closed, whatever else is."""
    large = Large()
    way = Way(Server(blobs("b", a_reply("https://blobs/b", 200, {}, None, large))))
    came = await way.open("a", "b", "c")
    assert bodies(came) == [body("a"), None, None]
    assert (way.in_flight(), large.closed) == ([0, 1], 0)
    assert isinstance(came[1], Reply)
    assert came[1].stream is not None
    came[1].stream.close()
    came[1].stream.close()
    assert way.in_flight() == [0, 0]
    assert large.closed >= 1


@pytest.mark.parametrize("status", [302, 503])
async def test_a_large_body_nobody_wants_is_closed(status: int) -> None:
    """That of a redirect, or of an answer that says "later"."""
    large = Large()
    location = {"location": "https://blobs/other"}
    way = Way(Server(blobs("b", a_reply("https://blobs/b", status, location, None, large))))
    came = await way.open("a", "b", "c")
    assert (large.closed, way.in_flight()) == (1, [0, 0])
    if status == 302:
        assert bodies(came)[:2] == [body("a"), body("other")]
    else:
        assert isinstance(came[1], TransferError)
        assert came[1].status == 503
