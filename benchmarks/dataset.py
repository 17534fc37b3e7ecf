"""The files that everyone fetches: 800 items x 13 files, 137 MB, sizes as BigEarthNet's.

Made by `bench` once a session, served by `origin`, compared by `measure`. Bytes are random but the same in every
session, sizes vary by a tenth around those of the real bands. It knows neither servers nor clients.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stacmirror.simulator.world import BANDS, LABELS, SIXTY_METRES, TWENTY_METRES, World

SEED = 1
ITEMS = 800
FILES_AN_ITEM = 1 + len(BANDS)
_TIFF = b"II*\0"
"""How a TIFF begins, which is looked at; the rest is random."""
_SIXTY_BYTES, _TWENTY_BYTES, _TEN_BYTES, _LABEL_BYTES = 1_100, 8_100, 30_300, 1_000


@dataclass(frozen=True)
class File:
    """One asset: `path` is `<item>/<asset>`, the same in download links, on the file ports and in the bucket."""

    item: str
    asset: str
    size_bytes: int
    crc: int
    md5: bytes

    @property
    def path(self) -> str:
        return f"{self.item}/{self.asset}"

    @property
    def md5_base64(self) -> str:
        return base64.b64encode(self.md5).decode()


@dataclass(frozen=True)
class Contents:
    """What a folder must hold after a run: files, bytes, and the sum of the files' CRC-32s."""

    files: int
    size_bytes: int
    crc_sum: int


@dataclass(frozen=True)
class Dataset:
    """The files below `root`, in the order of the listing."""

    root: Path
    files: tuple[File, ...]

    @property
    def items(self) -> int:
        return len(self.files) // FILES_AN_ITEM

    def contents(self, items_max: int | None = None) -> Contents:
        """Return what a folder holds that has all files, or those of the first `items_max` items."""
        chosen = self.files if items_max is None else self.files[: items_max * FILES_AN_ITEM]
        return Contents(len(chosen), sum(file.size_bytes for file in chosen), sum(file.crc for file in chosen))


def make_dataset(root: Path, items: int = ITEMS) -> Dataset:
    """Write the files below `root` and return them, item by item."""
    files: list[File] = []
    for file, body in _bodies(items):
        path = root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        files.append(file)
    return Dataset(root, tuple(files))


def _bodies(items: int) -> Iterator[tuple[File, bytes]]:
    source = random.Random(SEED)
    world = World(SEED, items)
    for index in range(items):
        name = world.patch(index).name
        for asset in (LABELS, *BANDS):
            body = (
                _label_body(source) if asset == LABELS else _TIFF + source.randbytes(_size(asset, source) - len(_TIFF))
            )
            md5 = hashlib.md5(body, usedforsecurity=False).digest()
            yield File(name, asset, len(body), zlib.crc32(body), md5), body


def _size(asset: str, source: random.Random) -> int:
    middle = _SIXTY_BYTES if asset in SIXTY_METRES else _TWENTY_BYTES if asset in TWENTY_METRES else _TEN_BYTES
    return int(middle * source.uniform(0.9, 1.1))


def _band_body(asset: str, source: random.Random) -> bytes:
    return _TIFF + source.randbytes(_size(asset, source) - len(_TIFF))


def _label_body(source: random.Random) -> bytes:
    padding = source.randbytes(int(_LABEL_BYTES * source.uniform(0.38, 0.46))).hex()
    return json.dumps({"type": "FeatureCollection", "features": [], "padding": padding}).encode()
