"""A refused login stops the run: once the third refusal is read nothing is sent, to anybody (rows 18, 19, 26, 27).

What is under way at that moment is aside. Where the login was good before, the question whether it still is falls
within the three; where another one can be had, one request finds out whether that is taken, while all others wait.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from stacmirror.clock import SystemClock
from stacmirror.errors import LoginRefused
from stacmirror.interfaces import Reply
from stacmirror.mirror import Mirror
from stacmirror.model import Summary
from stacmirror.simulator.log import RequestRecord
from stacmirror.transports import oauth
from stacmirror.transports.http import AiohttpTransport
from stacmirror.typed import build
from tests.conftest import simulated, tree
from tests.contract.test_s3 import refusal
from tests.contract.wire_server import KEEP, Step
from tests.e2e.test_logins import LOGIN, tokens
from tests.faults.asked import Asked
from tests.faults.invariants import Before, as_told, hold, hold_mirror, keeps_secrets, mends
from tests.faults.test_s3 import ENVIRONMENT, SECRET, a_login, behind_s3, only_ours
from tests.faults.whole_runs import Make, Way, by, mirror
from tests.faults.world import Bench, Fault, always
from tests.stac_server import StacServer, stac_server
from tests.unit.fakes import Notes

__all__ = ["only_ours"]

ITEMS = 60
CODES = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "InvalidSecurity")


@pytest.fixture
def slow(bench: Bench) -> Bench:
    """Give a world of many items that takes its time, so that many requests are under way at once."""
    world, chance = bench.world, random.Random(1)
    world.ids = [f"i{number}" for number in range(ITEMS)]
    world.delay_s = lambda: chance.random() * 0.02
    return bench


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Give all that is sent and read."""
    return Asked(monkeypatch)


def of_credentials(reply: Reply) -> bool:
    return (
        reply.status in (400, 403) and b"<Code>" in (reply.body or b"") and b"AccessDenied" not in (reply.body or b"")
    )


def from_nth(nth: int, *steps: Step) -> Fault:
    """Say this from the n-th request on, of all that are for objects."""
    heard = 0

    def say(_: int, body: bytes) -> Sequence[Step] | None:
        nonlocal heard
        heard += 1
        return steps if heard >= nth else None

    return say


@pytest.mark.parametrize("pipeline", [False, True], ids=["in turn", "in one write"])
@pytest.mark.parametrize("nth", [1, 40], ids=["at once", "midway"])
@pytest.mark.parametrize("code", CODES)
async def test_credentials_that_nothing_replaces(
    slow: Bench, asked: Asked, code: str, nth: int, pipeline: bool
) -> None:
    """S3 refuses them from some request on, and the SDK has no others: nothing is sent after the third refusal."""
    if pipeline and slow.way[0] == "aiohttp":
        pytest.skip("only our own client sends several requests in one write")
    settings = behind_s3(slow) | {"page_size": 30, "pipeline": pipeline}
    slow.world.faults["^/bucket/files/"] = from_nth(nth, refusal(403, code), KEEP)
    before = Before()
    run = await slow.run(**settings)
    hold(slow, run, before, cut=True)
    assert (run.summary.exit_code, code in run.summary.reason) == (4, True)
    assert SECRET not in run.summary.reason
    # Whether it is the object's own trouble is asked a turn of the loop after the second; a third may be read in it.
    is_asked = (code, nth) == ("SignatureDoesNotMatch", 40)
    assert len(asked.after_third(of_credentials)) <= is_asked
    # All that were refused were under way at once, but where goods came between.
    assert (code, nth) == ("SignatureDoesNotMatch", 40) or asked.refusals(of_credentials) <= slow.way[1] * (
        13 if pipeline else 1
    ) + 2
    await mends(slow, **settings)


