"""When an href expires, read from the href itself, so that a link is renewed before it is asked in vain.

The worker calls this for each asset before each request, so it costs a few microseconds. It knows how tokens and
signed URLs carry their time; it knows no client, no catalog, and never decides what to do about an old link.
"""

from __future__ import annotations

import base64
import math
import re
from datetime import UTC, datetime

_PLAUSIBLE_S = (1_483_228_800.0, 4_102_444_800.0)
"""2017-01-01 to 2100-01-01, in seconds since the epoch: outside it is no time but bytes that look like one."""

_DOWNLOAD = "/download/"
_FERNET = "/download/gAAAA"
_TOKEN = re.compile(r"/download/[A-Za-z0-9_=%-]{8,}/?(?:[?#]|$)")
_PARAMETER = re.compile(r"[?&](x-amz-date|x-amz-expires|x-goog-date|x-goog-expires|expires|se)=([^&#]+)", re.IGNORECASE)


def issued_at_s(href: str) -> float | None:
    """Return when a download link was issued, or None when it does not say.

    Units:  seconds since the epoch.
    Source: the Fernet specification: byte 0 is the version 0x80, bytes 1 to 8 the time, big-endian.
    """
    at = href.find(_FERNET)
    if at < 0:
        return None
    head = href[at + len(_DOWNLOAD) : at + len(_DOWNLOAD) + 12]
    try:
        token = base64.urlsafe_b64decode(head)
    except ValueError:
        return None
    if len(token) != 9:
        return None
    return _plausible(float(int.from_bytes(token[1:9], "big")))


def age_s(href: str, read_at_s: float, now_s: float) -> float:
    """Return how old a link is: since it was issued, where it says so, else since it was read."""
    issued_s = issued_at_s(href)
    return now_s - (read_at_s if issued_s is None else issued_s)


def expires_at_s(href: str, life_s: float, read_at_s: float) -> float:
    """Return when `href` stops working; infinity for a plain URL.

    The cases, first that applies: a Fernet link lives `life_s` from its issue; a signed URL says it itself
    (S3, GCS, CloudFront, Azure); a download token without a time lives `life_s` from when it was read.

    Units: `life_s` seconds; `read_at_s` and the result seconds since the epoch.
    """
    issued_s = issued_at_s(href)
    if issued_s is not None:
        return issued_s + life_s
    if "?" in href:
        signed_s = _signed_until_s(href)
        if signed_s is not None:
            return signed_s
    if _DOWNLOAD in href and _TOKEN.search(href):
        return read_at_s + life_s
    return math.inf


def _signed_until_s(href: str) -> float | None:
    found = {name.lower(): value for name, value in _PARAMETER.findall(href)}
    if not found:
        return None
    for vendor in ("x-amz-", "x-goog-"):
        start_s = _time_s(found.get(f"{vendor}date", ""), "%Y%m%dT%H%M%SZ")
        life = found.get(f"{vendor}expires", "")
        if start_s is not None and _is_number(life):
            return start_s + float(life)
    if _is_number(found.get("expires", "")):
        return _plausible(float(found["expires"]))
    until = found.get("se", "").replace("%3A", ":").replace("%3a", ":")
    for form in ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%MZ", "%Y-%m-%d", "%Y-%m-%dT%H:%M:%S.%fZ"):
        until_s = _time_s(until, form)
        if until_s is not None:
            return until_s
    return None


def _time_s(text: str, form: str) -> float | None:
    try:
        return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp() if text else None
    except ValueError:
        return None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 12


def _plausible(seconds: float) -> float | None:
    return seconds if _PLAUSIBLE_S[0] <= seconds < _PLAUSIBLE_S[1] else None
