"""After runs with every kind of failure no secret is left: no file, ledger, WAL, log, line, JSON or title has one."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import os
import re
import signal
import socket
import sqlite3
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.contract.wire_server import KEEP, RESET, WireServer, head, ok, wire_server
from tests.faults.world import COLLECTION, World, always

KEY = "S3cr3t+K3y/with=odd&chars%41~0123456789"
FERNET = "gAAAAABjH4XWq8f0Vn3Zk1m5T7pQ2rS9uX4yB6cD8eF0gH2iJ4kL6mN8"
HASH = "5ec4e7" * 10 + "abcd"
SIGNATURE, SESSION_TOKEN = "s1gnatureS1gnature0123", "FwoGZXIvYXdzE5ess10nT0ken0123"
PASSWORD, COOKIE, BEARER = "us3r1nf0pass", "c00k1ed0ugh0123", "b3ar3rt0kenb3ar3r0123"
AWS_SECRET = "aws5ecret+aws5ecret/aws5ecret0123456789a"
LOGINS = {
    name: f"{name}-0f-a-l0gin/{number}+7%Zq" for number, name in enumerate((
        "header", "query", "basic", "netrc", "command", "client", "password", "fetched", "refresh", "sas",
    ))
}  # fmt: skip
"""What logins send: none of it looks like a secret, so that only who knows it can find it."""
SECRETS = [KEY, FERNET, HASH, SIGNATURE, SESSION_TOKEN, PASSWORD, COOKIE, BEARER, AWS_SECRET, *LOGINS.values()]
QUERY = f"X-Amz-Signature={SIGNATURE}&X-Amz-Security-Token={SESSION_TOKEN}&sig={SIGNATURE}&key={quote(KEY, safe='')}"
SPILL = (
    f"key={KEY} Authorization: Bearer {BEARER} https://me:{PASSWORD}@h/x?{QUERY} /download/{FERNET} /download/{HASH}"
    f" Set-Cookie: session={COOKIE}"
)
"""What a careless server says in the body of an error."""

PROGRAM = """
import logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
if sys.argv[1] == "bug":
    from stacmirror.pipeline.transfer import Fetcher
    spilled = open(sys.argv.pop(2)).read()
    def fetch(*values, **named):
        raise RuntimeError("a bug at " + spilled)
    Fetcher.fetch = fetch
