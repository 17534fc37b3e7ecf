"""Large files for tests: begin one, write some of it, keep it or leave it."""

from __future__ import annotations

import xxhash

from stacmirror.interfaces import Sink
from stacmirror.model import AssetKey, ItemKey, PartState, Unit, Version

ASSET = AssetKey(ItemKey("labels", "a"), "C")
VERSION = Version(etag='"one"', length=None)


class LeftEarly(Exception):
    """What ends an attempt."""


async def a_large_file(
    sink: Sink, unit: Unit, name: str, content: bytes, asset: AssetKey = ASSET, *, chunk_bytes: int = 70_001
) -> bytes:
    """Bring a large file into `unit`; return its digest."""
    async with sink.part(asset) as part:
        await part.begin(PartState(asset, VERSION, name, "xxh3"), xxhash.xxh3_128())
        for start in range(0, len(content), chunk_bytes):
            await part.write(content[start : start + chunk_bytes])
        _, digest = await part.finish()
        await part.keep(unit, name, digest)
    return digest


async def left_early(sink: Sink, content: bytes, version: Version = VERSION, asset: AssetKey = ASSET) -> None:
    """Write `content` of a large file, and have an error end the attempt."""
    try:
        async with sink.part(asset) as part:
            await part.begin(PartState(asset, version, "C.tif", "xxh3"), xxhash.xxh3_128())
            await part.write(content)
            raise LeftEarly
    except LeftEarly:
        return
