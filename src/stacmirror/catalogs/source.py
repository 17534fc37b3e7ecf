"""A SOURCE as typed: which kind it is, and the place or collection that it names. Asks nobody and opens nothing.

mlhub:COLLECTION    NAME:COLLECTION (a profile)    https://… or s3://… (an API, a catalog, a file)    PATH    -
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from stacmirror.errors import UsageError
from stacmirror.profiles import PROFILES
from stacmirror.redact import redact_text, redact_url
from stacmirror.settings import Settings

ACCEPTED = (
    "SOURCE is mlhub:COLLECTION, NAME:COLLECTION (`stacmirror sources` lists names), an https:// or s3:// address of an"
    " API, a collection, a catalog.json or a file of items, a path to one, or - for stdin"
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]+")
_SCHEMES = ("http", "https", "s3")


class Source(NamedTuple):
    """`dialect`: `mlhub`, `api` (a profile's), `web`, `path` or `stdin`; `place`: a collection's id, or an address."""

    dialect: str
    place: str


def source_of(settings: Settings, *, needs_collection: bool = True) -> Source:
    """Return what the settings' SOURCE names. Raises: UsageError, as `parse_source`."""
    return parse_source(settings.source, needs_collection=needs_collection, profile=settings.catalog.profile)


def parse_source(source: str, *, needs_collection: bool = True, profile: str = "") -> Source:
    """Return what a SOURCE names. `profile` is the name of a profile that is not built in.

    The collection may be "" (`mlhub:`) where none is needed. Raises: UsageError listing what is accepted.
    """
    source = source.strip()
    if source == "-":
        return Source("stdin", "")
    scheme, mark, _ = source.partition("://")
    if mark and scheme.lower() in _SCHEMES:
        return Source("web", _address(source))
    name, colon, collection = source.partition(":")
    if colon and _NAME.fullmatch(name) and name in {"mlhub", *PROFILES, profile or "mlhub"}:
        return Source("mlhub" if name == "mlhub" else "api", _collection(source, name, collection, needs_collection))
    if not mark and os.path.exists(source):
        return Source("path", source)
    looks_like_a_path = "/" in source or re.search(r"\.(?:json|geojson|ndjson|jsonl|parquet|geoparquet)$", source)
    if not mark and not colon and looks_like_a_path:
        raise UsageError(f"{shown(source)}: no such file or folder", hint=ACCEPTED)
    raise UsageError(f"{shown(source)} is no known source", hint=ACCEPTED)


def _collection(source: str, name: str, collection: str, needs_collection: bool) -> str:
    if not collection and needs_collection:
        raise UsageError(
            f"{shown(source)} names no collection", hint=f"{ACCEPTED}; `stacmirror collections {name}:` lists them"
        )
    if collection in (".", "..") or any(letter in "/?#\\" or letter.isspace() for letter in collection):
        raise UsageError(f"{shown(source)} holds no collection's id", hint=ACCEPTED)
    return collection


def _address(source: str) -> str:
    try:
        parts = urlsplit(source)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"{shown(source)} is no address", hint=ACCEPTED)
    if parts.username is not None or redact_url(source) != source:
        # A mirror remembers its source.
        raise UsageError(
            f"{shown(source)} holds a secret, and a mirror keeps its SOURCE in DEST",
            hint=f"mlhub:COLLECTION, or an address without it: --auth and --header log in; {ACCEPTED}",
        )
    return source


def absolute(source: str) -> str:
    """Return a SOURCE that is a path as an absolute one, so that a mirror knows it wherever it is resumed from."""
    try:
        dialect, _ = parse_source(source, needs_collection=False)
    except UsageError:
        return source
    return os.path.abspath(source) if dialect == "path" else source


def shown(source: str) -> str:
    """Return a SOURCE as it may be printed."""
    return repr(redact_text(source))
