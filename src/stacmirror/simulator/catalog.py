"""Root and collections as JSON, per generation.

Called by `api` once, at the start. 2021 as recorded: no `type`, no items link, a bounding box that is wrong;
2022 as recorded. Nobody recorded a collection of 2020; the simulator shows that of 2021, the nearest later
one.
"""

from __future__ import annotations

import json
from typing import Any

LABELS_ID = "bigearthnet_v1_labels"
SOURCE_ID = "bigearthnet_v1_source"
COLLECTION_IDS = (LABELS_ID, SOURCE_ID)

_CITATION = (
    'G. Sumbul, M. Charfuelan, B. Demir, V. Markl, "BigEarthNet: A Large-Scale Benchmark Archive for Remote '
    'Sensing Image Understanding", IEEE International Geoscience and Remote Sensing Symposium, '
    "pp. 5901-5904, Yokohama, Japan, 2019."
)
_DOI = "10.14279/depositonce-10149"
_LICENSE = "CDLA-Permissive-1.0"
_INTERVAL = [["2017-06-13T10:10:31Z", "2018-05-29T11:54:01Z"]]
_WRONG_BBOX = [[-9.00023345437725, 1.7542686833884724, 83.44558248555553, 68.02168200047284]]
_RIGHT_BBOX = [[-9.00023345437725, 36.956956702083396, 31.598439091981028, 68.02168200047284]]


def dump(value: object, generation: int) -> str:
    """Return JSON as the generation wrote it: indented and sorted by gunicorn, compact in 2022."""
    if generation < 2022:
        return json.dumps(value, indent=4, sort_keys=True) + "\n"
    return json.dumps(value, separators=(",", ":"))


def link(rel: str, href: str, media_type: str = "application/json", title: str | None = None) -> dict[str, Any]:
    """Return a link as the early generations wrote it, `title` and all."""
    return {"href": href, "rel": rel, "title": title, "type": media_type}


def brief_link(rel: str, href: str, media_type: str = "application/json") -> dict[str, Any]:
    """Return a link as 2022 wrote it."""
    return {"rel": rel, "type": media_type, "href": href}


def collection(identifier: str, api_url: str, generation: int) -> dict[str, Any]:
    """Return one collection."""
    itself = f"{api_url}/collections/{identifier}"
    if generation >= 2022:
        extension = "label" if identifier == LABELS_ID else "eo"
        return {
            "id": identifier,
            "type": "Collection",
            "links": [
                brief_link("items", f"{itself}/items", "application/geo+json"),
                brief_link("parent", f"{api_url}/"),
                brief_link("root", f"{api_url}/"),
                brief_link("self", itself),
            ],
            "title": None,
            "extent": {"spatial": {"bbox": _RIGHT_BBOX}, "temporal": {"interval": _INTERVAL}},
            "license": _LICENSE,
            "sci:doi": _DOI,
            "providers": [{"url": "http://bigearth.net", "name": "BigEarthNet", "roles": ["processor", "licensor"]}],
            "description": "BigEarthNet v1.0",
            "sci:citation": _CITATION,
            "stac_version": "1.0.0",
            "stac_extensions": [
                f"https://stac-extensions.github.io/{extension}/v1.0.0/schema.json",
                "https://stac-extensions.github.io/scientific/v1.0.0/schema.json",
            ],
        }
    found: dict[str, Any] = {
        "description": "BigEarthNet v1.0",
        "extent": {"spatial": {"bbox": _WRONG_BBOX}, "temporal": {"interval": _INTERVAL}},
        "id": identifier,
        "keywords": [],
        "license": _LICENSE,
        "links": [link("self", itself), link("root", api_url)],
        "properties": {},
        "providers": [
            {
                "description": None,
                "name": "BigEarthNet",
                "roles": ["processor", "licensor"],
                "url": "http://bigearth.net",
            }
        ],
        "sci:citation": _CITATION,
        "sci:doi": _DOI,
        "stac_extensions": ["label" if identifier == LABELS_ID else "eo", "scientific"],
        "stac_version": "1.0.0-beta.2",
        "summaries": {},
        "title": None,
    }
    if identifier == LABELS_ID:
        found["assets"] = {}
    return found


def collections(api_url: str, generation: int) -> dict[str, Any]:
    """Return the list of collections, never paged."""
    both = [collection(identifier, api_url, generation) for identifier in COLLECTION_IDS]
    if generation >= 2022:
        links = [brief_link("root", f"{api_url}/"), brief_link("self", f"{api_url}/collections")]
        return {"collections": both, "links": links}
    return {"collections": both, "links": [link("self", f"{api_url}/collections"), link("root", api_url)]}


def root(api_url: str, generation: int) -> dict[str, Any]:
    """Return the landing page."""
    make = brief_link if generation >= 2022 else link
    found: dict[str, Any] = {
        "id": "mlhub",
        "title": "Radiant MLHub API (simulated)",
        "description": "A local simulation of the retired Radiant MLHub API; its pixels are noise.",
        "stac_version": "1.0.0" if generation >= 2022 else "1.0.0-beta.2",
        "links": [
            make("self", f"{api_url}/"),
            make("root", f"{api_url}/"),
            make("data", f"{api_url}/collections"),
            *(make("child", f"{api_url}/collections/{identifier}") for identifier in COLLECTION_IDS),
        ],
    }
    if generation >= 2022:
        found["type"] = "Catalog"
        found["conformsTo"] = [
            "https://api.stacspec.org/v1.0.0-beta.3/core",
            "https://api.stacspec.org/v1.0.0-beta.3/ogcapi-features",
            "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
            "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
        ]
    return found
