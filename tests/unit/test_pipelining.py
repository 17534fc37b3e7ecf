"""Several hrefs at once: redirects by hand, hosts that break it, and what is left to be asked one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import pytest

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply
from stacmirror.limits import HostLimits
from stacmirror.transports.pipelining import CHECKED_EVERY, SEVERAL_MAX, Pipelining
from stacmirror.transports.router import Router
from tests.unit.fakes import FakeClock, Notes, a_reply

Requests = Sequence[tuple[str, Mapping[str, str]]]
SMALL_MAX = 1000


def answer(url: str) -> Reply:
    """The API redirects to a host of blobs, which has a body for each."""
    if url.startswith("https://api/"):
        return a_reply(url, 302, {"location": f"https://blobs/{url.rpartition('/')[2]}?sig={id(url)}"}, b"")
    return a_reply(url, 200, {}, f"body of {url.partition('?')[0]}".encode())


class Server:
    """Answers by `answer`. `spoil` may change what a series brings."""

    def __init__(self, spoil: Callable[[str, list[Reply | None]], list[Reply | None]] | None = None) -> None:
        self.single: list[str] = []
        self.series: list[list[str]] = []
        """What came in one write."""
        self.in_turn: list[str] = []
        self.spoil = spoil or (lambda origin, replies: replies)
        self.waits: asyncio.Event | None = None

    async def fetch(self, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
        self.single.append(url)
        return answer(url)

    async def fetch_several(
        self, requests: Requests, small_max_bytes: int, heard: Callable[[Reply], bool] | None = None
    ) -> list[Reply | None]:
        if heard is not None:
            replies: list[Reply | None] = []
            for url, _ in requests:
                self.in_turn.append(url)
                replies.append(reply := answer(url))
                if not heard(reply):
                    break
            return replies
        self.series.append([url for url, _ in requests])
        origin = requests[0][0].rpartition("/")[0]
        if self.waits is not None and "api" in origin:
            await self.waits.wait()
        return self.spoil(origin, [answer(url) for url, _ in requests])

    async def close(self) -> None:
        pass


class Way:
    def __init__(self, server: Server) -> None:
        self.server, self.notes, self.clock = server, Notes(), FakeClock()
        limits = HostLimits(4, None, self.clock.monotonic, self.clock.sleep)
        self.router = Router(
            {"https": server},
            limits,
            redirects_max=5,
            small_max_bytes=SMALL_MAX,
            wall=self.clock.wall,
            several={"https": server},
        )
        self.way = Pipelining(self.router, SMALL_MAX, 5, self.notes.note)

    async def proven(self) -> Way:
        await self.way.open_several(["https://api/p", "https://api/q"])
        self.server.single.clear()
        self.server.series.clear()
        return self

    async def open(self, *names: str) -> list[bytes | None]:
        replies = await self.way.open_several([f"https://api/{name}" for name in names])
        return [reply.body if isinstance(reply, Reply) else None for reply in replies]


def body(name: str) -> bytes:
    return f"body of https://blobs/{name}".encode()


async def test_two_writes_for_two_hops() -> None:
    """Redirects of a whole item in one series, its objects in a second, each under its own href."""
    way = await Way(Server()).proven()
    assert await way.open("a", "b", "c") == [body("a"), body("b"), body("c")]
    assert [len(series) for series in way.server.series] == [3, 3]
    assert way.server.single == []
    assert way.router.budget("https://blobs/x").in_flight == 0


async def test_a_host_is_tried_against_single_requests_first() -> None:
    """The first series of a host is asked one by one as well, and again after so many series; signatures may differ."""
    way = Way(Server())
    assert await way.open("a", "b") == [body("a"), body("b")]
    assert len(way.server.single) == 4
    for _ in range(CHECKED_EVERY):
        await way.open("a", "b")
    assert len(way.server.single) == 4
    await way.open("a", "b")
    assert len(way.server.single) == 8
    assert way.notes.lines == []


async def test_only_one_tries_a_host() -> None:
    """While the first series of a host is under way, others ask in turn."""
    way = Way(Server())
    way.server.waits = asyncio.Event()
    first = asyncio.create_task(way.open("a", "b"))
    await asyncio.sleep(0)
    assert await way.open("c", "d") == [body("c"), body("d")]
    assert way.server.in_turn == ["https://api/c", "https://api/d"]
    way.server.waits.set()
    assert await first == [body("a"), body("b")]


def swapped(origin: str, replies: list[Reply | None]) -> list[Reply | None]:
    return replies[::-1]


async def test_mixed_answers_are_noticed() -> None:
    """A host that answers in another order is found out at once: what counts is what single requests bring."""
    way = Way(Server(swapped))
    assert await way.open("a", "b") == [body("a"), body("b")]
    assert way.notes.lines == [
        f"https://{host} does not take several requests at once: asked one after another from here on"
        for host in ("api", "blobs")
    ]
    way.server.series.clear()
    assert await way.open("c", "d") == [body("c"), body("d")]
    assert (way.server.series, len(way.server.in_turn)) == ([], 4)


async def test_only_the_host_that_mixes_is_given_up() -> None:
    """The API's series go on where only the blobs' are mixed up; no body lands under another's name."""
    way = Way(Server(lambda origin, replies: replies[::-1] if "blobs" in origin else replies))
    assert await way.open("a", "b") == [body("a"), body("b")]
    assert way.notes.lines == [
        "https://blobs does not take several requests at once: asked one after another from here on"
    ]
    assert await way.open("c", "d") == [body("c"), body("d")]
    assert len(way.server.series[-1]) == 2
    assert way.server.series[-1][0].startswith("https://api/")
    assert [url.partition("?")[0] for url in way.server.in_turn] == ["https://blobs/c", "https://blobs/d"]


