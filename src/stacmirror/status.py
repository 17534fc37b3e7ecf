"""How far a mirror is, read from its ledger, beside a running mirror or without one. Loads no HTTP client."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

from msgspec import Struct, to_builtins

from stacmirror.ledger.home import LEDGER, ledger_path, state_folder
from stacmirror.ledger.lock import owner
from stacmirror.ledger.reader import LedgerReader
from stacmirror.model import AbsentKey, Counts, FailedAsset, FailureCount
from stacmirror.record import STATE_FOLDER, read_record


class MirrorStatus(Struct):
    """What `stacmirror status` shows. `running` is "" or who works."""

    source: str
    target: str
    counts: Counts
    running: str
    failures: list[FailureCount]
    absences: list[AbsentKey]
    layout: str
    ended_at: str
    parts: int = 0
    """Large files that are there in part, and their bytes."""
    parts_bytes: int = 0
    shard: str = ""
    """Which part of the collection the mirror is, `K/N`; empty: all of it."""


def read_status(target: str) -> MirrorStatus:
    """Return the state of the mirror in `target`.

    Raises: UsageError when there is none; TargetInUse when its ledger is foreign or unreadable.
    """
    record = read_record(target)
    sizes = _part_sizes(os.path.join(target, STATE_FOLDER, "parts"))
    folder = state_folder(os.path.join(target, STATE_FOLDER))
    ledger = LedgerReader(os.path.join(folder, LEDGER))
    try:
        return MirrorStatus(
            source=str(record.get("source", "")),
            target=target,
            counts=ledger.counts(),
            running=owner(folder),
            failures=ledger.failures(),
            absences=ledger.absences(),
            layout=str(record.get("place", {}).get("layout", "item")),
            ended_at=ledger.meta("ended_at") or "",
            parts=len(sizes),
            parts_bytes=sum(sizes),
            shard=str(record.get("filter", {}).get("shard", "")),
        )
    finally:
        ledger.close()


def _part_sizes(folder: str) -> list[int]:
    sizes = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(".part"):
                    with suppress(FileNotFoundError):  # a run is on, and it is whole by now
                        sizes.append(entry.stat(follow_symlinks=False).st_size)
    except OSError:  # a mirror that never had one
        return []
    return sizes


def read_kinds(target: str) -> dict[str, int]:
    """Return how many assets the mirror in `target` lacks, by kind of failure, most first. Raises: as `read_status`."""
    read_record(target)
    ledger = LedgerReader(ledger_path(os.path.join(target, STATE_FOLDER)))
    try:
        found = Counter[str]()
        for failure in ledger.failures():
            found[failure.kind] += failure.count
        return dict(found.most_common())
    finally:
        ledger.close()


def tell_failed(target: str) -> Iterator[dict[str, object]]:
    """Give every asset that the mirror in `target` lacks as plain values, one a line of the failure file.

    `again` says who asks for it again: `this run` is on and sweeps, or the `next run`. Raises: as `read_status`.
    """
    running = bool(owner(state_folder(os.path.join(target, STATE_FOLDER))))
    for failed in read_failed(target):
        told: dict[str, object] = to_builtins(failed)
        yield {**told, "again": "this run" if running and failed.again else "next run"}


def read_failed(target: str) -> Iterator[FailedAsset]:
    """Give every asset that the mirror in `target` lacks. Raises: as `read_status`."""
    read_record(target)
    ledger = LedgerReader(ledger_path(os.path.join(target, STATE_FOLDER)))
    try:
        yield from ledger.failed_assets()
    finally:
        ledger.close()
