"""May the rest of a large file be asked for, and does what came belong to what is there? Pure; knows no client.

Used by the pipeline (to ask and to judge) and by sinks (what is worth keeping). Two versions of an object must never
be joined, so everything that an answer says is held against what is known; what cannot be shown is begun again.
Source: RFC 9110, sections 8.8 (validators), 13.1.5 (If-Range), 14.4 (Content-Range), 15.3.7 (206).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

from stacmirror.model import PartState, Version
from stacmirror.retry import parse_date

_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]+"')
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.IGNORECASE | re.ASCII)
_DATE_STRONG_AFTER_S = 60.0
"""A file may change twice in one second, and clocks differ: a date that old names one version."""


def version_of(headers: Mapping[str, str], length: int | None) -> Version:
    """Return what a whole answer says of its bytes. A weak ETag, and a date too fresh to tell, say nothing."""
    etag = headers.get("etag", "").strip()
    return Version(
        etag=etag if _STRONG_ETAG.fullmatch(etag) else "",
        last_modified=_strong_date(headers),
        md5=_md5(headers.get("content-md5", "")),
        length=length,
    )


def is_resumable(version: Version) -> bool:
    """Return whether it can be shown that a later answer is of the same version: by a validator, or by the end."""
    return bool(version.etag or version.last_modified or (version.md5 and version.length is not None))


def range_headers(state: PartState) -> dict[str, str]:
    """Return the headers that ask for what is missing, and for all of it where the version is another."""
    headers = {"Range": f"bytes={state.offset}-"}
    validator = state.version.etag or state.version.last_modified
    if validator:
        headers["If-Range"] = validator
    return headers


def total_if_joins(state: PartState, headers: Mapping[str, str]) -> int | None:
    """Return the whole's length where a 206 goes on exactly where the part ends, of its version; else None."""
    found = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
    if found is None:
        return None  # no range, another unit, several ranges, or an unknown total
    start, end, total = map(int, found.groups())
    if start != state.offset or not start <= end < total:
        return None
    length = headers.get("content-length", "")
    if length and length != str(end - start + 1):
        return None
    if headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        return None  # a range of something packed
    known = state.version
    if known.length is not None and known.length != total:
        return None
    return total if _is_same(known, headers) else None


def _is_same(known: Version, headers: Mapping[str, str]) -> bool:
    etag = headers.get("etag", "").strip()
    if known.etag and etag:
        return etag == known.etag
    date = headers.get("last-modified", "").strip()
    if not known.etag and known.last_modified and date:
        return date == known.last_modified
    # No validator to compare: the checksum of the whole will tell, where there is one.
    return bool(known.md5)


def _strong_date(headers: Mapping[str, str]) -> str:
    modified, date = headers.get("last-modified", "").strip(), headers.get("date", "")
    if not modified or not date:
        return ""
    modified_s, date_s = parse_date(modified), parse_date(date)
    if modified_s is None or date_s is None:
        return ""
    return modified if date_s - modified_s >= _DATE_STRONG_AFTER_S else ""


def _md5(value: str) -> str:
    try:
        digest = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return digest.hex() if len(digest) == 16 else ""