sys.argv.pop(1)
from stacmirror.cli.app import main
main()
"""


class Spilling(World):
    """A world whose links, redirects, cookies and errors hold secrets."""

    def script(self, path: str) -> Sequence[Any]:
        steps = list(super().script(path))
        if isinstance(steps[0], bytes) and steps[0].startswith(b"HTTP/1.1 "):
            cookie = f"\r\nSet-Cookie: session={COOKIE}\r\nX-Debug: {quote(SPILL)}\r\n"
            steps[0] = steps[0].replace(b"\r\n", cookie.encode(), 1)
        return steps

    def item(self, name: str) -> dict[str, Any]:
        item = super().item(name)
        item["links"] = [{"rel": "self", "href": f"{self.root}/x?key={quote(KEY, safe='')}"}]
        item["properties"] = {"api_key": KEY, "note": f"https://me:{PASSWORD}@h/x?{QUERY}"}
        return item


def spill(world: Spilling, nobody: int = 0) -> None:
    """Make each asset of a few items fail in its own way, at an address with secrets; `nobody` is a port."""
    body = SPILL.encode()
    answers: dict[str, Sequence[Any]] = {
        "404": (head(404, f"Content-Length: {len(body)}") + body, KEEP),
        "403": (head(403, f"Content-Length: {len(body)}") + body, KEEP),
        "401": (head(401, f"Content-Length: {len(body)}", f"WWW-Authenticate: Bearer {BEARER}") + body, KEEP),
        "500": (head(500, f"Content-Length: {len(body)}") + body, KEEP),
        "429": (head(429, "Retry-After: 0", f"Content-Length: {len(body)}") + body, KEEP),
        "418": (f"HTTP/1.1 418 {SPILL}\r\nContent-Length: 0\r\n\r\n".encode(), KEEP),
        "login": (ok(b"<html>" + body, "Content-Type: text/html"), KEEP),
        "short": (head(200, "Content-Length: 999") + body,),
        "reset": (head(200, "Content-Length: 999") + body, RESET),
        "digest": (ok(b"II*\0" + body, f"Content-MD5: {base64.b64encode(b'x' * 16).decode()}"), KEEP),
        "coding": (ok(body, f"Content-Encoding: x-{SIGNATURE[:4]}"), KEEP),
        "gzip": (ok(gzip.compress(body)[:-9], "Content-Encoding: gzip"), KEEP),
        "protocol": (SPILL.encode(), KEEP),
        "no-where": (head(302, "Content-Length: 0"), KEEP),
    }
    leads = {
        "loop": "/again?" + QUERY,
        "scheme": f"gopher://me:{PASSWORD}@h/x?{QUERY}",
        "user": f"http://me:{PASSWORD}@127.0.0.1/x?{QUERY}",
        "host": f"http://169.254.169.254/x?{QUERY}",
        "odd": f"http://h ost/x?{QUERY}",
        "s3": f"s3://bucket/{quote(FERNET)}?{QUERY}",
        "bad-s3": f"s3://b/?{QUERY}",
        "down": f"/download/{FERNET}",
        "hash": f"/download/{HASH}",
    }
    if nobody:  # hosts that never answer are waited for
        leads |= {
            "refused": f"http://127.0.0.1:{nobody}/x?{QUERY}",
            "dns": f"http://no.such.host.invalid/x?{QUERY}",
            "tls": f"https://127.0.0.1:{world.url.rpartition(':')[2]}/x?{QUERY}",
        }
    world.faults["/again"] = always(head(302, f"Location: /again?{QUERY}", "Content-Length: 0"), KEEP)
    world.faults["^/download/"] = always(*answers["500"])
    for name, steps in answers.items():
        world.faults[f"/fails/{name}"] = always(*steps)
    for name, location in leads.items():
        world.faults[f"/leads/{name}"] = always(head(302, f"Location: {location}", "Content-Length: 0"), KEEP)
    places = [f"/fails/{name}?{QUERY}" for name in answers] + [f"/leads/{name}?{QUERY}" for name in leads]

    def edit(item: dict[str, Any]) -> None:
        number = int(item["id"][1:])
        for place in places[number::3]:
            name = re.split(r"[/?]", place)[2]
            item["assets"][f"a-{name}"] = {"href": world.url + place, "type": "image/tiff"}
        item["assets"]["data"] = {"href": f"data:text/plain,{KEY}"}
        item["assets"]["spaces"] = {"href": f"http://[bad/{FERNET}?{QUERY}"}

    world.edit_item = edit


def forms(secret: str) -> set[bytes]:
    """Return what a secret looks like in a file: plain, percent-encoded, in JSON, and in base64 wherever it stands."""
    raw = secret.encode()
    found = {secret, quote(secret, safe=""), quote(secret), quote(secret, safe="").lower(), json.dumps(secret)[1:-1]}
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + raw).decode()[(0, 2, 3)[before] : -4]
        found |= {coded[:24], coded[:24].replace("+", "-").replace("/", "_")}
    return {form.encode() for form in found}


FORMS = {form: secret for secret in SECRETS for form in forms(secret)}


def texts_of(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Give everything that is in a folder's files, and what ledgers hold packed."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path), path.read_bytes()
            yield str(path), os.fsencode(str(path.relative_to(folder)))
        if path.name == "ledger.sqlite":
            with contextlib.closing(sqlite3.connect(path)) as ledger:
                for (block,) in ledger.execute("SELECT block FROM document"):
                    yield f"{path}, documents", zlib.decompress(block)


def leaks(texts: Iterator[tuple[str, bytes]] | Sequence[tuple[str, bytes]]) -> list[str]:
    """Return where a secret is, and which."""
    return [
        f"{where}: {secret} as {form!r} in {text[max(0, text.find(form) - 80) : text.find(form) + 20]!r}"
        for where, text in texts
        for form, secret in FORMS.items()
        if form in text
    ]


class Program:
    """Runs the program in a folder, remembers all it says and what it is called meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[tuple[str, bytes]] = []
        self.titles: set[bytes] = set()

    async def run(
        self, *words: str, bug: str = "", kill_after: int = 0, key: str = KEY, more: Mapping[str, str] | None = None
    ) -> int:
        """Run; return its exit code. `kill_after` so many looks at its name it is killed."""
        environ = {
            name: text for name, text in os.environ.items() if not name.startswith(("STACMIRROR_", "MLHUB_", "AWS_"))
        }
        environ |= {
            "MLHUB_API_KEY": key, "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": AWS_SECRET,
            "AWS_SESSION_TOKEN": SESSION_TOKEN, "HOME": str(self.folder), "PYTHONPATH": os.pathsep.join(sys.path),
        } | dict(more or {})  # fmt: skip
        program = [sys.executable, "-c", PROGRAM, *(("bug", bug) if bug else ("run",)), *words]
        process = await asyncio.create_subprocess_exec(
            *program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=self.folder, env=environ
        )
        talking = asyncio.ensure_future(process.communicate())
        looks = 0
        while not talking.done():
            with contextlib.suppress(OSError):
                self.titles |= {Path(f"/proc/{process.pid}/{name}").read_bytes() for name in ("cmdline", "comm")}
            looks += 1
            if looks == kill_after:
                process.send_signal(signal.SIGKILL)
            await asyncio.wait([talking], timeout=0.05)
        out, err = await talking
        self.said += [(f"stdout of {words}", out), (f"stderr of {words}", err)]
        return process.returncode or 0


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def asked(world: WireServer, *more: str) -> list[str]:
    return [
        "--api-url", f"{world.url}/mlhub/v1", "--s3-endpoint", world.url, "--log-file", "run.log", "-v", "--json",
        "--retries", "1", "--max-outage", "1s", *more,
    ]  # fmt: skip


