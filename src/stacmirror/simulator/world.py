"""Item i of the world: its name, place, date, flags and labels, computed from i and the seed alone.

Asked by every answer. Nothing is stored but the table of 125 scenes, so 590,326 items cost no more than one.
It must not know HTTP, JSON or any generation of the API.
"""

from __future__ import annotations

import bisect
import hashlib
import math
import re
from dataclasses import dataclass
from functools import lru_cache

from .labels import LabelDraw
from .scenes import SCENES, Scene, scenes_of

ITEMS_OF_ARCHIVE = 590_326
SNOW_ITEMS = 61_707  # the archive's own counts; no patch is in both lists
CLOUD_ITEMS = 9_280
PATCH_M = 1_200
GRID = 90  # patches along one side of a scene
SLOTS = SCENES * GRID * GRID  # places for a patch; more than the archive has patches

TEN_METRES = ("B02", "B03", "B04", "B08")
TWENTY_METRES = ("B05", "B06", "B07", "B11", "B12", "B8A")
SIXTY_METRES = ("B01", "B09")
BANDS = tuple(sorted(TEN_METRES + TWENTY_METRES + SIXTY_METRES))
PHANTOM = "B10"  # declared from 2021 on; Sentinel-2 L2A does not have it, so no object stands behind it
LABELS = "labels"
MOVED_TO = "moved/"  # where the trap moved-objects puts objects

_NAME = re.compile(r"(S2[AB]_MSIL2A_\d{8}T\d{5,6})_(\d{1,2})_(\d{1,2})", re.ASCII)
_LABEL_KEY = re.compile(r"bigearthnet/labels/([A-Z0-9_]+)\.geojson", re.ASCII)
_BAND_KEY = re.compile(r"bigearthnet/([A-Z0-9_]+)/\1_(B[0-9A]{2})\.tif", re.ASCII)


@dataclass(frozen=True, slots=True)
class Patch:
    """One patch of 1.2 x 1.2 km: `ulx`, `uly` are metres of its upper left corner in the scene's UTM zone."""

    index: int
    name: str
    scene: Scene
    ulx: int
    uly: int


