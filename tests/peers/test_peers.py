"""Mirrors of catalogs that other people's programs serve; pystac-client and pystac count the same there.

Not part of `make test`: `make peers` runs these, and CI does.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from stacmirror.errors import UsageError
from tests.conftest import tree
from tests.e2e.test_stac_api import mirror
from tests.peers.running import a_collection, an_item, counted, pgstac_api, put_objects, rustac_api
from tests.servers import ACCESS_KEY, SECRET_KEY, nginx, seaweedfs

pytestmark = pytest.mark.peers


@asynccontextmanager
async def assets() -> AsyncIterator[str]:
    """Serve the files that items name, by nginx."""
    files = {f"root/{number}{end}": f"{number}{end}".encode() for number in range(50) for end in (".txt", ".thumb.txt")}
    async with _nginx(files) as url:
        yield url


@asynccontextmanager
async def _nginx(files: dict[str, bytes]) -> AsyncIterator[str]:
    certificate = trustme.CA().issue_cert("localhost")
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    async with nginx(_TYPES, files, chain, certificate.private_key_pem.bytes()) as ports:
        yield f"http://127.0.0.1:{ports[0]}"


_TYPES = "types { text/plain txt; application/json json; } gzip on; gzip_min_length 100; gzip_types application/json;"


@pytest.mark.parametrize("page_size", [7, 100])
async def test_rustac(tmp_path: Path, page_size: int) -> None:
    """rustac's API pages by `skip` and names no total: all there, every item once, and a second run goes on."""
    async with assets() as root:
        items = [an_item(number, "scenes", root) for number in range(230)]
        async with rustac_api(items, "scenes") as url:
            values: dict[str, Any] = {"collection": ["scenes"], "page_size": page_size}
            first = await mirror(url, tmp_path, max_items=60, **values)
            assert first.mirror.items.complete == 60
            summary = await mirror(url, tmp_path, **values)
            assert (summary.verdict, summary.mirror.items.complete, summary.mirror.assets.stored) == (
                "complete",
                230,
                460,
            )
            assert summary.run.assets.stored == 340
            assert await counted(url, "scenes") == (230, 460)
            assert len(tree(tmp_path)) == 460


async def test_pgstac(tmp_path: Path) -> None:
    """20,000 items by keyset pages, in two runs; filters that the server judges and that pystac-client sends, too."""
    count = 20_000
    async with assets() as root:
        items = (an_item(number, "scenes", root) for number in range(count))
        async with pgstac_api(items, "scenes") as url:
            values: dict[str, Any] = {"collection": ["scenes"], "page_size": 1000, "workers": 64}
            started = time.monotonic()
            first = await mirror(url, tmp_path / "all", max_items=7_500, **values)
            assert first.mirror.items.complete == 7_500
            summary = await mirror(url, tmp_path / "all", **values)
            assert (summary.verdict, summary.mirror.items.complete) == ("complete", count)
            assert (summary.mirror.assets.stored, summary.mirror.items.duplicate) == (2 * count, 0)
            assert summary.run.assets.stored == 2 * (count - 7_500)
            assert await counted(url, "scenes") == (count, 2 * count)
            print(f"20,000 items of pgstac, 40,000 files: {time.monotonic() - started:.0f} s")  # with `pytest -s`

            wanted: list[tuple[dict[str, Any], int]] = [
                ({"filter": "eo:cloud_cover < 3"}, 600),
                ({"query": ["eo:cloud_cover<3"]}, 600),
                ({"datetime": "2010-01-01/2010-01-31"}, sum(n % 10 == 0 and n % 12 == 0 for n in range(count))),
                ({"item": ["s000001", "s019999"]}, 2),
                ({"bbox": "0,0,20,20"}, sum(_inside(n) for n in range(count))),
                ({"intersects": json.dumps(_BOX)}, sum(_inside(n) for n in range(count))),
            ]
            for number, (what, expected) in enumerate(wanted):
                found = await mirror(url, tmp_path / str(number), asset=["role:data"], **values, **what)
                assert (found.verdict, found.mirror.items.complete, found.mirror.items.filtered) == (
                    "complete", expected, 0,
                ), what  # fmt: skip
            newest = await mirror(url, tmp_path / "newest", sortby=["-eo:cloud_cover"], max_items=10, **values)
            assert newest.mirror.items.complete == 10
            shutil.rmtree(tmp_path / "all")  # 40,000 files, which pytest would keep for a while
            with pytest.raises(UsageError, match="did you mean `scenes`"):
                await mirror(url, tmp_path / "near", collection=["scene"])


