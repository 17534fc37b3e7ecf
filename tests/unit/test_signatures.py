"""First bytes are held against what the catalog says an asset is; what it does not say is not judged."""

from __future__ import annotations

import gzip

import pytest

from stacmirror.errors import TransferError
from stacmirror.model import Asset
from stacmirror.pipeline.signatures import form_of, refuse_other

HDF5 = b"\x89HDF\r\n\x1a\n"
GOOD = {
    "image/tiff": [b"II*\0....", b"MM\0*....", b"II+\0....", b"MM\0+...."],
    "image/tiff; application=geotiff; profile=cloud-optimized": [b"II*\0"],
    "IMAGE/VND.STAC.GEOTIFF": [b"II*\0"],
    "image/jp2": [b"\0\0\0\x0cjP  \r\n\x87\n....", b"\xff\x4f\xff\x51...."],
    "image/png": [b"\x89PNG\r\n\x1a\n"],
    "image/jpeg": [b"\xff\xd8\xff\xe0"],
    "application/json": [b"{}", b" \n[1]", b"\xef\xbb\xbf{}", b"null", b"-1", b'"a"', b"true", b"NaN"],
    "application/geo+json": [b'{"type": 1}'],
    "application/vnd.oai.openapi+json;version=3.0": [b"{}"],
    "application/zip": [b"PK\x03\x04", b"PK\x05\x06"],
    "application/gzip": [b"\x1f\x8b\x08"],
    "application/x-hdf5": [HDF5, bytes(512) + HDF5, bytes(2048) + HDF5],
    "application/x-netcdf": [b"CDF\x01", b"CDF\x02", b"CDF\x05", HDF5],
    "application/vnd.apache.parquet": [b"PAR1"],
}
BAD = {
    b"": "it is empty",
    b"not found": "it begins with",
    b"forbidden": "it begins with",
    b"temporarily unavailable": "it begins with",
    b"<!DOCTYPE html><p>": "it is HTML",
    b"\n\n<html lang=en>": "it is HTML",
    b"<?xml version='1.0'?><Error>": "it is XML",
    b"\0\0\0\0nothing": "it begins with 00 00 00 00",
}


def asset(media_type: str, href: str = "https://h/x") -> Asset:
    return Asset("a", href, media_type)


@pytest.mark.parametrize("media_type", GOOD)
def test_what_is_of_its_type_passes_and_nothing_else(media_type: str) -> None:
    """Each form of a type is taken; HTML, XML, zeros and nothing are of none."""
    form = form_of(asset(media_type))
    assert form is not None
    for start in GOOD[media_type]:
        refuse_other(form, start)
    for start, words in BAD.items():
        with pytest.raises(TransferError, match=words) as other:
            refuse_other(form, start)
        assert (other.value.kind, other.value.retryable) == ("content", True)
        assert form.name in str(other.value)


@pytest.mark.parametrize("start", [b"[]", b"404 page not found", b"null", b'"error"'])
@pytest.mark.parametrize("by", ["type", "suffix"])
def test_geojson_is_an_object(start: bytes, by: str) -> None:
    """JSON of other kinds, and a text that begins with a number, is none."""
    form = form_of(asset("application/geo+json") if by == "type" else asset("", "https://h/labels.geojson"))
    with pytest.raises(TransferError, match="not GeoJSON"):
        refuse_other(form, start)


@pytest.mark.parametrize(
    ("start", "words"),
    [(b"\x89PNG\r\n\x1a\n", "PNG"), (b'{"detail": "no"}', "JSON"), (gzip.compress(b"x", mtime=0), "gzip")],
)
def test_another_kind_is_named(start: bytes, words: str) -> None:
    """A person should see at once what came instead."""
    with pytest.raises(TransferError, match=f"not TIFF, as it should be: it is {words}"):
        refuse_other(form_of(asset("image/tiff")), start)


@pytest.mark.parametrize(
    ("media_type", "href", "url", "name"),
    [
        ("", "https://h/a/B01.TIF?sig=x.png", "", "TIFF"),
        ("application/octet-stream", "https://h/x.jp2", "", "JPEG 2000"),
        ("", "https://h/download/gAAAA", "https://blobs/B01.tif?se=1", "TIFF"),
        ("image/png", "https://h/a.tif", "", "PNG"),
        ("", "https://h/a%2Etif", "", "TIFF"),
        ("text/csv", "https://h/a.csv", "https://h/a.csv", ""),
        ("", "https://h.tif/", "", ""),
        ("", "http://[::1/a.tif", "", ""),
        ("", "", "", ""),
    ],
)
def test_the_type_speaks_before_the_suffix(media_type: str, href: str, url: str, name: str) -> None:
    """The declared type, then the link's suffix, then that of what answered; else it is not judged."""
    form = form_of(asset(media_type, href), url)
    assert (form.name if form else "") == name
    if form is None:
        refuse_other(form, b"<html>")
