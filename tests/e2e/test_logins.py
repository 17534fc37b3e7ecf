"""Hosts that want a login: each kind, renewed in time, sent to its own host only, and written nowhere."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from stacmirror.errors import UsageError
from stacmirror.mirror import Mirror
from stacmirror.model import Summary
from stacmirror.transports.logins import SCHEMES
from stacmirror.typed import build
from tests.stac_server import StacServer, stac_server

SECRET = "s3cr3t-of-the-test"


async def mirror(server: StacServer, target: Path, secrets: dict[str, str] | None = None, **values: object) -> Summary:
    chosen: dict[str, object] = {"page_size": 10, "workers": 8, "backoff": 0.01, "sync_every": 0.05, "retries": 2}
    settings = build(server.url, str(target), {**chosen, "collection": ["scenes"], "sweeps": 0, **values})
    return await Mirror(settings, secrets=secrets or {}).run()


def wants(header: str, value: str) -> Any:
    async def guard(request: web.Request) -> web.Response | None:
        return None if request.headers.get(header) == value else web.Response(status=401)

    return guard


def basic(pair: str) -> str:
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


@pytest.mark.parametrize(
    ("values", "secrets", "header", "value"),
    [
        ({"header": ["127.0.0.1:X-Api-Key=" + SECRET]}, {}, "X-Api-Key", SECRET),
        ({"auth": ["127.*=bearer:env:TOKEN"]}, {"TOKEN": SECRET}, "Authorization", f"Bearer {SECRET}"),
        ({"auth": ["127.0.0.1=bearer:file:FILE"]}, {}, "Authorization", f"Bearer {SECRET}"),
        ({"auth": ["127.0.0.1=basic:env:PAIR"]}, {"PAIR": f"me:{SECRET}"}, "Authorization", basic(f"me:{SECRET}")),
        ({"auth": ["127.0.0.1=netrc:NETRC"]}, {}, "Authorization", basic(f"me:{SECRET}")),
        ({"auth": [f"127.0.0.1=command:echo {SECRET}"]}, {}, "Authorization", f"Bearer {SECRET}"),
    ],
)
async def test_each_kind_of_login(
    tmp_path: Path, values: dict[str, Any], secrets: dict[str, str], header: str, value: str
) -> None:
    """Pages and assets are asked for with it; without it the run ends with 4; it is in no file of the mirror."""
    (tmp_path / "token").write_text(SECRET + "\n")
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login me password {SECRET}\n")
    (tmp_path / "netrc").chmod(0o600)
    spelled = {
        key: [text.replace("FILE", str(tmp_path / "token")).replace("NETRC", str(tmp_path / "netrc")) for text in texts]
        for key, texts in values.items()
    }
    async with stac_server() as server:
        server.guard = wants(header, value)
        refused = await mirror(server, tmp_path / "without")
        assert (refused.exit_code, refused.mirror.assets.stored) == (4, 0)
        summary = await mirror(server, tmp_path / "with", secrets, **spelled)
        assert (summary.verdict, summary.mirror.assets.stored) == ("complete", 50)
    for path in (tmp_path / "with").rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


async def test_a_secret_that_is_not_there_is_named_when_it_is_wanted(tmp_path: Path) -> None:
    """A profile's login costs nothing where nobody asks for it; refused without it, the run says what to set."""
    async with stac_server(3) as server:
        summary = await mirror(server, tmp_path / "open", auth=["127.0.0.1=bearer:env:TOKEN"])
        assert summary.verdict == "complete"
        server.guard = wants("Authorization", f"Bearer {SECRET}")
        refused = await mirror(server, tmp_path / "closed", auth=["127.0.0.1=bearer:env:TOKEN"])
        assert (refused.exit_code, "the variable TOKEN is not set" in refused.reason) == (4, True)


