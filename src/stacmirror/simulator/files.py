"""The files behind the links: their bytes and digests, made when asked for, the last few kept.

Called by both storage hosts and by tests (`expected_files`). The few that are kept let HEAD, ranges and
repeated requests of one file make it once. It must not know HTTP.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from .large import LargeFile
from .tiffs import Tiffs
from .world import LABELS, PATCH_M, World

KEPT_FILES = 64  # under 2 MB


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file's bytes with their MD5 and media type."""

    body: bytes
    md5: bytes
    media_type: str

    @property
    def size(self) -> int:
        """How long it is."""
        return len(self.body)

    def part(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to `end`."""
        return self.body[start:end]


class Files:
    """All files of a world, by item number and asset key. `large` says which assets are large: bytes by key."""

    def __init__(self, world: World, large: Mapping[str, int] | None = None) -> None:
        self._world = world
        self._large = dict(large or {})
        self._versions: dict[tuple[int, str], int] = {}
        self._tiffs = Tiffs(world.seed)
        self.get = lru_cache(maxsize=KEPT_FILES)(self._get)

    def large(self, index: int, asset: str) -> LargeFile | None:
        """Return the large file behind an asset, None if it is an ordinary one."""
        size = self._large.get(asset)
        if size is None:
            return None
        return LargeFile(self._world.seed, index, asset, self._versions.get((index, asset), 0), size)

    def change(self, index: int, asset: str) -> None:
        """Put another version in the place of a large file: as long, other bytes, another ETag."""
        self._versions[index, asset] = self._versions.get((index, asset), 0) + 1

    def _get(self, index: int, asset: str) -> StoredFile:
        if asset == LABELS:
            body, media_type = self._labels(index), "application/geo+json"
        else:
            body, media_type = self._tiffs.make(self._world.patch(index), asset), "image/tiff"
        return StoredFile(body, hashlib.md5(body, usedforsecurity=False).digest(), media_type)

    def _labels(self, index: int) -> bytes:
        """Return the label file: the archive's `labels_metadata.json`, by MLHub named `<patch>.geojson`."""
        patch = self._world.patch(index)
        content = {
            "labels": self._world.labels(index),
            "coordinates": {
                "ulx": patch.ulx,
                "uly": patch.uly,
                "lrx": patch.ulx + PATCH_M,
                "lry": patch.uly - PATCH_M,
            },
            "projection": _projection(patch.scene.zone),
            "tile_source": patch.scene.source,
            "acquisition_date": f"{patch.scene.sensed:%Y-%m-%d %H:%M:%S}",
        }
        return json.dumps(content).encode()


def _projection(zone: int) -> str:
    return (
        f'PROJCS["WGS 84 / UTM zone {zone}N",GEOGCS["WGS 84",DATUM["WGS_1984",'
        'SPHEROID["WGS 84",6378137,298.257223563,AUTHORITY["EPSG","7030"]],AUTHORITY["EPSG","6326"]],'
        'PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],'
        'UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]],AUTHORITY["EPSG","4326"]],'
        'PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],'
        f'PARAMETER["central_meridian",{zone * 6 - 183}],PARAMETER["scale_factor",0.9996],'
        'PARAMETER["false_easting",500000],PARAMETER["false_northing",0],'
        'UNIT["metre",1,AUTHORITY["EPSG","9001"]],AXIS["Easting",EAST],AXIS["Northing",NORTH],'
        f'AUTHORITY["EPSG","{32600 + zone}"]]'
    )