class World:
    """All items of one seed, by number in order of insertion, 0..items-1."""

    def __init__(
        self, seed: int, items: int, *, labels_a_source: int = 1, sources_a_label: int = 1, moved: bool = False
    ) -> None:
        self._sharing = labels_a_source
        self._sources = sources_a_label
        self._moved = moved
        self.items = items
        self.seed = seed
        self._scenes = scenes_of(seed)
        self._scene_number = {scene.name: number for number, scene in enumerate(self._scenes)}
        # Item i stands in slot i*a + b (mod SLOTS): no two alike, scattered as in the real listing, and
        # invertible. SCENES divides SLOTS, so the items of one scene are every 125th one: their number is
        # arithmetic, not a count.
        self._factor = _coprime_near(SLOTS * 0.6180339887, SLOTS)
        self._shift = _number(seed, "slots") % SLOTS
        self._inverse = pow(self._factor, -1, SLOTS)
        self._flag_factor = _coprime_near(ITEMS_OF_ARCHIVE * 0.6180339887, ITEMS_OF_ARCHIVE)
        self._flag_shift = _number(seed, "flags") % ITEMS_OF_ARCHIVE
        self._draw = LabelDraw(seed)
        self.patch = lru_cache(maxsize=512)(self._patch)
        # Newest first: the scenes' table is in order of time, so walk it backwards, adding up how many items
        # each has.
        self._newest = tuple(reversed(range(SCENES)))
        self._before = [0]
        for scene in self._newest:
            first = self._first_of_scene(scene)
            count = 0 if first >= items else (items - 1 - first) // SCENES + 1
            self._before.append(self._before[-1] + count)
        self._newest_rank = {scene: rank for rank, scene in enumerate(self._newest)}

    def index_of(self, name: str) -> int | None:
        """Return the number of the patch with this name, None if the world has none."""
        found = _NAME.fullmatch(name)
        scene = self._scene_number.get(found.group(1)) if found else None
        if found is None or scene is None:
            return None
        across, down = int(found.group(2)), int(found.group(3))
        slot = (across * GRID + down) * SCENES + scene
        if across >= GRID or down >= GRID:
            return None
        index = (slot - self._shift) * self._inverse % SLOTS
        # The name must be written as we write it: `_07_5` is no patch, though its number would be found.
        return index if index < self.items and self.patch(index).name == name else None

    def key_of(self, index: int, asset: str) -> str:
        """Return the key of an object, where it is now."""
        key = object_key(self.patch(index).name, asset)
        return MOVED_TO + key if self._moved and index >= self.items // 2 else key

    def find_key(self, key: str) -> tuple[int, str] | None:
        """Return (item number, `labels` or band) of an object key, None if no such object exists."""
        if self._moved:
            found = self._find_key(key.removeprefix(MOVED_TO))
            return found if found is not None and self.key_of(*found) == key else None
        return self._find_key(key)

    def _find_key(self, key: str) -> tuple[int, str] | None:
        label = _LABEL_KEY.fullmatch(key)
        if label:
            index = self.index_of(label.group(1))
            return None if index is None else (index, LABELS)
        band = _BAND_KEY.fullmatch(key)
        if band is None or band.group(2) not in BANDS:
            return None
        index = self.index_of(band.group(1))
        return None if index is None else (index, band.group(2))

    def newest(self, position: int) -> int:
        """Return the item at this position, newest first; those of one date in order of insertion."""
        rank = bisect.bisect_right(self._before, position) - 1
        return self._first_of_scene(self._newest[rank]) + (position - self._before[rank]) * SCENES

    def newest_position(self, index: int) -> int:
        """Return the position of an item, newest first: the inverse of `newest`."""
        scene = (index * self._factor + self._shift) % SCENES
        return self._before[self._newest_rank[scene]] + (index - self._first_of_scene(scene)) // SCENES

    def seasonal_snow(self, index: int) -> bool:
        """Say whether the patch is on the snow list; exactly 61,707 of 590,326 are."""
        return self._flag(index) < SNOW_ITEMS

    def cloud_and_shadow(self, index: int) -> bool:
        """Say whether the patch is on the cloud list; exactly 9,280 of 590,326 are."""
        return SNOW_ITEMS <= self._flag(index) < SNOW_ITEMS + CLOUD_ITEMS

    def labels(self, index: int) -> list[str]:
        """Return the patch's one to five classes."""
        return self._draw.labels(index)

    def sources_of(self, index: int) -> tuple[int, ...]:
        """Return the numbers of the source items that a label item links to.

        The first is its own or, where labels share, that of the group's first label; the others follow it.
        """
        first = index - index % self._sharing
        return tuple((first + step) % self.items for step in range(self._sources))

    def _flag(self, index: int) -> int:
        return (index * self._flag_factor + self._flag_shift) % ITEMS_OF_ARCHIVE

    def _first_of_scene(self, scene: int) -> int:
        return (scene - self._shift) * self._inverse % SCENES

    def _patch(self, index: int) -> Patch:
        if not 0 <= index < self.items:
            raise IndexError(f"item {index} of {self.items}")
        place, number = divmod((index * self._factor + self._shift) % SLOTS, SCENES)
        across, down = divmod(place, GRID)
        scene = self._scenes[number]
        name = f"{scene.name}_{across}_{down}"
        return Patch(index, name, scene, scene.ulx + PATCH_M * across, scene.uly - PATCH_M * down)


def object_key(patch: str, asset: str) -> str:
    """Return the object's key in bucket and blob host, as the recorded redirects have it."""
    if asset == LABELS:
        return f"bigearthnet/labels/{patch}.geojson"
    return f"bigearthnet/{patch}/{patch}_{asset}.tif"


def _number(seed: int, purpose: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest(), "little")


def _coprime_near(start: float, modulus: int) -> int:
    candidate = int(start)
    while math.gcd(candidate, modulus) != 1:
        candidate += 1
    return candidate
