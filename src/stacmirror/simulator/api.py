"""The API host: root, collections, pages, items, download links.

Asked by the server. What a dead or a forged download link answered was never recorded: here a dead one
answers 403, a forged one 404, in every generation. The key is required for pages and items only.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from urllib.parse import parse_qsl, unquote

from .answers import Answer, Ask, html_error, json_answer, json_error
from .blobs import Blobs
from .catalog import COLLECTION_IDS, brief_link, collection, collections, dump, root
from .items import ItemWriter
from .log import credential_of
from .paging import BadCursor, Paging, Window, next_query, previous_query
from .settings import SimulatorSettings
from .tokens import Tokens
from .world import PHANTOM, World

PREFIX = "/mlhub/v1"
_DOWNLOAD = f"{PREFIX}/download/"
_DOWNLOAD_LENGTH = len(_DOWNLOAD)
SLICE_ITEMS = 100  # larger pages are sent slice by slice: flat memory, and nobody waits for 10,000 items to be written


class Api:
    """The API of one generation."""

    name = "api"

    def __init__(
        self,
        settings: SimulatorSettings,
        world: World,
        key: str,
        blobs: Blobs,
        *,
        api_url: str,
        blobs_url: str,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._world = world
        self._key = key
        self._clock = clock
        self._blobs = blobs
        self._blobs_url = blobs_url
        self._api_url = api_url
        self._late = settings.generation >= 2022
        self._tokens = Tokens(key, settings.generation)
        self._writer = ItemWriter(settings, world, self._tokens, api_url, clock)
        self._paging = {name: Paging(settings, world, name) for name in COLLECTION_IDS}
        self._status = settings.redirect_status or (303 if self._late else 302)
        self._to_s3 = (settings.redirect_to or ("s3" if settings.generation == 2020 else "http")) == "s3"
        self._echo = "growing-key" in settings.traps
        self._signs = "signed-targets" in settings.traps
        # Root and collections never change: they are written once.
        generation = settings.generation
        self._constants = {
            "": dump(root(api_url, generation), generation),
            "/collections": dump(collections(api_url, generation), generation),
        }
        for name in COLLECTION_IDS:
            self._constants[f"/collections/{name}"] = dump(collection(name, api_url, generation), generation)

    def kind(self, path: str) -> str:
        """Return `download`, `pages` or `items`; "" for what no fault may strike."""
        if path.startswith(_DOWNLOAD):
            return "download"
        if not path.startswith(f"{PREFIX}/"):
            return ""
        parts = path.removeprefix(PREFIX).split("/")
        if len(parts) == 4 and parts[1] == "collections" and parts[3] == "items":
            return "pages"
        return "items" if len(parts) == 5 and parts[1] == "collections" and parts[3] == "items" else ""

    def answer(self, ask: Ask, kind: str) -> Answer:
        """Return the answer."""
        if ask.method not in ("GET", "HEAD"):
            return self.failure(405)
        if kind == "download":
            return self._download(ask)
        if not kind:
            return self._constant(ask.path)
        credential = credential_of(ask.query, ask.headers, self._key)
        if credential not in ("key", "bearer"):
            return self._refused(credential)
        _, _, name, _, *rest = ask.path.removeprefix(PREFIX).split("/")
        if name not in self._paging:
            return self._no_collection(name)
        found = self._item(name, unquote(rest[0])) if rest else self._page(name, ask)
        return self._zipped(ask, found) if self._late else found

    def failure(self, status: int) -> Answer:
        """Return an error: HTML until 2021, JSON in 2022."""
        return json_error(status) if self._late else html_error(status)

    def _refused(self, credential: str | None) -> Answer:
        if not self._late:
            return html_error(401)
        if credential is None:
            return json_error(401, "Must provide API key or Bearer token to access this route.")
        return json_error(401, "Could not identify user from API key or Authentication header.")

    def _constant(self, path: str) -> Answer:
        below = path.removeprefix(PREFIX).rstrip("/")
        text = self._constants.get(below)
        if text and path.startswith(PREFIX):
            return json_answer(200, text)
        parts = below.split("/")
        if path.startswith(PREFIX) and parts[:2] == ["", "collections"] and len(parts) == 3:
            return self._no_collection(parts[2])
        return self.failure(404)

    def _no_collection(self, name: str) -> Answer:
        return self._missing(f"Collection {unquote(name)} does not exist.")

    def _missing(self, detail: str) -> Answer:
        return json_error(404, detail) if self._late else html_error(404)

    def _download(self, ask: Ask) -> Answer:
        link = self._tokens.read(ask.path[_DOWNLOAD_LENGTH:])
        if link is None or link.index >= self._world.items:
            return self.failure(404)
        # A token's time is in whole seconds: allow the second it was cut by, so that no link dies early.
        if self._clock() - link.issued_at >= self._settings.link_life_s + 1:
            return self.failure(403)
        if self._status == 200:
            exists = link.asset != PHANTOM
            return self._blobs.file(ask, link.index, link.asset) if exists else self.failure(404)
        key = self._world.key_of(link.index, link.asset)
        target = f"s3://radiant-mlhub/{key}" if self._to_s3 else f"{self._blobs_url}/{key}"
        if self._signs and not self._to_s3:
            target += f"?sv=2021-06-08&sig={os.urandom(16).hex()}"
        return Answer(self._status, b"Location: %s\r\n" % target.encode())

    def _item(self, name: str, identifier: str) -> Answer:
        prefix = f"{name}_"
        known = identifier.startswith(prefix)
        index = self._world.index_of(identifier.removeprefix(prefix)) if known else None
        if index is None:
            return self._missing(f"Item {identifier} in Collection {name} does not exist.")
        return json_answer(200, self._writer.write(name, index))

    def _page(self, name: str, ask: Ask) -> Answer:
        paging = self._paging[name]
        try:
            window = paging.window(dict(parse_qsl(ask.query)))
        except BadCursor as error:
            return json_error(400, str(error)) if self._late else html_error(400)
        head, separator, tail = self._frame(name, ask, window)
        slices = self._slices(name, window, head, separator, tail)
        if window.end - window.start > SLICE_ITEMS:
            return Answer(200, b"Content-Type: application/json\r\n", slices)
        return Answer(200, b"Content-Type: application/json\r\n", b"".join(slices))

    def _slices(self, name: str, window: Window, head: str, separator: str, tail: str) -> Iterator[bytes]:
        number_at, write = self._paging[name].number_at, self._writer.write
        before = head
        for start in range(window.start, window.end, SLICE_ITEMS):
            stop = min(start + SLICE_ITEMS, window.end)
            items = (write(name, number_at(position), nested=True) for position in range(start, stop))
            yield (before + separator.join(items)).encode()
            before = separator
        yield (tail if window.end > window.start else head + tail).encode()

    def _frame(self, name: str, ask: Ask, window: Window) -> tuple[str, str, str]:
        """Return what stands before, between and after the items of a page."""
        returned, total = window.end - window.start, self._world.items
        links = self._links(name, ask, window)
        if self._late:
            context = {"limit": window.limit, "matched": total, "returned": returned}
            head = f'{{"type":"FeatureCollection","context":{dump(context, 2022)},"features":['
            return head, ",", f'],"links":{dump(links, 2022)}}}'
        after = json.dumps(links, indent=4, sort_keys=True).replace("\n", "\n    ")
        counts = ""
        if self._settings.generation == 2020:
            counts = f'    "numberMatched": {total},\n    "numberReturned": {returned},\n'
        closing = "\n    ]" if returned else "]"
        tail = f'{closing},\n    "links": {after},\n{counts}    "type": "FeatureCollection"\n}}\n'
        return '{\n    "features": [' + ("\n        " if returned else ""), ",\n        ", tail

    def _links(self, name: str, ask: Ask, window: Window) -> list[dict[str, str | None]]:
        parent = f"{self._api_url}/collections/{name}"
        following = next_query(window, late=self._late, received=ask.query, echo=self._echo)
        href = None if following is None else f"{parent}/items?{following}"
        has_next = following is not None or window.null_next
        if not self._late:
            early: dict[str, str | None] = {
                "href": href,
                "rel": "next",
                "title": None,
                "type": "application/json",
            }
            return [early] if has_next else []
        links: list[dict[str, str | None]] = [
            brief_link("items", f"{parent}/items", "application/geo+json"),
            brief_link("parent", f"{self._api_url}/"),
            brief_link("root", f"{self._api_url}/"),
            brief_link("self", f"{parent}/items", "application/geo+json"),
        ]
        if has_next:
            links.append({"rel": "next", "type": "application/json", "method": "GET", "href": href})
        preceding = previous_query(window)
        if preceding is not None:
            address = f"{parent}/items?{preceding}"
            links.append({"rel": "previous", "type": "application/json", "method": "GET", "href": address})
        return links

    def _zipped(self, ask: Ask, found: Answer) -> Answer:
        """Return the answer gzipped if the client takes it, as 2022 did; pages in slices stay plain."""
        plain = found.body
        if not isinstance(plain, bytes) or len(plain) < 1_000 or "gzip" not in ask.headers.get("Accept-Encoding", ""):
            return found
        headers = found.headers + b"Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n"
        return Answer(found.status, headers, gzip.compress(plain, compresslevel=1, mtime=0))
