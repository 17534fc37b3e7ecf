"""Whole items asked for in turn, in virtual time: answers and links that come apart, places held, old redirects."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply, SeveralOpener
from stacmirror.limits import HostLimits
from stacmirror.model import Asset, Item
from stacmirror.pipeline.ahead import Ahead
from stacmirror.pipeline.learn import Learner
from stacmirror.pipeline.renewal import Renewal
from stacmirror.pipeline.shortcut import Shortcut
from stacmirror.transports.in_turn import InTurn
from stacmirror.transports.pipelining import Pipelining
from stacmirror.transports.router import Router
from tests.faults.virtual import VirtualClock, VirtualLoop, wait_for_commits
from tests.unit.fakes import an_item, pages_of
from tests.unit.test_run_stop import Bench

SMALL_MAX = 1000
LATENCY_S = 0.05
PATIENCE_S = 5000
"""Seconds, one by one, since a loop that jumps to its next timer would not wait for the ledger's thread otherwise."""
Requests = Sequence[tuple[str, Mapping[str, str]]]
Answer = tuple[int, Mapping[str, str], bytes] | TransferError
Rule = Callable[[str], Answer]


class Streamed:
    """A large body on its way; `left_open` of the server counts those that nobody has read or closed."""

    def __init__(self, server: Server, content: bytes) -> None:
        self._server, self._content, self._open = server, content, True
        server.left_open += 1

    async def chunks(self) -> AsyncIterator[bytes]:
        await asyncio.sleep(LATENCY_S)
        yield self._content

    def close(self) -> None:
        self._server.left_open -= self._open
        self._open = False


