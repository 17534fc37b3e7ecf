"""A small catalog that tests can change while it stands: items come and go, cursors expire, pages shift.

Speaks as the MLHub API of 2022 did (`token=next:<last id>`), or pages by number; serves its assets itself, remembers
every request.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal
from urllib.parse import quote

from aiohttp import web

COLLECTION = "labels"
SOURCE = f"mlhub:{COLLECTION}"


class Listing:
    """One collection. `items` are the item ids in order; `versions` say how often an item was changed."""

    def __init__(self, items: list[str], paging: Literal["keyset", "position"] = "keyset") -> None:
        self.items = items
        self.paging = paging
        self.page_size: int | None = None
        """Instead of what the client asks for."""
        self.versions: dict[str, int] = {}
        self.stamped = False
        """Whether items say when they were `updated`."""
        self.keys = ["A"]
        self.sources: dict[str, list[str]] = {}
        """Linked items by item id: of the collection `source`."""
        self.on_cursor: Literal["takes", "refuses", "ignores", "nothing"] = "takes"
        """What is done with the cursor of the first request of a run (`fresh`)."""
        self.fresh = True
        self.missing: set[str] = set()
        """Paths of assets that are answered with 404."""
        self.broken_after: int | None = None
        """Page requests after which the listing answers 500."""
        self.requests: list[str] = []
        self.api_url = ""

    def asked(self, part: str) -> list[str]:
        return [request for request in self.requests if part in request]

    def content(self, item: str, key: str) -> bytes:
        return f"{item} {key} version {self.versions.get(item, 0)}".encode()

    def _item(self, item: str, collection: str = COLLECTION) -> dict[str, Any]:
        version = self.versions.get(item, 0)
        properties: dict[str, Any] = {"datetime": "2020-01-01T00:00:00Z", "labels": [f"class-{item[-1]}"]}
        if self.stamped:
            properties["updated"] = f"2020-01-01T00:00:{version:02}Z"
        elif version:
            properties["quality"] = version
        return {
            "type": "Feature",
            "id": item,
            "collection": collection,
            "properties": properties,
            "links": [
                {"rel": "source", "href": f"{self.api_url}/collections/source/items/{quote(name)}"}
                for name in self.sources.get(item, [])
            ],
            # As MLHub: another href on every listing.
            "assets": {
                key: {"href": f"{self.api_url}/files/{quote(item)}/{key}?n={len(self.requests)}", "type": "text/plain"}
                for key in self.keys
            },
        }

    async def page(self, request: web.Request) -> web.Response:
        self.requests.append(request.path_qs)
        limit = self.page_size or int(request.query.get("limit", "10"))
        start = self._start(request, limit)
        if self.broken_after is not None and len(self.asked("/labels/items")) > self.broken_after:
            return web.Response(status=500)
        if start is None:
            return web.Response(status=400, text="no such cursor")
        shown = self.items[start : start + limit]
        links = []
        if start + limit < len(self.items):
            after = f"token=next:{shown[-1]}" if self.paging == "keyset" else f"page={start // limit + 1}"
            links = [{"rel": "next", "href": f"{self.api_url}/collections/{COLLECTION}/items?{after}"}]
        return web.json_response({"type": "FeatureCollection", "features": [*map(self._item, shown)], "links": links})

    def _start(self, request: web.Request, limit: int) -> int | None:
        fresh, self.fresh = self.fresh, False
        token = request.query.get("token", "")
        if fresh and token and self.on_cursor != "takes":
            return {"refuses": None, "ignores": 0, "nothing": len(self.items)}[self.on_cursor]
        if self.paging == "position":
            return int(request.query.get("page", "0")) * limit
        if not token:
            return 0
        last = token.removeprefix("next:")
        return self.items.index(last) + 1 if last in self.items else None

    async def linked(self, request: web.Request) -> web.Response:
        self.requests.append(request.path_qs)
        return web.json_response(self._item(request.match_info["item"], request.match_info["collection"]))

    async def file(self, request: web.Request) -> web.Response:
        self.requests.append(request.path)
        item, key = request.match_info["item"], request.match_info["key"]
        if f"{item}/{key}" in self.missing:
            return web.Response(status=404)
        body = self.content(item, key)
        return web.Response(body=body, headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})

    async def collection(self, request: web.Request) -> web.Response:
        return web.json_response({"id": request.match_info["collection"], "license": "CC0-1.0", "links": []})


@asynccontextmanager
async def listing(items: list[str], **values: Any) -> AsyncIterator[Listing]:
    """Serve a listing on a free port."""
    server = Listing(items, **values)
    app = web.Application()
    app.router.add_get("/v1/collections/labels/items", server.page)
    app.router.add_get("/v1/collections/{collection}/items/{item}", server.linked)
    app.router.add_get("/v1/collections/{collection}", server.collection)
    app.router.add_get("/v1/files/{item}/{key}", server.file)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.api_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()
