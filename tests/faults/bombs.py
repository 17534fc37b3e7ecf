"""One bomb in a process of its own: `python -m tests.faults.bombs NAME CLIENT FOLDER` prints by how much memory grew.

A healthy mirror comes first, so that what is measured is the bomb's and not the imports'. The bombs are in `BOMBS`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import sys
import zlib
from collections.abc import Callable
from typing import Any

from stacmirror.mirror import Mirror
from stacmirror.typed import build
from tests.contract.wire_server import KEEP, head, ok, wire_server
from tests.faults.world import COLLECTION, KEY, World, always

MIB = 1 << 20
PAGES = f"/mlhub/v1/collections/{COLLECTION}/items"
CHUNKED = head(200, "Transfer-Encoding: chunked")


class Endless(World):
    """A world that goes on saying `piece` for as long as anyone listens, where a script says so."""

    def __init__(self) -> None:
        super().__init__(["i0"])
        self.pieces: dict[str, tuple[bytes, bytes]] = {}

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.heard.append(request)
        path = request.split(" ", 2)[1]
        found = self.pieces.get(path.partition("?")[0])
        if found is None:
            return await self._say(self.script(path), reader, writer)
        first, piece = found
        writer.write(first)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        return False


def packed(size_bytes: int, of: bytes = b" ") -> bytes:
    """Return so many bytes as gzip, made without holding them."""
    packer = zlib.compressobj(1, wbits=31)
    return b"".join(packer.compress(of * MIB) for _ in range(size_bytes // MIB)) + packer.flush()


def many_assets(count: int) -> bytes:
    assets = ",".join(f'"a{number}":{{"href":"https://h/{number}","type":"image/tiff"}}' for number in range(count))
    return f'{{"features":[{{"id":"i0","assets":{{{assets}}}}}]}}'.encode()


def gzip_page(world: Endless) -> None:
    """450 KiB that unpack to 96 MiB."""
    world.faults[PAGES] = always(ok(packed(96 * MIB), "Content-Encoding: gzip"), KEEP)


def endless_page(world: Endless) -> None:
    """A page without a length and without an end."""
    world.pieces[PAGES] = (CHUNKED + b'11\r\n{"features":[{"a"\r\n', b"10000\r\n" + b'"x":"y" ' * 8192 + b"\r\n")


def promised_page(world: Endless) -> None:
    """A page that says that it has 10 GiB."""
    world.pieces[PAGES] = (head(200, f"Content-Length: {10 << 30}"), b" " * 65536)


def deep_page(world: Endless) -> None:
    """5 million levels."""
    world.faults[PAGES] = always(ok(b'{"features":' + b"[" * 5_000_000), KEEP)


def deep_packed_page(world: Endless) -> None:
    """The same, small on the wire."""
    world.faults[PAGES] = always(ok(gzip.compress(b'{"features":' + b"[" * 20_000_000), "Content-Encoding: gzip"), KEEP)


def assets(world: Endless) -> None:
    """An item with 150,000 assets."""
    world.faults[PAGES] = always(ok(many_assets(150_000)), KEEP)


def redirects(world: Endless) -> None:
    """A page that redirects to itself for ever, with a Location of 8 KiB."""
    where = f"Location: {PAGES}?limit=1&x={'y' * 8000}"
    world.faults[PAGES] = always(head(302, where, "Content-Length: 0"), KEEP)


def endless_head(world: Endless) -> None:
    """An asset's answer whose head has no end."""
    world.pieces["/files/i0/B01"] = (b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"y" * 1000 + b"\r\n")


def endless_line(world: Endless) -> None:
    """An asset's answer with one header that has no end."""
    world.pieces["/files/i0/B01"] = (b"HTTP/1.1 200 OK\r\nX-More: ", b"y" * 65536)


def endless_file(world: Endless) -> None:
    """A file without a length and without an end."""
    world.pieces["/files/i0/raw"] = (CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n")


def gzip_file(world: Endless) -> None:
    """A file of 450 KiB that unpacks to 96 MiB."""
    world.faults["/files/i0/raw"] = always(ok(packed(96 * MIB), "Content-Encoding: gzip"), KEEP)


BOMBS: dict[str, tuple[Callable[[Endless], None], int, str]] = {
    "gzip page": (gzip_page, 5, "more than"),
    "endless page": (endless_page, 5, "more than"),
    "promised page": (promised_page, 5, "more than"),
    "deep page": (deep_page, 5, "nested too deeply"),
    "deep packed page": (deep_packed_page, 5, "nested too deeply"),
    "assets": (assets, 5, "more than 10,000"),
    "redirects": (redirects, 5, "redirects"),
    "endless head": (endless_head, 3, "protocol"),
    "endless line": (endless_line, 3, "protocol"),
    "endless file": (endless_file, 3, "too-large"),
    "gzip file": (gzip_file, 3, "too-large"),
}
"""By name: how it is laid, the run's exit code, and what its reason, or the kind of the failure, says."""


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def mirror(world: World, folder: str, client: str) -> dict[str, Any]:
    """Mirror once, with the product's own caps but for a file's; return how it ended."""
    chosen = {
        "api_url": world.root, "http_client": client, "workers": 4, "retries": 0, "sweeps": 0, "backoff": 0.002,
        "sync_every": 0.02, "stall_timeout": 10, "missing_after": 1000, "max_file_size": "8MiB",
    }  # fmt: skip
    summary = await asyncio.wait_for(Mirror(build(f"mlhub:{COLLECTION}", folder, chosen), api_key=KEY).run(), 60)
    return {"code": summary.exit_code, "said": [summary.reason, *(failure.kind for failure in summary.failures)]}


async def main(name: str, client: str, folder: str) -> None:
    """Mirror a healthy world, then the bomb; print how it ended, and the growth of the peak."""
    async with wire_server(None, Endless()) as world:
        await mirror(world, f"{folder}/healthy", client)
        lay = BOMBS[name][0]
        lay(world)  # the bomb itself is in this process, too: it is made before the measuring begins
        before = peak_mib()
        ended = await mirror(world, f"{folder}/bomb", client)
        sys.stdout.write(json.dumps({**ended, "grown_mib": peak_mib() - before}) + "\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