def by_session(*taken: int) -> Callable[[Bench], Fault]:
    """Refuse all sessions but those numbered in `taken`."""

    def make(bench: Bench) -> Fault:
        def say(nth: int, body: bytes) -> Sequence[Step] | None:
            number = bench.world.heard[-1].partition("Credential=AKIDNUMBER")[2].partition("/")[0]
            return None if int(number) in taken else (refusal(400, "ExpiredToken"), KEEP)

        return say

    return make


@pytest.fixture
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let credentials come from a program, one session after another; return what counts its calls."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name)
    return a_login(tmp_path, 3600.0)


async def test_a_session_that_another_one_replaces(slow: Bench, asked: Asked, sessions: Path) -> None:
    """One login for all who were refused, tried by one request; then all go on, and nothing has failed."""
    settings = behind_s3(slow) | {"page_size": 30}
    slow.world.faults["^/bucket/files/"] = by_session(2)(slow)
    before = Before()
    run = await slow.run(**settings)
    hold(slow, run, before)
    assert (run.summary.exit_code, len(tree(slow.target))) == (0, 4 * ITEMS)
    assert len(sessions.read_text()) == 2
    read = next(at for at, event in enumerate(asked.events) if event.reply is not None and of_credentials(event.reply))
    good = next(at for at, event in enumerate(asked.events) if event.reply is not None and event.url.startswith(
        f"{slow.world.url}/bucket/") and event.reply.status == 200)  # fmt: skip
    assert len([event for event in asked.events[read:good] if event.reply is None]) == 1
    await mends(slow, **settings)


async def test_a_session_that_another_refused_one_replaces(slow: Bench, asked: Asked, sessions: Path) -> None:
    """One request tries the next session; when that is refused as well, nothing more is sent."""
    settings = behind_s3(slow) | {"page_size": 30}
    slow.world.faults["^/bucket/files/"] = by_session()(slow)
    before = Before()
    run = await slow.run(**settings)
    hold(slow, run, before, cut=True)
    assert (run.summary.exit_code, len(sessions.read_text())) == (4, 2)
    assert len(asked.after_third(of_credentials)) <= 1
    await mends(slow, **settings)


