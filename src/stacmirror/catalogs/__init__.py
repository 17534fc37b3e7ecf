"""Where items come from: one dialect a kind of catalog, and how a SOURCE as typed names one.

The command line calls `parse_source`; the composition root makes the dialect's catalog from `DIALECTS`. To add one:
a file, a line in `DIALECTS`, a parameter in the contract suite of catalogs.
"""

from __future__ import annotations

from stacmirror.catalogs.mlhub import MlhubCatalog
from stacmirror.errors import UsageError
from stacmirror.redact import redact_text

DIALECTS: dict[str, type[MlhubCatalog]] = {
    "mlhub": MlhubCatalog,
}
_ACCEPTED = "SOURCE is mlhub:COLLECTION, such as mlhub:bigearthnet_v1_labels"


def parse_source(source: str, *, needs_collection: bool = True) -> tuple[str, str]:
    """Return the dialect's name and the collection of a SOURCE as typed (`mlhub:bigearthnet_v1_labels`).

    The collection may be "" (`mlhub:`) where none is needed. Raises: UsageError listing what is accepted.
    """
    dialect, colon, collection = source.strip().partition(":")
    if not colon or dialect not in DIALECTS:
        raise UsageError(f"{_shown(source)} is no known source", hint=_ACCEPTED)
    if not collection and needs_collection:
        raise UsageError(
            f"{_shown(source)} names no collection", hint=f"{_ACCEPTED}; `stacmirror collections mlhub:` lists them"
        )
    if collection in (".", "..") or any(letter in "/?#\\" or letter.isspace() for letter in collection):
        raise UsageError(f"{_shown(source)} holds no collection's id", hint=_ACCEPTED)
    return dialect, collection


def _shown(source: str) -> str:
    return repr(redact_text(source))


__all__ = ["DIALECTS", "MlhubCatalog", "parse_source"]
