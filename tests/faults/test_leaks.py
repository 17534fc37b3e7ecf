"""What leads elsewhere gets nothing of ours: redirect targets against ways to give a key, 25 on each client."""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme

from stacmirror.errors import NothingThere
from stacmirror.status import read_failed
from stacmirror.transports import guard
from tests.contract.wire_server import KEEP, Step, WireServer, head, ok, wire_server
from tests.faults.world import COLLECTION, ITEMS, KEY, Bench, World, a_world, always, truth

SESSION, PASSWORD = "c00kie-5ecret-0123", "n3trc-5ecret-4567"
WAYS = ("query", "bearer", "x-api-key", "cookie", "netrc")
TARGETS = ("host", "port", "http", "user", "s3")
PAGES = f"/mlhub/v1/collections/{COLLECTION}/items"


class Elsewhere(WireServer):
    """Another server: it hears, and has files as the world has them."""

    async def _say(self, script: Sequence[Step], reader: object, writer: object) -> bool:
        return await super()._say([ok(truth("i0", "B01")), KEEP], reader, writer)  # type: ignore[arg-type]


class WithCookies(World):
    """A world that hands out a session with every answer of its API."""

    def script(self, path: str) -> Sequence[Step]:
        steps = list(super().script(path))
        if isinstance(steps[0], bytes):
            steps[0] = steps[0].replace(b"\r\n", f"\r\nSet-Cookie: session={SESSION}; Path=/\r\n".encode(), 1)
        return steps


@pytest.fixture
async def elsewhere() -> AsyncIterator[Elsewhere]:
    async with wire_server(None, Elsewhere()) as server:
        yield server


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A netrc that has a password for everyone."""
    lines = [f"machine {host} login me password {PASSWORD}" for host in ("localhost", "127.0.0.1")]
    for name in (".netrc", "_netrc"):
        (tmp_path / name).write_text("\n".join([*lines, f"default login me password {PASSWORD}"]))
        (tmp_path / name).chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))


def forms(secret: str) -> set[str]:
    """Return a secret as it may stand in a request."""
    raw = secret.encode()
    return {secret, quote(secret, safe=""), *(base64.b64encode(raw[at:])[:16].decode() for at in range(3))}


def leaks(requests: Sequence[str]) -> list[str]:
    """Return what of our secrets is in requests."""
    told = "".join(requests)
    return [form for secret in (KEY, SESSION, PASSWORD) for form in forms(secret) if form in told]


@pytest.mark.parametrize("client", ["wire", "aiohttp"])
@pytest.mark.parametrize("way", WAYS)
async def test_no_target_hears_a_key(
    client: str, way: str, elsewhere: Elsewhere, netrc: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages, items and assets that are redirected to another host, port, scheme, user or to s3: none gets the key.

    The key is given as the API wants it; cookies are not kept, and netrc is not read.
    """
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with wire_server(context, WithCookies()) as world:
        world.url = world.url.replace("http://127.0.0.1", "https://localhost")
        port = world.url.rpartition(":")[2]
        targets = {
            "host": f"https://127.0.0.1:{port}/else",
            "port": elsewhere.url.replace("127.0.0.1", "localhost") + "/else",
            "http": f"{elsewhere.url}/else",
            "user": f"https://me:{PASSWORD}@localhost:{port}/else",
            "s3": "s3://bucket/else",
        }
        for name in TARGETS:
            bench = Bench(world, tmp_path / f"mirror-{name}", client, 4)
            world.heal()
            world.heard.clear()
            for number in range(ITEMS):
                world.faults[f"/go/i{number}/B01"] = always(
                    head(302, f"Location: {targets[name]}/{number}", "Content-Length: 0"), KEEP
                )
            options = {
                "key_as": way if way in ("bearer", "x-api-key") else "query",
                "allow_http": True,
                "s3_endpoint": elsewhere.url,
                "s3_unsigned": True,
                "ca_file": str(tmp_path / "ca.pem"),
                "retries": 0,
                "sweeps": 0,
            }
            await bench.run(**options)
            world.faults[PAGES] = always(head(302, f"Location: {targets[name]}?key={KEY}", "Content-Length: 0"), KEEP)
            with suppress(NothingThere):  # a 404 there is a collection that is not
                await Bench(world, tmp_path / f"pages-{name}", client, 4).run(**options)
            api = [request for request in world.heard if request.startswith("GET /mlhub/")]
            given = {"bearer": f"uthorization: Bearer {KEY}", "x-api-key": f"-api-key: {KEY}"}.get(way, f"key={KEY}")
            assert len(api) >= 4
            assert all(given.lower() in request.lower() for request in api), "the API was not given its key"
            others = [*elsewhere.heard, *(request for request in world.heard if not request.startswith("GET /mlhub/"))]
            assert leaks(others) == [], f"to {name}"
            assert leaks([request.replace(KEY, "") for request in api]) == []
            assert name == "user" or any("/else" in request for request in others), "nobody was led elsewhere"


@pytest.mark.parametrize("client", ["wire", "aiohttp"])
async def test_a_public_source_leads_nowhere_inside(
    client: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: Elsewhere
) -> None:
    """Redirects of a public source to this machine, in any spelling, are failures of kind `host`; nobody is asked.

    127.0.0.1 passes for a public address here, and no other of loopback does.
    """
    real = guard.kind_of
    monkeypatch.setattr(guard, "kind_of", lambda address: "public" if address == "127.0.0.1" else real(address))
    port = elsewhere.url.rpartition(":")[2]
    inside = ["127.0.0.2", "2130706434", "0x7f.2", "[::ffff:127.0.0.2]", "169.254.169.254", "[fd00:ec2::254]"]
    async with a_world() as world:
        for number, host in enumerate(inside):
            location = f"Location: http://{host}:{port}/latest/meta-data/iam"
            world.faults[f"/go/i{number}/B01"] = always(head(302, location, "Content-Length: 0"), KEEP)
        bench = Bench(world, tmp_path / "mirror", client, 4)
        run = await bench.run(sweeps=0)
        assert run.summary.exit_code == 3
        failed = read_failed(str(bench.target))
        assert {(one.item, one.asset, one.kind) for one in failed} == {
            (f"i{number}", "B01", "host") for number in range(len(inside))
        }
        assert all("--allow-host" in one.message for one in failed)
        assert elsewhere.heard == []
        assert max(count for path, count in world.asked.items() if path.startswith("/go/")) <= 2  # no retries
        # The same pages, where the user allows one of them.
        world.faults.clear()
        location = f"Location: http://127.0.0.2:{port}/x"
        world.faults["/go/i0/B01"] = always(head(302, location, "Content-Length: 0"), KEEP)
        allowed = await bench.run(allow_host=["127.0.0.2"], retries=0)
        assert [one.kind for one in read_failed(str(bench.target))] in ([], ["connect"])  # nobody listens on 127.0.0.2
        assert allowed.summary.mirror.assets.stored >= 23
