"""The 125 Sentinel-2 scenes of the world: mission, time and tile, and where they lie on the globe.

Made once by the world. Tiles lie in the archive's ten countries; their names follow from the military grid.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

SCENES = 125
FIRST = datetime(2017, 6, 13, 10, 10, 31, tzinfo=UTC)  # the recorded collection's temporal extent
LAST = datetime(2018, 5, 29, 11, 54, 1, tzinfo=UTC)
# UTM zone, then the range of tile columns and rows in 100 km steps, a line for each country (or two of them).
REGIONS = (
    (29, 5, 6, 42, 46),  # Portugal
    (29, 4, 6, 57, 61),  # Ireland
    (31, 5, 6, 54, 56),  # Belgium, Luxembourg
    (32, 3, 5, 51, 52),  # Switzerland
    (33, 3, 6, 52, 53),  # Austria
    (34, 4, 5, 47, 50),  # Serbia
    (34, 4, 5, 46, 47),  # Kosovo
    (34, 4, 6, 61, 62),  # Lithuania
    (35, 3, 5, 67, 75),  # Finland
)
_COLUMNS = ("STUVWXYZ", "ABCDEFGH", "JKLMNPQR")  # by zone modulo 3
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_LATITUDES = "CDEFGHJKLMNPQRSTUVWX"


@dataclass(frozen=True, slots=True)
class Scene:
    """`name` is the product's name as patches carry it; `ulx`, `uly` its upper left corner in metres."""

    name: str
    source: str
    sensed: datetime
    zone: int
    ulx: int
    uly: int


def scenes_of(seed: int) -> tuple[Scene, ...]:
    """Return the scenes of a seed, oldest first, no two of one time."""
    return tuple(_scene(seed, number) for number in range(SCENES))


def _scene(seed: int, number: int) -> Scene:
    draw = hashlib.blake2b(f"{seed}/scene/{number}".encode(), digest_size=16).digest()
    sensed = _sensed(number, draw)
    zone, west, east, south, north = REGIONS[draw[4] % len(REGIONS)]
    column = west + draw[5] % (east - west + 1)
    row = south + draw[6] % (north - south + 1)
    # Sentinel-2 tiles start on a 60 m grid, up to 40 m beside the round 100 km.
    ulx = column * 100_000 + (0, -40, -20)[column % 3]
    uly = row * 100_000 + (0, 20, 40)[row % 3]
    mission = "S2A" if draw[7] % 2 else "S2B"
    stamp = f"{sensed:%Y%m%dT%H%M%S}"
    # Some real names lack the hour's leading zero: do not parse them strictly.
    written = stamp.replace("T0", "T", 1) if draw[8] % 2 else stamp
    orbit = f"R{draw[9] % 143 + 1:03}"
    made = f"{sensed + timedelta(seconds=300 + draw[10]):%Y%m%dT%H%M%S}"
    source = f"{mission}_MSIL1C_{stamp}_N0205_{orbit}_T{tile_name(zone, ulx, uly)}_{made}.SAFE"
    return Scene(f"{mission}_MSIL2A_{written}", source, sensed, zone, ulx, uly)


def _sensed(number: int, draw: bytes) -> datetime:
    if number in (0, SCENES - 1):
        return FIRST if number == 0 else LAST
    day = FIRST.date() + timedelta(days=number * (LAST.date() - FIRST.date()).days // (SCENES - 1))
    second = 9 * 3600 + 20 * 60 + int.from_bytes(draw[:4], "little") % 9_000
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=second)


def tile_name(zone: int, ulx: int, uly: int) -> str:
    """Return the military grid's name of the tile, such as `33UUP`, by the 100 km square it starts."""
    column = _COLUMNS[zone % 3][round(ulx / 100_000) - 1]
    square = round(uly / 100_000) - 1
    row = _ROWS[(square + (5 if zone % 2 == 0 else 0)) % 20]
    _, latitude = degrees(zone, ulx + 55_000, uly - 55_000)
    return f"{zone}{_LATITUDES[int((latitude + 80) // 8)]}{column}{row}"


def degrees(zone: int, easting: float, northing: float) -> tuple[float, float]:
    """Return longitude and latitude (WGS 84) of a point in a northern UTM zone.

    Source: J. P. Snyder, Map Projections - A Working Manual, USGS 1395, pages 63-64.
    """
    axis, square = 6_378_137.0, 0.00669437999014
    second = square / (1 - square)
    ratio = (1 - math.sqrt(1 - square)) / (1 + math.sqrt(1 - square))
    arc = northing / 0.9996 / (axis * (1 - square / 4 - 3 * square**2 / 64 - 5 * square**3 / 256))
    foot = (
        arc
        + (3 * ratio / 2 - 27 * ratio**3 / 32) * math.sin(2 * arc)
        + (21 * ratio**2 / 16 - 55 * ratio**4 / 32) * math.sin(4 * arc)
        + 151 * ratio**3 / 96 * math.sin(6 * arc)
    )
    sine, cosine, tangent = math.sin(foot), math.cos(foot), math.tan(foot)
    c, t = second * cosine**2, tangent**2
    across = axis / math.sqrt(1 - square * sine**2)
    along = axis * (1 - square) / (1 - square * sine**2) ** 1.5
    d = (easting - 500_000) / (across * 0.9996)
    bend = (5 + 3 * t + 10 * c - 4 * c**2 - 9 * second) * d**4 / 24
    latitude = foot - across * tangent / along * (d**2 / 2 - bend)
    twist = (5 - 2 * c + 28 * t - 3 * c**2 + 8 * second + 24 * t**2) * d**5 / 120
    longitude = math.radians(zone * 6 - 183) + (d - (1 + 2 * t + c) * d**3 / 6 + twist) / cosine
    return math.degrees(longitude), math.degrees(latitude)
