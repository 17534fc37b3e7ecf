"""Where items come from: one dialect a kind of catalog, and how a SOURCE as typed names one.

The command line calls `parse_source`; the composition root makes the catalog. `DIALECTS` has those that are known by
name; what an address, a path or a profile leads to is found out by `looking`, which is loaded only then.
"""

from __future__ import annotations

from stacmirror.catalogs.found import FoundCatalog
from stacmirror.catalogs.mlhub import MlhubCatalog
from stacmirror.catalogs.source import ACCEPTED, Source, absolute, parse_source, source_of

DIALECTS: dict[str, type[MlhubCatalog]] = {
    "mlhub": MlhubCatalog,
}
AnyCatalog = MlhubCatalog | FoundCatalog

__all__ = [
    "ACCEPTED",
    "DIALECTS",
    "AnyCatalog",
    "FoundCatalog",
    "MlhubCatalog",
    "Source",
    "absolute",
    "parse_source",
    "source_of",
]
