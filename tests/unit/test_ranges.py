"""Two versions are never joined: what of an answer to a range is believed, and what can be asked for at all."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from stacmirror.model import PartState, Version
from stacmirror.ranges import is_resumable, range_headers, total_if_joins, version_of
from tests.parts import ASSET

NOW, LONG_AGO, JUST_NOW = (
    "Wed, 02 Dec 2020 03:41:49 GMT",
    "Tue, 01 Dec 2020 03:41:49 GMT",
    "Wed, 02 Dec 2020 03:41:48 GMT",
)
MD5 = "XUFAKrxLKna5cZ2REBfFkg=="


def part(version: Version, offset: int = 100) -> PartState:
    return PartState(ASSET, version, "C.tif", "xxh3", offset=offset)


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ({"etag": '"a"'}, Version(etag='"a"', length=9)),
        ({"etag": 'W/"a"'}, Version(length=9)),
        ({"etag": "a"}, Version(length=9)),
        ({"etag": '"a", "b"'}, Version(length=9)),
        ({"last-modified": LONG_AGO, "date": NOW}, Version(last_modified=LONG_AGO, length=9)),
        ({"last-modified": JUST_NOW, "date": NOW}, Version(length=9)),
        ({"last-modified": LONG_AGO}, Version(length=9)),
        ({"last-modified": "yesterday", "date": NOW}, Version(length=9)),
        ({"content-md5": MD5}, Version(md5="5d41402abc4b2a76b9719d911017c592", length=9)),
        ({"content-md5": "?"}, Version(length=9)),
    ],
)
def test_only_strong_validators_are_kept(headers: Mapping[str, str], version: Version) -> None:
    """A weak or odd ETag, or a date that does not tell two versions of one second apart, is none."""
    assert version_of(headers, 9) == version


@pytest.mark.parametrize(
    ("version", "sent"),
    [
        (Version(etag='"a"', last_modified=LONG_AGO), {"Range": "bytes=100-", "If-Range": '"a"'}),
        (Version(last_modified=LONG_AGO), {"Range": "bytes=100-", "If-Range": LONG_AGO}),
        (Version(md5="00" * 16, length=900), {"Range": "bytes=100-"}),
        (Version(md5="00" * 16), None),
        (Version(length=900), None),
    ],
)
def test_the_rest_is_asked_for_on_one_condition(version: Version, sent: Mapping[str, str] | None) -> None:
    """The ETag, else the date; without both only where a checksum of the whole will tell; else not at all."""
    assert is_resumable(version) == (sent is not None)
    if sent is not None:
        assert range_headers(part(version)) == sent


def answer(**changed: str) -> dict[str, str]:
    headers = {"content-range": "bytes 100-899/900", "content-length": "800", "etag": '"a"', "last-modified": LONG_AGO}
    headers |= {name.replace("_", "-"): value for name, value in changed.items()}
    return {name: value for name, value in headers.items() if value}


@pytest.mark.parametrize(
    "headers",
    [
        answer(),
        answer(content_length=""),
        answer(content_range="Bytes 100-899/900"),
        answer(content_range="bytes 100-499/900", content_length="400"),
        answer(last_modified=NOW),
    ],
)
def test_what_goes_on_where_the_part_ends_is_joined(headers: Mapping[str, str]) -> None:
    """Start, total, length and validator agree: a server may also send less than asked."""
    assert total_if_joins(part(Version(etag='"a"', length=900)), headers) == 900


@pytest.mark.parametrize(
    "headers",
    [
        answer(content_range=""),
        answer(content_range="bytes 99-899/900", content_length="801"),
        answer(content_range="bytes 101-899/900", content_length="799"),
        answer(content_range="bytes 100-900/901", content_length="801"),
        answer(content_range="bytes 100-899/*"),
        answer(content_range="bytes 100-900/900"),
        answer(content_range="bytes 100-99/900"),
        answer(content_range="bytes */900"),
        answer(content_range="items 100-899/900"),
        answer(content_range=f"bytes 100-{'9' * 30}/900"),
        answer(content_length="801"),
        answer(etag='"b"'),
        answer(etag='W/"a"'),
        answer(etag=""),
    ],
    ids=lambda headers: str(sorted(headers.items()))[:60],
)
def test_whatever_is_odd_is_not_joined(headers: Mapping[str, str]) -> None:
    """Another start, total, length, unit or version, or no word of it."""
    assert total_if_joins(part(Version(etag='"a"', length=900)), headers) is None


def test_a_date_or_a_checksum_can_stand_in_for_an_etag() -> None:
    """The same date joins, another one does not; with a checksum known the end will tell."""
    dated = part(Version(last_modified=LONG_AGO, length=900))
    assert total_if_joins(dated, answer()) == 900
    assert total_if_joins(dated, answer(last_modified=NOW)) is None
    assert total_if_joins(dated, answer(last_modified="")) is None
    summed = part(Version(md5="00" * 16, length=900))
    assert total_if_joins(summed, answer(etag="", last_modified="")) == 900
    assert total_if_joins(summed, answer(content_range="bytes 100-900/901", content_length="801")) is None
