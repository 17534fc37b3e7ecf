"""Is this the kind of file that the catalog announced? The first bytes, held against the asset's media type.

Called by the transfer stage for every body: a login page with status 200, an error in JSON and an empty answer have
proper lengths. The declared type speaks first, the suffix of the address after it; a type that is not in the table is
not judged. An asset and bytes in, a TransferError out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from stacmirror.errors import TransferError
from stacmirror.interfaces import Body
from stacmirror.model import Asset

WINDOW_BYTES = 4096
"""As much of a body as is needed to judge it."""
_SPACE = b" \t\r\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Form(NamedTuple):
    """A kind of file: what it is called, and what it may begin with, at one of these places."""

    name: str
    starts: tuple[bytes, ...]
    places: tuple[int, ...] = (0,)
    is_text: bool = False
    """White space and a byte order mark may come first."""

    def fits(self, start: bytes) -> bool:
        """Return whether a body that begins with `start` can be of this kind."""
        if self.is_text:
            start = start[:WINDOW_BYTES].removeprefix(_BYTE_ORDER_MARK).lstrip(_SPACE)
        if start.startswith(self.starts, self.places[0]):
            return True  # as nearly all do
        return any(start.startswith(self.starts, place) for place in self.places[1:])


_HDF5_MARK = b"\x89HDF\r\n\x1a\n"
# HDF5 allows a user block before its mark.
_HDF5_PLACES = (0, 512, 1024, 2048)

TIFF = Form("TIFF", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"))
JPEG_2000 = Form("JPEG 2000", (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"))
PNG = Form("PNG", (b"\x89PNG\r\n\x1a\n",))
JPEG = Form("JPEG", (b"\xff\xd8\xff",))
GIF = Form("GIF", (b"GIF87a", b"GIF89a"))
# Words in full: "not found" begins with n.
_JSON_STARTS = (*(bytes([letter]) for letter in b'{["-0123456789'), b"true", b"false", b"null", b"NaN")
JSON = Form("JSON", _JSON_STARTS, is_text=True)
GEOJSON = Form("GeoJSON", (b"{",), is_text=True)
ZIP = Form("ZIP", (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"))
GZIP = Form("gzip", (b"\x1f\x8b",))
HDF5 = Form("HDF5", (_HDF5_MARK,), _HDF5_PLACES)
HDF = Form("HDF", (_HDF5_MARK, b"\x0e\x03\x13\x01"), _HDF5_PLACES)
NETCDF = Form("NetCDF", (b"CDF\x01", b"CDF\x02", b"CDF\x05", _HDF5_MARK), _HDF5_PLACES)
PARQUET = Form("Parquet", (b"PAR1", b"PARE"))
LAS = Form("LAS", (b"LASF",))
PDF = Form("PDF", (b"%PDF-",))

_BY_TYPE = {
    "image/tiff": TIFF, "image/geotiff": TIFF, "image/x.geotiff": TIFF, "image/vnd.stac.geotiff": TIFF,
    "image/jp2": JPEG_2000, "image/jpx": JPEG_2000, "image/jpeg2000": JPEG_2000,
    "image/png": PNG, "image/jpeg": JPEG, "image/jpg": JPEG, "image/gif": GIF,
    "application/json": JSON, "application/x-ndjson": JSON, "application/geo+json": GEOJSON,
    "application/zip": ZIP, "application/x-zip-compressed": ZIP,
    "application/gzip": GZIP, "application/x-gzip": GZIP,
    "application/x-hdf5": HDF5, "application/hdf5": HDF5, "application/x-hdf": HDF,
    "application/netcdf": NETCDF, "application/x-netcdf": NETCDF,
    "application/vnd.apache.parquet": PARQUET, "application/x-parquet": PARQUET, "application/parquet": PARQUET,
    "application/vnd.las": LAS, "application/vnd.laszip": LAS, "application/vnd.laszip+copc": LAS,
    "application/pdf": PDF,
}  # fmt: skip
_BY_SUFFIX = {
    "tif": TIFF, "tiff": TIFF, "jp2": JPEG_2000, "j2k": JPEG_2000, "png": PNG, "jpg": JPEG, "jpeg": JPEG, "gif": GIF,
    "json": JSON, "geojson": GEOJSON, "ndjson": JSON, "zip": ZIP, "gz": GZIP, "tgz": GZIP, "h5": HDF5, "hdf5": HDF5,
    "hdf": HDF, "nc": NETCDF, "nc4": NETCDF, "parquet": PARQUET, "geoparquet": PARQUET, "las": LAS, "laz": LAS,
    "pdf": PDF,
}  # fmt: skip
_OTHERS = (TIFF, JPEG_2000, PNG, JPEG, GIF, ZIP, GZIP, HDF, NETCDF, PARQUET, LAS, PDF)


def form_of(asset: Asset, url: str = "") -> Form | None:
    """Return the kind of file that `asset` is said to be; None where nothing says it. `url` is what answered."""
    declared = asset.media_type.partition(";")[0].strip().lower()
    form = _BY_TYPE.get(declared) or (JSON if declared.endswith("+json") else None)
    return form or _BY_SUFFIX.get(_suffix(asset.href)) or _BY_SUFFIX.get(_suffix(url))


def refuse_other(form: Form | None, start: bytes) -> None:
    """Hold the first WINDOW_BYTES of a body or more (all of a shorter one) against its kind.

    Raises: TransferError, kind `content`.
    """
    if form is not None and not form.fits(start):
        raise TransferError("content", f"not {form.name}, as it should be: {_described(start)}")


class Judged:
    """A large body, judged as soon as enough of it has come. Implements `interfaces.Body`."""

    def __init__(self, body: Body, form: Form) -> None:
        self._body = body
        self._form = form

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body's bytes; none before it is judged. Raises: TransferError, kind `content` and the body's."""
        start, judged = b"", False
        async for chunk in self._body.chunks():
            if judged:
                yield chunk
                continue
            start += chunk
            if len(start) >= WINDOW_BYTES:
                refuse_other(self._form, start)
                judged = True
                yield start
        if not judged:
            refuse_other(self._form, start)
            yield start

    def close(self) -> None:
        """See `interfaces.Body.close`."""
        self._body.close()


def _described(start: bytes) -> str:
    if not start:
        return "it is empty"
    text = start[:WINDOW_BYTES].removeprefix(_BYTE_ORDER_MARK).lstrip(_SPACE)[:64].lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<title")):
        return "it is HTML"
    if text.startswith(b"<"):
        return "it is XML"
    found = next((form.name for form in _OTHERS if form.fits(start)), "JSON" if text.startswith((b"{", b"[")) else "")
    return f"it is {found}" if found else f"it begins with {start[:8].hex(' ')}"


def _suffix(url: str) -> str:
    try:
        name = unquote(urlsplit(url).path).rpartition("/")[2]
    except ValueError:
        return ""
    return name.rpartition(".")[2].lower() if "." in name else ""
