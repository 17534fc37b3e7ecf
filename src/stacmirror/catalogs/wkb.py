"""Well-known binary into GeoJSON, as stac-geoparquet keeps geometries. Pure. Source: OGC 06-103r4, section 8; EWKB."""

from __future__ import annotations

import struct
from typing import Any

from stacmirror.errors import SourceUnreadable

_NAMES = (
    "", "Point", "LineString", "Polygon", "MultiPoint", "MultiLineString", "MultiPolygon", "GeometryCollection",
)  # fmt: skip
_DEPTH_MAX = 8
_OWNER = "tell the file's owner"


def geometry_of(wkb: bytes) -> dict[str, Any]:
    """Return a GeoJSON geometry. Raises: SourceUnreadable for what is no WKB."""
    try:
        return _Reader(wkb).geometry(0)
    except (struct.error, IndexError, KeyError) as error:
        raise SourceUnreadable("a geometry that is no WKB", hint=_OWNER) from error


class _Reader:
    def __init__(self, wkb: bytes) -> None:
        self._wkb = wkb
        self._at = 0
        self._order = "<"

    def geometry(self, depth: int) -> dict[str, Any]:
        self._order = "<" if self._wkb[self._at] else ">"
        self._at += 1
        code = self._number()
        if code & 0x20000000:
            self._number()  # EWKB: a reference system's number
        size = (
            2
            + bool(code & 0x80000000 or code % 10000 // 1000 in (1, 3))
            + bool(code & 0x40000000 or code % 10000 // 1000 in (2, 3))
        )
        kind = (code & 0x0FFFFFFF) % 1000
        if not 1 <= kind < len(_NAMES) or depth > _DEPTH_MAX:
            raise SourceUnreadable("a geometry of an unknown kind", hint=_OWNER)
        if kind == 7:
            return {"type": _NAMES[7], "geometries": [self.geometry(depth + 1) for _ in range(self._number())]}
        return {"type": _NAMES[kind], "coordinates": self._coordinates(kind, size, depth)}

    def _coordinates(self, kind: int, size: int, depth: int) -> Any:
        if kind == 1:
            return self._position(size)
        if kind == 2:
            return self._line(size)
        if kind == 3:
            return [self._line(size) for _ in range(self._number())]
        return [self.geometry(depth + 1)["coordinates"] for _ in range(self._number())]

    def _line(self, size: int) -> list[list[float]]:
        return [self._position(size) for _ in range(self._number())]

    def _position(self, size: int) -> list[float]:
        found = struct.unpack_from(f"{self._order}{size}d", self._wkb, self._at)
        self._at += 8 * size
        return list(found[:3])

    def _number(self) -> int:
        found = struct.unpack_from(f"{self._order}I", self._wkb, self._at)[0]
        self._at += 4
        return int(found)
