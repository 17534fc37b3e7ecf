"""A small MLHub that lies on demand: six items over raw sockets, any answer replaced by a script of bytes.

Used by the fault tests. It knows the truth of every file, hears every request, and `heal`s: then all answers are true.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from stacmirror.mirror import Mirror
from stacmirror.model import Summary
from stacmirror.typed import build
from tests.contract.wire_server import KEEP, Step, WireServer, head, ok, wire_server
from tests.unit.fakes import Notes

ITEMS = 6
SMALL_MAX = 20_000
COLLECTION = "c"
KEY = "0f3a" * 16
TYPES = {
    "labels": ("application/geo+json", ".geojson"),
    "B01": ("image/tiff; application=geotiff", ".tif"),
    "B02": ("image/tiff", ".tif"),
    "raw": ("application/octet-stream", ""),
}
"""The assets of each item: a small JSON, a small TIFF, a large one (to disk as it comes), and one of no type."""

Fault = Callable[[int, bytes], Sequence[Step] | None]
"""Called with how often the path was asked for (from 1) and its true body: what to say, None for the truth."""


def truth(item: str, asset: str) -> bytes:
    """Return an asset's bytes."""
    if asset == "labels":
        return json.dumps({"type": "FeatureCollection", "features": [], "of": item, "text": "x" * 300}).encode()
    seed = f"{item}/{asset} ".encode()
    size = {"B01": 1160, "B02": 70_000, "raw": 500}[asset]
    return (b"II*\0" if asset.startswith("B") else b"") + (seed * (size // len(seed) + 1))[:size]


class World(WireServer):
    """The API and its files, on one port. `faults` are by path, and by pattern where that begins with `^`."""

    def __init__(self, ids: Sequence[str] = ()) -> None:
        super().__init__()
        self.ids = list(ids) or [f"i{number}" for number in range(ITEMS)]
        self.faults: dict[str, Fault] = {}
        self.lasting: dict[str, Fault] = {}
        """As `faults`, and what it tells the truth by: asked after those, and there when it is healed."""
        self.asked: Counter[str] = Counter()
        self.delay_s: Callable[[], float] = lambda: 0.0
        """How long each answer takes."""
        self.edit: Callable[[dict[str, Any], int], None] = lambda page, start: None
        """Changes a page before it is sent; told where the page starts."""
        self.edit_item: Callable[[dict[str, Any]], None] = lambda item: None
        self.log: list[tuple[float, str, str]] = []
        """When what was asked (method and path, ""), and said to what: the answer's first line."""

    @property
    def root(self) -> str:
        return f"{self.url}/mlhub/v1"

    def heal(self) -> None:
        """Tell the truth from now on."""
        self.faults.clear()
        self.delay_s = lambda: 0.0
        self.edit = lambda page, start: None

    def script(self, path: str) -> Sequence[Step]:
        """Return what to say to a request for `path`."""
        plain = path.partition("?")[0]
        self.asked[plain] += 1
        answer = self._true_answer(path)
        for pattern, fault in [*self.faults.items(), *self.lasting.items()]:
            if plain == pattern or (pattern[0] == "^" and re.search(pattern, path)):
                said = fault(self.asked[plain], answer[1])
                if said is not None:
                    return said
        status, body, headers = answer
        return head(status, f"Content-Length: {len(body)}", *headers) + body, KEEP

    def _true_answer(self, path: str) -> tuple[int, bytes, list[str]]:
        parts = urlsplit(path)
        names = parts.path.strip("/").split("/")
        if names[0] == "go":
            return 302, b"", [f"Location: {self.url}/files/{names[1]}/{names[2]}"]
        if names[0] == "files" and names[2] in TYPES:
            return 200, truth(names[1], names[2]), []
        if parts.path == f"/mlhub/v1/collections/{COLLECTION}":
            return 200, json.dumps({"id": COLLECTION, "license": "CC0-1.0"}).encode(), []
        if parts.path == f"/mlhub/v1/collections/{COLLECTION}/items":
            query = parse_qs(parts.query)
            return 200, self._page(query.get("next", ["o0"])[0], int(query["limit"][0])), []
        if parts.path.startswith(f"/mlhub/v1/collections/{COLLECTION}/items/"):
            return 200, json.dumps(self.item(names[-1])).encode(), []
        return 404, b"", []

    def _page(self, token: str, limit: int) -> bytes:
        start = int(token[1:])
        page: dict[str, Any] = {
            "type": "FeatureCollection",
            "features": [self.item(name) for name in self.ids[start : start + limit]],
            "links": [],
            "numberMatched": len(self.ids),
        }
        if start + limit < len(self.ids):
            page["links"] = [{"rel": "next", "href": self.next_url(start + limit)}]
        self.edit(page, start)
        return json.dumps(page).encode()

    def next_url(self, start: int) -> str:
        """Return the address of the page that starts at item `start`; its key is echoed, as MLHub did."""
        return f"{self.root}/collections/{COLLECTION}/items?next=o{start}&key={KEY}"

    def item(self, name: str) -> dict[str, Any]:
        """Return an item's JSON; its links lead to a redirect."""
        item = {
            "type": "Feature",
            "id": name,
            "collection": COLLECTION,
            "geometry": None,
            "properties": {},
            "links": [],
            "assets": {
                key: {"href": f"{self.url}/go/{name}/{key}", "type": type_} for key, (type_, _) in TYPES.items()
            },
        }
        self.edit_item(item)
        return item

    def expected(self) -> dict[str, bytes]:
        """Return every file of a whole mirror, by path."""
        return {path_of(name, key): truth(name, key) for name in self.ids for key in TYPES}

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.heard.append(request)
        asked, now = request.partition(" HTTP/")[0], asyncio.get_running_loop().time
        self.log.append((now(), asked, ""))
        script = self.script(request.split(" ", 2)[1])
        if delay_s := self.delay_s():
            await asyncio.sleep(delay_s)
        first = script[0]
        self.log.append((now(), asked, first.decode("latin-1").partition("\r")[0] if isinstance(first, bytes) else "?"))
        return await self._say(script, reader, writer)


def path_of(item: str, asset: str) -> str:
    """Return where an asset rests in the mirror."""
    return f"{COLLECTION}/{item}/{asset}{TYPES[asset][1]}"


@asynccontextmanager
async def a_world(ids: Sequence[str] = (), tls: ssl.SSLContext | None = None) -> AsyncIterator[World]:
    """Run a world on loopback."""
    async with wire_server(tls, World(ids)) as world:
        if tls is not None:
            world.url = world.url.replace("http://127.0.0.1", "https://localhost")
        yield world


def always(*steps: Step) -> Fault:
    """Say this every time."""
    return lambda nth, body: steps


def once(*steps: Step) -> Fault:
    """Say this the first time, the truth after it."""
    return lambda nth, body: steps if nth == 1 else None


class Run:
    """One run's end: its summary, and what it said."""

    def __init__(self, summary: Summary, said: list[str]) -> None:
        self.summary = summary
        self.said = said


class Bench:
    """A world and a target, mirrored by one client with so many workers."""

    def __init__(self, world: World, target: Path, client: str, workers: int) -> None:
        self.world = world
        self.target = target
        self.way = (client, workers)
        self.mirror: Mirror | None = None
        """Of the run that began last."""

    async def run(self, **values: object) -> Run:
        """Mirror once. Raises: TimeoutError after 30 s: no fault may hold a run for ever."""
        chosen: dict[str, object] = {
            "api_url": self.world.root,
            "http_client": self.way[0],
            "workers": self.way[1],
            "page_size": 2,
            "page_prefetch": 1,
            "page_max": "400kB",
            "small_file_max": SMALL_MAX,
            "retries": 2,
            "backoff": 0.002,
            "sweeps": 1,
            "sync_every": 0.02,
            "connect_timeout": 5,
            "stall_timeout": 10,
            "missing_after": 1000,
        }
        chosen.update(values)
        notes = Notes()
        settings = build(f"mlhub:{COLLECTION}", str(self.target), chosen)
        self.mirror = Mirror(settings, api_key=KEY, observer=notes)
        summary = await asyncio.wait_for(self.mirror.run(), 30)
        return Run(summary, notes.lines)


def login_page() -> bytes:
    """Return what a portal says in place of a file."""
    return ok(b"<!DOCTYPE html><html><title>Sign in</title></html>", "Content-Type: text/html")
