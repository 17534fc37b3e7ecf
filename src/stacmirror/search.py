"""What of a catalog is asked for, in plain values: collections, space, time, ids, expressions, order.

Read from the filter settings by the composition root. Catalogs send of it what their server takes; `filters` judge the
rest here. Knows neither of them.

Source: STAC API - Item Search, "Query Parameters and Fields"; RFC 3339, section 5.6; CQL2.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct, field

from stacmirror.errors import UsageError
from stacmirror.settings import FilterSettings

QUERY_OPERATORS = ("eq", "neq", "lt", "lte", "gt", "gte", "startsWith", "endsWith", "contains", "in")
GEOMETRIES = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection")
_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
_BBOX_HINT = "west, south, east, north in degrees, such as 5.8,47.2,15.1,55.1"
_TIME_HINT = "such as 2020-06, 2020-06-01T00:00:00Z, 2020-06-01/2020-09-30 or 2020-06-01/.."
_QUERY_HINT = """such as 'eo:cloud_cover<10', or JSON: '{"eo:cloud_cover": {"lt": 10}}'"""
_QUERY_SIGNS = {"<=": "lte", ">=": "gte", "!=": "neq", "=": "eq", "<": "lt", ">": "gt"}


class Search(Struct, frozen=True):
    """What is asked for. Everything empty: all there is."""

    collections: tuple[str, ...] = ()
    bbox: tuple[float, ...] = ()
    """West, south, east, north."""
    datetime: str = ""
    """An instant, or an interval with `/`, as RFC 3339 has it; `..` is an open end."""
    intersects: Mapping[str, Any] = field(default_factory=dict)
    """A GeoJSON geometry."""
    ids: tuple[str, ...] = ()
    query: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Operators and values by property, as the query extension has them."""
    filter: Mapping[str, Any] = field(default_factory=dict)
    """CQL2 as JSON."""
    filter_text: str = ""
    """The same as text."""
    sortby: tuple[str, ...] = ()
    """Properties, each with `+` or `-` before it."""

    @property
    def asked(self) -> tuple[str, ...]:
        """The names of the settings that narrow or order the listing, but for the collections."""
        names = ("bbox", "datetime", "intersects", "ids", "query", "filter", "sortby")
        return tuple(name for name in names if getattr(self, name))


def make_search(wanted: FilterSettings) -> Search:
    """Return what the settings ask for. Raises: UsageError naming the flag, with what it takes."""
    if "" in wanted.collection:
        raise UsageError("--collection needs an id", hint="`stacmirror collections SOURCE` lists them")
    expression, text = _cql2(wanted.filter)
    return Search(
        collections=tuple(dict.fromkeys(wanted.collection)),
        bbox=_bbox(wanted.bbox),
        datetime=interval_text(wanted.datetime),
        intersects=_geometry(wanted.intersects),
        ids=wanted.item,
        query=_query(wanted.query),
        filter=expression,
        filter_text=text,
        sortby=tuple(_sort_key(key) for key in wanted.sortby),
    )


def _bbox(text: str) -> tuple[float, ...]:
    if not text:
        return ()
    try:
        numbers = tuple(float(part) for part in text.strip(" []()").split(","))
    except ValueError:
        numbers = ()
    if len(numbers) == 6:  # heights do not narrow a mirror of scenes
        numbers = (*numbers[:2], *numbers[3:5])
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise UsageError(f"--bbox {text!r} is not four numbers", hint=_BBOX_HINT)
    west, south, east, north = numbers
    if not (south >= -90 and south <= north <= 90) or not all(-180 <= lon <= 180 for lon in (west, east)):
        raise UsageError(f"--bbox {text!r} is no place on earth", hint=_BBOX_HINT)
    return numbers


def interval_text(text: str) -> str:
    """Return an instant or interval as servers take it: dates become whole days, months and years.

    Raises: UsageError for what is no time, or ends before it begins.
    """
    text = text.strip()
    if not text:
        return ""
    parts = text.split("/")
    if len(parts) > 2:
        raise UsageError(f"--datetime {text!r} has more than one `/`", hint=_TIME_HINT)
    if len(parts) == 1 and not _DATE.fullmatch(text):
        return _instant(text, text, last=False)
    start, end = parts[0], parts[-1]
    first = ".." if start in ("", "..") else _instant(start, text, last=False)
    last = ".." if end in ("", "..") else _instant(end, text, last=True)
    if first == last == "..":
        raise UsageError(f"--datetime {text!r} leaves both ends open", hint=_TIME_HINT)
    if ".." not in (first, last) and seconds(first) > seconds(last):
        raise UsageError(f"--datetime {text!r} ends before it begins", hint=_TIME_HINT)
    return f"{first}/{last}"