class Server:
    """Answers as `rule` says, after a latency: single requests and those in turn; `per_connection` of them on one."""

    def __init__(self, rule: Rule, per_connection: int = 1_000_000) -> None:
        self.rule, self.per_connection = rule, per_connection
        self.asked: Counter[str] = Counter()
        self.left_open = 0
        self.takes_several = True
        self.meanwhile: Callable[[str], None] = lambda url: None

    def of(self, host: str) -> int:
        return sum(times for url, times in self.asked.items() if url.startswith(f"http://{host}/"))

    async def fetch(self, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
        self.asked[url] += 1
        await asyncio.sleep(LATENCY_S)
        found = self.rule(url)
        self.meanwhile(url)
        if isinstance(found, TransferError):
            raise TransferError(found.kind, found.message)
        status, more, content = found
        if len(content) > small_max_bytes:
            return Reply(url, status, {**more, "content-length": str(len(content))}, None, Streamed(self, content))
        return Reply(url, status, more, content, None)

    async def fetch_several(
        self, requests: Requests, small_max_bytes: int, heard: Callable[[Reply], bool] | None = None
    ) -> list[Reply | TransferError | None]:
        came: list[Reply | TransferError | None] = []
        held_bytes = 0
        for url, headers in (
            requests[: self.per_connection if "//blobs/" in requests[0][0] else None] if self.takes_several else []
        ):
            try:
                reply = await self.fetch(url, headers, small_max_bytes)
            except TransferError as error:
                if not came:
                    raise
                return [*came, error]
            if heard is None and reply.stream is not None:
                reply.stream.close()  # the bytes are the last that come, and nobody's
                break
            came.append(reply)
            held_bytes += len(reply.body or b"")
            if reply.stream is not None or (heard is not None and not heard(reply)) or held_bytes >= small_max_bytes:
                break
        return came

    async def close(self) -> None:
        pass


class Way:
    """A run over `server`: its parts, and what came of it."""

    def __init__(
        self,
        target: Path,
        items: Sequence[Item],
        server: Server,
        *,
        per_host: int = 8,
        workers: int = 1,
        opener: type[InTurn] = InTurn,
        learner: Learner | None = None,
        **values: object,
    ) -> None:
        self.server, self.clock = server, VirtualClock()
        self.limits = HostLimits(per_host, None, self.clock.monotonic, self.clock.sleep, random=lambda: 0.0)
        self.router = Router(
            {"http": server},
            self.limits,
            redirects_max=5,
            small_max_bytes=SMALL_MAX,
            wall=self.clock.wall,
            several={"http": server},
        )
        self.bench = Bench(
            target,
            pages_of([items]),
            workers=workers,
            opener=self.router,
            clock=self.clock,
            **cast("dict[str, Any]", {"sweeps": 0, "retries": 3, "sync_every_s": 0.0, **values}),
        )
        wait_for_commits(self.bench)
        more = (self.bench.notes.note,) if opener is Pipelining else ()
        several = cast("SeveralOpener", opener(self.router, SMALL_MAX, 5, *more))
        crew = self.bench.run._crew
        self.missing = crew.missing
        shortcut = learner and Shortcut(learner, self.router, crew.fetcher, crew.progress)
        self.crew = crew._replace(ahead=Ahead(several, crew.missing, shortcut), shortcut=shortcut)
        self.bench.run._crew = self.crew

    async def run(self) -> None:
        try:
            run = asyncio.ensure_future(self.bench.run.execute(self.bench.start, self.bench.staged))
            for _ in range(PATIENCE_S):
                await asyncio.wait([run], timeout=1.0)
                if run.done():
                    break
            else:
                run.cancel()
            await run
        finally:
            self.failures = self.bench.ledger.failures()
            self.bench.ledger.close()
            self.bench.sink.close()
        assert self.server.left_open == 0
        assert not [budget for budget in self.limits._budgets.values() if budget.in_flight]


def learned(*items: Item) -> Learner:
    """A learner that has seen where enough links lead."""
    learner = Learner(lambda line: None, after=len(items))
    for item in items:
        for asset in item.assets:
            learner.led(item.key, asset, asset.href.replace("//api/", "//blobs/"), "", found=True)
    return learner


def virtually(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work())


def linked(hrefs: Mapping[str, str], name: str = "i") -> Item:
    """An item with these links."""
    item = an_item(name)
    assets = tuple(Asset(name, href, "image/tiff") for name, href in hrefs.items())
    return Item(item.key, assets, (), {}, b"{}", 1000.0)


def found(url: str) -> Answer:
    return 200, {}, f"bytes of {url}".encode()


def led(url: str) -> Answer:
    """Links of `api` lead to `blobs`."""
    if url.startswith("http://api/"):
        return 302, {"location": url.replace("//api/", "//blobs/")}, b""
    return found(url)


def signed_for(life_s: float, content: bytes) -> Rule:
    """Links of `api` lead to `blobs`, whose targets live so long from when they are named, in the running loop's time.

    They are `content`; so is what a dead one answers, with 403.
    """
    loop = asyncio.get_running_loop()
    named_s: dict[str, float] = {}

    def rule(url: str) -> Answer:
        if url.startswith("http://api/"):
            named_s[url.replace("//api/", "//blobs/")] = loop.time()
            return led(url)
        return 200 if loop.time() - named_s[url] < life_s else 403, {}, content

    return rule


def through_api(name: str, keys: str = "ABCD") -> Item:
    return linked({asset: f"http://api/{name}/{asset}" for asset in keys}, name)


@pytest.mark.parametrize("opener", [InTurn, Pipelining])
def test_links_that_die_together_are_renewed_together(tmp_path: Path, opener: type[InTurn]) -> None:
    """Old links of several hosts (or in one write) are refused in one go: each answer is held against its own link."""

    def rule(url: str) -> Answer:
        return found(url) if url.endswith("new") else (403, {}, b"")

    def links(word: str) -> Item:
        life = "X-Amz-Date=20200101T000000Z&X-Amz-Expires="
        hosts = {"A": "one", "B": "two", "C": "three", "D": "three"}
        return linked({k: f"http://{host}/{k}?{life}{9_999_999_999 if word == 'new' else 1}&{word}"
                       for k, host in hosts.items()})  # fmt: skip

    async def work() -> None:
        way = Way(tmp_path, [links("old")], Server(rule), opener=opener)
        way.bench.catalog.items = {"i": links("new")}
        # Links that are due are renewed before they are asked: these were good when that was looked at.
        renewal = Renewal(way.bench.catalog, way.clock, 3600.0)
        renewal.is_due = lambda job: False  # type: ignore[method-assign]
        way.bench.run._crew = way.crew._replace(links=renewal)
        await way.run()
        assert way.failures == []

    virtually(work)


def test_an_answer_in_hand_is_no_assumed_absence(tmp_path: Path) -> None:
    """A key taken to be missing everywhere while its answer was on its way: the answer counts, and holds no place."""
    large = b"x" * (SMALL_MAX + 1)

    async def work() -> None:
        for status in (200, 404):
            way = Way(tmp_path / str(status), [linked({"B": "http://host/B", "A": "http://host/A"})],
                      Server(lambda url, status=status: (status, {}, large) if url.endswith("B") else found(url)),
                      per_host=1)  # fmt: skip
            way.missing._keys.clear()

            def trip(url: str, way: Way = way) -> None:
                if url.endswith("B") and not way.missing.tripped("labels", "B"):
                    way.missing._found.add("labels")
                    for _ in range(20):
                        way.missing.gone("labels", "B")

            way.server.meanwhile = trip
            await way.run()
            assert way.server.asked["http://host/B"] == 1
            assert way.server.asked["http://host/A"] == 1

    virtually(work)


@pytest.mark.parametrize("status", [200, 404])
def test_a_large_guess_is_read_before_anything_waits(tmp_path: Path, status: int) -> None:
    """With one place at a host: large bodies that are right or wrong guesses, many workers, and all comes in."""
    items = [through_api(f"i{n}") for n in range(12)]

    async def work() -> None:
        def rule(url: str) -> Answer:
            if url.startswith("http://blobs/") and "/C" in url:
                right = status == 200 or url.endswith("/right")
                return 200 if right else status, {}, b"x" * (SMALL_MAX + 1)
            if status == 404 and url.startswith("http://api/") and "/C" in url:
                return 302, {"location": url.replace("//api/", "//blobs/") + "/right"}, b""
            return led(url)

        way = Way(tmp_path, items, Server(rule), per_host=1, workers=6, learner=learned(*items[:4]))
        await way.run()
        assert way.failures == []
        assert len(list((tmp_path / "labels").glob("*/*.tif"))) == 48
        assert way.crew.progress.predicted

    virtually(work)


def test_redirects_that_die_while_others_are_asked(tmp_path: Path) -> None:
    """Signed targets that live for two seconds, behind 100 links that take five: none fails."""

    async def work() -> None:
        item = linked({f"a{n}": f"http://api/a{n}" for n in range(100)})
        way = Way(tmp_path, [item], Server(signed_for(2.0, b"bytes")))
        await way.run()
        assert way.failures == []

    virtually(work)


def test_a_redirect_that_is_fresh_and_refused_is_refused(tmp_path: Path) -> None:
    """What is refused right behind its link is refused: asked once, and a failure; so is what is asked for after it."""

    async def work() -> None:
        for refused in ("B", "BCD"):
            way = Way(tmp_path / refused, [through_api("i")],
                      Server(lambda url, refused=refused: (403, {}, b"")
                      if url.startswith("http://blobs/") and url[-1] in refused else led(url)))  # fmt: skip
            await way.run()
            assert [(failure.asset, failure.kind) for failure in way.failures] == [(key, "refused") for key in refused]
            assert set(way.server.asked.values()) == {1}

    virtually(work)


def test_links_to_a_host_that_is_down_are_left_alone(tmp_path: Path) -> None:
    """While what redirects lead to is down, one item a second asks for one redirect, to see where it leads by now.

    Also of the items that nobody has asked for anything yet.
    """
    asked_s: list[float] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        began_s: list[float] = []

        def rule(url: str) -> Answer:
            began_s.append(loop.time())
            at_s = began_s[-1] - began_s[0]
            if url.startswith("http://api/"):
                asked_s.append(at_s)
            elif 1.0 < at_s < 600.0:
                return TransferError("connect", "refused")
            return led(url)

        items = [through_api(f"i{n}") for n in range(600)]
        way = Way(tmp_path, items, Server(rule), workers=64, queue_size=600)
        await way.run()
        assert way.failures == []
        down = [at_s for at_s in asked_s if 2.0 < at_s < 600.0]
        assert 100 <= len(down) <= 599
        assert all(sum(at_s <= later < at_s + 1.0 for later in down) <= 2 for at_s in down)

    virtually(work)


@pytest.mark.parametrize("why", ["closes", "login", "full", "large"])
def test_redirects_are_asked_once(tmp_path: Path, why: str) -> None:
    """Where a series ends early (closed, a login, enough is held, all is large) none is asked in vain."""
    size = {"full": 400, "large": 2000}.get(why, 10)

    def rule(url: str) -> Answer:
        return led(url) if url.startswith("http://api/") else (200, {}, b"x" * size)

    async def work() -> None:
        server = Server(rule, per_connection=1 if why == "closes" else 1_000_000)
        way = Way(tmp_path, [through_api(f"i{n}") for n in range(10)], server, workers=2)
        if why == "login":
            fetch_several = server.fetch_several

            async def only_api(requests: Requests, *rest: Any) -> list[Reply | TransferError | None]:
                return await fetch_several(requests, *rest) if requests[0][0].startswith("http://api/") else []

            server.fetch_several = only_api  # type: ignore[method-assign]
        await way.run()
        assert way.failures == []
        assert len(list((tmp_path / "labels").glob("*/*.tif"))) == 40
        assert set(server.asked.values()) == {1}
        assert way.router.requests == 80

    virtually(work)


def test_large_files_that_never_come_are_known_as_well(tmp_path: Path) -> None:
    """Where all assets are large and refused for it, no item after the first asks for redirects in vain."""

    async def work() -> None:
        def rule(url: str) -> Answer:
            return led(url) if url.startswith("http://api/") else (200, {}, b"x" * 5000)

        way = Way(tmp_path, [through_api(f"i{n}") for n in range(20)], Server(rule))
        way.crew.fetcher._large._file_max_bytes = 2000
        await way.run()
        assert sum(failure.count for failure in way.failures) == 80
        assert way.server.of("api") == 80
        assert len(way.crew.ahead._large) == 4  # type: ignore[union-attr]

    virtually(work)


def test_a_redirect_that_died_in_hand_is_asked_anew(tmp_path: Path) -> None:
    """Targets that live for two seconds, one large file of five before them: each link is asked again, none fails."""

    async def work() -> None:
        item = linked({f"a{n}": f"http://api/a{n}" for n in range(200)})
        way = Way(tmp_path, [item], Server(signed_for(2.0, b"x" * 5000)))
        await way.run()
        assert way.failures == []

    virtually(work)


def test_no_more_is_held_than_one_worker_may(tmp_path: Path) -> None:
    """Bodies of one item from many hosts count together."""
    held: list[int] = []

    async def work() -> None:
        item = linked({f"a{n}": f"http://host{n}/a{n}" for n in range(30)})
        way = Way(tmp_path, [item], Server(lambda url: (200, {}, b"x" * 900)))
        opener = way.crew.ahead._opener  # type: ignore[union-attr]
        open_several = opener.open_several

        async def watched(hrefs: Sequence[str]) -> list[Reply | TransferError | None]:
            came = await open_several(hrefs)
            held.append(sum(len(reply.body or b"") for reply in came if isinstance(reply, Reply)))
            return came

        opener.open_several = watched  # type: ignore[method-assign]
        await way.run()
        assert way.failures == []
        assert max(held) <= 2 * SMALL_MAX

    virtually(work)


def test_who_must_wait_is_not_asked_for(tmp_path: Path) -> None:
    """An asset put off until later is left out when another of its item is due: its answer would be thrown away."""

    async def work() -> None:
        way = Way(tmp_path, [linked({"A": "http://one/A", "B": "http://two/B"})], Server(found))
        planned = way.crew.planner.plan

        def plan(bundle: Any, job: Any) -> None:
            planned(bundle, job)
            job.todo[1].not_before_s = way.clock.monotonic() + 30.0
            way.server.meanwhile = lambda url: late.append((url, way.clock.monotonic()))

        late: list[tuple[str, float]] = []
        start_s = way.clock.monotonic()
        way.crew.planner.plan = plan  # type: ignore[method-assign]
        await way.run()
        assert [(url, at_s - start_s >= 30.0) for url, at_s in late] == [
            ("http://one/A", False),
            ("http://two/B", True),
        ]

    virtually(work)


def test_requests_are_counted_when_cancelled(tmp_path: Path) -> None:
    """What was answered before the end came counts among the requests."""

    async def work() -> None:
        way = Way(tmp_path, [linked({f"a{n}": f"http://host/a{n}" for n in range(50)})], Server(found))
        task = asyncio.create_task(way.crew.ahead._opener.open_several([f"http://host/a{n}" for n in range(50)]))  # type: ignore[union-attr]
        await asyncio.sleep(LATENCY_S * 10.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert way.router.requests >= sum(way.server.asked.values()) - 1 > 5
        assert way.router.budget("http://host/").in_flight == 0

    virtually(work)