@pytest.mark.parametrize("client", [pytest.param("wire", marks=pytest.mark.slow), "aiohttp"])
async def test_assets_that_fail_in_every_way(tmp_path: Path, nobody: int, client: str) -> None:
    """25 ways (and 3 of hosts) for an asset to fail, at addresses that are secrets; and all commands that tell."""
    program = Program(tmp_path)
    async with wire_server(None, Spilling(["i0", "i1", "i2"])) as world:
        spill(world, nobody if client == "wire" else 0)
        more = ("--http-client", client, "--connect-timeout", "2s")
        assert await program.run("mirror", f"mlhub:{COLLECTION}", "ben", *asked(world, *more)) == 3
        for words in (
            ("status", "ben", "--failed", "--json"), ("explain", "ben", "i0", "--json"), ("verify", "ben", "--json"),
            ("manifest", "ben", "--format", "ndjson"),
        ):  # fmt: skip
            await program.run(*words)
    failed = [json.loads(line) for line in program.said[2][1].splitlines()]
    assert len({one["asset"] for one in failed}) == (28 if client == "wire" else 25)
    kinds = {one["kind"] for one in failed}
    assert kinds >= {
        "gone", "refused", "5xx", "429", "status", "content", "short", "digest", "encoding", "protocol", "redirect",
        "scheme", "url", "host",
    }  # fmt: skip
    assert client != "wire" or kinds >= {"connect", "dns"}
    assert any(KEY in request or quote(KEY, safe="") in request for request in world.heard), "the key was never sent"
    assert leaks(texts_of(tmp_path)) == []
    assert leaks(program.said) == []
    assert leaks([("title", title) for title in program.titles]) == []