_BOX = {"type": "Polygon", "coordinates": [[[0, 0], [20, 0], [20, 20], [0, 20], [0, 0]]]}


def _inside(number: int) -> bool:
    lon, lat = an_item(number, "", "")["geometry"]["coordinates"]
    return 0 <= lon <= 20 and 0 <= lat <= 20


async def test_a_static_catalog_behind_nginx(tmp_path: Path) -> None:
    """Collections of items behind nginx: pystac walks the same items and assets."""
    async with assets() as root:
        files: dict[str, bytes] = {}
        for name in ("c0", "c1"):
            links = [{"rel": "item", "href": f"./s{number:06}.json"} for number in range(40)]
            files[f"root/{name}/collection.json"] = json.dumps({**a_collection(name), "links": links}).encode()
            for number in range(40):
                files[f"root/{name}/s{number:06}.json"] = json.dumps(an_item(number, name, root)).encode()
        children = [{"rel": "child", "href": f"./{name}/collection.json"} for name in ("c0", "c1")]
        catalog = {"type": "Catalog", "id": "root", "stac_version": "1.0.0", "description": "x", "links": children}
        files["root/catalog.json"] = json.dumps(catalog).encode()
        async with _nginx(files) as served:
            url = f"{served}/catalog.json"
            summary = await mirror(url, tmp_path, page_size=30)
            assert (summary.verdict, summary.mirror.items.complete) == ("complete", 80)
            assert await asyncio.to_thread(_walked, url) == (80, summary.mirror.assets.stored)


async def test_a_catalog_and_its_assets_in_seaweedfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`s3://bucket/catalog.json` is crawled, relative and absolute hrefs are fetched, all signed; resumed as well."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    objects: dict[str, bytes] = {f"c/files/{n}{end}": b"x" for n in range(30) for end in (".txt", ".thumb.txt")}
    for number in range(30):
        found = an_item(number, "c", "./files" if number % 2 else "s3://made/c/files")
        objects[f"c/s{number}.json"] = json.dumps(found).encode()
    links = [{"rel": "item", "href": f"./s{number}.json"} for number in range(30)]
    objects["c/collection.json"] = json.dumps({**a_collection("c"), "links": links}).encode()
    children = [{"rel": "child", "href": "./c/collection.json"}]
    catalog = {"type": "Catalog", "id": "root", "stac_version": "1.0.0", "description": "x", "links": children}
    objects["catalog.json"] = json.dumps(catalog).encode()
    async with seaweedfs() as endpoint:
        await put_objects(endpoint, "made", objects)
        values: dict[str, Any] = {"s3_endpoint": endpoint, "page_size": 8}
        first = await mirror("s3://made/catalog.json", tmp_path, max_items=11, **values)
        assert first.mirror.items.complete == 11
        summary = await mirror("s3://made/catalog.json", tmp_path, **values)
        assert (summary.verdict, summary.mirror.items.complete, summary.mirror.assets.stored) == ("complete", 30, 60)


async def test_a_table_that_rustac_wrote(tmp_path: Path) -> None:
    """stac-geoparquet of another writer than ours: the same items, properties and assets."""
    pytest.importorskip("pyarrow")
    import rustac

    async with assets() as root:
        items = [an_item(number, "scenes", root) for number in range(120)]
        path = tmp_path / "items.parquet"
        await rustac.write(str(path), items)
        values: dict[str, Any] = {"page_size": 50, "query": ["eo:cloud_cover<60"], "datetime": "2010/2014"}
        expected = sum(n % 100 < 60 and n % 10 <= 4 for n in range(120))
        summary = await mirror(str(path), tmp_path / "out", **values)
        assert (summary.verdict, summary.mirror.items.complete) == ("complete", expected)
        assert summary.mirror.assets.stored == 2 * expected


def _walked(url: str) -> tuple[int, int]:
    import pystac

    items = list(pystac.Catalog.from_file(url).get_items(recursive=True))
    return len(items), sum(len(item.assets) for item in items)
