"""What an address or a path leads to - an API, one of its collections, a static catalog, a file - found out by looking.

The composition root makes one for every SOURCE but MLHub's, and gives it to `found.FoundCatalog`.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec.structs import replace

from stacmirror.catalogs.api import ApiCatalog, page_size_for
from stacmirror.catalogs.asking import Means, Question, status_of
from stacmirror.catalogs.byte_sources import ByteSource, DiskFile, Opens, RemoteFile, Stdin
from stacmirror.catalogs.decoding import object_of, value_of
from stacmirror.catalogs.files import LINE_SUFFIXES, FileCatalog
from stacmirror.catalogs.geoparquet import SUFFIXES as PARQUET_SUFFIXES
from stacmirror.catalogs.geoparquet import GeoparquetCatalog
from stacmirror.catalogs.stac_api import ApiRoot, resolve
from stacmirror.catalogs.static import StaticCatalog
from stacmirror.errors import NothingThere, SourceUnreachable, SourceUnreadable, UsageError
from stacmirror.interfaces import Reply
from stacmirror.redact import redact_url
from stacmirror.search import Search

_COLLECTION_URL = re.compile(r"(.*)/collections/([^/?#]+)(?:/items)?/?$")
_WHAT = "give the root of an API, a collection, a catalog.json, or a file of items"
_HEAD_BYTES = 1 << 16
_ITEMS_A_PAGE = 4
"""One item of a file may be as large as this part of a page: it is held more than once while it is read."""
_CATALOG = re.compile(rb'"type"\s*:\s*"(?:Catalog|Collection)"')


class Wanted(msgspec.Struct, frozen=True):
    """How a catalog is walked, whatever it turns out to be."""

    search: Search
    page_size: int
    page_size_floor: int = 1
    alternates: tuple[str, ...] = ()
    reroot: bool = False


Found = ApiCatalog | StaticCatalog | FileCatalog | GeoparquetCatalog


class Looking:
    """Looks behind a SOURCE. One for a run."""

    def __init__(self, means: Means, opens: Opens, wanted: Wanted) -> None:
        self._means = means
        self._opens = opens
        self._wanted = wanted

    async def api(self, root_url: str) -> Found:
        """Return the API at a root. Raises: SourceUnreadable where there is none."""
        found = await self.web(root_url)
        if not isinstance(found, ApiCatalog):
            raise SourceUnreadable(f"{redact_url(root_url)} is no STAC API", hint="is its root another?")
        return found

    async def web(self, url: str) -> Found:
        """Return what is at an address."""
        path = urlsplit(url).path.lower()
        if path.endswith(PARQUET_SUFFIXES):
            return self._parquet(url)
        if path.endswith(LINE_SUFFIXES):
            return self._file(url, RemoteFile(url, self._opens, self._means), url, lines=True)
        depth_max = self._means.caps.depth_max
        try:
            document = await self._means.ask(lambda: Question(url), lambda reply: _document(reply, url, depth_max))
        except SourceUnreachable as error:
            cause = error.__cause__
            if getattr(cause, "kind", "") == "too-large":  # no catalog is: a list of items, to be streamed
                return self._file(url, RemoteFile(url, self._opens, self._means), url)
            if (match := _COLLECTION_URL.match(url)) is not None and status_of(error) == 404:
                return await self._collection_of(match[1], unquote(match[2]))
            raise
        if document is None:
            return self._file(url, RemoteFile(url, self._opens, self._means), url)
        return await self._of_document(url, document)

    async def path(self, path: str) -> Found:
        """Return what is in a file or folder of this machine."""
        path, url = _place_of(path)
        lower = path.lower()
        if lower.endswith(PARQUET_SUFFIXES):
            return self._parquet(path)
        lines = lower.endswith(LINE_SUFFIXES)
        if not lines and await asyncio.to_thread(_is_catalog, path, self._means.page_max_bytes):
            return self._static(url)
        return self._file(path, DiskFile(path), url, lines=lines)

    async def stdin(self) -> Found:
        """Return what is piped in."""
        return self._file("stdin", Stdin(), _place_of("")[1])

    async def _of_document(self, url: str, document: dict[str, Any]) -> Found:
        kind, rels = _kind(document), _rels(document)
        if kind == "Catalog" and ("conformsTo" in document or rels.keys() & {"data", "search", "conformance"}):
            return await self._api(url, document)
        match = _COLLECTION_URL.match(url)
        if match is not None and (kind == "FeatureCollection" or "items" in rels):
            return await self._collection_of(match[1], unquote(match[2]))
        if kind == "Collection" and "items" in rels and "root" in rels and not rels.keys() & {"item", "child"}:
            return await self._collection_of(resolve(url, rels["root"]), str(document.get("id") or ""))
        if kind in ("Catalog", "Collection"):
            return self._static(url)
        if kind in ("Feature", "FeatureCollection"):
            return self._file(url, RemoteFile(url, self._opens, self._means), url)
        raise NothingThere(f"{redact_url(url)} is no STAC: a JSON object without its marks", hint=_WHAT)

    async def _collection_of(self, root_url: str, collection: str) -> Found:
        """Return the API that has a collection, to walk that one."""
        url = root_url.rstrip("/")
        document = await self._means.ask(
            lambda: Question(url), lambda reply: object_of(reply, url, self._means.caps.depth_max)
        )
        others = [name for name in self._wanted.search.collections if name != collection]
        if others:
            raise UsageError(
                f"SOURCE is the collection `{collection}`, and --collection names others: {', '.join(others)}",
                hint=f"give the root, {redact_url(url)}, and each with --collection",
            )
        self._wanted = replace(self._wanted, search=replace(self._wanted.search, collections=(collection,)))
        return await self._api(url, document)

    async def _api(self, url: str, document: dict[str, Any]) -> Found:
        if "conformsTo" not in document and "conformance" in (rels := _rels(document)):
            document = {**document, **await self._conformance(resolve(f"{url}/", rels["conformance"]))}
        wanted = self._wanted
        return ApiCatalog(
            ApiRoot.parse(url.partition("?")[0]),
            document,
            wanted.search,
            self._means,
            page_size_for(wanted.page_size, wanted.page_size_floor),
            alternates=wanted.alternates,
            reroot=wanted.reroot,
        )

    async def _conformance(self, url: str) -> dict[str, Any]:
        try:
            found = await self._means.ask(
                lambda: Question(url), lambda reply: object_of(reply, url, self._means.caps.depth_max)
            )
        except (SourceUnreachable, SourceUnreadable):
            return {}
        return {"conformsTo": found.get("conformsTo")}

    def _static(self, url: str) -> Found:
        wanted = self._wanted
        names = wanted.search.collections
        return StaticCatalog(url, self._means, wanted.page_size, wanted=names, alternates=wanted.alternates)

    def _file(self, what: str, source: ByteSource, base: str, *, lines: bool = False) -> Found:
        wanted = self._wanted
        return FileCatalog(
            redact_url(what),
            source,
            base,
            self._means.clock,
            wanted.page_size,
            self._means.page_max_bytes // _ITEMS_A_PAGE,
            lines=lines,
            alternates=wanted.alternates,
            caps=self._means.caps,
        )

    def _parquet(self, place: str) -> Found:
        wanted = self._wanted
        return GeoparquetCatalog(place, self._means, wanted.page_size, alternates=wanted.alternates)


def _kind(document: dict[str, Any]) -> str:
    """Return what a document is; catalogs before STAC 1.0 say it by what they have."""
    kind = document.get("type")
    if kind in ("Catalog", "Collection", "Feature", "FeatureCollection"):
        return str(kind)
    if "stac_version" in document and isinstance(document.get("links"), list):
        return "Collection" if "extent" in document else "Catalog"
    return ""


def _rels(document: dict[str, Any]) -> dict[str, str]:
    links = document.get("links")
    found: dict[str, str] = {}
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and isinstance(link.get("rel"), str) and isinstance(link.get("href"), str):
            found.setdefault(link["rel"], link["href"])
    return found


def _place_of(path: str) -> tuple[str, str]:
    """Return a file's path and its address; of a folder, those of the catalog in it; of "", the working folder's."""
    if not path:
        return "", f"{Path.cwd().as_uri()}/"
    if os.path.isdir(path):
        found = [name for name in ("catalog.json", "collection.json") if os.path.exists(os.path.join(path, name))]
        if not found:
            raise UsageError(f"{path} holds no catalog.json and no collection.json", hint=_WHAT)
        path = os.path.join(path, found[0])
    return path, Path(path).absolute().as_uri()


def _is_catalog(path: str, size_max: int) -> bool:
    """Return whether a file is a catalog or collection: lists of items are not read into memory to find out.

    Raises: SourceUnreadable for a catalog above `size_max` bytes.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
            if not _CATALOG.search(head) and (b'"features"' in head or len(head) == _HEAD_BYTES):
                return False
            size = os.fstat(file.fileno()).st_size
            if size > size_max:
                raise SourceUnreadable(
                    f"{path} is a catalog of {size:,} bytes, more than {size_max:,}",
                    hint="if that is meant, set `page_max`",
                )
            document = value_of(head + file.read(size_max))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and _kind(document) in ("Catalog", "Collection")


def _document(reply: Reply, url: str, depth_max: int) -> dict[str, Any] | None:
    """Return an answer's JSON object; None where it is other JSON, or lines of it. Raises: SourceUnreadable."""
    try:
        return object_of(reply, url, depth_max)
    except SourceUnreadable:
        if (reply.body or b"").lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
            return None
        raise