async def test_runs_that_end_badly(tmp_path: Path) -> None:
    """A refused key, pages that spill, loops, a page elsewhere: one line each, without what the server said."""
    program = Program(tmp_path)
    body = SPILL.encode()
    pages = f"/mlhub/v1/collections/{COLLECTION}/items"
    ends: dict[str, tuple[int, Sequence[Any]]] = {
        "401": (4, (head(401, f"Content-Length: {len(body)}") + body, KEEP)),
        "500": (5, (head(500, f"Content-Length: {len(body)}") + body, KEEP)),
        "html": (5, (ok(b"<html>" + body), KEEP)),
        "loop": (5, (head(302, f"Location: {pages}?{QUERY}", "Content-Length: 0"), KEEP)),
        "elsewhere": (5, (ok(json.dumps({"features": [], "links": [
            {"rel": "next", "href": f"https://me:{PASSWORD}@evil.example.org/x?{QUERY}"}]}).encode()), KEEP)),
        "post": (5, (ok(json.dumps({"features": [], "links": [
            {"rel": "next", "method": "POST", "href": f"{pages}?next=x&{QUERY}"}]}).encode()), KEEP)),
        "wrong": (5, (ok(json.dumps({"features": QUERY}).encode()), KEEP)),
        "id": (5, (ok(json.dumps({"features": [{"api_key": KEY, "note": SPILL}]}).encode()), KEEP)),
    }  # fmt: skip
    async with wire_server(None, Spilling(["i0"])) as world:
        for name, (code, steps) in ends.items():
            world.faults[pages] = always(*steps)
            assert await program.run("mirror", f"mlhub:{COLLECTION}", f"ben-{name}", *asked(world)) == code, name
    assert leaks(texts_of(tmp_path)) == []
    assert leaks(program.said) == []


async def test_a_bug_and_a_kill(tmp_path: Path) -> None:
    """The traceback of a bug whose message is full of secrets, and what a killed run leaves, with its WAL."""
    program = Program(tmp_path / "work")
    (tmp_path / "work").mkdir()
    (tmp_path / "spill").write_text(SPILL + " " + quote(KEY, safe="") + " " + base64.b64encode(KEY.encode()).decode())
    async with wire_server(None, Spilling([f"i{number}" for number in range(3)])) as world:
        spill(world)
        code = await program.run("mirror", f"mlhub:{COLLECTION}", "bug", *asked(world), bug=str(tmp_path / "spill"))
        assert code == 1
        told = program.said[-1][1]
        assert b"Traceback" in told
        assert b"a bug at" in told
        world.faults["^/files/i2/"] = always(ok(b"II*\0"), "stall")
        await program.run("mirror", f"mlhub:{COLLECTION}", "killed", *asked(world), kill_after=40)
        assert (tmp_path / "work/killed/.stacmirror/ledger.sqlite-wal").exists()
    assert leaks(texts_of(tmp_path / "work")) == []
    assert leaks(program.said) == []
    assert leaks([("title", title) for title in program.titles]) == []


class LoggedIn(World):
    """A world that gives tokens, and says all that it was sent: in items, errors, redirects and refusals."""

    said = " and ".join([*LOGINS.values(), *(quote(secret, safe="") for secret in LOGINS.values())])

    def item(self, name: str) -> dict[str, Any]:
        item = super().item(name)
        item["properties"] = {"note": self.said, "seen": [f"https://h/x?tok={quote(LOGINS['query'], safe='')}"]}
        return item

    def tell(self) -> None:
        """Lay what tells: tokens to be had, and each asset of i1 and i2 failing in its own way."""
        token = {"access_token": LOGINS["fetched"], "refresh_token": LOGINS["refresh"], "expires_in": 3600}
        self.faults["/token"] = always(ok(json.dumps(token).encode()))
        sas = {"token": f"st=1&sig={quote(LOGINS['sas'], safe='')}", "msft:expiry": "2099-01-01T00:00:00Z"}
        self.faults["^/sas/token/"] = always(ok(json.dumps(sas).encode()), KEEP)
        said = quote(self.said)
        where = f"Location: /gone?note={said}"
        self.faults["^/gone"] = always(head(404, "Content-Length: 0"), KEEP)
        self.faults["/go/i1/B01"] = always(head(302, where, "Content-Length: 0"), KEEP)
        self.faults["/go/i2/B01"] = always(f"HTTP/1.1 418 {self.said}\r\nContent-Length: 0\r\n\r\n".encode(), KEEP)


