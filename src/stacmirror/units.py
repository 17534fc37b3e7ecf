"""Durations, sizes and rates as people type them, and as people read them. Pure; imports nothing of ours."""

from __future__ import annotations

import re
from typing import NamedTuple

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*$")
_DURATION_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*$", re.IGNORECASE)
_SIZE_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_ALLOWED = re.compile(r"^(\d{1,12}(?:\.\d{1,6})?)\s*(%?)$")
_RATE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*/\s*(s|m|h|d)\s*$")
_SHARD = re.compile(r"\s*([0-9]{1,6})/([0-9]{1,6})\s*")
_SHARDS_MAX = 10_000


def parse_duration(value: object) -> float:
    """Return seconds for `30`, `"30s"`, `"500ms"`, `"5m"`, `"6h"` or `"2d"`. Raises: ValueError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("must be a duration such as 30s, 5m or 6h")
    return float(match[1]) * _DURATION_S[match[2] or "s"]


def parse_size(value: object) -> int:
    """Return bytes for `4096`, `"20M"` (decimal) or `"1MiB"` (binary). Raises: ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.match(value) if isinstance(value, str) else None
    if match is None or (match[3] and not match[2]):
        raise ValueError("must be a size such as 1MiB, 20M or 4096")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** _SIZE_POWER[match[2].lower()])


def typed_size(size_bytes: int) -> str:
    """Return a size as people type it: `100GiB` where that is exact, else bytes."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size_bytes and size_bytes % 1024**power == 0:
            return f"{size_bytes // 1024**power}{unit}"
    return str(size_bytes)


def parse_rate(value: object) -> float:
    """Return requests a second for `500`, `"500/s"` or `"5000/h"`. Raises: ValueError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    match = _RATE.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("must be a rate such as 500/s or 5000/h")
    return float(match[1]) / _DURATION_S[match[2]]


class Allowed(NamedTuple):
    """So many of something, or such a share of it (0 to 1); `text` as typed."""

    text: str
    number: int
    share: float | None


def parse_allowed(value: object) -> Allowed | None:
    """Return what `1000` or `"5%"` allows; None for "". Raises: ValueError."""
    text = str(value).strip() if isinstance(value, (int, str)) and not isinstance(value, bool) else "?"
    if not text:
        return None
    match = _ALLOWED.match(text)
    if match is None or (match[2] and float(match[1]) > 100) or (not match[2] and "." in match[1]):
        raise ValueError("must be a number such as 1000, or a share such as 5%")
    if match[2]:
        return Allowed(text, 0, float(match[1]) / 100)
    return Allowed(text, int(match[1]), None)


def parse_shard(value: object) -> tuple[int, int] | None:
    """Return which shard of how many `"2/3"` is; None for "". Raises: ValueError."""
    if value == "":
        return None
    match = _SHARD.fullmatch(value) if isinstance(value, str) else None
    number, shards = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= shards <= _SHARDS_MAX:
        raise ValueError(f"must be K/N, K from 1 to N and N up to {_SHARDS_MAX:,}, such as 2/3")
    return number, shards


def format_size(size_bytes: float) -> str:
    """Return a size in decimal units, three digits: `29.2 kB`, `97.1 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def format_duration(seconds: float) -> str:
    """Return `4.2s`, `3m 05s`, `7h 12m` or `2d 03h`."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h {minutes:02d}m"
    days, hours = divmod(hours, 24)
    return f"{days}d {hours:02d}h"


def format_count(number: int) -> str:
    """Return a number with thousands set apart by commas."""
    return f"{number:,}"
