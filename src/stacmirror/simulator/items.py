"""STAC items, filled in: links, place, flags and labels of item i.

Called by `api` for single items and pages. What an item looks like is the business of `shapes`.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from .catalog import LABELS_ID, SOURCE_ID
from .scenes import degrees
from .settings import SimulatorSettings
from .shapes import BAND_NAMES, label_document, source_document
from .templates import Template
from .tokens import Tokens
from .world import LABELS, PATCH_M, PHANTOM, Patch, World


class ItemWriter:
    """Writes items; every call issues new download links."""

    def __init__(
        self,
        settings: SimulatorSettings,
        world: World,
        tokens: Tokens,
        api_url: str,
        clock: Callable[[], float],
    ) -> None:
        self._world = world
        self._tokens = tokens
        self._clock = clock
        self._generation = settings.generation
        self._bands = tuple(band for band in BAND_NAMES if band != PHANTOM or settings.generation >= 2021)
        indent, depth = (4, 2) if settings.generation < 2022 else (None, 0)
        label = label_document(api_url, settings.generation, settings.sources_a_label())
        source = source_document(api_url, settings.generation, self._bands)
        self._alone = {
            LABELS_ID: Template(label, indent=indent),
            SOURCE_ID: Template(source, indent=indent),
        }
        self._nested = {
            LABELS_ID: Template(label, indent=indent, depth=depth),
            SOURCE_ID: Template(source, indent=indent, depth=depth),
        }

    def write(self, collection: str, index: int, *, nested: bool = False) -> str:
        """Return one item as JSON text, laid out for a page if `nested`."""
        patch = self._world.patch(index)
        now = self._clock()
        values = {"name": patch.name, "datetime": f"{patch.scene.sensed:%Y-%m-%dT%H:%M:%SZ}"}
        values["geometry"], values["bbox"] = self._place(patch)
        if collection == LABELS_ID:
            values["labels"] = json.dumps(self._world.labels(index))
            values["cloud"] = self._boolean(self._world.cloud_and_shadow(index))
            values["snow"] = self._boolean(self._world.seasonal_snow(index))
            values["href_labels"] = self._tokens.issue(index, LABELS, now)
            for number, source in enumerate(self._world.sources_of(index)):
                values[f"source_{number}"] = self._world.patch(source).name
        else:
            for band in self._bands:
                values[f"href_{band}"] = self._tokens.issue(index, band, now)
        return (self._nested if nested else self._alone)[collection].fill(values)

    def _boolean(self, value: bool) -> str:
        text = "true" if value else "false"
        return text if self._generation == 2020 else f'"{text}"'

    def _place(self, patch: Patch) -> tuple[str, str]:
        """Return geometry and bounding box as JSON.

        Until 2021 one corner is far off in every item, as in 60 of 60 recorded ones, and the box with it.
        """
        west, north, east, south = patch.ulx, patch.uly, patch.ulx + PATCH_M, patch.uly - PATCH_M
        ring = [
            list(degrees(patch.scene.zone, x, y))
            for x, y in ((west, north), (east, north), (east, south), (west, south))
        ]
        if self._generation < 2022:
            longitude, latitude = ring[2]
            ring[2] = [48.3 + longitude, latitude - 35.0]
        longitudes, latitudes = zip(*ring, strict=True)
        bbox = [min(longitudes), min(latitudes), max(longitudes), max(latitudes)]
        return json.dumps({"coordinates": [[*ring, ring[0]]], "type": "Polygon"}), json.dumps(bbox)
