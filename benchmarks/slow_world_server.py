"""A cheap origin far away: every answer takes so long, and above so many at once a host says 429.

    python -m benchmarks.slow_world_server ITEMS LATENCY_S AT_ONCE

Started by `slow_world` as a process of its own. Two hosts (ports): the API has pages and a redirect an asset, the
other has the files; each counts its own requests at once. It prints its API root as one line of JSON, serves until its
standard input ends, and prints what it saw, slice by slice, as a second line. AT_ONCE 0 refuses nothing.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import cast

import uvloop

from benchmarks.growth_server import PREFIX, Pages, page_number, whole
from stacmirror.simulator.catalog import LABELS_ID, collection
from stacmirror.simulator.shapes import BAND_NAMES

GENERATION = 2022
KEYS = tuple(BAND_NAMES)[:10]
FILE_BYTES = 4_000
SLICE_S = 0.5
_REFUSAL = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
_MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Host:
    """One host: what it answers, how late, and how many requests it takes at once."""

    def __init__(self, answer: Callable[[str], bytes], latency_s: float, at_once_max: int) -> None:
        self.answer = answer
        self.latency_s = latency_s
        self._at_once_max = at_once_max or sys.maxsize
        self._at_once = 0
        self._area = 0.0
        """Requests at once times seconds, in this slice."""
        self._since_s = time.monotonic()
        self._served = self._refused = 0
        self.begun = False

    def begin(self) -> bool:
        """Hear of a request; return whether it is taken. Refused ones count too: they wait for their answer."""
        self._count(1)
        self.begun = True
        taken = self._at_once <= self._at_once_max
        self._served += taken
        self._refused += not taken
        return taken

    def end(self) -> None:
        """Hear that the request is answered, or its connection gone."""
        self._count(-1)

    def _count(self, change: int) -> None:
        now_s = time.monotonic()
        self._area += self._at_once * (now_s - self._since_s)
        self._since_s = now_s
        self._at_once += change

    def slice(self) -> dict[str, float]:
        """Return what was seen since the last call: requests taken and refused, and how many at once on average."""
        self._count(0)
        seen = {"served": self._served, "refused": self._refused, "at_once": round(self._area / SLICE_S, 1)}
        self._served = self._refused = 0
        self._area = 0.0
        return seen


class Connection(asyncio.Protocol):
    """One connection; one request at a time, without a body."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._buffer = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is one, but does not say so

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        *requests, self._buffer = self._buffer.split(b"\r\n\r\n")
        for request in requests:
            path = request.split(b" ", 2)[1].decode("ascii", "replace")
            answer = self._host.answer(path) if self._host.begin() else _REFUSAL
            if self._host.latency_s:
                asyncio.get_running_loop().call_later(self._host.latency_s, self._send, answer)
            else:
                self._send(answer)

    def _send(self, answer: bytes) -> None:
        self._host.end()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


class Api:
    """Pages, and a redirect for every asset."""

    def __init__(self, items: int, api_url: str, files_url: str) -> None:
        self._pages = Pages(items, api_url, KEYS, "image/tiff")
        self._files_url = files_url
        self._collection = whole(json.dumps(collection(LABELS_ID, api_url, GENERATION)).encode())

    def answer(self, path: str) -> bytes:
        """Return the answer to a GET of `path`."""
        plain = path.partition("?")[0]
        files = f"{PREFIX}/files"
        if plain.startswith(files):
            location = f"{self._files_url}{plain[len(files) :]}"
            return f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        if plain == f"{PREFIX}/collections/{LABELS_ID}/items":
            return whole(self._pages.page(page_number(path)))
        return self._collection if plain == f"{PREFIX}/collections/{LABELS_ID}" else _MISSING


async def serve(items: int, latency_s: float, at_once_max: int) -> None:
    """Listen on two free ports, say which, serve until the standard input ends, say what was seen."""
    loop = asyncio.get_running_loop()
    body = whole(b"II*\0".ljust(FILE_BYTES, b"\0"))
    files = Host(lambda _: body, latency_s, at_once_max)
    api = Host(lambda _: _MISSING, latency_s, at_once_max)  # answers once its own address is known
    files_server = await loop.create_server(lambda: Connection(files), "127.0.0.1", 0, backlog=4096)
    api_server = await loop.create_server(lambda: Connection(api), "127.0.0.1", 0, backlog=4096)
    files_url, api_url = (
        f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in (files_server, api_server)
    )
    api.answer = Api(items, f"{api_url}{PREFIX}", files_url).answer
    sys.stdout.write(json.dumps({"api": f"{api_url}{PREFIX}"}) + "\n")
    sys.stdout.flush()
    seen: list[dict[str, dict[str, float]]] = []
    watching = asyncio.create_task(_watch(api, files, seen))
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    watching.cancel()
    sys.stdout.write(json.dumps(seen) + "\n")


async def _watch(api: Host, files: Host, seen: list[dict[str, dict[str, float]]]) -> None:
    """Append a slice every so often, from the first request on."""
    while not api.begun:  # noqa: ASYNC110 - a benchmark's server may poll while nothing happens
        await asyncio.sleep(0.01)
    due_s = time.monotonic()
    while True:
        due_s += SLICE_S
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        seen.append({"api": api.slice(), "files": files.slice()})


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
