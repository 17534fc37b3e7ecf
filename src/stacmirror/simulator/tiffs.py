"""The bytes of a band: an uncompressed uint16 GeoTIFF, written by hand, as long to the byte as the real ones.

Called by `files`. 29,192 bytes for 120 x 120 pixels, 7,560 for 60 x 60, 1,160 for 20 x 20: a header of 360
bytes as GDAL writes it, and 32 more where the image does not fit one strip of 8 KiB. It must not know items,
only places and numbers.
"""

from __future__ import annotations

import hashlib
import struct
from functools import lru_cache

from .world import BANDS, PATCH_M, SIXTY_METRES, TEN_METRES, Patch

_POOL_PIXELS = 65_536
_STRIP_BYTES = 8_192
_SHORT, _LONG, _DOUBLE, _ASCII = 3, 4, 12, 2


def side_pixels(band: str) -> int:
    """Return the number of pixels along one side: 120, 60 or 20."""
    if band in TEN_METRES:
        return 120
    return 20 if band in SIXTY_METRES else 60


class Tiffs:
    """Makes band images under a seed.

    Pixels are rows cut from a pool of noise, one pool a band, at offsets that item and band decide: seven
    times as fast as hashing every pixel (12 us against 79 us for the largest), and two images are as unlikely
    to be the same.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._pools = {band: _pool(seed, number, band) for number, band in enumerate(BANDS)}

    def make(self, patch: Patch, band: str) -> bytes:
        """Return the file; the same for the same seed, item and band."""
        side = side_pixels(band)
        row = side * 2
        pool = self._pools[band]
        draw = hashlib.shake_128(b"%d/%d/%s" % (self._seed, patch.index, band.encode())).digest(row)
        starts = struct.unpack(f"<{side}H", draw)
        rows = [pool[start * 2 : start * 2 + row] for start in starts]
        return b"".join([header(side, patch.scene.zone, patch.ulx, patch.uly), *rows])


def _pool(seed: int, number: int, band: str) -> bytes:
    """Return noise of 12 bits; each band has its own darkest and brightest values."""
    length = _POOL_PIXELS + 120  # a row may start at the last pixel
    raw = hashlib.shake_128(f"{seed}/pool/{band}".encode()).digest(length * 2)
    low = 1 + number % 4
    high_bytes = bytes(low + value % (16 - low) if value < 64 else low + value % 3 for value in range(256))
    pool = bytearray(raw)
    pool[1::2] = raw[1::2].translate(high_bytes)
    return bytes(pool)


def header(side: int, zone: int, ulx: int, uly: int) -> bytes:
    """Return all of the file before its pixels: header, directory, georeference."""
    before, after = _header_around_corner(side, zone)
    return b"%b%b%b" % (before, struct.pack("<2d", ulx, uly), after)


@lru_cache(maxsize=32)
def _header_around_corner(side: int, zone: int) -> tuple[bytes, bytes]:
    """Return the header before and after the corner's coordinates, all that differs by patch.

    Source: TIFF 6.0, section 2; OGC GeoTIFF 1.1, annex B. Tags stand in ascending order, values after the
    directory.
    """
    pixel_m = PATCH_M // side
    rows = min(side, _STRIP_BYTES // (side * 2))
    strips = [min(rows, side - first) * side * 2 for first in range(0, side, rows)]
    citation = f"WGS 84 / UTM zone {zone}N|".encode()
    ellipsoid = b"WGS 84|"
    ascii_params = citation + ellipsoid + b"\0"
    geo_keys = (
        *(1, 1, 0, 7),
        *(1024, 0, 1, 1),  # model: projected
        *(1025, 0, 1, 1),  # pixel is area
        *(1026, 34737, len(citation), 0),
        *(2049, 34737, len(ellipsoid), len(citation)),
        *(2054, 0, 1, 9102),  # degrees
        *(3072, 0, 1, 32600 + zone),  # EPSG code of the projection
        *(3076, 0, 1, 9001),  # metres
    )
    tags = 15
    values_at = 8 + 2 + 12 * tags + 4
    values = bytearray()

    def beside(data: bytes) -> int:
        offset = values_at + len(values)
        values.extend(data)
        return offset

    scale_at = beside(struct.pack("<3d", pixel_m, pixel_m, 0))
    tie_at = beside(bytes(6 * 8))
    keys_at = beside(struct.pack(f"<{len(geo_keys)}H", *geo_keys))
    ascii_at = beside(ascii_params)
    several = len(strips) > 1
    counts_at = beside(struct.pack(f"<{len(strips)}I", *strips)) if several else strips[0]
    pixels_at = values_at + len(values) + (4 * len(strips) if several else 0)
    firsts = [pixels_at + sum(strips[:number]) for number in range(len(strips))]
    firsts_at = beside(struct.pack(f"<{len(firsts)}I", *firsts)) if several else firsts[0]
    entries = (
        (256, _SHORT, 1, side),
        (257, _SHORT, 1, side),
        (258, _SHORT, 1, 16),
        (259, _SHORT, 1, 1),  # not compressed
        (262, _SHORT, 1, 1),  # black is zero
        (273, _LONG, len(strips), firsts_at),
        (277, _SHORT, 1, 1),
        (278, _SHORT, 1, rows),
        (279, _LONG, len(strips), counts_at),
        (284, _SHORT, 1, 1),
        (339, _SHORT, 1, 1),  # unsigned
        (33550, _DOUBLE, 3, scale_at),
        (33922, _DOUBLE, 6, tie_at),
        (34735, _SHORT, len(geo_keys), keys_at),
        (34737, _ASCII, len(ascii_params), ascii_at),
    )
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    whole = struct.pack("<2sHIH", b"II", 42, 8, tags) + directory + bytes(4) + values
    # The tie point is pixel (0, 0, 0), then the corner (x, y, 0).
    corner_at = tie_at + 3 * 8
    return whole[:corner_at], whole[corner_at + 2 * 8 :]
