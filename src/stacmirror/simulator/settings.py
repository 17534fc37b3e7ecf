"""What a simulator can be asked to be: one frozen value, checked when it is made.

Made by the command line and by tests, read by every other module here. It must not know what the values do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from .faults import TRAPS, parse_fault_name, refuse_unknown
from .world import BANDS, ITEMS_OF_ARCHIVE, LABELS

ITEMS_MAX = ITEMS_OF_ARCHIVE
GENERATIONS = (2020, 2021, 2022)
REDIRECT_STATUSES = (200, 301, 302, 303, 307, 308)
SHARED_LABELS = 3  # what the traps mean where the settings name no number of their own
MANY_SOURCES = 5
_NO_FAULTS: Mapping[str, float] = MappingProxyType({})
_NO_LARGE: Mapping[str, int] = MappingProxyType({})
LARGE_MAX = 1 << 45


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """The settings of one simulator.

    items              label items, and as many source items: 1..590,326
    generation         2020, 2021 or 2022: paging, booleans, errors, redirects, links
    key                the API key; None makes one from the seed
    link_life_s        seconds that a download link lives
    seed               other seed, other world
    port               of the API; blobs, S3 and log take the next three; 0 takes free ones
    faults             name or `target:name` → share of requests, 0..1 (see `faults.FAULTS`)
    traps              names of `faults.TRAPS`
    labels_per_source  several labels share one source (trap `shared-sources`: 3)
    sources_per_label  a label has several sources (trap `many-sources`: 5)
    redirect_status    overrides the generation's; 200 sends the file itself
    redirect_to        overrides the generation's target: `s3` or `http`
    s3_auth_required   S3 refuses requests that are not signed (the signature itself is not checked)
    s3_request_payer   S3 refuses requests without `x-amz-request-payer: requester`
    log_requests       keep a record a request; None: yes in tests, no in `main`
    log_records_max    the oldest records go first
    stall_s            how long the fault `stall` keeps silent
    latency_s          how long every answer takes at least
    large              asset key (`labels`, a band, or `*` for all bands) → bytes: so large is its object in every item
    at_once            a host answers 429 (Retry-After: 1) above so many requests at once; None: never

    Raises:  ValueError, one line.
    """

    items: int = 200
    generation: int = 2021
    key: str | None = field(default=None, repr=False)
    link_life_s: float = 21_600.0
    seed: int = 1
    host: str = "127.0.0.1"
    port: int = 0
    faults: Mapping[str, float] = field(default_factory=lambda: _NO_FAULTS)
    traps: tuple[str, ...] = ()
    labels_per_source: int = 1
    sources_per_label: int = 1
    redirect_status: int | None = None
    redirect_to: Literal["s3", "http"] | None = None
    s3_auth_required: bool = False
    s3_request_payer: bool = False
    log_requests: bool | None = None
    log_records_max: int = 1_000_000
    stall_s: float = 3_600.0
    latency_s: float = 0.0
    at_once: int | None = None
    large: Mapping[str, int] = field(default_factory=lambda: _NO_LARGE)

    def __post_init__(self) -> None:
        _within("items", self.items, 1, ITEMS_MAX)
        _within("port", self.port, 0, 65_532)
        _within("labels per source", self.labels_per_source, 1, 1_000)
        _within("sources per label", self.sources_per_label, 1, 1_000)
        _within("log records", self.log_records_max, 1, 100_000_000)
        if self.generation not in GENERATIONS:
            raise ValueError(f"generation must be one of {_listed(GENERATIONS)}, not {self.generation}")
        if not self.link_life_s > 0:
            raise ValueError(f"link life must be more than 0 seconds, not {self.link_life_s}")
        if not self.stall_s > 0:
            raise ValueError(f"stall must be more than 0 seconds, not {self.stall_s}")
        if not 0 <= self.latency_s <= 3_600:
            raise ValueError(f"latency must be 0 to 3600 seconds, not {self.latency_s:g}")
        if self.at_once is not None:
            _within("requests at once", self.at_once, 1, 1_000_000)
        if self.key is not None and not re.fullmatch(r"[A-Za-z0-9._~-]{1,256}", self.key):
            raise ValueError("key must be 1 to 256 characters of A-Z a-z 0-9 . _ ~ - (MLHub's were 64 hex)")
        if self.redirect_status is not None and self.redirect_status not in REDIRECT_STATUSES:
            raise ValueError(f"redirect status must be one of {_listed(REDIRECT_STATUSES)}")
        if self.redirect_to not in (None, "s3", "http"):
            raise ValueError(f"redirect target must be s3 or http, not {self.redirect_to}")
        if not self.host:
            raise ValueError("host must not be empty")
        for asset, size in self.large.items():
            if asset not in (LABELS, "*", *BANDS):
                raise refuse_unknown("asset", asset, (LABELS, *BANDS, "*"))
            _within(f"size of {asset}", size, 1, LARGE_MAX)
        for name, rate in self.faults.items():
            parse_fault_name(name)
            if not 0 <= rate <= 1:
                raise ValueError(f"rate of fault {name} must be 0 to 1, not {rate}")
        for trap in self.traps:
            if trap not in TRAPS:
                raise refuse_unknown("trap", trap, TRAPS)

    def large_assets(self) -> dict[str, int]:
        """Return the size of each asset that is large; one named goes before all."""
        every = dict.fromkeys(BANDS, self.large["*"]) if "*" in self.large else {}
        return every | {asset: size for asset, size in self.large.items() if asset != "*"}

    def labels_a_source(self) -> int:
        """Return how many labels share one source, the trap counted in."""
        if self.labels_per_source == 1 and "shared-sources" in self.traps:
            return SHARED_LABELS
        return self.labels_per_source

    def sources_a_label(self) -> int:
        """Return how many sources a label links to, the trap counted in; never more than there are."""
        wanted = self.sources_per_label
        if wanted == 1 and "many-sources" in self.traps:
            wanted = MANY_SOURCES
        return min(wanted, self.items)


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} must be {least} to {most}, not {value}")


def _listed(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))
