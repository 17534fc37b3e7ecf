"""How a storage host sends an object: conditions, ranges, validators.

Called by `blobs` and `s3`, which differ in headers and in the form of their errors. Source: RFC 9110,
sections 13 and 14.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .answers import Answer, Ask
from .files import StoredFile
from .large import LargeFile

LAST_MODIFIED = "Wed, 02 Dec 2020 03:41:49 GMT"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Sending:
    """How this host sends this object: header lines for every answer, and more for a whole body or a part."""

    etag: str
    headers: bytes
    whole_headers: bytes = b""
    part_headers: bytes = b""


def with_error(sent: Answer, failure: Callable[[int], Answer]) -> Answer:
    """Return `sent`; where it is 412 or 416, with the body of the host's own error."""
    if sent.status not in (412, 416):
        return sent
    failed = failure(sent.status)
    return Answer(sent.status, sent.headers + failed.headers, failed.body)


def send(ask: Ask, file: StoredFile | LargeFile, how: Sending) -> Answer:
    """Return the answer for an object that exists.

    Status 412 and 416 come without a body; `with_error` puts the host's own in place. A malformed range, or more
    than one, is ignored, as the RFC allows. For HEAD the body is returned too: who sends the answer leaves it
    out.
    """
    size = file.size
    validators = b"ETag: %s\r\nLast-Modified: %s\r\n" % (how.etag.encode(), LAST_MODIFIED.encode())
    if_match = ask.headers.get("If-Match")
    if if_match is not None and not _matches(if_match, how.etag):
        return Answer(412)
    if_none_match = ask.headers.get("If-None-Match")
    if if_none_match is not None and _matches(if_none_match, how.etag):
        return Answer(304, validators)
    headers = b"Content-Type: %s\r\nAccept-Ranges: bytes\r\n" % file.media_type.encode() + validators + how.headers
    part = _part(ask, how.etag, size)
    if part is None:
        return _with_body(200, headers + how.whole_headers, file, 0, size)
    start, end = part
    if start >= end:
        return Answer(416, b"Content-Range: bytes */%d\r\n" % size)
    span = b"Content-Range: bytes %d-%d/%d\r\n" % (start, end - 1, size)
    return _with_body(206, headers + span + how.part_headers, file, start, end)


def _with_body(status: int, headers: bytes, file: StoredFile | LargeFile, start: int, end: int) -> Answer:
    if isinstance(file, LargeFile):
        return Answer(status, headers, file.pieces(start, end), end - start)
    return Answer(status, headers, file.part(start, end))


def _matches(condition: str, etag: str) -> bool:
    return condition.strip() == "*" or etag in [part.strip() for part in condition.split(",")]


def _part(ask: Ask, etag: str, size: int) -> tuple[int, int] | None:
    """Return (start, end) of the range, empty if it cannot be satisfied; None for the whole body."""
    asked = ask.headers.get("Range")
    if asked is None or ask.method != "GET":
        return None
    if_range = ask.headers.get("If-Range")
    if if_range is not None and if_range not in (etag, LAST_MODIFIED):
        return None
    found = _RANGE.fullmatch(asked.strip())
    if found is None or asked.strip() == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size) if last else size
