"""What a mirror will take, by a sample of it, as plain values: items, files, bytes, inodes, requests, hours.

Made of what `sampling` saw, printed by the command line's `plan`; `pipeline.room` shares what an item takes on disk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import Struct, field

LEDGER_BYTES = 2_000
"""An item's row and its JSON, packed."""
SURELY = 1.25
"""A need so many times the room is refused; one that is nearly as large as the room is only said."""
NEARLY = 0.9
LINE_BYTES_PER_S = 12_500_000
"""100 Mbit/s: where no limit is set, the time for bytes is told by this, since a sample is too short to measure it."""


class Sample(Struct, frozen=True):
    """What the first pages showed. Files are assets that came; `absent` and `failed` did not."""

    pages: int
    listed: int
    matched: int
    ended: bool
    """The listing ended within the pages that were read."""
    total: int | None
    """How many items the server says there are, before our own filters."""
    asked: int
    """Matched items whose assets were asked for."""
    linked: int
    """Items that these name as their sources."""
    files: int
    bytes: int
    """Of the files whose size was told or read."""
    sized: int
    """So many of the files."""
    requests: int
    """For linked items and assets, pages not counted."""
    seconds: float
    """For these."""
    folders: int
    """Of items with a file that came, or may come."""
    shared: int = 0
    """Links to sources beyond the first to each: the more of a collection is seen, the more are shared."""
    absent: Mapping[str, int] = field(default_factory=dict)
    """Not there (404, 410), by asset key."""
    phantoms: tuple[str, ...] = ()
    """Of these keys, no item had one."""
    failed: Mapping[str, int] = field(default_factory=dict)
    """By kind; a mirror asks for these again."""
    first_failure: str = ""


class Share(Struct, frozen=True):
    """Means of one item."""

    files: float
    bytes: float
    on_disk_bytes: float
    inodes: float


class Forecast(Struct, frozen=True):
    """What the whole takes. All but `one` are None where nobody says how many items there are.

    What rests on sizes is None, too, where no file of the sample has one.
    """

    items: int | None
    files: int | None
    bytes: int | None
    on_disk_bytes: int | None
    """In whole blocks, with folders and the ledger."""
    inodes: int | None
    requests: int | None
    seconds: float | None
    """For requests, at the sample's pace, or at --rate: writing comes on top."""
    line_seconds: float | None
    """For the bytes alone, over the line."""
    one: Share
    """Of one matched item, with the items that it names. Nothing where none was asked for."""


def on_disk(files: float, bytes_: float, folders: float, block_bytes: int) -> float:
    """Return what files take: each fills its last block by half, and each folder has one."""
    return bytes_ + (files / 2 + folders) * block_bytes


def forecast(
    sample: Sample,
    *,
    items_max: int | None,
    ids: int,
    missing_after: int,
    rate_per_s: float | None,
    block_bytes: int,
    line_bytes_per_s: float = LINE_BYTES_PER_S,
) -> Forecast:
    """Return what the whole takes if the rest of it is as the sample is.

    `items_max` is the most items that are wanted, `ids` the number of those that are wanted by name (0: no names).
    """
    one = _one(sample, block_bytes)
    items = _items(sample, items_max, ids)
    if items is None:
        return Forecast(None, None, None, None, None, None, None, None, one)
    requests = _requests(sample, items, missing_after)
    sized = sample.sized > 0 or not one.files
    seconds = sample.seconds * (requests / max(1, sample.requests))
    if rate_per_s is not None:
        seconds = max(seconds, requests / rate_per_s)
    return Forecast(
        items=items,
        files=round(items * one.files),
        bytes=round(items * one.bytes) if sized else None,
        on_disk_bytes=round(items * one.on_disk_bytes) if sized else None,
        inodes=round(items * one.inodes),
        requests=requests,
        seconds=seconds,
        line_seconds=items * one.bytes / line_bytes_per_s if sized else None,
        one=one,
    )


def _one(sample: Sample, block_bytes: int) -> Share:
    if not sample.asked:
        return Share(0, 0, 0, 0)
    # What failed is asked for again by a mirror, and comes.
    files, folders = (sample.files + sum(sample.failed.values())) / sample.asked, sample.folders / sample.asked
    bytes_ = files * sample.bytes / max(1, sample.sized)
    rows = 1 + sample.linked / sample.asked
    all_bytes = on_disk(files, bytes_, folders, block_bytes) + rows * LEDGER_BYTES
    return Share(files, bytes_, all_bytes, files + folders)


def _items(sample: Sample, items_max: int | None, ids: int) -> int | None:
    """Return how many items the mirror will have, or None where nobody can know."""
    if not sample.matched and not sample.ended:
        return None
    ends = [] if items_max is None else [items_max]
    if ids:
        ends.append(ids)
    if sample.ended:
        ends.append(sample.matched)
    elif sample.total is not None:
        ends.append(max(sample.matched, round(sample.total * sample.matched / max(1, sample.listed))))
    return min(ends) if ends else None


def _requests(sample: Sample, items: int, missing_after: int) -> int:
    """Return how many requests `items` take: pages, linked items, assets, and keys that nobody has for a while."""
    asked = max(1, sample.asked)
    phantoms = sum(sample.absent.get(key, 0) for key in sample.phantoms)
    assets = sample.files + sum(sample.absent.values()) + sum(sample.failed.values())
    each = (sample.requests - sample.linked) / max(1, assets)
    per_item = sample.linked / asked + each * (assets - phantoms) / asked
    walked = items * sample.listed / max(1, sample.matched)
    pages = sample.pages if sample.ended else math.ceil(walked * sample.pages / max(1, sample.listed))
    return pages + round(items * per_item + each * len(sample.phantoms) * min(items, missing_after))
