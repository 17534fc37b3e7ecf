"""How far a mirror is, read from its ledger, beside a running mirror or without one. Loads no HTTP client."""

from __future__ import annotations

import os

from msgspec import Struct

from stacmirror.ledger.lock import owner
from stacmirror.ledger.reader import LedgerReader
from stacmirror.model import Counts
from stacmirror.record import STATE_FOLDER, read_record


class MirrorStatus(Struct):
    """What `stacmirror status` shows. `failures` has asset key, kind and count; `running` is "" or who works."""

    source: str
    target: str
    counts: Counts
    running: str
    failures: list[tuple[str, str, int]]
    layout: str
    ended_at: str


def read_status(target: str) -> MirrorStatus:
    """Return the state of the mirror in `target`.

    Raises: UsageError when there is none; TargetInUse when its ledger is foreign or unreadable.
    """
    record = read_record(target)
    folder = os.path.join(target, STATE_FOLDER)
    ledger = LedgerReader(os.path.join(folder, "ledger.sqlite"))
    try:
        return MirrorStatus(
            source=str(record.get("source", "")),
            target=target,
            counts=ledger.counts(),
            running=owner(folder),
            failures=ledger.failures(),
            layout=str(record.get("place", {}).get("layout", "item")),
            ended_at=ledger.meta("ended_at") or "",
        )
    finally:
        ledger.close()
