"""STAC as it is found: old versions, relative hrefs, odd ids, missing parts, sizes and checksums that lie."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import tree
from tests.e2e.test_stac_api import mirror
from tests.stac_server import StacServer, stac_server


def checksum(kind: str, content: bytes) -> str:
    begin = {"md5": "d50110", "sha1": "1114", "sha256": "1220", "sha512": "1340"}[kind]
    return begin + hashlib.new(kind, content).hexdigest()


def describe(server: StacServer, kind: str, asset: str = "data") -> None:
    """Give every item a size and a checksum."""
    for item in server.items:
        content = server.content(item["id"], asset)
        item["assets"][asset] |= {"file:size": len(content), "file:checksum": checksum(kind, content)}


@pytest.mark.parametrize("kind", ["md5", "sha1", "sha256", "sha512"])
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
async def test_sizes_and_checksums_of_the_catalog_are_checked(tmp_path: Path, kind: str, large: bool) -> None:
    """What agrees is taken; one other byte, or one more, is a failure of that asset alone, unless told otherwise."""
    async with stac_server(4) as server:
        if large:
            server.files = {f"s{number:03}/data": bytes([number]) * 300_000 for number in range(4)}
        describe(server, kind)
        server.files["s001/data"] = server.content("s001", "data")[:-1] + b"!"
        server.files["s002/data"] = server.content("s002", "data") + b"!"
        values: dict[str, Any] = {"collection": ["scenes"], "small_file_max": "100KiB", "sweeps": 0}
        summary = await mirror(server.url, tmp_path / "a", **values)
        assert (summary.exit_code, summary.mirror.items.incomplete) == (3, 2)
        assert [(failure.kind, failure.count) for failure in summary.failures] == [("listed", 2)]
        taken = await mirror(server.url, tmp_path / "b", file_info=False, **values)
        assert taken.verdict == "complete"


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
async def test_a_size_alone_is_checked(tmp_path: Path, large: bool) -> None:
    """`file:size` without a checksum: one byte more is a failure, and a small one is asked for once."""
    async with stac_server(2) as server:
        if large:
            server.files = {f"s{number:03}/data": bytes(300_000) for number in range(2)}
        for item in server.items:
            item["assets"]["data"]["file:size"] = len(server.content(item["id"], "data"))
        server.items[1]["assets"]["data"]["file:size"] -= 1
        summary = await mirror(server.url, tmp_path, collection=["scenes"], small_file_max="100KiB", sweeps=0)
        assert [(failure.kind, failure.count) for failure in summary.failures] == [("listed", 1)]
        assert large or len(server.requests("/files/s001/data")) == 1


async def test_a_checksum_of_an_unknown_kind_says_nothing(tmp_path: Path) -> None:
    """Multihashes that are not known, or are none, cost no asset."""
    async with stac_server(3) as server:
        for item, value in zip(server.items, ["zz", "9999aa", "1220ab"], strict=True):
            item["assets"]["data"]["file:checksum"] = value
        assert (await mirror(server.url, tmp_path, collection=["scenes"])).verdict == "complete"


async def test_relative_hrefs_are_relative_to_the_item(tmp_path: Path) -> None:
    """By the item's `self` link, or its address where it has none."""
    async with stac_server(2) as server:
        with_self, without = server.items
        with_self["links"] = [{"rel": "self", "href": f"{server.url.removesuffix('/v1')}/files/here/item.json"}]
        with_self["assets"] = {"data": {"href": "../s000/data"}}
        without["assets"] = {"data": {"href": "../../../../files/s001/data"}}
        summary = await mirror(server.url, tmp_path, collection=["scenes"])
        assert summary.verdict == "complete"
        assert sorted(tree(tmp_path).values()) == [b"s000 data", b"s001 data"]


