"""A row of stac-geoparquet as a STAC item: columns that are no field of an item are its properties.

WKB becomes GeoJSON, and what is null is not there. Called by `geoparquet` with values as Python has them; it knows
neither files nor pyarrow.

Source: stac-geoparquet specification 1.0 and 1.1.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from stacmirror.catalogs.wkb import geometry_of

_FIELDS = ("type", "stac_version", "stac_extensions", "id", "geometry", "bbox", "links", "assets", "collection")


def item_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return the STAC item of a row. Raises: SourceUnreadable for a geometry that is no WKB."""
    geometry = row.get("geometry")
    if isinstance(geometry, (bytes, bytearray)):
        geometry = geometry_of(bytes(geometry))
    bbox = row.get("bbox")
    if isinstance(bbox, dict):
        names = ("xmin", "ymin", "zmin", "xmax", "ymax", "zmax")
        bbox = [bbox[name] for name in names if bbox.get(name) is not None]
    own = row.get("properties")
    properties = dict(own) if isinstance(own, dict) else {}
    properties.update({name: value for name, value in row.items() if name not in _FIELDS and name != "properties"})
    item = {
        name: _plain(row.get(name))
        for name in _FIELDS
        if name not in ("geometry", "bbox") and row.get(name) is not None
    }
    assets = item.get("assets")
    if isinstance(assets, list) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in row["assets"]):
        assets = dict(assets)  # a column of maps, which pyarrow gives as pairs
    if isinstance(assets, dict):
        item["assets"] = {key: asset for key, asset in assets.items() if asset}
    item.setdefault("type", "Feature")
    return {**item, "geometry": geometry, "bbox": bbox, "properties": _plain(properties)}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it, without nulls: a column has them wherever another row has something."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items() if one is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, datetime):
        stamped = value if value.tzinfo else value.replace(tzinfo=UTC)
        return stamped.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    return value