async def test_what_logins_send(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All kinds of login at a server that tells what it was sent, wherever it can: none of it is kept or said.

    Then the same where a refusal says it, where a bug does, and on each command that lists.
    """
    program, folder = Program(tmp_path / "work"), tmp_path / "own"
    for made in (program.folder, folder):
        made.mkdir()
    (folder / "netrc").write_text(f"machine 127.0.0.1 login me password {LOGINS['netrc']}\n")
    (folder / "command").write_text(LOGINS["command"])
    (folder / "spill").write_text(LoggedIn.said)
    more = {
        "Q": LOGINS["query"], "PAIR": f"me:{LOGINS['basic']}", "STACMIRROR_CLIENT_ID": "a-client",
        "STACMIRROR_CLIENT_SECRET": LOGINS["client"], "STACMIRROR_USERNAME": "me",
        "STACMIRROR_PASSWORD": LOGINS["password"], "STACMIRROR_HEADER": f"127.0.0.1:X-Login={LOGINS['header']}",
    }  # fmt: skip
    async with wire_server(None, LoggedIn([f"i{number}" for number in range(3)])) as world:
        world.tell()
        schemes = [
            "query:tok:env:Q", "basic:env:PAIR", f"netrc:{folder}/netrc", f"command:cat {folder}/command",
            f"oauth2-client:{world.url}/token", f"oauth2-password:cdse@{world.url}/token",
            f"planetary-computer:{world.url}/sas",
        ]  # fmt: skip
        auth = [word for scheme in schemes for word in ("--auth", f"127.0.0.1={scheme}")]
        source = f"mlhub:{COLLECTION}"
        words = [*asked(world), *auth]
        assert await program.run("mirror", source, "ben", *words, more=more) == 3
        told = "".join(world.heard)
        sent = ("x-login: header-", "tok=query-", "sig=sas-", f"bearer {LOGINS['fetched']}".lower(), "post /token")
        assert all(one in told.lower() for one in sent), "a login was not sent"
        for command in (("status", "ben", "--failed"), ("explain", "ben", "i1", "--json"), ("explain", "ben", "i2")):
            await program.run(*command, more=more)
        for command in ("collections", "classes"):
            api = ["--api-url", f"{world.url}/mlhub/v1", *auth]
            await program.run(command, source, *api, "--json", more=more)
        code = await program.run("mirror", source, "bug", *words, bug=str(folder / "spill"), more=more)
        assert code == 1
        assert b"a bug at" in program.said[-1][1]
        body = json.dumps({"description": LoggedIn.said}).encode()
        world.faults[f"/mlhub/v1/collections/{COLLECTION}/items"] = always(
            head(400, f"Content-Length: {len(body)}") + body, KEEP
        )
        assert await program.run("mirror", source, "refused", *words, more=more) == 5
    assert leaks(texts_of(program.folder)) == []
    assert leaks(program.said) == []


def test_the_search_finds_what_it_looks_for() -> None:
    """Each secret is found in each form: a grep that finds nothing anywhere proves nothing."""
    for secret in SECRETS:
        for text in (secret, quote(secret, safe=""), base64.b64encode(b"x:" + secret.encode()).decode()):
            assert leaks([("here", f"a {text} b".encode())])
