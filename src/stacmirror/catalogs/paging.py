"""How an API's listing goes on: requests into cursors and back, and what a `next` link makes of the request before.

Pure: it asks nothing. A cursor holds no credential and no page size, so it is the same whoever asks, and can be kept.

Source: STAC API - Item Search, "Pagination": `method`, `headers`, `body` and `merge` of a link.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from stacmirror.catalogs.asking import ACCEPT, Question
from stacmirror.catalogs.stac_api import ApiRoot, resolve, set_parameters
from stacmirror.errors import SourceUnreadable
from stacmirror.model import START, Cursor, CursorKind
from stacmirror.redact import CREDENTIAL_PARAMETERS, redact_url

_POSITIONS = frozenset({"page", "offset", "startindex", "start", "skip", "from", "p"})
_KEYSETS = frozenset({"token", "next", "cursor", "after", "search_after", "continuation", "continuationtoken", "pt"})
_LIMIT = "limit"
_SECRET_HEADERS = frozenset({"authorization", "cookie", "x-api-key", "proxy-authorization", "apikey", "api-key"})
_OURS = frozenset({"accept", "accept-encoding", "content-type", "content-length", "host", "connection"})
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_OWNERS = "tell the catalog's owner"


@dataclass(frozen=True)
class Listing:
    """One list of items, by its first request: `query` for GET, `body` for POST, both without a page size."""

    url: str
    method: str = "GET"
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)

    def first(self) -> Asked:
        """Return the first request."""
        if self.method == "POST":
            return Asked(self.url, "POST", body=dict(self.body))
        return Asked(set_parameters(self.url, dict(self.query)) if self.query else self.url)


@dataclass(frozen=True)
class Asked:
    """A request of a listing, without a page size."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)

    def with_token(self, token: str) -> Asked:
        """Return the request that `search:metadata.next` of STAC API 0.7 and 0.8 stands for."""
        if self.method == "POST":
            return Asked(self.url, "POST", self.headers, {**self.body, "next": token})
        return Asked(set_parameters(self.url, {"next": token}), "GET", self.headers)

    def question(self, size: int) -> Question:
        """Return it for a page of `size` items."""
        headers = {**ACCEPT, **self.headers} if self.headers else ACCEPT
        if self.method == "POST":
            body = json.dumps({**self.body, _LIMIT: size}, separators=(",", ":")).encode()
            return Question(self.url, {**headers, "content-type": "application/json"}, body)
        return Question(set_parameters(self.url, {_LIMIT: str(size)}), headers)


def following(asked: Asked, link: Mapping[str, Any], root: ApiRoot, *, reroot: bool) -> Asked:
    """Return the request that a `next` link asks for after `asked`.

    Without `merge` its headers and body stand alone; with it they are set in those of the request before.
    Raises: SourceUnreadable for a method that is neither GET nor POST, and for another host unless `reroot`.
    """
    method = str(link.get("method") or "GET").upper()
    href = str(link.get("href") or "")
    if method not in ("GET", "POST"):
        raise SourceUnreadable(f"{redact_url(asked.url)}: its next page wants {method[:20]!r}", hint=_OWNERS)
    url = _at_root(resolve(asked.url, href), root, reroot=reroot)
    if url is None:
        raise SourceUnreadable(
            f"{redact_url(asked.url)}: its next page is at another host ({redact_url(href)})",
            hint="servers behind proxies name themselves wrongly: --reroot asks the root's own host for it",
        )
    merges = link.get("merge") is True
    headers = {**(asked.headers if merges else {}), **_kept_headers(link.get("headers"))}
    if method == "GET":
        return Asked(_without_credentials(url), "GET", headers)
    body = link.get("body") if isinstance(link.get("body"), dict) else {}
    # A POST link without a body would ask for everything from the start.
    together = {**(asked.body if merges or not body else {}), **(body or {})}
    kept = {name: value for name, value in together.items() if name.lower() not in CREDENTIAL_PARAMETERS | {_LIMIT}}
    return Asked(_without_credentials(url), "POST", headers, kept)


