"""A small STAC API that tests can script: which conformance classes, how it pages, what it refuses, what it lies about.

Serves its assets itself, remembers every request with its body, and answers each request truly unless told otherwise.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal
from urllib.parse import quote

from aiohttp import web

CORE = "https://api.stacspec.org/v1.0.0/core"
FEATURES = "https://api.stacspec.org/v1.0.0/ogcapi-features"
SEARCH = "https://api.stacspec.org/v1.0.0/item-search"
FILTER, QUERY, SORT = f"{SEARCH}#filter", f"{SEARCH}#query", f"{SEARCH}#sort"

Paging = Literal["token", "merge", "post-body", "offset", "headers"]


class StacServer:
    """`items` are whole items by id, in order; `can` is what it conforms to."""

    def __init__(self, count: int = 25, collection: str = "scenes") -> None:
        self.url = ""
        self.collections: list[str] = [collection]
        self.can: list[str] = [CORE, FEATURES, SEARCH]
        self.methods: list[str] = ["GET", "POST"]
        self.paging: Paging = "token"
        self.total: Literal["numberMatched", "context", None] = "numberMatched"
        self.packed = False
        self.page_max: int | None = None
        """More items a page than this are answered with a 502."""
        self.next_at: str | None = None
        """Another root, in its next links."""
        self.edit_page: Callable[[dict[str, Any], int], None] = lambda page, start: None
        self.refuse: dict[str, tuple[int, str]] = {}
        """Status and body by path."""
        self.items: list[dict[str, Any]] = [self.make(f"s{number:03}", collection, number) for number in range(count)]
        self.asked: list[tuple[str, dict[str, Any]]] = []
        """Method and path with query, and the body."""
        self.headers: list[dict[str, str]] = []
        self.files: dict[str, bytes] = {}
        self.guard: Callable[[web.Request], Awaitable[web.Response | None]] | None = None
        """Answers in place of all others, where it answers."""
        self.documents: dict[str, Any] = {}
        """What is below /other."""

    def make(self, id_: str, collection: str, number: int = 0) -> dict[str, Any]:
        lon = number % 100
        return {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": id_,
            "collection": collection,
            "geometry": {"type": "Point", "coordinates": [lon, 10]},
            "bbox": [lon, 10, lon, 10],
            "properties": {"datetime": f"2020-01-{number % 28 + 1:02}T00:00:00Z", "eo:cloud_cover": number},
            "links": [],
            "assets": {
                "data": {"href": f"/files/{quote(id_, safe='')}/data", "type": "text/plain", "roles": ["data"]},
                "thumb": {
                    "href": f"/files/{quote(id_, safe='')}/thumb",
                    "type": "image/x-thumb",
                    "roles": ["thumbnail"],
                },
            },
        }

    def content(self, id_: str, key: str) -> bytes:
        return self.files.get(f"{id_}/{key}", f"{id_} {key}".encode())

    def requests(self, part: str) -> list[tuple[str, dict[str, Any]]]:
        return [request for request in self.asked if part in request[0]]

    # -- answers ---------------------------------------------------------------------------------------------

    async def root(self, request: web.Request) -> web.Response:
        await self._hear(request)
        links = [{"rel": "data", "href": f"{self.url}/collections"}, {"rel": "root", "href": self.url}]
        if SEARCH in self.can:
            links += [{"rel": "search", "href": f"{self.url}/search", "method": method} for method in self.methods]
        return self._json(
            {"type": "Catalog", "id": "api", "stac_version": "1.0.0", "conformsTo": self.can, "links": links}
        )

    async def all_collections(self, request: web.Request) -> web.Response:
        await self._hear(request)
        return self._json({"collections": [self._collection(name) for name in self.collections], "links": []})

    async def one_collection(self, request: web.Request) -> web.Response:
        await self._hear(request)
        name = request.match_info["collection"]
        if name not in self.collections:
            return web.json_response({"code": "NotFound", "description": f"no {name}"}, status=404)
        return self._json(self._collection(name))

    def _collection(self, name: str) -> dict[str, Any]:
        links = [
            {"rel": "items", "href": f"{self.url}/collections/{name}/items"},
            {"rel": "root", "href": f"{self.url}/"},
        ]
        return {"type": "Collection", "id": name, "license": "CC0-1.0", "extent": {}, "links": links}

    async def item_page(self, request: web.Request) -> web.Response:
        await self._hear(request)
        name = request.match_info["collection"]
        found = [item for item in self.items if item["collection"] == name]
        return self._page(request, dict(request.query), {}, found)

    async def one_item(self, request: web.Request) -> web.Response:
        await self._hear(request)
        wanted = request.match_info["collection"], request.match_info["item"]
        for item in self.items:
            if (item["collection"], item["id"]) == wanted:
                return self._json(item)
        return web.Response(status=404)

    async def search(self, request: web.Request) -> web.Response:
        body = await self._hear(request)
        query: dict[str, Any] = body if request.method == "POST" else dict(request.query)
        found = [item for item in self.items if self._is_found(item, query)]
        return self._page(request, query, body, found)

    def _is_found(self, item: dict[str, Any], query: dict[str, Any]) -> bool:
        def listed(name: str) -> list[str]:
            value = query.get(name) or []
            return value.split(",") if isinstance(value, str) else list(value)

        if listed("collections") and item["collection"] not in listed("collections"):
            return False
        if listed("ids") and item["id"] not in listed("ids"):
            return False
        wanted = query.get("query")
        if wanted and QUERY in self.can:
            wanted = json.loads(wanted) if isinstance(wanted, str) else wanted
            return all(item["properties"][key] < ops["lt"] for key, ops in wanted.items())
        if query.get("filter") and FILTER in self.can:
            import cql2

            return bool(cql2.Expr(query["filter"]).matches(item))
        return True

    def _page(
        self, request: web.Request, query: dict[str, Any], body: dict[str, Any], found: list[dict[str, Any]]
    ) -> web.Response:
        path = request.path.removeprefix("/v1")
        if path in self.refuse:
            status, text = self.refuse[path]
            return web.Response(status=status, text=text)
        limit = int(query.get("limit", 10))
        if self.page_max is not None and limit > self.page_max:
            return web.Response(status=502)
        start = self._start(request, query, found)
        if start is None:
            return web.json_response({"description": "no such token"}, status=400)
        shown = found[start : start + limit]
        page: dict[str, Any] = {"type": "FeatureCollection", "features": shown, "links": []}
        if self.total == "numberMatched":
            page["numberMatched"] = len(found)
        elif self.total == "context":
            page["context"] = {"matched": len(found), "returned": len(shown)}
        if start + limit < len(found):
            page["links"].append(self._next(request, body, shown[-1]["id"], start + limit))
        self.edit_page(page, start)
        return self._json(page)

    def _start(self, request: web.Request, query: dict[str, Any], found: list[dict[str, Any]]) -> int | None:
        if self.paging == "headers":
            return int(request.headers.get("x-start", 0))
        if self.paging == "offset":
            return int(query.get("offset", 0))
        token = query.get("token") or query.get("next")
        if not token:
            return 0
        ids = [item["id"] for item in found]
        last = str(token).removeprefix("next:")
        return ids.index(last) + 1 if last in ids else None

    def _next(self, request: web.Request, body: dict[str, Any], last: str, start: int) -> dict[str, Any]:
        root = self.next_at or self.url
        path = request.path.removeprefix("/v1")
        href = f"{root}{path}"
        if self.paging == "headers":
            return {
                "rel": "next",
                "href": href,
                "method": request.method,
                "headers": {"X-Start": str(start)},
                "merge": True,
            }
        after = {"offset": start} if self.paging == "offset" else {"token": f"next:{last}"}
        if request.method == "POST":
            link: dict[str, Any] = {"rel": "next", "href": href, "method": "POST"}
            if self.paging == "post-body":  # merge is false: the body is all there is to send
                return {**link, "body": {**body, **after}}
            return {**link, "body": after, "merge": True}
        kept = {name: value for name, value in request.query.items() if name not in after}
        query = "&".join(f"{name}={quote(str(value), safe=':')}" for name, value in {**kept, **after}.items())
        return {"rel": "next", "href": f"{href}?{query}", "type": "application/geo+json"}

    async def other(self, request: web.Request) -> web.Response:
        await self._hear(request)
        name = request.match_info["name"]
        return self._json(self.documents[name]) if name in self.documents else web.Response(status=404)

    async def file(self, request: web.Request) -> web.Response:
        await self._hear(request)
        key = f"{request.match_info['item']}/{request.match_info['key']}"
        if key in self.refuse:
            return web.Response(status=self.refuse[key][0])
        return web.Response(body=self.content(request.match_info["item"], request.match_info["key"]))

    async def _hear(self, request: web.Request) -> dict[str, Any]:
        body = await request.json() if request.method == "POST" else {}
        self.asked.append((f"{request.method} {request.raw_path}", body))
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        return dict(body)

    def _json(self, document: dict[str, Any]) -> web.Response:
        body = json.dumps(document).encode()
        if not self.packed:
            return web.Response(body=body, content_type="application/json")
        return web.Response(
            body=gzip.compress(body), content_type="application/json", headers={"Content-Encoding": "gzip"}
        )


@asynccontextmanager
async def stac_server(count: int = 25) -> AsyncIterator[StacServer]:
    """Serve a STAC API on a free port."""
    server = StacServer(count)

    @web.middleware
    async def guarded(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        refused = await server.guard(request) if server.guard is not None else None
        return refused if refused is not None else await handler(request)

    app = web.Application(middlewares=[guarded])
    app.router.add_get("/v1", server.root)
    app.router.add_get("/v1/", server.root)
    app.router.add_get("/v1/collections", server.all_collections)
    app.router.add_get("/v1/collections/{collection}", server.one_collection)
    app.router.add_get("/v1/collections/{collection}/items", server.item_page)
    app.router.add_get("/v1/collections/{collection}/items/{item}", server.one_item)
    app.router.add_route("*", "/v1/search", server.search)
    app.router.add_get("/files/{item}/{key}", server.file)
    app.router.add_get("/other/{name:.*}", server.other)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()
