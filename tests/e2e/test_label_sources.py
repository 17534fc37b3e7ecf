"""`rel=source` of any label collection: followed by link, or joined by ids; shared sources once; left out; alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import tree
from tests.e2e.test_stac_api import mirror
from tests.stac_server import SEARCH, StacServer, stac_server
from tests.unit.fakes import Notes


def label(server: StacServer, count: int = 25, sources: int = 2) -> None:
    """Add a collection of labels: each names `sources` items of `scenes`, in turn, so that neighbours share some."""
    server.collections.append("labels")
    scenes = [item for item in server.items if item["collection"] == "scenes"]
    for number in range(count):
        item = server.make(f"l{number:03}", "labels", number)
        named = [scenes[(number + step) % len(scenes)]["id"] for step in range(sources)]
        item["links"] = [
            {"rel": "source", "href": f"{server.url}/collections/scenes/items/{id_}", "type": "application/json"}
            for id_ in named
        ]
        server.items.append(item)


@pytest.mark.parametrize("methods", [["GET"], ["GET", "POST"]])
async def test_sources_are_joined_by_ids(tmp_path: Path, methods: list[str]) -> None:
    """One request a page of labels takes the place of one a source, and each source is fetched once."""
    async with stac_server() as server:
        server.methods = methods
        label(server)
        notes = Notes()
        summary = await mirror(server.url, tmp_path, notes, collection=["labels"])
        assert (summary.verdict, summary.mirror.items.complete) == ("complete", 25)
        assert not server.requests("/collections/scenes/items/")
        assert len(server.requests("/search")) == 3
        assert len(server.requests("/files/")) == 2 * 50
        assert len(tree(tmp_path)) == 100
        assert any("by ids" in line for line in notes.lines)


@pytest.mark.parametrize("why", ["no search", "refuses", "ignores ids", "elsewhere"])
async def test_a_server_that_cannot_join_is_asked_by_links(tmp_path: Path, why: str) -> None:
    """It falls back by itself, and says so once; all sources come."""
    async with stac_server() as server, stac_server() as other:
        label(server)
        if why == "no search":
            server.can = [name for name in server.can if name != SEARCH]
        elif why == "refuses":
            server.refuse = {"/search": (400, "no")}
        elif why == "ignores ids":
            server.edit_page = lambda page, start: page.update(features=[f for f in page["features"] if f["id"] < "m"])
        elif why == "elsewhere":
            there = other.url.replace("127.0.0.1", "localhost")
            for item in server.items:
                for link in item["links"]:
                    link["href"] = link["href"].replace(server.url, there)
            for item in other.items:
                for asset in item["assets"].values():
                    asset["href"] = f"{there.removesuffix('/v1')}{asset['href']}"
        notes = Notes()
        summary = await mirror(f"{server.url}/collections/labels", tmp_path, notes)
        assert (summary.verdict, summary.mirror.items.complete) == ("complete", 25)
        assert len(tree(tmp_path)) == 100
        said = [line for line in notes.lines if "one by one" in line]
        assert len(said) == (0 if why == "no search" else 1)
        asked = other if why == "elsewhere" else server
        assert len(asked.requests("/collections/scenes/items/")) == 25


async def test_sources_can_be_left_out_or_be_all(tmp_path: Path) -> None:
    """--no-sources fetches labels alone, --only-sources their sources alone; with --change-filter the rest comes."""
    async with stac_server() as server:
        label(server)
        values: dict[str, Any] = {"collection": ["labels"]}
        without = await mirror(server.url, tmp_path / "without", sources=False, **values)
        assert without.verdict == "complete"
        assert {path.partition("/")[0] for path in tree(tmp_path / "without")} == {"labels"}
        only = await mirror(server.url, tmp_path / "only", only_sources=True, **values)
        assert only.verdict == "complete"
        assert {path.partition("/")[0] for path in tree(tmp_path / "only")} == {"scenes"}
        server.asked.clear()
        wider = await mirror(server.url, tmp_path / "only", change_filter=True, **values)
        assert wider.verdict == "complete"
        assert len(tree(tmp_path / "only")) == 100
        assert len(server.requests("/files/")) == 50
        wider = await mirror(server.url, tmp_path / "without", change_filter=True, **values)
        assert wider.verdict == "complete"
        assert len(tree(tmp_path / "without")) == 100