def encode(number: int, listing: Listing, asked: Asked) -> Cursor:
    """Return the cursor of `asked`, a request of the listing with that number."""
    first = listing.first()
    if asked == first:
        return START if number == 0 else Cursor(_json({"list": number}))
    base = listing.url.partition("?")[0]
    path, _, query = asked.url.partition("?")
    kind = _kind(asked)
    if asked.method == "GET" and not asked.headers and path == base and number == 0 and not query.startswith("{"):
        return Cursor(query, kind)
    parts: dict[str, Any] = {"list": number, "method": asked.method}
    if path != base:
        parts["url"] = path
    if query:
        parts["query"] = query
    if asked.headers:
        parts["headers"] = dict(asked.headers)
    if asked.method == "POST":
        # What every request has is not kept with every page: a geometry can be large.
        parts["body"] = {name: value for name, value in asked.body.items() if listing.body.get(name) != value}
        gone = sorted(name for name in listing.body if name not in asked.body)
        if gone:
            parts["without"] = gone
    return Cursor(_json(parts), kind)


def list_of(cursor: Cursor) -> int:
    """Return the number of the list that a cursor is of."""
    return int(_parts(cursor).get("list", 0))


def decode(cursor: Cursor, listing: Listing) -> Asked:
    """Return the request that a cursor stands for. What is no cursor of ours stands for the first one."""
    if cursor == START:
        return listing.first()
    base = listing.url.partition("?")[0]
    if not cursor.value.startswith("{"):
        return Asked(f"{base}?{cursor.value}")
    parts = _parts(cursor)
    if "method" not in parts:
        return listing.first()
    query = parts.get("query", "")
    url = parts.get("url", base) + (f"?{query}" if query else "")
    if parts["method"] != "POST":
        return Asked(url, "GET", parts.get("headers", {}))
    gone = set(parts.get("without", ()))
    body = {name: value for name, value in listing.body.items() if name not in gone}
    return Asked(url, "POST", parts.get("headers", {}), {**body, **parts.get("body", {})})


def _at_root(url: str, root: ApiRoot, *, reroot: bool) -> str | None:
    """Return `url` at the root's scheme, host and port; None for another host, unless `reroot`."""
    mended = root.reroot(url)
    if mended is not None or not reroot:
        return mended
    parts = urlsplit(url)
    for mark in ("/search", "/collections/"):
        at = parts.path.find(mark)
        if at >= 0:
            return f"{root.url}{parts.path[at:]}" + (f"?{parts.query}" if parts.query else "")
    return None


def _without_credentials(url: str) -> str:
    """Return `url` without page size and credentials, each parameter once, in the server's order."""
    path, _, query = url.partition("?")
    dropped = CREDENTIAL_PARAMETERS | {_LIMIT}
    kept = dict.fromkeys(part for part in query.split("&") if part and part.partition("=")[0].lower() not in dropped)
    return path + ("?" + "&".join(kept) if kept else "")


def _kept_headers(headers: Any) -> dict[str, str]:
    if not isinstance(headers, dict):
        return {}
    found = {str(name).lower(): value for name, value in headers.items() if isinstance(value, str)}
    usable = {
        name: value
        for name, value in found.items()
        if value.isprintable() and value.isascii() and _HEADER_NAME.fullmatch(name)
    }
    return {name: value for name, value in usable.items() if name not in _SECRET_HEADERS | _OURS}


def _kind(asked: Asked) -> CursorKind:
    """Return whether the request names data, or a position that shifts. Whatever is not known is a position."""
    pairs: list[tuple[str, Any]] = list(parse_qsl(asked.url.partition("?")[2], keep_blank_values=True))
    pairs += list(asked.body.items())
    names = {name.lower(): str(value) for name, value in pairs}
    if any(name in _POSITIONS for name in names):
        return "position"
    tokens = [value for name, value in names.items() if name in _KEYSETS]
    return "keyset" if tokens and not any(value.isdigit() and len(value) < 10 for value in tokens) else "position"


def _parts(cursor: Cursor) -> dict[str, Any]:
    if not cursor.value.startswith("{"):
        return {}
    parts = json.loads(cursor.value)
    return parts if isinstance(parts, dict) else {}


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
