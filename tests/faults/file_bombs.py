"""One bomb in a catalog of files, in a process of its own: `python -m tests.faults.file_bombs NAME FOLDER`.

As `bombs`, for static catalogs, files of items, NDJSON and stac-geoparquet. A healthy mirror comes first.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stacmirror.errors import StacmirrorError
from stacmirror.mirror import Mirror
from stacmirror.typed import build
from tests.faults.bombs import MIB, peak_mib

DEEP = b"[" * 100_000 + b"]" * 100_000


def item(**more: Any) -> dict[str, Any]:
    found = {"type": "Feature", "stac_version": "1.0.0", "id": "i0", "properties": {}, "links": [], "geometry": None}
    return {**found, "assets": {}, **more}


def assets(count: int) -> dict[str, Any]:
    return {f"a{number}": {"href": f"https://h/{number}", "type": "image/tiff"} for number in range(count)}


def catalog(*links: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "", "links": list(links), **more}


def deep_item(folder: Path) -> str:
    """An item nested 100,000 deep."""
    text = json.dumps(item(properties={"deep": "X"})).encode().replace(b'"X"', DEEP)
    (folder / "item.json").write_bytes(text)
    return "item.json"


def deep_line(folder: Path) -> str:
    """The same as the first line of NDJSON."""
    deep_item(folder)
    text = (folder / "item.json").read_bytes() + b"\n" + json.dumps(item(id="i1")).encode() + b"\n"
    (folder / "items.ndjson").write_bytes(text)
    return "items.ndjson"


def deep_linked_item(folder: Path) -> str:
    """The same behind a link of a catalog."""
    deep_item(folder)
    (folder / "catalog.json").write_text(json.dumps(catalog({"rel": "item", "href": "item.json"})))
    return "catalog.json"


def long_line(folder: Path) -> str:
    """A line of 200 MiB."""
    with (folder / "items.ndjson").open("wb") as file:
        file.write(b'{"type":"Feature","id":"i0","properties":{"x":"')
        for _ in range(200):
            file.write(b"x" * MIB)
        file.write(b'"},"assets":{}}\n')
    return "items.ndjson"


def large_catalog(folder: Path) -> str:
    """A catalog.json of 100 MiB, with two million links."""
    with (folder / "catalog.json").open("w") as file:
        file.write('{"type":"Catalog","stac_version":"1.0.0","id":"c","links":[')
        link = '{"rel":"item","href":"items/no.json","title":"xxx"},'
        for _ in range(100):
            file.write(link * (MIB // len(link) + 1))
        file.write("{}]}")
    return "catalog.json"


def large_child(folder: Path) -> str:
    """A healthy catalog with that as its child."""
    large_catalog(folder)
    (folder / "catalog.json").rename(folder / "child.json")
    (folder / "catalog.json").write_text(json.dumps(catalog({"rel": "child", "href": "child.json"})))
    return "catalog.json"


def many_assets(folder: Path) -> str:
    """An item with 20,000 assets."""
    (folder / "item.json").write_text(json.dumps(item(assets=assets(20_000))))
    return "item.json"


def many_linked_assets(folder: Path) -> str:
    """The same behind a link of a catalog."""
    many_assets(folder)
    (folder / "catalog.json").write_text(json.dumps(catalog({"rel": "item", "href": "item.json"})))
    return "catalog.json"


def parquet_assets(folder: Path) -> str:
    """The same as a row of stac-geoparquet."""
    _table(folder, item(assets=assets(20_000)))
    return "items.parquet"


def _table(folder: Path, *rows: dict[str, Any]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    kept = [{name: value for name, value in row.items() if name in ("type", "id", "assets")} for row in rows]
    kind = pa.map_(pa.string(), pa.struct([("href", pa.string())]))
    texts = [{"type": row["type"], "id": row["id"], "assets": list(row["assets"].items())} for row in kept]
    schema = pa.schema([("type", pa.string()), ("id", pa.string()), ("assets", kind)])
    parquet.write_table(pa.Table.from_pylist(texts, schema=schema), folder / "items.parquet")


BOMBS: dict[str, tuple[Callable[[Path], str], int, str]] = {
    "deep item": (deep_item, 5, "nested too deeply (more than 100)"),
    "deep line": (deep_line, 5, "nested too deeply (more than 100)"),
    "deep linked item": (deep_linked_item, 5, "nested too deeply (more than 100)"),
    "long line": (long_line, 5, "one item is above 16,777,216 bytes"),
    "large catalog": (large_catalog, 5, "bytes, more than 67,108,864"),
    "large child": (large_child, 5, "more than 67108864 bytes from"),
    "assets": (many_assets, 5, "20,000 assets, more than 10,000"),
    "linked assets": (many_linked_assets, 5, "20,000 assets, more than 10,000"),
    "parquet assets": (parquet_assets, 5, "20,000 assets, more than 10,000"),
}
"""By name: how it is laid (returns the SOURCE), the run's exit code, and what its reason says."""


async def mirror(source: Path, target: Path, **more: Any) -> dict[str, Any]:
    """Mirror once, with the product's own caps; return how it ended."""
    chosen = {"workers": 4, "retries": 0, "sweeps": 0, "backoff": 0.002, "sync_every": 0.02, **more}
    try:
        summary = await asyncio.wait_for(Mirror(build(str(source), str(target), chosen)).run(), 60)
    except StacmirrorError as error:
        return {"code": error.exit_code, "said": [error.message]}
    return {"code": summary.exit_code, "said": [summary.reason]}


async def main(name: str, folder: Path) -> None:
    """Mirror healthy files, then the bomb; print how it ended, and the growth of the peak."""
    healthy, bomb = folder / "healthy", folder / "bomb"
    healthy.mkdir()
    bomb.mkdir()
    (healthy / "a.txt").write_text("a")
    (healthy / "item.json").write_text(json.dumps(item(assets={"a": {"href": "a.txt"}})))
    (healthy / "catalog.json").write_text(json.dumps(catalog({"rel": "item", "href": "item.json"})))
    lay = BOMBS[name][0]
    source = bomb / lay(bomb)
    for before in ("item.json", "catalog.json"):
        await mirror(healthy / before, folder / f"of-{before}")
    if source.suffix == ".parquet":
        _table(healthy, item())
        await mirror(healthy / "items.parquet", folder / "of-parquet")
    before_mib = peak_mib()
    ended = await mirror(source, folder / "of-bomb")
    sys.stdout.write(json.dumps({**ended, "grown_mib": peak_mib() - before_mib}) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