async def test_a_login_does_not_follow_a_redirect(tmp_path: Path) -> None:
    """The host that a redirect leads to gets nothing of it."""
    async with stac_server(3) as server, stac_server(3) as other:
        there = other.url.replace("127.0.0.1", "localhost").removesuffix("/v1")

        async def guard(request: web.Request) -> web.Response | None:
            if request.headers.get("Authorization") != f"Bearer {SECRET}":
                return web.Response(status=401)
            if request.path.startswith("/files/"):
                return web.Response(status=302, headers={"Location": f"{there}{request.path}"})
            return None

        server.guard = guard
        summary = await mirror(server, tmp_path, {"TOKEN": SECRET}, auth=["127.0.0.1=bearer:env:TOKEN"])
        assert (summary.verdict, len(other.headers)) == ("complete", 6)
        assert not any("authorization" in headers for headers in other.headers)


class TokenEndpoint:
    """Gives tokens that live `life_s`; remembers the forms."""

    def __init__(self, life_s: float) -> None:
        self.life_s = life_s
        self.forms: list[dict[str, str]] = []
        self.refreshes = True
        self.url = ""

    @property
    def good(self) -> str:
        return f"token-{len(self.forms)}"

    async def answer(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        if form.get("password") == "wrong" or (form["grant_type"] == "refresh_token" and not self.refreshes):
            return web.json_response({"error": "invalid_grant"}, status=400)
        self.forms.append(form)
        await asyncio.sleep(0.01)
        return web.json_response({"access_token": self.good, "expires_in": self.life_s, "refresh_token": "r"})


@asynccontextmanager
async def tokens(life_s: float = 3600) -> AsyncIterator[TokenEndpoint]:
    endpoint = TokenEndpoint(life_s)
    app = web.Application()
    app.router.add_post("/token", endpoint.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    endpoint.url = f"http://localhost:{runner.addresses[0][1]}/token"
    try:
        yield endpoint
    finally:
        await runner.cleanup()


LOGIN = {"STACMIRROR_USERNAME": "me", "STACMIRROR_PASSWORD": SECRET}
CLIENT = {"STACMIRROR_CLIENT_ID": "id", "STACMIRROR_CLIENT_SECRET": SECRET}


@pytest.mark.parametrize("grant", ["password", "client"])
async def test_oauth2_tokens_are_fetched_once_and_renewed_when_refused(tmp_path: Path, grant: str) -> None:
    """One token for all that wait; one that the server ends early is renewed, by refresh where that is taken."""
    async with stac_server(30) as server, tokens() as endpoint:
        ended = asyncio.Event()

        async def guard(request: web.Request) -> web.Response | None:
            if len(server.asked) > 20 and not ended.is_set():
                ended.set()
                endpoint.forms.append({})  # so that no token that was given is good any more
            good = request.headers.get("Authorization") == f"Bearer {endpoint.good}"
            return None if good else web.Response(status=401)

        server.guard = guard
        scheme = f"oauth2-password:public@{endpoint.url}" if grant == "password" else f"oauth2-client:{endpoint.url}"
        secrets = LOGIN if grant == "password" else CLIENT
        from stacmirror.transports import oauth

        patch = pytest.MonkeyPatch()
        patch.setattr(oauth, "_LOCKED_S", 0.0)
        try:
            summary = await mirror(server, tmp_path, secrets, auth=[f"127.0.0.1={scheme}"], workers=4, per_host=2)
        finally:
            patch.undo()
        assert (summary.verdict, summary.mirror.items.complete) == ("complete", 30)
        forms = [form for form in endpoint.forms if form]
        assert forms[0]["grant_type"] == ("password" if grant == "password" else "client_credentials")
        assert len(forms) == 2
        if grant == "password":
            assert (forms[0]["username"], forms[0]["password"], forms[0]["client_id"]) == ("me", SECRET, "public")


async def test_a_token_is_refreshed_before_it_ends(tmp_path: Path) -> None:
    """A minute before its end, by its refresh token; with the password where that has ended as well."""
    from stacmirror.transports.http import AiohttpTransport
    from stacmirror.transports.oauth import PasswordGrant, TokenLogin
    from tests.unit.fakes import FakeClock

    async with tokens(life_s=600) as endpoint:
        posts = AiohttpTransport(user_agent="x", connect_timeout_s=5, stall_timeout_s=5)
        clock = FakeClock()
        login = TokenLogin(PasswordGrant(endpoint.url, "public", lambda name: LOGIN.get(name, ""), posts), clock)
        try:
            dressed = await asyncio.gather(*(login.dress("https://h/x", {}) for _ in range(20)))
            assert {headers["authorization"] for _, headers in dressed} == {"Bearer token-1"}
            clock.now_s += 539
            assert (await login.dress("https://h/x", {}))[1]["authorization"] == "Bearer token-1"
            clock.now_s += 2
            assert (await login.dress("https://h/x", {}))[1]["authorization"] == "Bearer token-2"
            assert [form["grant_type"] for form in endpoint.forms] == ["password", "refresh_token"]
            endpoint.refreshes = False
            clock.now_s += 600
            assert (await login.dress("https://h/x", {}))[1]["authorization"] == "Bearer token-3"
            assert endpoint.forms[-1]["grant_type"] == "password"
        finally:
            await posts.close()


async def test_a_wrong_password_ends_the_run(tmp_path: Path) -> None:
    """Exit code 4, with what the endpoint says, and without the password."""
    async with stac_server() as server, tokens() as endpoint:
        server.guard = wants("Authorization", "Bearer token-1")
        wrong = {**LOGIN, "STACMIRROR_PASSWORD": "wrong"}
        summary = await mirror(server, tmp_path, wrong, auth=[f"127.0.0.1=oauth2-password:public@{endpoint.url}"])
        assert (summary.exit_code, "invalid_grant" in summary.reason) == (4, True)


async def test_planetary_computer_signs_by_container_and_renews(tmp_path: Path) -> None:
    """One token a container, for all of its blobs; what is signed already, and open accounts, are left alone."""
    from stacmirror.interfaces import Reply
    from stacmirror.transports.planetary import PlanetaryComputer
    from tests.unit.fakes import FakeClock

    asked: list[str] = []
    clock = FakeClock()

    class Http:
        async def fetch(self, url: str, headers: object, size: int) -> Reply:
            asked.append(url)
            await asyncio.sleep(0)
            if "unknown" in url:
                return Reply(url, 404, {}, b"", None)
            if "busy" in url and len(asked) < 5:
                return Reply(url, 429, {}, b'{"message": "Rate limit. Try again in 23 seconds."}', None)
            from datetime import UTC, datetime

            until = datetime.fromtimestamp(clock.now_s + 3600, UTC).isoformat().replace("+00:00", "Z")
            return Reply(
                url, 200, {}, f'{{"token": "se=1&sig=n{len(asked)}", "msft:expiry": "{until}"}}'.encode(), None
            )

        async def close(self) -> None: ...

    login = PlanetaryComputer("https://pc/sas/v1", Http(), clock)
    blob = "https://acc.blob.core.windows.net"

    async def signed(url: str) -> str:
        return (await login.dress(url, {}))[0]

    both = await asyncio.gather(*(signed(f"{blob}/one/{number}.tif") for number in range(10)))
    assert both[3] == f"{blob}/one/3.tif?se=1&sig=n1"
    assert asked == ["https://pc/sas/v1/token/acc/one"]
    assert await signed(f"{blob}/two/x.tif?comp=y") == f"{blob}/two/x.tif?comp=y&se=1&sig=n2"
    for alone in (f"{blob}/one/x?st=1&se=2&sp=r&sig=z", "https://ai4edatasetspublicassets.blob.core.windows.net/a/b"):
        assert await signed(alone) == alone
    clock.now_s += 3299
    assert (await signed(f"{blob}/one/3.tif")).endswith("sig=n1")
    clock.now_s += 2
    assert (await signed(f"{blob}/one/3.tif")).endswith("sig=n3")
    assert await signed("https://unknown.blob.core.windows.net/c/x") == "https://unknown.blob.core.windows.net/c/x"
    from stacmirror.errors import TransferError

    clock.now_s += 0
    asked.clear()
    with pytest.raises(TransferError) as caught:
        await signed("https://busy.blob.core.windows.net/c/x")
    assert caught.value.retry_after_s == 23


async def test_a_query_key_goes_to_its_host_and_into_no_file(tmp_path: Path) -> None:
    """`query:` sets a parameter on every request of the host."""
    async with stac_server(3) as server:

        async def guard(request: web.Request) -> web.Response | None:
            return None if request.query.get("apikey") == SECRET else web.Response(status=403)

        server.guard = guard
        summary = await mirror(server, tmp_path, {"KEY": SECRET}, auth=["127.0.0.1=query:apikey:env:KEY"])
        assert summary.verdict == "complete"
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


async def test_cookies_of_a_netrc_login_are_kept(tmp_path: Path) -> None:
    """As Earthdata does it: the data's host sends to the login, which sends back with a cookie for the data."""
    (tmp_path / "netrc").write_text(f"machine localhost login me password {SECRET}\n")
    async with stac_server(3) as server, stac_server() as login:
        there = login.url.replace("127.0.0.1", "localhost").removesuffix("/v1")

        async def data(request: web.Request) -> web.Response | None:
            if not request.path.startswith("/files/"):
                return None
            if "code" in request.query:
                headers = {"Location": request.path, "Set-Cookie": "session=good; Path=/; HttpOnly"}
                return web.Response(status=302, headers=headers)
            if request.cookies.get("session") == "good":
                return None
            back = f"{server.url.removesuffix('/v1')}{request.path}"
            return web.Response(status=302, headers={"Location": f"{there}/authorize?back={back}"})

        async def authorize(request: web.Request) -> web.Response | None:
            if request.headers.get("Authorization") != basic(f"me:{SECRET}"):
                return web.Response(status=401)
            return web.Response(status=302, headers={"Location": f"{request.query['back']}?code=1"})

        server.guard, login.guard = data, authorize
        rules = [f"127.0.0.1=netrc:{tmp_path / 'netrc'}", f"{there.removeprefix('http://')}=netrc:{tmp_path / 'netrc'}"]
        summary = await mirror(server, tmp_path / "out", auth=rules)
        assert (summary.verdict, summary.mirror.assets.stored) == ("complete", 6)


@pytest.mark.parametrize(
    "values",
    [
        {"auth": ["nothing"]},
        {"auth": ["h=what:ever"]},
        {"auth": ["h=bearer:TOKEN"]},
        {"auth": ["h=bearer:value"]},
        {"auth": ["h=oauth2-client:https://me:value@x/token"]},
        {"auth": ["h=oauth2-client:http://127.0.0.1.example.org/token"]},
        {"auth": ["h=oauth2-password:https://x"]},
        {"auth": ["https://h=netrc"]},
        {"header": ["host=value"]},
        {"header": ["host:Na me=value"]},
        {"header": ["host:Name=va\nlue"]},
    ],
)
async def test_what_is_no_login_is_refused_in_one_line(tmp_path: Path, values: dict[str, Any]) -> None:
    """Before anything is asked; what may be a secret is not shown."""
    async with stac_server(1) as server:
        with pytest.raises(UsageError) as caught:
            await mirror(server, tmp_path, **values)
        assert not server.asked
        assert "value" not in caught.value.message
        assert not list(tmp_path.iterdir()), "something was kept of it"


async def test_no_login_is_sent_without_tls(tmp_path: Path) -> None:
    """Over plain http to another machine nothing is sent, unless --allow-http says so."""
    from stacmirror.errors import TransferError
    from stacmirror.transports.authorized import Logins, Rule
    from stacmirror.transports.logins import make_rules

    rules: list[Rule] = make_rules([], ["h.org:a=b"], lambda name: "", None, None, None)  # type: ignore[arg-type]
    logins = Logins(rules)
    for _ in range(2):
        with pytest.raises(TransferError, match="without TLS"):
            logins.of("http://h.org/x")
    assert Logins(rules).of("https://h.org/x") == tuple(rules)
    assert Logins(rules, allow_http=True).of("http://h.org/x") == tuple(rules)
    assert Logins(rules).of("https://other.org/x") == ()
    assert SCHEMES
