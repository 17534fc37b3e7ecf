"""The table of faults and traps, and which request meets a fault.

Read by the settings (names), by `--help` (the one-line descriptions) and by the server (what happens to this
request). A fault strikes a share of requests; a trap is a standing oddity of the API. Neither table knows how
an answer is written.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

FAULTS: Mapping[str, str] = MappingProxyType(
    {
        "503": "answers 503, no Retry-After",
        "429": "answers 429 with Retry-After: 1",
        "500": "answers 500",
        "502": "answers 502",
        "504": "answers 504",
        "403": "answers 403",
        "404": "answers 404",
        "410": "answers 410",
        "reset": "sends half of the answer, then resets the connection (RST)",
        "short": "sends half of the body that Content-Length promises, then closes",
        "stall": "sends half of the answer, then keeps silent",
        "drip": "sends the head, then a byte every tenth of a second",
        "endless": "storage: sends a body without a length and without an end",
        "whole": "storage: ignores Range and sends the whole object with 200",
        "wrong-range": "storage: sends a 206 whose Content-Range is a byte off",
        "changed": "storage: a large object is another one from this request on",
    }
)
TRAPS: Mapping[str, str] = MappingProxyType(
    {
        "null-next": "the last page has a next link whose href is null",
        "growing-key": "next echoes the whole query, so it grows by one key= a page (September 2021)",
        "missing-403": "a missing object answers 403 instead of 404",
        "shared-sources": "three labels share one source",
        "many-sources": "each label has five sources",
        "moved-objects": "the newer half of the objects has been moved: links lead there, the old places are empty",
        "signed-targets": "links lead to signed https:// addresses, another signature each time",
        "weak-validators": "storage has weak ETags and no Last-Modified",
        "if-range-ignored": "storage answers ranges whatever their conditions say",
        "empty-page-with-next": "an empty page with a next link stands in the middle of the listing",
    }
)
# Who can be aimed at: a server, or one kind of the API's requests. Root and collections are spared.
TARGETS = ("api", "blobs", "s3", "pages", "items", "download")


class Faults:
    """The rates in force, changeable while the server runs.

    Deterministic: the n-th request that could meet a fault always draws the same number under the same seed.
    """

    def __init__(self, seed: int, rates: Mapping[str, float]) -> None:
        self._seed = seed
        self._rates: dict[str, float] = {}
        self._drawn = 0
        for name, rate in rates.items():
            self.set(name, rate)

    @property
    def rates(self) -> Mapping[str, float]:
        """The rates in force, by name or `target:name`."""
        return MappingProxyType(self._rates)

    def set(self, name: str, rate: float) -> None:
        """Let `rate` of the requests meet this fault from now on; 0 ends it.

        Raises:  ValueError for an unknown name or a rate outside 0..1.
        """
        parse_fault_name(name)
        if not 0 <= rate <= 1:
            raise ValueError(f"rate of fault {name} must be 0 to 1, not {rate}")
        if rate:
            self._rates[name] = rate
        else:
            self._rates.pop(name, None)

    def draw(self, server: str, kind: str) -> str | None:
        """Return the fault that the next request to this server and kind meets, if any."""
        if not self._rates:
            return None
        digest = hashlib.blake2b(b"%d/fault/%d" % (self._seed, self._drawn), digest_size=8).digest()
        self._drawn += 1
        left = int.from_bytes(digest, "little") / 2**64
        for name, rate in self._rates.items():
            target, fault = parse_fault_name(name)
            if target in ("", server, kind):
                if left < rate:
                    return fault
                left -= rate
        return None


def parse_fault(text: str) -> tuple[str, float]:
    """Return name and rate of `NAME:RATE` or `TARGET:NAME:RATE`, as the command line takes them.

    Raises:  ValueError, one line.
    """
    name, _, rate = text.rpartition(":")
    if not name:
        raise ValueError(f"fault {text!r} is not NAME:RATE, for example 503:0.01 or blobs:503:0.01")
    parse_fault_name(name)
    try:
        share = float(rate)
    except ValueError:
        raise ValueError(f"rate of fault {name} must be a number from 0 to 1, not {rate!r}") from None
    if not 0 <= share <= 1:
        raise ValueError(f"rate of fault {name} must be 0 to 1, not {rate}")
    return name, share


def parse_fault_name(name: str) -> tuple[str, str]:
    """Return (target or "", fault) of `503` or `blobs:503`.

    Raises:  ValueError with the nearest name and the list.
    """
    target, _, fault = name.rpartition(":")
    if fault not in FAULTS:
        raise refuse_unknown("fault", fault, FAULTS)
    if target and target not in TARGETS:
        raise refuse_unknown("fault target", target, TARGETS)
    return target, fault


def refuse_unknown(what: str, name: str, known: Iterable[str]) -> ValueError:
    """Return the error for an unknown name, with the nearest name and the list."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f", did you mean {near[0]!r}?" if near else ""
    return ValueError(f"unknown {what} {name!r}{hint} (known: {', '.join(names)})")