def bounds(interval: str) -> tuple[float, float]:
    """Return both ends of what `interval_text` gave, in seconds since the epoch; open ends are infinite."""
    first, _, last = interval.partition("/")
    last = last or first
    return (-math.inf if first == ".." else seconds(first), math.inf if last == ".." else seconds(last))


def seconds(instant: str) -> float:
    """Return an RFC 3339 time in seconds since the epoch; without a zone it is UTC. Raises: ValueError."""
    found = datetime.fromisoformat(instant)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _instant(text: str, whole: str, *, last: bool) -> str:
    date = _DATE.fullmatch(text.strip())
    try:
        if date is None:
            seconds(text)
            stamp = text.strip().replace(" ", "T")
            return stamp if datetime.fromisoformat(stamp).tzinfo else f"{stamp}Z"
        year, month, day = (int(part) if part else None for part in date.groups())
        first = datetime(year or 0, month or 1, day or 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"--datetime {whole!r} is no time", hint=_TIME_HINT) from None
    if not last:
        return f"{first:%Y-%m-%dT%H:%M:%SZ}" if first.year >= 1000 else f"{first.isoformat()[:19]}Z"
    if day is None:
        import calendar

        month = month or 12
        day = calendar.monthrange(first.year, month)[1]
    return f"{first.year:04}-{month:02}-{day:02}T23:59:59Z"


def _geometry(text: str) -> Mapping[str, Any]:
    if not text:
        return {}
    hint = "give a file with a GeoJSON geometry, Feature or FeatureCollection"
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError("--intersects is no GeoJSON", hint=hint) from None
    found = list(_geometries(document))
    if not found:
        raise UsageError("--intersects holds no geometry", hint=hint)
    return found[0] if len(found) == 1 else {"type": "GeometryCollection", "geometries": found}


def _geometries(document: Any) -> list[dict[str, Any]]:
    if not isinstance(document, dict):
        return []
    if document.get("type") in GEOMETRIES:
        return [document] if document.get("coordinates") or document.get("geometries") else []
    if document.get("type") == "Feature":
        return _geometries(document.get("geometry"))
    features = document.get("features")
    return [one for part in features for one in _geometries(part)] if isinstance(features, list) else []


def _query(texts: tuple[str, ...]) -> Mapping[str, Mapping[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        for name, conditions in (_query_json(text) if text.lstrip().startswith("{") else _query_sign(text)).items():
            found.setdefault(name, {}).update(conditions)
    return found


def _query_json(text: str) -> dict[str, dict[str, Any]]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(f"--query {text!r} is no JSON", hint=_QUERY_HINT) from None
    for name, conditions in document.items():
        if not isinstance(conditions, dict) or not conditions:
            raise UsageError(f"--query: {name!r} needs operators", hint=_QUERY_HINT)
        unknown = set(conditions) - set(QUERY_OPERATORS)
        if unknown:
            raise UsageError(
                f"--query: no operator {min(unknown)!r} for {name!r}", hint=f"there are {', '.join(QUERY_OPERATORS)}"
            )
    return dict(document)


def _query_sign(text: str) -> dict[str, dict[str, Any]]:
    match = re.fullmatch(r"\s*([^<>=!\s]+)\s*(<=|>=|!=|=|<|>)\s*(.+?)\s*", text)
    if match is None:
        raise UsageError(f"--query {text!r} is no condition", hint=_QUERY_HINT)
    try:
        value = json.loads(match[3])
    except ValueError:
        value = match[3]
    return {match[1]: {_QUERY_SIGNS[match[2]]: value}}


def _cql2(text: str) -> tuple[Mapping[str, Any], str]:
    if not text.strip():
        return {}, ""
    import cql2  # here: 13 MB that few runs need

    hint = """CQL2, such as "eo:cloud_cover < 10 AND platform = 'sentinel-2a'", or its JSON"""
    try:
        expression = cql2.Expr(json.loads(text) if text.lstrip().startswith("{") else text)
        document, shown = expression.to_json(), expression.to_text()
    except Exception as error:  # the package raises no class of its own here
        reason = str(error).strip().splitlines()[-1].strip(" =") if str(error).strip() else "it cannot be read"
        raise UsageError(f"--filter {text!r} is no CQL2: {reason}", hint=hint) from None
    if not isinstance(document, dict):
        raise UsageError(f"--filter {text!r} says neither yes nor no", hint=hint)
    return document, shown


def _sort_key(text: str) -> str:
    text = text.strip()
    if not text.lstrip("+-"):
        raise UsageError("--sortby needs a property", hint="such as -datetime (newest first)")
    return text if text[0] in "+-" else f"+{text}"