def first_only(origin: str, replies: list[Reply | None]) -> list[Reply | None]:
    return replies[:1] if "api" in origin else replies


async def test_a_host_that_cuts_series_short_is_given_up() -> None:
    """After five series cut short no more are sent; one now and then, as at the end of a connection, is nothing."""
    way = Way(Server(first_only))
    for _ in range(5):
        found = await way.open("a", "b")
        assert found[1] is None
    assert len(way.notes.lines) == 1
    way.server.series.clear()
    assert await way.open("c", "d") == [body("c"), body("d")]
    assert way.server.in_turn[-2:] == ["https://api/c", "https://api/d"]

    seldom = Way(Server(lambda origin, replies: replies[: 1 + (len(seldom.server.series) % 10 > 0)]))
    for _ in range(100):
        await seldom.open("a", "b")
    assert seldom.notes.lines == []


async def test_a_series_that_breaks_is_no_error() -> None:
    """A reset leaves nothing, and everything to be asked one by one; an answer that is none ends the host's series."""

    def raise_it(kind: str) -> Callable[[str, list[Reply | None]], list[Reply | None]]:
        def spoil(origin: str, replies: list[Reply | None]) -> list[Reply | None]:
            raise TransferError(kind, "broken")

        return spoil

    reset = Way(Server(raise_it("reset")))
    assert await reset.open("a", "b") == [None, None]
    assert reset.notes.lines == []
    odd = Way(Server(raise_it("protocol")))
    assert await odd.open("a", "b") == [None, None]
    assert len(odd.notes.lines) == 1
    assert odd.router.budget("https://api/").in_flight == 0


async def test_a_busy_answer_is_asked_again() -> None:
    """A 503 among the answers is a failed attempt with its wait, heard of by the host's budget; the others count."""

    def busy(origin: str, replies: list[Reply | None]) -> list[Reply | None]:
        return (
            [replies[0], a_reply("https://blobs/b", 503, {"retry-after": "7"}, b"")] if "blobs" in origin else replies
        )

    way = await Way(Server()).proven()
    way.server.spoil = busy
    came = await way.way.open_several(["https://api/a", "https://api/b"])
    assert isinstance(came[0], Reply)
    assert isinstance(came[1], TransferError)
    assert (came[1].status, came[1].retry_after_s, came[1].host) == (503, 7.0, "https://blobs")
    assert way.router.budget("https://blobs/").health.bad_in_a_row == 1


async def test_a_paused_host_is_not_waited_for() -> None:
    """Where a host asked for a long pause, nothing is sent."""
    way = await Way(Server()).proven()
    way.router.budget("https://api/").pause(30.0)
    assert await way.open("a", "b") == [None, None]
    assert way.server.series == []


async def test_long_items_go_in_parts() -> None:
    """No more than so many requests in one write."""
    way = await Way(Server()).proven()
    names = [f"{number}" for number in range(SEVERAL_MAX + 5)]
    assert await way.open(*names) == [body(name) for name in names]
    assert [len(series) for series in way.server.series] == [SEVERAL_MAX, 5, SEVERAL_MAX, 5]


async def test_one_href_is_no_series() -> None:
    """A single asset is asked for in turn."""
    way = await Way(Server()).proven()
    assert await way.open("a") == [body("a")]
    assert (way.server.single, way.server.series, len(way.server.in_turn)) == ([], [], 2)


@pytest.mark.parametrize("location", ["", "https://api/loop"])
async def test_redirects_that_lead_nowhere(location: str) -> None:
    """No Location, or a loop: nothing, for the worker to find out and say."""

    def nowhere(origin: str, replies: list[Reply | None]) -> list[Reply | None]:
        return [a_reply("https://api/x", 302, {"location": location} if location else {}, b"")] * len(replies)

    way = await Way(Server()).proven()
    way.server.spoil = nowhere
    assert await way.open("a", "b") == [None, None]


@pytest.mark.parametrize("allowed", [False, True])
async def test_no_way_down_to_http(allowed: bool) -> None:
    """A redirect from https to http is left for the worker to refuse, and nobody is asked there, unless allowed."""

    def down(origin: str, replies: list[Reply | None]) -> list[Reply | None]:
        if "api" not in origin:
            return replies
        return [a_reply("https://api/x", 302, {"location": f"http://blobs/{n}"}, b"") for n in range(len(replies))]

    way = await Way(Server()).proven()
    way.server.spoil = down
    way.router.allow_http = allowed
    way.router.several = {"https": way.server, "http": way.server}
    way.router._transports = {"https": way.server, "http": way.server}
    found = await way.open("a", "b")
    assert found == ([b"body of http://blobs/0", b"body of http://blobs/1"] if allowed else [None, None])
    assert any(url.startswith("http://") for series in way.server.series for url in series) is allowed


async def test_a_host_that_is_down_is_not_asked_beyond_the_cap() -> None:
    """To ask whether a host is back counts as any request: at the cap the caller hears of it, the place is free."""
    server = Server()
    way = Way(server)
    await way.router.ask_asset("https://blobs/a")
    budget = way.router.budget("https://blobs/a")
    budget.health.down = True
    way.router.requests_max = way.router.requests
    with pytest.raises(TransferError) as capped:
        await way.router.ask_asset("https://blobs/b")
    assert (capped.value.kind, budget.in_flight, server.single) == ("cap", 0, ["https://blobs/a"])
