"""Judge here what of a search the source does not judge itself: collection, space, time, properties, CQL2.

Made by `filters.make_filters`, asked for every walked item. `sends` says what the source was asked for, which is known
once its first page is; what it was asked for is not judged again: servers see more of an item than its JSON has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from stacmirror.model import Item
from stacmirror.search import Search, bounds, seconds

_LOCAL = ("bbox", "datetime", "intersects", "query", "filter")


class _Shape(msgspec.Struct):
    bbox: Any = None
    geometry: Any = None


_SHAPE = msgspec.json.Decoder(_Shape)


class Searched:
    """Keeps items that a search is after."""

    def __init__(self, search: Search, sends: Callable[[str], bool]) -> None:
        self._search = search
        self._sends = sends
        self._asked = tuple(name for name in search.asked if name in _LOCAL)
        self._collections = frozenset(search.collections)
        self._bounds = bounds(search.datetime) if search.datetime else (-math.inf, math.inf)
        self._expressions: dict[str, Any] = {}

    def keeps(self, item: Item) -> bool:
        """Return True for an item that passes all that is left to us."""
        if self._collections and item.key.collection not in self._collections:
            return False
        return all(self._sends(name) or self._judge(name, item) for name in self._asked)

    def describe(self) -> Mapping[str, str]:
        """Return what is asked for, by setting."""
        words = {name: str(getattr(self._search, name)) for name in self._asked}
        if self._collections:
            words["collection"] = " | ".join(sorted(self._collections))
        return words

    def _judge(self, name: str, item: Item) -> bool:
        if name == "bbox":
            return _meets(_box_of(item), self._search.bbox)
        if name == "datetime":
            return _overlaps(_times_of(item.properties), self._bounds)
        if name == "query":
            return all(
                _holds(item.properties.get(key), operator, value)
                for key, conditions in self._search.query.items()
                for operator, value in conditions.items()
            )
        return self._matches(name, item)

    def _matches(self, name: str, item: Item) -> bool:
        expression = self._expressions.get(name)
        if expression is None:
            import cql2

            inside = {"op": "s_intersects", "args": [{"property": "geometry"}, dict(self._search.intersects)]}
            expression = self._expressions[name] = cql2.Expr(
                inside if name == "intersects" else dict(self._search.filter)
            )
        try:
            return bool(expression.matches(msgspec.json.decode(item.document)))
        except Exception:  # the package raises no class of its own where a property is missing: no match
            return False


def _holds(value: Any, operator: str, wanted: Any) -> bool:
    """Return whether one condition of the query extension holds; of a missing property none does, but `neq`."""
    if operator == "neq":
        return bool(value != wanted)
    if operator == "eq":
        return value is not None and bool(value == wanted)
    if operator == "in":
        return value is not None and isinstance(wanted, Sequence) and value in wanted
    if operator in ("startsWith", "endsWith", "contains"):
        text, part = str(value), str(wanted)
        if isinstance(value, list):
            return operator == "contains" and wanted in value
        found = {"startsWith": text.startswith(part), "endsWith": text.endswith(part), "contains": part in text}
        return value is not None and found[operator]
    try:
        found = {"lt": value < wanted, "lte": value <= wanted, "gt": value > wanted, "gte": value >= wanted}[operator]
        return bool(found)
    except TypeError:
        return False


def _times_of(properties: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the time of an item, both ends; None where it has none."""
    found = [_seconds(properties.get(name)) for name in ("start_datetime", "end_datetime", "datetime")]
    start, end, at = found
    if start is not None or end is not None:
        return (-math.inf if start is None else start, math.inf if end is None else end)
    return None if at is None else (at, at)


def _seconds(value: Any) -> float | None:
    try:
        return seconds(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _overlaps(times: tuple[float, float] | None, wanted: tuple[float, float]) -> bool:
    return times is not None and times[0] <= wanted[1] and times[1] >= wanted[0]


def _box_of(item: Item) -> tuple[float, float, float, float] | None:
    """Return west, south, east, north; of the geometry where there is no box, None where there is neither."""
    try:
        shape = _SHAPE.decode(item.document)
    except ValueError:
        return None
    box = [number for number in shape.bbox if isinstance(number, (int, float))] if isinstance(shape.bbox, list) else []
    if len(box) == 6:
        box = [*box[:2], *box[3:5]]
    if len(box) == 4:
        return box[0], box[1], box[2], box[3]
    positions = list(_positions(shape.geometry))
    if not positions:
        return None
    west, east = min(x for x, _ in positions), max(x for x, _ in positions)
    return west, min(y for _, y in positions), east, max(y for _, y in positions)


def _positions(geometry: Any) -> Iterator[tuple[float, float]]:
    if not isinstance(geometry, dict):
        return
    for part in geometry.get("geometries") or ():
        yield from _positions(part)
    waiting: list[Any] = [geometry.get("coordinates")]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list) and len(one) >= 2 and all(isinstance(number, (int, float)) for number in one[:2]):
            yield one[0], one[1]
        elif isinstance(one, list):
            waiting += one


def _meets(box: tuple[float, ...] | None, wanted: tuple[float, ...]) -> bool:
    if box is None or box[1] > wanted[3] or box[3] < wanted[1]:
        return False
    return any(
        west <= east_wanted and east >= west_wanted
        for west, east in _spans(box[0], box[2])
        for west_wanted, east_wanted in _spans(wanted[0], wanted[2])
    )


def _spans(west: float, east: float) -> Iterable[tuple[float, float]]:
    """Return the spans of longitude: two where a box crosses the antimeridian."""
    return [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
