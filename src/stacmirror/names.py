"""Safe file names: from any id, key, media type or URL to one portable path part. Pure.

Used by layouts, the ledger (`fold`) and the run's documents. A name never leaves its folder, whatever an id holds,
and no two texts get one name.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from urllib.parse import quote, unquote

from stacmirror.model import Asset

NAME_MAX_BYTES = 200
RESERVED = frozenset({"collection.json", "citation.txt", "license.txt", ".stacmirror"})
"""Names of the mirror's own files at the top of the target, case-folded."""

_WINDOWS = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?")
SUFFIX = re.compile(r"[^/](\.tar\.gz|\.[A-Za-z0-9]{1,8})$", re.IGNORECASE)
TOKEN = re.compile(r"gAAAA[A-Za-z0-9_=-]{16,}|[0-9a-fA-F]{64}")
# `%` is always followed by two hex digits in an encoded name, so these marks cannot come from any id or key.
_TAIL = "%-"
_EMPTY = "%empty"

_TYPES = {
    ".tif": "image/tiff image/vnd.stac.geotiff image/geotiff",
    ".jp2": "image/jp2 image/jpeg2000",
    ".png": "image/png",
    ".jpg": "image/jpeg image/jpg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".json": "application/json",
    ".geojson": "application/geo+json application/geojson application/vnd.geo+json",
    ".ndjson": "application/x-ndjson",
    ".xml": "application/xml text/xml",
    ".gml": "application/gml+xml",
    ".kml": "application/vnd.google-earth.kml+xml",
    ".kmz": "application/vnd.google-earth.kmz",
    ".gpkg": "application/geopackage+sqlite3",
    ".fgb": "application/vnd.flatgeobuf",
    ".parquet": "application/vnd.apache.parquet application/x-parquet application/parquet",
    ".nc": "application/netcdf application/x-netcdf",
    ".h5": "application/x-hdf5",
    ".hdf": "application/x-hdf",
    ".laz": "application/vnd.laszip application/vnd.laszip+copc",
    ".zip": "application/zip application/x-zip-compressed",
    ".gz": "application/gzip",
    ".tar": "application/x-tar",
    ".pdf": "application/pdf",
    ".yaml": "application/yaml",
    ".csv": "text/csv",
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".html": "text/html",
}
_EXTENSIONS = {media_type: ext for ext, types in _TYPES.items() for media_type in types.split()}


def fold(path: str) -> str:
    """Return what two paths share that are one on a file system that ignores case or normalizes Unicode."""
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def safe_name(text: str) -> str:
    """Return one path part for any text: never empty, `.` or `..`, at most 200 bytes, no two texts alike.

    All but `[A-Za-z0-9._-]` is percent-encoded as UTF-8 (a lone surrogate too); so are a leading dot or dash, a
    trailing dot, and the first letter of names that Windows or the mirror itself reserves. Longer names end in a hash.
    """
    return guard(encode(text), "")


def extension(asset: Asset) -> str:
    """Return `.tif`, `.json` ... by the media type, or else by the href's own suffix; "" when neither says."""
    media_type = asset.media_type
    known = _EXTENSIONS.get(media_type)
    if known is None and media_type:
        known = _EXTENSIONS.get(media_type.partition(";")[0].strip().lower())
    if known is not None:
        return known
    path = re.split(r"[?#]", asset.href, maxsplit=1)[0].partition("://")[2] or asset.href
    match = SUFFIX.search(unquote(path.partition("/")[2].rpartition("/")[2]))
    return match[1].lower() if match and not match[1][1:].isdigit() else ""


def hash2(item_id: str) -> str:
    """Return two hex digits that anyone can find again: `printf %s ID | sha256sum | cut -c1-2`."""
    return hashlib.sha256(item_id.encode("utf-8", "surrogatepass")).hexdigest()[:2]


def encode(text: str) -> str:
    """Return `text` with all but `[A-Za-z0-9._-]` percent-encoded, and no more: `guard` makes a name of it."""
    if _PLAIN.fullmatch(text):
        return text
    # `surrogatepass`, not `surrogateescape`: the latter would make one byte string of two different texts.
    return quote(text.encode("utf-8", "surrogatepass"), safe="").replace("~", "%7E")


def guard(stem: str, ext: str) -> str:
    """Make one path part of an encoded stem and its extension."""
    name = stem + ext
    if not name:
        return _EMPTY
    if name[0] in ".-" or name.lower() in RESERVED or _WINDOWS.match(name):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if name[-1] in ". ":
        name, ext = f"{name[:-1]}%{ord(name[-1]):02X}", ""
    return name if len(name) <= NAME_MAX_BYTES else with_tail(name[: len(name) - len(ext)], ext, name)


def with_tail(stem: str, ext: str, true_name: str) -> str:
    """Return a name of at most NAME_MAX_BYTES: the stem cut short, a hash of `true_name`, the extension."""
    tail = f"{_TAIL}{hashlib.sha256(true_name.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}{ext}"
    kept = stem[: NAME_MAX_BYTES - len(tail)]
    # Never half an escape at the cut.
    return re.sub(r"%[0-9A-F]?$", "", kept) + tail
