"""What an item looks like in each generation, with fields where items differ.

Called by `items` once, at the start; the fields are filled by `templates`. No label item was ever recorded in
public: its shape follows the official notebooks' code and output (2020, 2021), and a recorded label item of
another data set (2022). Nobody recorded an item of 2020 either: it is that of 2021 with 12 assets, booleans
as JSON, and short tokens, as the notebooks of that year show.
"""

from __future__ import annotations

from typing import Any

from .catalog import LABELS_ID, SOURCE_ID, brief_link, link
from .labels import CLASSES
from .world import LABELS

BAND_NAMES = {
    "B01": ("Coastal Aerosol", "Coastal Aerosol", 60),
    "B02": ("Blue", "Blue", 10),
    "B03": ("Green", "Green", 10),
    "B04": ("Red", "Red", 10),
    "B05": ("Vegetation Red Edge", "Vegetation Red Edge (704.1nm)", 20),
    "B06": ("Vegetation Red Edge", "Vegetation Red Edge (740.1nm)", 20),
    "B07": ("Vegetation Red Edge", "Vegetation Red Edge (782.8nm)", 20),
    "B08": ("NIR", "NIR", 10),
    "B8A": ("Narrow NIR", "Narrow NIR", 20),
    "B09": ("Water Vapour", "Water Vapour", 60),
    "B10": ("SWIR - Cirrus", "SWIR - Cirrus", 60),
    "B11": ("SWIR", "SWIR (1613.7nm)", 20),
    "B12": ("SWIR", "SWIR (2202.4nm)", 20),
}
_LABEL_PROPERTIES: dict[str, Any] = {
    "datetime": "<<datetime>>",
    "labels": "=labels=",
    "cloud_and_shadow": "=cloud=",
    "seasonal_snow": "=snow=",
    "label:type": "vector",
    "label:tasks": ["classification"],
    "label:methods": ["manual"],
    "label:properties": ["labels", "seasonal_snow", "cloud_and_shadow"],
    "label:description": "BigEarthNet Land Type Classes",
    "label:classes": [
        {"name": "labels", "classes": list(CLASSES)},
        {"name": "seasonal_snow", "classes": ["False", "True"]},
        {"name": "cloud_and_shadow", "classes": ["False", "True"]},
    ],
}


def source_document(api_url: str, generation: int, bands: tuple[str, ...]) -> dict[str, Any]:
    """Return a source item; fields: name, datetime, bbox, geometry and href_<band>."""
    if generation >= 2022:
        late: list[dict[str, Any]] = [
            {"gsd": gsd, "name": band, "common_name": common} for band, (common, _, gsd) in BAND_NAMES.items()
        ]
        assets: dict[str, Any] = {
            band["name"]: {
                "href": _href(api_url, band["name"]),
                "type": "image/tiff",
                "eo:bands": [band],
            }
            for band in sorted(late, key=lambda band: band["name"])
        }
        properties: dict[str, Any] = {
            "gsd": 10,
            "datetime": "<<datetime>>",
            "eo:bands": late,
            "platform": "Sentinel-2",
            "instruments": ["MSI"],
            "constellation": "Sentinel-2",
        }
        extension = "https://stac-extensions.github.io/eo/v1.0.0/schema.json"
        return _late_item(api_url, SOURCE_ID, assets, properties, extension, [])
    described: list[dict[str, Any]] = [
        {"common_name": BAND_NAMES[band][0], "description": BAND_NAMES[band][1], "name": band} for band in bands
    ]
    assets = {
        band["name"]: {
            "description": None,
            "eo:bands": [band],
            "href": _href(api_url, band["name"]),
            "roles": [],
            "title": f"<<name>>_{band['name']}",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
        }
        for band in described
    }
    properties = {
        "constellation": "Sentinel-2",
        "datetime": "<<datetime>>",
        "eo:bands": described,
        "gsd": 30,
        "instruments": ["MSI"],
        "platform": "Sentinel-2",
        "validation:attemptedExtensions": ["eo"],
        "validation:errors": [],
    }
    return _early_item(api_url, SOURCE_ID, assets, properties, "eo", [])


def label_document(api_url: str, generation: int, sources: int) -> dict[str, Any]:
    """Return a label item; fields also: labels, cloud, snow, href_labels and source_<number>."""
    asset: dict[str, Any] = {
        "href": _href(api_url, LABELS),
        "type": "application/geo+json",
        "roles": [],
        "title": "Land Type Classes",
    }
    items = f"{api_url}/collections/{SOURCE_ID}/items/{SOURCE_ID}_"
    hrefs = [f"{items}<<source_{number}>>" for number in range(sources)]
    if generation >= 2022:
        asset["roles"] = ["data", "labels"]
        extension = "https://stac-extensions.github.io/label/v1.0.0/schema.json"
        links = [brief_link("source", href) for href in hrefs]
        return _late_item(api_url, LABELS_ID, {LABELS: asset}, _LABEL_PROPERTIES, extension, links)
    asset["description"] = None
    properties: dict[str, Any] = {
        **_LABEL_PROPERTIES,
        "validation:attemptedExtensions": ["label"],
        "validation:errors": [],
    }
    links = [link("source", href, title="Source imagery") for href in hrefs]
    return _early_item(api_url, LABELS_ID, {LABELS: asset}, properties, "label", links)


def _early_item(
    api_url: str,
    collection: str,
    assets: dict[str, Any],
    properties: dict[str, Any],
    extension: str,
    links: list[dict[str, Any]],
) -> dict[str, Any]:
    """Return an item of 2020 or 2021: no `self` link, no `collection` link, extensions by short name."""
    parent = link("parent", f"{api_url}/collections/{collection}", title="Parent collection")
    return {
        "assets": assets,
        "bbox": "=bbox=",
        "collection": collection,
        "geometry": "=geometry=",
        "id": f"{collection}_<<name>>",
        "links": [parent, *links],
        "properties": properties,
        "stac_extensions": [extension],
        "stac_version": "1.0.0-beta.2",
        "type": "Feature",
    }


def _late_item(
    api_url: str,
    collection: str,
    assets: dict[str, Any],
    properties: dict[str, Any],
    extension: str,
    links: list[dict[str, Any]],
) -> dict[str, Any]:
    """Return an item of 2022."""
    parent = f"{api_url}/collections/{collection}"
    identifier = f"{collection}_<<name>>"
    return {
        "id": identifier,
        "bbox": "=bbox=",
        "type": "Feature",
        "links": [
            brief_link("collection", parent),
            brief_link("parent", parent),
            brief_link("root", f"{api_url}/"),
            brief_link("self", f"{parent}/items/{identifier}", "application/geo+json"),
            *links,
        ],
        "assets": assets,
        "geometry": "=geometry=",
        "collection": collection,
        "properties": properties,
        "stac_version": "1.0.0",
        "stac_extensions": [extension],
    }


def _href(api_url: str, asset: str) -> str:
    return f"{api_url}/download/<<href_{asset}>>"
