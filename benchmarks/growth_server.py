"""A cheap origin of any size: pages of items with two tiny assets, rendered on the fly, no redirects, no disk.

    python -m benchmarks.growth_server ITEMS

Started by `growth` as a process of its own. Prints its API root as one line of JSON and serves until it is ended.
It answers GET only, reads nothing but the path, and keeps nothing of what it was asked.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Collection
from typing import cast

import uvloop

from benchmarks.documents import GENERATION, PAGE_ITEMS, page_text
from stacmirror.simulator.catalog import LABELS_ID, collection
from stacmirror.simulator.shapes import label_document
from stacmirror.simulator.templates import Template
from stacmirror.simulator.world import World

ASSETS = {"labels": b'{"type":"FeatureCollection","features":[]}', "quality": b'"good"\n'}
PREFIX = "/mlhub/v1"
_TOKEN = re.compile(r"[?&]token=next(?::|%3A)page-(\d+)")
_MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
_GEOMETRY = '{"type":"Polygon","coordinates":[[[8,50],[8.01,50],[8.01,50.01],[8,50.01],[8,50]]]}'


class Pages:
    """The listing, a page at a time; assets lie at `<api_url>/files/<patch>/<key>`."""

    def __init__(
        self, items: int, api_url: str, keys: Collection[str] = ASSETS.keys(), media_type: str = "application/json"
    ) -> None:
        self._world = World(1, items)
        self._api_url = api_url
        document = label_document(api_url, GENERATION, 0)
        document["assets"] = {
            key: {"href": f"{api_url}/files/<<name>>/{key}", "type": media_type, "roles": ["data"]} for key in keys
        }
        self._template = Template(document, indent=None)

    def page(self, number: int) -> bytes:
        """Return the body of a page, counted from 0; behind the end it is empty."""
        world, total = self._world, self._world.items
        after = min((number + 1) * PAGE_ITEMS, total)
        texts = [self._item(index) for index in range(number * PAGE_ITEMS, after)]
        token = f"next:page-{number + 1}" if after < total else ""
        return page_text(texts, self._api_url, world.items, token).encode()

    def _item(self, index: int) -> str:
        patch = self._world.patch(index)
        return self._template.fill({
            "name": patch.name,
            "datetime": f"{patch.scene.sensed:%Y-%m-%dT%H:%M:%SZ}",
            "geometry": _GEOMETRY,
            "bbox": "[8,50,8.01,50.01]",
            "labels": json.dumps(self._world.labels(index)),
            "cloud": '"false"',
            "snow": '"false"',
        })  # fmt: skip


class Connection(asyncio.Protocol):
    """One connection; requests without bodies, one after the other."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._buffer = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is one, but does not say so

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        *requests, self._buffer = self._buffer.split(b"\r\n\r\n")
        for request in requests:
            path = request.split(b" ", 2)[1].decode("ascii", "replace")
            if self._transport is not None:
                self._transport.write(self._answers.answer(path))


class Answers:
    """Whole answers, headers included, by path."""

    def __init__(self, items: int, api_url: str) -> None:
        self._pages = Pages(items, api_url)
        self._files = {key: whole(body) for key, body in ASSETS.items()}
        described = json.dumps(collection(LABELS_ID, api_url, GENERATION)).encode()
        self._collection = whole(described)

    def answer(self, path: str) -> bytes:
        """Return the answer to a GET of `path`."""
        plain = path.partition("?")[0]
        if plain.startswith(f"{PREFIX}/files/"):
            return self._files.get(plain.rpartition("/")[2], _MISSING)
        if plain == f"{PREFIX}/collections/{LABELS_ID}/items":
            return whole(self._pages.page(page_number(path)))
        return self._collection if plain == f"{PREFIX}/collections/{LABELS_ID}" else _MISSING


def page_number(path: str) -> int:
    """Return which page `path` asks for, from 0."""
    found = _TOKEN.search(path)
    return int(found[1]) if found else 0


def whole(body: bytes) -> bytes:
    """Return an answer with this body."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def serve(items: int) -> None:
    """Listen on a free port, say which, and serve."""
    answers: list[Answers] = []  # made when the port is known: items name their own origin
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(answers[0]), "127.0.0.1", 0, backlog=1024)
    api_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{PREFIX}"
    answers.append(Answers(items, api_url))
    print(json.dumps({"api": api_url}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
