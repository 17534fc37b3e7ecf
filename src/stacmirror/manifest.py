"""List a mirror's files with their digests: sums that coreutils checks, or all that the ledger knows.

A composition root, called by the command line and as a library. Sums of a kind that the ledger has not are computed by
reading, and the ledger's own digest is compared on the way: a manifest never vouches for a damaged file. Holds one
slice of items at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from msgspec import Struct

from stacmirror.findings import Checking, Finding
from stacmirror.layout import Layout, make_layout
from stacmirror.ledger.audit import LedgerAudit
from stacmirror.ledger.home import ledger_path
from stacmirror.record import STATE_FOLDER, read_record
from stacmirror.sinks.digests import Batch, Digested, digest_all
from stacmirror.units import format_count

_BATCH_FILES = 64
_BATCH_BYTES = 64 << 20

OnProblem = Callable[[Finding], None]


class Entry(Struct):
    """One file of a mirror, as the ledger has it. `asset` starts with `@` where the file was made, not fetched."""

    collection: str
    item: str
    asset: str
    path: str
    bytes: int
    digest_kind: str
    digest: str


def entries(target: str, on_problem: OnProblem, now: Checking | None = None) -> Iterator[Entry]:
    """Give every revealed file of the mirror in `target`, from the ledger alone; `on_problem` hears what is left out.

    `now` counts items.

    Raises: UsageError when there is no mirror; TargetInUse when its ledger is foreign or unreadable.
    """
    layout = _layout(target)
    now = now or Checking()
    with _audit(target) as audit:
        now.phase, now.items_total = "listing", audit.items()
        for rows in audit.slices():
            for row in rows:
                now.items += 1
                folder = layout.folder(row.key, row.key)[0] if row.folder is None else row.folder
                if row.fault:
                    on_problem(Finding("row", folder, row.fault, row.key.collection, row.key.id))
                    continue
                if row.unit:
                    on_problem(Finding("unrevealed", folder, "", row.key.collection, row.key.id))
                    continue
                for receipt in row.receipts:
                    path = f"{folder}/{receipt.name}" if folder else receipt.name
                    yield Entry(
                        row.key.collection,
                        row.key.id,
                        receipt.key,
                        path,
                        receipt.size_bytes,
                        receipt.digest_kind,
                        receipt.digest.hex(),
                    )


def sums(
    target: str,
    kind: Literal["md5", "sha256"],
    processes: int,
    on_problem: OnProblem,
    now: Checking | None = None,
) -> Iterator[tuple[str, str]]:
    """Give path and digest of every revealed file; a file that is not what the ledger has is left out.

    `now` counts what was read. Raises: as `entries`.
    """
    now = now or Checking()
    for tags, answers in digest_all(_batches(target, kind, on_problem, now), processes):
        for entry, answer in zip(tags, answers, strict=True):
            now.files += 1
            now.bytes += answer.size_bytes
            if entry.digest_kind == kind:
                yield entry.path, entry.digest
            elif damage := _damage(entry, answer):
                on_problem(Finding(*damage, entry.collection, entry.item, entry.asset))
            else:
                yield entry.path, answer.digests[0].hex()


def sums_line(path: str, digest: str) -> str:
    """Return a line as coreutils writes it: a name with a backslash or a line break is escaped, and marked so."""
    escaped = path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "\\" if escaped != path else ""
    return f"{mark}{digest}  {escaped}"


def _batches(target: str, kind: str, on_problem: OnProblem, now: Checking) -> Iterator[Batch[Entry]]:
    batch: Batch[Entry] = Batch()
    size_bytes = 0
    for entry in entries(target, on_problem, now):
        kinds = () if entry.digest_kind == kind else (kind, entry.digest_kind)
        batch.add(entry, os.path.join(target, entry.path), kinds)
        size_bytes += entry.bytes if kinds else 0
        if len(batch.tags) >= _BATCH_FILES or size_bytes >= _BATCH_BYTES:
            yield batch
            batch, size_bytes = Batch(), 0
    if batch.tags:
        yield batch


def _damage(entry: Entry, answer: Digested) -> tuple[str, str, str] | None:
    if answer.fault:
        return answer.fault, entry.path, answer.error
    if answer.size_bytes != entry.bytes:
        kind = "cut" if answer.size_bytes < entry.bytes else "grown"
        return kind, entry.path, f"{format_count(answer.size_bytes)} of {format_count(entry.bytes)} bytes"
    if answer.digests[1].hex() != entry.digest:
        return "flipped", entry.path, f"{entry.digest_kind} is {answer.digests[1].hex()}, not {entry.digest}"
    return None


def _layout(target: str) -> Layout:
    place = read_record(target).get("place", {})
    return make_layout(str(place.get("layout", "item")), str(place.get("path_template", "")))


@contextmanager
def _audit(target: str) -> Iterator[LedgerAudit]:
    audit = LedgerAudit(ledger_path(os.path.join(target, STATE_FOLDER)))
    try:
        yield audit
    finally:
        audit.close()
