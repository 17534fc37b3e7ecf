"""What a STAC API says it can do, and the listings that come of that for a search: what is sent, what is left to us.

Pure: it reads the root document that it is given. Source: STAC API, "Conformance Classes" (1.0.0 and its release
candidates); OGC API - Features, parts 1 and 3.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from msgspec import structs

from stacmirror.catalogs.paging import Listing
from stacmirror.catalogs.stac_api import ApiRoot, resolve
from stacmirror.errors import NotOffered
from stacmirror.search import Search

_QUERY_MAX = 1500
"""Longer searches go by POST where that can be: proxies cut URLs."""
_IDS_MAX = 250
"""Ids in one request: servers have limits of their own, which few of them tell."""


@dataclass(frozen=True)
class Abilities:
    """`search_url` is "" where the API cannot search; `items`: it lists a collection's items."""

    search_url: str = ""
    methods: frozenset[str] = frozenset({"GET"})
    items: bool = True
    query: bool = False
    filter: bool = False
    sort: bool = False

    @staticmethod
    def of(document: Mapping[str, Any], root: ApiRoot) -> Abilities:
        """Return what the root document promises."""
        listed = document.get("conformsTo")
        conforms = [one for one in listed if isinstance(one, str)] if isinstance(listed, list) else []
        links = [link for link in document.get("links") or () if isinstance(link, dict)]
        searches = [link for link in links if link.get("rel") == "search" and isinstance(link.get("href"), str)]
        # Static landing pages and web forms are linked as "search", too.
        searches = [link for link in searches if "html" not in str(link.get("type") or "")]
        methods = frozenset(str(link.get("method") or "GET").upper() for link in searches)
        url = ""
        if searches:
            url = root.reroot(resolve(f"{root.url}/", searches[0]["href"])) or f"{root.url}/search"
        elif _any(conforms, "item-search"):
            url, methods = f"{root.url}/search", frozenset({"GET", "POST"})
        has_data = any(link.get("rel") in ("data", "collections") for link in links)
        return Abilities(
            search_url=url.partition("?")[0],
            methods=methods & {"GET", "POST"} or frozenset({"GET"}),
            items=has_data or _any(conforms, "ogcapi-features", "collections"),
            query=_any(conforms, "item-search#query"),
            filter=_any(conforms, "item-search#filter"),
            sort=_any(conforms, "item-search#sort"),
        )


def _any(conforms: Iterable[str], *parts: str) -> bool:
    return any(part in one for one in conforms for part in parts)


@dataclass(frozen=True)
class Plan:
    """The listings to walk, and which of `Search.asked` their requests hold: the rest is judged here."""

    listings: Sequence[Listing]
    sent: frozenset[str]


def plan(search: Search, can: Abilities, root: ApiRoot, collections: Sequence[str], *, by_post: bool = True) -> Plan:
    """Return how a search is put to an API: by `/search` where it must be, else by each collection's items.

    `collections` are those to walk where there is no `/search`.
    Raises: NotOffered for an order that nobody can give.
    """
    simple = len(search.collections) == 1 and set(search.asked) <= {"bbox", "datetime"}
    if not can.search_url or (simple and can.items):
        if search.sortby:
            raise NotOffered(f"{root.url} cannot sort, so --sortby cannot be", hint="leave --sortby out")
        sent = frozenset({"bbox", "datetime"}) & set(search.asked)
        query = _query_of(search, sent)
        query.pop("collections", None)
        return Plan([Listing(root.items_url(name), "GET", query) for name in collections], sent)
    sent = frozenset(name for name in search.asked if _takes(can, name))
    if search.sortby and "sortby" not in sent:
        raise NotOffered(f"{root.url} cannot sort, so --sortby cannot be", hint="leave --sortby out")
    if "bbox" in sent and "intersects" in sent:  # the specification forbids both at once: the box is judged here
        sent -= {"bbox"}
    query = _query_of(search, sent)
    large = "intersects" in sent or sum(map(len, query.values())) > _QUERY_MAX
    posts = (
        "POST" in can.methods and by_post and (large or bool(sent & {"query", "filter"}) or "GET" not in can.methods)
    )
    # In order only as one list.
    ids = [search.ids] if search.sortby else _portions(search.ids, posts=posts)
    portions = [structs.replace(search, ids=some) for some in ids]
    if posts:
        return Plan([Listing(can.search_url, "POST", {}, _body_of(portion, sent)) for portion in portions], sent)
    return Plan([Listing(can.search_url, "GET", _query_of(portion, sent)) for portion in portions], sent)


def _portions(ids: Sequence[str], *, posts: bool) -> list[tuple[str, ...]]:
    """Return ids in as many parts as requests can take; no ids are one part."""
    parts: list[tuple[str, ...]] = []
    part: list[str] = []
    length = 0
    for id_ in ids:
        length += len(quote(id_)) + 1
        if part and (len(part) == _IDS_MAX or (length > _QUERY_MAX and not posts)):
            parts.append(tuple(part))
            part, length = [], len(quote(id_)) + 1
        part.append(id_)
    return [*parts, tuple(part)]


def _takes(can: Abilities, name: str) -> bool:
    return {"query": can.query, "filter": can.filter, "sortby": can.sort}.get(name, True)


def _query_of(search: Search, sent: frozenset[str]) -> dict[str, str]:
    values = {
        "collections": ",".join(search.collections),
        "ids": ",".join(search.ids),
        "bbox": ",".join(f"{number:g}" if number == int(number) else repr(number) for number in search.bbox),
        "datetime": search.datetime,
        "intersects": _compact(search.intersects),
        "query": _compact(search.query),
        "filter": search.filter_text,
        "sortby": ",".join(search.sortby),
    }
    found = {name: value for name, value in values.items() if value and (name in sent or name == "collections")}
    if "filter" in found:
        found["filter-lang"] = "cql2-text"
    return found


def _body_of(search: Search, sent: frozenset[str]) -> dict[str, Any]:
    values: dict[str, Any] = {
        "collections": list(search.collections),
        "ids": list(search.ids),
        "bbox": list(search.bbox),
        "datetime": search.datetime,
        "intersects": dict(search.intersects),
        "query": {name: dict(conditions) for name, conditions in search.query.items()},
        "filter": dict(search.filter),
        "sortby": [{"field": key[1:], "direction": "desc" if key[0] == "-" else "asc"} for key in search.sortby],
    }
    found = {name: value for name, value in values.items() if value and (name in sent or name == "collections")}
    if "filter" in found:
        found["filter-lang"] = "cql2-json"
    return found


def _compact(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":")) if value else ""
