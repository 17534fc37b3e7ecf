"""The 43 CORINE classes of BigEarthNet, and which of them a patch has.

Asked by the world. The weights follow the archive's class counts roughly (thousands of patches), so that a
filter for `Airports` finds about as little as it did in reality.
"""

from __future__ import annotations

import bisect
import hashlib
import struct
from itertools import accumulate

CLASS_WEIGHTS: dict[str, float] = {
    "Agro-forestry areas": 30.7,
    "Airports": 1.0,
    "Annual crops associated with permanent crops": 7.0,
    "Bare rock": 3.3,
    "Beaches, dunes, sands": 1.6,
    "Broad-leaved forest": 150.9,
    "Burnt areas": 0.3,
    "Coastal lagoons": 1.5,
    "Complex cultivation patterns": 107.8,
    "Coniferous forest": 211.7,
    "Construction sites": 1.2,
    "Continuous urban fabric": 10.8,
    "Discontinuous urban fabric": 69.9,
    "Dump sites": 1.0,
    "Estuaries": 1.1,
    "Fruit trees and berry plantations": 4.8,
    "Green urban areas": 1.8,
    "Industrial or commercial units": 12.9,
    "Inland marshes": 6.2,
    "Intertidal flats": 1.0,
    "Land principally occupied by agriculture, with significant areas of natural vegetation": 147.1,
    "Mineral extraction sites": 4.6,
    "Mixed forest": 217.1,
    "Moors and heathland": 5.9,
    "Natural grassland": 12.8,
    "Non-irrigated arable land": 196.7,
    "Olive groves": 12.5,
    "Pastures": 103.6,
    "Peatbogs": 23.2,
    "Permanently irrigated land": 13.6,
    "Port areas": 0.5,
    "Rice fields": 3.8,
    "Road and rail networks and associated land": 3.4,
    "Salines": 0.4,
    "Salt marshes": 1.6,
    "Sclerophyllous vegetation": 11.2,
    "Sea and ocean": 81.6,
    "Sparsely vegetated areas": 1.6,
    "Sport and leisure facilities": 5.4,
    "Transitional woodland/shrub": 173.5,
    "Vineyards": 9.6,
    "Water bodies": 83.8,
    "Water courses": 10.6,
}
CLASSES = tuple(CLASS_WEIGHTS)
_COUNT_LIMITS = (33, 105, 177, 225)  # of 256: a first byte below the first limit means one class, and so on
_DRAWS = 32


class LabelDraw:
    """Draws the classes of patch i under a seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._limits = list(accumulate(CLASS_WEIGHTS.values()))

    def labels(self, index: int) -> list[str]:
        """Return one to five different classes, in no particular order."""
        digest = hashlib.shake_128(b"%d/labels/%d" % (self._seed, index)).digest(1 + 4 * _DRAWS)
        count = 1 + bisect.bisect_right(_COUNT_LIMITS, digest[0])
        chosen: list[str] = []
        for draw in struct.unpack_from(f"<{_DRAWS}I", digest, 1):
            name = CLASSES[bisect.bisect_right(self._limits, draw / 2**32 * self._limits[-1])]
            if name not in chosen:
                chosen.append(name)
                if len(chosen) == count:
                    break
        return chosen