async def test_odd_items_are_items(tmp_path: Path) -> None:
    """Ids with slashes, one basename twice, hrefs that end in `/`, no geometry, assets or links: all are kept."""
    async with stac_server(6) as server:
        slashes, twins, folder, nowhere, empty, bare = server.items
        slashes["id"] = "a/b/../c"
        slashes["assets"] = {"data": {"href": "/files/odd/data"}}
        twins["assets"] = {"a": {"href": "/files/x/same.tif"}, "b": {"href": "/files/y/same.tif"}}
        server.files = {"x/same.tif": b"II*\0one", "y/same.tif": b"II*\0two"}
        folder["assets"] = {"data/": {"href": f"{server.url}/"}}
        nowhere |= {"geometry": None, "bbox": None}
        empty["assets"] = {}
        del bare["links"], bare["stac_version"]
        bare["assets"]["none"] = {"title": "no href"}
        summary = await mirror(server.url, tmp_path, collection=["scenes"], sweeps=0)
        found = tree(tmp_path)
        assert {path: body for path, body in found.items() if "s001" in path} == {
            "scenes/s001/a.tif": b"II*\0one",
            "scenes/s001/b.tif": b"II*\0two",
        }
        assert b"odd data" in found.values()
        assert summary.mirror.items.listed == 6
        assert [(failure.asset, failure.kind) for failure in summary.failures] == [("none", "no-href")]
        assert summary.mirror.items.complete == 5
        assert not any(".." in Path(path).parts for path in found)


@pytest.mark.parametrize("version", ["0.8.0", "0.9.0", "1.0.0", "1.1.0"])
async def test_versions(tmp_path: Path, version: str) -> None:
    """Items of STAC 0.8 to 1.1, with the old `search:metadata` and the new `context` totals."""
    async with stac_server(3) as server:
        server.total = None
        for item in server.items:
            item["stac_version"] = version
            item["stac_extensions"] = ["eo"] if version < "1" else []

        def as_then(page: dict[str, Any], start: int) -> None:
            page["stac_version"] = version
            if version < "0.9":
                page["search:metadata"] = {"next": None, "limit": 10, "matched": 3, "returned": 3}
            elif version < "1":
                page["context"] = {"matched": 3, "returned": 3}

        server.edit_page = as_then
        summary = await mirror(server.url, tmp_path, collection=["scenes"])
        assert (summary.verdict, summary.mirror.items.complete) == ("complete", 3)
        assert summary.mirror.listing.server_total == (3 if version < "1" else None)


@pytest.mark.parametrize("methods", [["GET"], ["POST"]])
async def test_a_token_without_a_link_goes_on(tmp_path: Path, methods: list[str]) -> None:
    """STAC API 0.7 and 0.8 gave `search:metadata.next`, and no link: the listing does not end there."""
    async with stac_server(25) as server:
        server.methods = methods
        server.can = [name for name in server.can if "features" not in name]

        def as_then(page: dict[str, Any], start: int) -> None:
            links, page["links"] = page["links"], []
            page["search:metadata"] = {"next": page["features"][-1]["id"] if links else None, "matched": 25}

        server.edit_page = as_then
        summary = await mirror(server.url, tmp_path, collection=["scenes"], query=["eo:cloud_cover>=0"])
        assert (summary.verdict, summary.mirror.items.complete) == ("complete", 25)


async def test_alternates_are_preferred_by_name(tmp_path: Path) -> None:
    """The first preferred alternate that an asset has takes the place of its href; others keep theirs."""
    async with stac_server(2) as server:
        server.items[0]["assets"]["data"]["alternate"] = {"s3": {"href": "/files/other/data"}, "x": {"href": "/no"}}
        summary = await mirror(server.url, tmp_path, collection=["scenes"], alternate=["gs", "s3"], asset=["data"])
        assert summary.verdict == "complete"
        assert sorted(tree(tmp_path).values()) == [b"other data", b"s001 data"]


async def test_a_feature_that_is_no_item_costs_no_other(tmp_path: Path) -> None:
    """It is named, the rest is mirrored, the listing counts as incomplete, and a later run looks again."""
    async with stac_server(25) as server:

        def spoil(page: dict[str, Any], start: int) -> None:
            if start == 10:
                page["features"][3] = {"type": "Feature", "properties": {}}

        server.edit_page = spoil
        summary = await mirror(server.url, tmp_path, collection=["scenes"])
        assert (summary.exit_code, summary.mirror.items.complete) == (5, 24)
        assert "without an id" in summary.reason
        server.edit_page = lambda page, start: None
        summary = await mirror(server.url, tmp_path, collection=["scenes"])
        assert (summary.verdict, summary.mirror.items.complete) == ("complete", 25)
