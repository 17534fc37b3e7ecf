"""A running simulator with a client, and the recorded answers if this checkout has them beside it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from stacmirror.simulator import Simulator, SimulatorSettings

RECORDINGS = Path(__file__).parents[2] / ".." / "shared" / "recordings"


class Client:
    """A simulator and a session that follows nothing and adds nothing."""

    def __init__(self, sim: Simulator, session: aiohttp.ClientSession) -> None:
        self.sim = sim
        self.session = session

    async def get(self, url: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
        """Return status, headers and body; `If_Match` stands for `If-Match`."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        request = self.session.request(method, url, headers=sent, allow_redirects=False)
        async with request as answer:
            return answer.status, answer.headers, await answer.read()

    async def page(self, url: str) -> dict[str, Any]:
        """Return a page, the key set (not appended) if the link has none."""
        if "key=" not in url:
            url += ("&" if "?" in url else "?") + f"key={self.sim.key}"
        status, _, body = await self.get(url)
        assert status == 200, body
        found: dict[str, Any] = json.loads(body)
        return found

    def items_url(self, kind: str = "labels", query: str = "") -> str:
        """Return the address of a listing."""
        return f"{self.sim.api_url}/collections/bigearthnet_v1_{kind}/items{query}"

    async def item(self, index: int, kind: str = "labels") -> dict[str, Any]:
        """Return one item."""
        identifier = self.sim.item_id(index, f"bigearthnet_v1_{kind}")
        return await self.page(f"{self.items_url(kind)}/{identifier}")

    async def walk(self, kind: str = "labels", query: str = "", pages_max: int = 100) -> list[dict[str, Any]]:
        """Return the pages up to the one without a usable next link."""
        pages: list[dict[str, Any]] = []
        url: str | None = self.items_url(kind, query)
        while url is not None:
            pages.append(await self.page(url))
            assert len(pages) <= pages_max
            url = next_of(pages[-1])
        return pages

    def blob(self, index: int, band: str) -> str:
        """Return the path of a band's object, bucket aside."""
        patch = self.sim.patch_name(index)
        return f"/bigearthnet/{patch}/{patch}_{band}.tif"


def next_of(page: dict[str, Any]) -> str | None:
    """Return the next link's href; None without link or href."""
    return next((link["href"] for link in page["links"] if link["rel"] == "next"), None)


def ids_of(pages: list[dict[str, Any]]) -> list[str]:
    """Return the ids of all items of these pages."""
    return [item["id"] for page in pages for item in page["features"]]


def recorded(name: str) -> Any:
    """Return a recorded answer, or skip the test."""
    path = RECORDINGS / name
    if not path.exists():
        pytest.skip(f"no recorded answers beside this checkout ({RECORDINGS})")
    return json.loads(path.read_text())


Start = Callable[..., Awaitable[Client]]


@asynccontextmanager
async def _client(sim: Simulator) -> AsyncIterator[Client]:
    async with sim, aiohttp.ClientSession() as session:
        yield Client(sim, session)


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start simulators with these settings; they end with the test."""
    async with AsyncExitStack() as stack:

        async def begin(clock: Callable[[], float] | None = None, **settings: Any) -> Client:
            options = {} if clock is None else {"clock": clock}
            return await stack.enter_async_context(_client(Simulator(SimulatorSettings(**settings), **options)))

        yield begin
