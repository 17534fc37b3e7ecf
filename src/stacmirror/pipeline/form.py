"""Does a file look whole? What can be seen without the source: its first bytes, and that it reaches as far as it says.

Used by `adopt`, on files that nobody compares with the source. It finds cut files, empty ones, and zeros where a copy
broke off; it cannot find a flipped bit. Pure.
"""

from __future__ import annotations

import struct

import msgspec

_STRIPS = {273: 279, 324: 325}
"""TIFF tags: offsets of strips or tiles, and the tag of their byte counts."""
_SIZES = {1: 1, 3: 2, 4: 4, 16: 8}
_LETTERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_TIFF_SUFFIXES = (".tif", ".tiff")
_JSON_SUFFIXES = (".json", ".geojson")
_IFDS_MAX = 100


def fault_of(name: str, body: bytes) -> str:
    """Return what is wrong with a file of this name and content, or "" where nothing can be seen."""
    lower = name.lower()
    if not body:
        return "it is empty"
    if lower.endswith(_TIFF_SUFFIXES):
        return _tiff_fault(body)
    if lower.endswith(_JSON_SUFFIXES):
        return _json_fault(body)
    if lower.endswith(".png") and not (body.startswith(b"\x89PNG\r\n\x1a\n") and b"IEND" in body[-12:]):
        return "it is no whole PNG"
    if lower.endswith((".jpg", ".jpeg")) and not (body.startswith(b"\xff\xd8") and b"\xff\xd9" in body[-64:]):
        return "it is no whole JPEG"
    return "" if body.strip(b"\0") else "it is zeros only"


def shows_its_end(name: str) -> bool:
    """Return whether a file of this name has a form that a cut one lacks."""
    return name.lower().endswith((*_TIFF_SUFFIXES, *_JSON_SUFFIXES, ".png", ".jpg", ".jpeg"))


def _json_fault(body: bytes) -> str:
    try:
        msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return "it is no whole JSON"
    return ""


def _tiff_fault(body: bytes) -> str:
    order = {b"II": "<", b"MM": ">"}.get(body[:2])
    if order is None:
        return "it is no TIFF"
    try:
        return _tiff_reach(body, order)
    except (struct.error, IndexError, OverflowError):
        return "it is cut short, or no TIFF"


def _tiff_reach(body: bytes, order: str) -> str:
    """Follow all directories, and see that each strip or tile ends inside the file. Source: TIFF 6.0; BigTIFF."""
    (magic,) = struct.unpack_from(f"{order}H", body, 2)
    if magic not in (42, 43):
        return "it is no TIFF"
    big = magic == 43
    offset_form, count_form, entry_bytes = ("Q", "Q", 20) if big else ("I", "H", 12)
    (at,) = struct.unpack_from(order + offset_form, body, 8 if big else 4)
    count_bytes = 8 if big else 2
    for _ in range(_IFDS_MAX):
        if at == 0:
            return ""
        (entries,) = struct.unpack_from(order + count_form, body, at)
        values: dict[int, tuple[int, ...]] = {}
        for number in range(min(entries, 1000)):
            entry = at + count_bytes + entry_bytes * number
            tag, kind = struct.unpack_from(f"{order}HH", body, entry)
            if tag in _STRIPS or tag in _STRIPS.values():
                values[tag] = _values(body, order, entry + 4, kind, big)
        for offsets, counts in _STRIPS.items():
            for start, length in zip(values.get(offsets, ()), values.get(counts, ()), strict=False):
                if start + length > len(body):
                    return f"it is cut short: {len(body):,} bytes, where its pixels reach to {start + length:,}"
        (at,) = struct.unpack_from(order + offset_form, body, at + count_bytes + entry_bytes * entries)
    return ""


def _values(body: bytes, order: str, at: int, kind: int, big: bool) -> tuple[int, ...]:
    (count,) = struct.unpack_from(order + ("Q" if big else "I"), body, at)
    at += 8 if big else 4
    size = _SIZES.get(kind)
    if size is None:
        return ()
    if count * size > len(body):
        raise IndexError
    if count * size > (8 if big else 4):
        (at,) = struct.unpack_from(order + ("Q" if big else "I"), body, at)
    return struct.unpack_from(f"{order}{count}{_LETTERS[kind]}", body, at)