async def test_objects_that_are_denied_stop_nothing(slow: Bench, asked: Asked) -> None:
    """AccessDenied, as S3 says of a missing key as well: half of the objects fail, the other half comes."""
    settings = behind_s3(slow) | {"page_size": 30}
    slow.world.faults["^/bucket/files/i\\d*[02468]/"] = always(refusal(403, "AccessDenied"), KEEP)
    before = Before()
    run = await slow.run(**settings)
    hold(slow, run, before)
    assert (run.summary.exit_code, len(tree(slow.target))) == (3, 4 * ITEMS // 2)
    await mends(slow, **settings)


async def test_odd_signatures_stop_nothing(slow: Bench) -> None:
    """Keys that are spelled oddly on their way: their signatures are refused, each is its own trouble."""
    settings = behind_s3(slow) | {"page_size": 30}
    for item in ("i5", "i6", "i7", "i25", "i45"):
        slow.world.faults[f"/bucket/files/{item}/B01"] = always(refusal(403, "SignatureDoesNotMatch"), KEEP)
    before = Before()
    run = await slow.run(**settings)
    hold(slow, run, before)
    assert (run.summary.exit_code, len(tree(slow.target))) == (3, 4 * ITEMS - 5)
    await mends(slow, **settings)


@pytest.mark.parametrize("status", [401, 403])
async def test_the_apis_key_on_a_page(slow: Bench, asked: Asked, status: int) -> None:
    """A page that is refused is about the key: nothing is sent after it, though 30 items are lined up."""
    slow.world.faults["^/mlhub/v1/collections/c/items.*next="] = always(refusal(status, "no"), KEEP)
    before = Before()
    run = await slow.run(page_size=30)
    hold(slow, run, before, cut=True)
    assert run.summary.exit_code == 4
    assert not after_first(asked, lambda reply: reply.status == status)
    await mends(slow, page_size=30)


def after_first(asked: Asked, refuses: Callable[[Reply], bool]) -> list[str]:
    """Return what was sent after the first refusal had been read."""
    read = next(at for at, event in enumerate(asked.events) if event.reply is not None and refuses(event.reply))
    return [event.url for event in asked.events[read + 1 :] if event.reply is None]


# -- by what the servers heard -------------------------------------------------------------------------------

READ_S, ANSWER_S = 0.06, 0.2
"""A refusal that was said so long ago has been read; all else that is under way is answered later."""
Log = list[tuple[float, str, str]]


def heard_late(log: Log, refuses: Callable[[str, str], bool]) -> list[str]:
    """Return what the servers heard once the third refusal must have been read, or the last where one was enough."""
    refused_s = [at_s for at_s, asked, said in log if said and refuses(asked, said)][:3]
    return [asked for at_s, asked, said in log if not said and at_s > refused_s[-1] + READ_S]


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch"])
async def test_nobody_hears_anything_after_the_third_refusal_of_s3(slow: Bench, code: str) -> None:
    """By the server's log: neither S3 nor those who ask for no login; what is under way is answered after it."""
    world, workers = slow.world, slow.way[1]
    if workers == 1:
        pytest.skip("one worker reads three refusals of S3 in one run by a question only: nothing is under way")
    settings = behind_s3(slow) | {"page_size": 30, "fixed_pace": True}
    refused = from_nth(40, refusal(403, code), KEEP)
    world.faults["^/bucket/files/"] = refused
    world.delay_s = lambda: 0.0 if "/bucket/" in world.log[-1][1] else ANSWER_S * random.random()
    run = await slow.run(**settings)
    assert run.summary.exit_code == 4
    assert not heard_late(world.log, lambda asked, said: "/bucket/" in asked and " 403 " in said)


@pytest.mark.parametrize("status", [401, 403])
async def test_nobody_hears_anything_after_the_third_refusal_of_the_key(
    quick_settings: Make, way: Way, status: int
) -> None:
    """By the servers' log: neither the API nor storage, which is asked without the key; pages, sources and files."""
    if way[1] == 1:
        pytest.skip("nothing else is under way")
    log: Log = []
    async with simulated(items=80, generation=2022, latency_s=0.03) as simulator:

        def hear(record: RequestRecord) -> str | None:
            now_s = asyncio.get_running_loop().time()
            log.append((now_s, record.path, ""))
            if record.server != "api" or "/download/" in record.path or len(log) < 400:
                return None
            # Answered as late as all others are, at most.
            log.append((now_s + 0.03, record.path, str(status)))
            return str(status)

        simulator.on_request = hear
        summary = await mirror(quick_settings(simulator, **by(way), fixed_pace=True), simulator.key)
    assert summary.exit_code == 4
    assert not heard_late(log, lambda asked, said: said == str(status))


# -- logins of catalogs, and of hosts that have the assets ---------------------------------------------------


def refuses_from(server: StacServer, nth: int, part: str, good: Callable[[web.Request], bool]) -> None:
    """Refuse from the n-th request on what `part` is in, and before that what is not `good`; all take a moment."""
    chance, heard = random.Random(2), 0

    async def guard(request: web.Request) -> web.Response | None:
        nonlocal heard
        heard += part in request.path
        refused = not good(request) or (heard >= nth and part in request.path)
        await asyncio.sleep(chance.random() * 0.02)
        return web.Response(status=401) if refused else None

    server.guard = guard


async def mirrored(
    server: StacServer,
    target: Path,
    way: Way,
    secrets: dict[str, str],
    auth: str,
    host: str = "127.0.0.1",
    **more: Any,
) -> Summary:
    chosen: dict[str, object] = {
        "collection": ["scenes"], "page_size": 20, "backoff": 0.01, "sync_every": 0.05, "sweeps": 0,
        "http_client": way[0], "workers": way[1], "auth": [f"{host}={auth}"], **more,
    }  # fmt: skip
    notes = Notes()
    settings = build(server.url, str(target), chosen)
    summary = await asyncio.wait_for(Mirror(settings, secrets=secrets, observer=notes).run(), 30)
    hold_mirror(target, whole(server), as_told(summary), cut=summary.exit_code == 4)
    keeps_secrets(target, SECRET, [*notes.lines, summary.reason])
    return summary


def whole(server: StacServer) -> dict[str, bytes]:
    """Return every file of a whole mirror, by path."""
    return {
        f"scenes/{item['id']}/{key}{end}": server.content(item["id"], key)
        for item in server.items
        for key, end in (("data", ".txt"), ("thumb", ""))
    }


@asynccontextmanager
async def a_catalog() -> AsyncIterator[StacServer]:
    async with stac_server(ITEMS) as server:
        yield server


def of_login(reply: Reply) -> bool:
    return reply.status == 401


@pytest.mark.parametrize(("part", "nth"), [("", 1), ("", 40), ("/items", 2)], ids=["at once", "midway", "a page"])
async def test_a_password_that_is_refused(tmp_path: Path, way: Way, asked: Asked, part: str, nth: int) -> None:
    """Basic, refused from the start, midway, and on a page: nothing is sent after the third refusal."""
    async with a_catalog() as server:
        refuses_from(server, nth, part, lambda request: True)
        summary = await mirrored(server, tmp_path / "mirror", way, {"PAIR": f"me:{SECRET}"}, "basic:env:PAIR")
        assert (summary.exit_code, SECRET in summary.reason) == (4, False)
        assert not asked.after_third(of_login)
        await is_mended(server, tmp_path / "mirror", way, {"PAIR": f"me:{SECRET}"}, "basic:env:PAIR")


async def is_mended(server: StacServer, target: Path, way: Way, secrets: dict[str, str], auth: str) -> None:
    """i3: one run without faults makes the tree whole, and asks for no file that was there."""
    there = {f"/files/{path.split('/')[1]}/{path.split('/')[2].partition('.')[0]}" for path in tree(target)}
    server.guard = None
    server.asked.clear()
    summary = await mirrored(server, target, way, secrets, auth)
    assert (summary.verdict, tree(target)) == ("complete", whole(server))
    assert not there & {path.partition("?")[0] for path, _ in server.asked}


@pytest.mark.parametrize("status", [401, 403])
async def test_another_hosts_refusal_of_a_page_is_no_refused_login(tmp_path: Path, way: Way, status: int) -> None:
    """A page that is redirected to a host without our login, and refused there: the page has failed, and the line
    names that host. Where SOURCE itself refuses a page, it is the login."""
    async with a_catalog() as server, stac_server(0) as other:
        there = other.url.replace("127.0.0.1", "localhost")

        async def elsewhere(request: web.Request) -> web.Response | None:
            if "token" not in request.query:
                return None
            return web.Response(status=307, headers={"Location": f"{there}{request.path.removeprefix('/v1')}"})

        async def refuse(request: web.Request) -> web.Response:
            return web.Response(status=status)

        server.guard, other.guard = elsewhere, refuse
        secrets = {"PAIR": f"me:{SECRET}"}
        summary = await mirrored(server, tmp_path / "mirror", way, secrets, "basic:env:PAIR")
        assert (summary.exit_code, f"{status} from {there}/" in summary.reason) == (5, True)
        assert f"--auth {there.split('/')[2]}=SCHEME" in summary.hint
        assert len(tree(tmp_path / "mirror")) == 40, "the items of the first page were not finished"
        await is_mended(server, tmp_path / "mirror", way, secrets, "basic:env:PAIR")

        async def refuse_all(request: web.Request) -> web.Response | None:
            return await refuse(request) if "token" in request.query else None

        server.guard = refuse_all
        summary = await mirrored(server, tmp_path / "another", way, secrets, "basic:env:PAIR")
        assert (summary.exit_code, f"wants a login ({status})" in summary.reason) == (4, True)


async def test_nobody_hears_anything_after_the_third_refusal_of_a_password(tmp_path: Path, way: Way) -> None:
    """By the servers' log: neither the host that refuses it nor another one, which is asked without it.

    Half of the answers end their connection, so that many requests wait for a new one when the refusal is read.
    """
    log: Log = []
    chance = random.Random(3)
    async with a_catalog() as server, stac_server(0) as other:
        there = other.url.replace("127.0.0.1", "localhost").removesuffix("/v1")
        for item in server.items:
            item["assets"]["thumb"]["href"] = f"{there}/files/{item['id']}/thumb"

        async def refuse(request: web.Request) -> web.Response:
            now_s = asyncio.get_running_loop().time()
            log.extend([(now_s, request.path, ""), (now_s, request.path, "401")])
            return web.Response(status=401)

        async def hear(request: web.Request) -> web.Response | None:
            log.append((asyncio.get_running_loop().time(), request.path, ""))
            if len(log) == 60:  # the pages, and some files
                server.guard = refuse
            await asyncio.sleep(chance.random() * ANSWER_S)
            if not request.path.startswith("/files/") or chance.random() < 0.5:
                return None
            _, _, item, key = request.path.split("/")
            return web.Response(body=server.content(item, key), headers={"Connection": "close"})

        server.guard = other.guard = hear
        summary = await mirrored(server, tmp_path / "mirror", way, {"PAIR": f"me:{SECRET}"}, "basic:env:PAIR")
    assert summary.exit_code == 4
    assert not heard_late(log, lambda asked, said: said == "401")


@asynccontextmanager
async def data_elsewhere(server: StacServer) -> AsyncIterator[tuple[str, StacServer]]:
    """Give a second host, which has the data of all items and wants a login for it, and how its name is typed."""
    async with stac_server(0) as other:
        there = other.url.replace("127.0.0.1", "localhost").removesuffix("/v1")
        for item in server.items:
            item["assets"]["data"]["href"] = f"{there}/files/{item['id']}/data"

        async def hear(request: web.Request) -> web.Response | None:
            other.asked.append((request.path, {}))
            await asyncio.sleep(0.01)
            return web.Response(status=401)

        other.guard = hear
        yield there.partition("://")[2], other


async def test_a_host_that_wants_a_login_which_nobody_has_set(tmp_path: Path, way: Way) -> None:
    """All its files are refused (401) and nobody said how to log in: the run stops with a line that says what to set,
    and nothing is recorded as absent; with the login the mirror is finished. Who allows failures gets the rest."""
    async with a_catalog() as server, data_elsewhere(server) as (host, other):
        secrets, target = {"PAIR": f"me:{SECRET}"}, tmp_path / "mirror"
        summary = await mirrored(server, target, way, {}, "bearer:env:NONE", "elsewhere.test")
        assert (summary.exit_code, summary.absences) == (8, [])
        assert f"{host} refuses data of scenes for all of" in summary.reason
        assert f"--auth {host}=SCHEME" in summary.reason
        assert len(other.asked) <= 20 + 2 * way[1], "what is in hand or lined up is finished, and no more"
        more = {"max_failures": "100%"}
        most = await mirrored(server, tmp_path / "most", way, {}, "bearer:env:NONE", "elsewhere.test", **more)
        assert (most.exit_code, most.mirror.assets.stored) == (3, ITEMS)
        other.guard = None
        summary = await mirrored(server, target, way, secrets, "basic:env:PAIR", host)
        assert (summary.verdict, tree(target)) == ("complete", whole(server))


async def test_a_host_of_files_that_refuses_its_login_from_the_start(tmp_path: Path, way: Way, asked: Asked) -> None:
    """Pages come from elsewhere, and nothing was ever had by the login: with the third refusal the run has ended."""
    async with a_catalog() as server, data_elsewhere(server) as (host, other):
        secrets, target = {"PAIR": f"me:{SECRET}"}, tmp_path / "mirror"
        summary = await mirrored(server, target, way, secrets, "basic:env:PAIR", host)
        assert (summary.exit_code, f"{host} refuses the login (401)" in summary.reason) == (4, True)
        assert not asked.after_third(of_login)
        assert way[1] > 1 or len(other.asked) == 3


async def test_a_token_that_was_never_good_ends_after_three(
    tmp_path: Path, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program prints a token that is refused, however often it is run: three refusals, and not two for each file."""
    monkeypatch.setattr(oauth, "_LOCKED_S", 0.0)
    async with a_catalog() as server, data_elsewhere(server) as (host, other):
        summary = await mirrored(server, tmp_path / "mirror", way, {}, f"command:echo {SECRET}", host)
        assert summary.exit_code == 4
        assert way[1] > 1 or len(other.asked) == 3


async def test_a_few_objects_that_want_another_login(tmp_path: Path, way: Way) -> None:
    """Files that are refused (401) among many that are not stop nothing, though they come last."""
    odd = [f"/files/s0{n}/data" for n in (10, 11, 12, 57, 58, 59)]
    async with a_catalog() as server:
        refuses_from(server, 1, "/never/", lambda request: request.path not in odd)
        summary = await mirrored(server, tmp_path / "mirror", way, {"PAIR": f"me:{SECRET}"}, "basic:env:PAIR")
        assert [(f.kind, f.count) for f in summary.failures] == [("refused", 6)]
        await is_mended(server, tmp_path / "mirror", way, {"PAIR": f"me:{SECRET}"}, "basic:env:PAIR")


@pytest.mark.parametrize("good", [True, False], ids=["the next is taken", "the next is refused"])
async def test_a_token_that_ends_for_good(
    tmp_path: Path, way: Way, asked: Asked, monkeypatch: pytest.MonkeyPatch, good: bool
) -> None:
    """OAuth2: one new token for all who were refused, tried by one request; refused again, nothing more is sent."""
    monkeypatch.setattr(oauth, "_LOCKED_S", 0.0)
    async with a_catalog() as server, tokens() as endpoint:
        ended = False

        def is_good(request: web.Request) -> bool:
            nonlocal ended
            if not ended and "/files/" in request.path and len(server.asked) > 30:
                ended = True
                endpoint.forms.append({})  # no token that was given is good any more
            token = request.headers.get("Authorization")
            return token == f"Bearer {endpoint.good}" and (good or not ended)

        refuses_from(server, 10**9, "/files/", is_good)
        auth = f"oauth2-password:public@{endpoint.url}"
        summary = await mirrored(server, tmp_path / "mirror", way, LOGIN, auth)
        assert asked.refusals(of_login) <= way[1] + 1
        if good:
            assert (summary.verdict, len([form for form in endpoint.forms if form])) == ("complete", 2)
            return
        assert (summary.exit_code, SECRET in summary.reason) == (4, False)
        assert len(asked.after_third(of_login)) <= 1
        monkeypatch.undo()
        await is_mended(server, tmp_path / "mirror", way, LOGIN, auth)


async def test_a_token_that_is_not_given_is_asked_for_once(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many wait for one token and none is given: the endpoint is asked once."""
    posts = AiohttpTransport(user_agent="x", connect_timeout_s=5, stall_timeout_s=5)
    async with tokens() as endpoint:
        wrong = {**LOGIN, "STACMIRROR_PASSWORD": "wrong"}
        sources: list[Any] = []
        ask = oauth.PasswordGrant.token

        async def token(self: Any) -> tuple[str, float | None]:
            sources.append(self)
            return await ask(self)

        monkeypatch.setattr(oauth.PasswordGrant, "token", token)
        login = oauth.TokenLogin(oauth.PasswordGrant(endpoint.url, "public", wrong.__getitem__, posts), SystemClock())
        came = await asyncio.gather(*(login.dress("https://h/x", {}) for _ in range(way[1])), return_exceptions=True)
        await posts.close()
        assert [type(error) for error in came] == [LoginRefused] * way[1]
        assert len(sources) == 1
