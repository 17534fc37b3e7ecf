"""STAC pages, source items and collections as files, in the shape of the MLHub API of 2022.

Written by `bench` for `origin`, once for each way to the files. The shapes are the simulator's; two things differ on
purpose: links name item and asset instead of carrying a token, and B10 is left out, which in the archive no object
stands behind, so that every client fetches the same files. It knows no server's configuration.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from stacmirror.simulator.catalog import LABELS_ID, SOURCE_ID, collection, collections
from stacmirror.simulator.scenes import degrees
from stacmirror.simulator.shapes import BAND_NAMES, label_document, source_document
from stacmirror.simulator.templates import Template
from stacmirror.simulator.world import BANDS, LABELS, PATCH_M, PHANTOM, Patch, World

GENERATION = 2022
PAGE_ITEMS = 100
"""Items a page, whatever `limit` says: the product's default."""
COLLECTIONS = (LABELS_ID, SOURCE_ID)


class ItemTexts:
    """Items as JSON text. `s3_base` (`s3://bucket`), where it is set, takes the place of the download links."""

    def __init__(self, world: World, api_url: str, s3_base: str = "") -> None:
        self._world = world
        self._downloads = f"{api_url}/download"
        self._s3_base = s3_base
        source = source_document(api_url, GENERATION, tuple(BAND_NAMES))
        del source["assets"][PHANTOM]
        self._source = Template(source, indent=None)
        self._label = Template(label_document(api_url, GENERATION, 1), indent=None)

    def label(self, index: int) -> str:
        """Return a label item: one asset, and a link to its source item."""
        patch = self._world.patch(index)
        values = self._values(patch)
        values["labels"] = json.dumps(self._world.labels(index))
        values["cloud"] = f'"{str(self._world.cloud_and_shadow(index)).lower()}"'
        values["snow"] = f'"{str(self._world.seasonal_snow(index)).lower()}"'
        values["href_labels"] = f"{patch.name}/{LABELS}"
        values["source_0"] = patch.name
        return self._aimed(self._label.fill(values))

    def source(self, index: int) -> str:
        """Return a source item: twelve bands."""
        patch = self._world.patch(index)
        values = self._values(patch) | {f"href_{band}": f"{patch.name}/{band}" for band in BANDS}
        return self._aimed(self._source.fill(values))

    def _aimed(self, text: str) -> str:
        return text.replace(self._downloads, self._s3_base) if self._s3_base else text

    def _values(self, patch: Patch) -> dict[str, str]:
        corners = [
            degrees(patch.scene.zone, patch.ulx + across * PATCH_M, patch.uly - down * PATCH_M)
            for across, down in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))
        ]
        longitudes, latitudes = zip(*corners, strict=True)
        return {
            "name": patch.name,
            "datetime": f"{patch.scene.sensed:%Y-%m-%dT%H:%M:%SZ}",
            "geometry": json.dumps({"type": "Polygon", "coordinates": [corners]}),
            "bbox": json.dumps([min(longitudes), min(latitudes), max(longitudes), max(latitudes)]),
        }


def page_text(texts: list[str], api_url: str, total: int, next_token: str) -> str:
    """Return a page of label items; `next_token` is "" on the last one."""
    items_url = f"{api_url}/collections/{LABELS_ID}/items"
    links: list[dict[str, str]] = [{"rel": "self", "type": "application/geo+json", "href": items_url}]
    if next_token:
        # As in 2022: the token is percent-encoded, and the limit is left out.
        href = f"{items_url}?token={next_token.replace(':', '%3A')}"
        links.append({"rel": "next", "type": "application/json", "method": "GET", "href": href})
    context = json.dumps({"limit": PAGE_ITEMS, "matched": total, "returned": len(texts)})
    features = ",".join(texts)
    return f'{{"type":"FeatureCollection","context":{context},"features":[{features}],"links":{json.dumps(links)}}}'


def write_documents(root: Path, world: World, api_url: str, s3_base: str = "") -> None:
    """Write what `origin` serves below one API root, each document plain and gzipped, as 2022 gave both.

    root/pages/<n>, root/items/<source item id>, root/collections/<id>, root/collections.json
    """
    texts = ItemTexts(world, api_url, s3_base)
    for first in range(0, world.items, PAGE_ITEMS):
        after = min(first + PAGE_ITEMS, world.items)
        number = first // PAGE_ITEMS
        token = f"next:page-{number + 1}" if after < world.items else ""
        items = [texts.label(index) for index in range(first, after)]
        _write(root / "pages" / str(number), page_text(items, api_url, world.items, token))
    for index in range(world.items):
        _write(root / "items" / f"{SOURCE_ID}_{world.patch(index).name}", texts.source(index))
    for name in COLLECTIONS:
        _write(root / "collections" / name, _json(collection(name, api_url, GENERATION)))
    _write(root / "collections.json", _json(collections(api_url, GENERATION)))


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    Path(f"{path}.gz").write_bytes(gzip.compress(text.encode(), compresslevel=1, mtime=0))
