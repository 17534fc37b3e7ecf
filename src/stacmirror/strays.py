"""Find what is in a mirror's folder and in no item's place: files that nobody knows, and what was never revealed.

Used by `verify`, after all rows were read.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator

from stacmirror.findings import Checking, Finding
from stacmirror.ledger.audit import AuditRow, LedgerAudit, path_hash
from stacmirror.model import PartState, Receipt
from stacmirror.names import safe_name
from stacmirror.record import STATE_FOLDER
from stacmirror.sinks import inspect
from stacmirror.sinks.parts import look
from stacmirror.units import format_count, format_size

_OWN_FILES = ("collection.json", "CITATION.txt", "LICENSE.txt")
_SUMS = ("SHA256SUMS", "MD5SUMS")
"""What `manifest -o` is told to write, mostly: known at the top of the target."""
_LEFT = "left by a run that was cut short; the next one removes it"

Damaged = Callable[[AuditRow, Receipt, str, str], None]
"""Hears of a staged file: its row, its receipt, the kind of damage and the detail."""


class ItemFolders:
    """Remembers items' own folders, 8 bytes each."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self._sorted = 0

    def add(self, folder: str) -> None:
        """Remember one more."""
        self._hashes.append(path_hash(folder))

    def __contains__(self, folder: str) -> bool:
        if self._sorted != len(self._hashes):
            self._hashes = array("q", sorted(self._hashes))
            self._sorted = len(self._hashes)
        hashed = path_hash(folder)
        at = bisect_left(self._hashes, hashed)
        return at < self._sorted and self._hashes[at] == hashed


class Strays:
    """One look at all of the target but items' own folders. `folder_of` gives a row's folder."""

    def __init__(
        self,
        target: str,
        audit: LedgerAudit,
        folder_of: Callable[[AuditRow], str],
        on_finding: Callable[[Finding], None],
    ) -> None:
        self._target = target
        self._state = os.path.join(target, STATE_FOLDER)
        self._audit = audit
        self._folder_of = folder_of
        self._on_finding = on_finding

    def find_foreign(self, folders: ItemFolders, last_row: int, now: Checking) -> None:
        """Say which files outside `folders` nobody knows. `last_row` is the last one whose folder is among them."""
        audit = self._audit
        late: set[int] = set()
        own = {f"{safe_name(id_)}/{name}" for id_ in audit.collections() for name in _OWN_FILES} | set(_SUMS)

        def tick(names: int) -> None:
            now.elsewhere += names

        for paths in inspect.files_elsewhere(self._target, folders.__contains__, STATE_FOLDER, tick):
            unknown = [path for path in paths if path not in own]
            # A run may have revealed items meanwhile: their rows were there before their files.
            for rows in audit.slices(last_row):
                late.update(path_hash(self._folder_of(row)) for row in rows if row.exclusive)
                last_row = rows[-1].row
            known = audit.known_paths(unknown)
            for path in unknown:
                if path not in known and not any(path_hash(folder) in late for folder in _folders_above(path)):
                    self._on_finding(Finding("foreign", path))

    def find_unrevealed(self, damaged: Damaged) -> None:
        """Check what an earlier run staged and did not reveal. Only where no run is on."""
        units = set()
        for row in self._audit.unrevealed():
            units.add(row.unit)
            if not row.fault:
                self._check_staged(row, damaged)
        left = [f"staging/{name}" for name in _names_in(f"{self._state}/staging") if name not in units]
        for name in left:
            self._on_finding(Finding("unrevealed", f"{STATE_FOLDER}/{name}", _LEFT))
        for name, state in look(f"{self._state}/parts").items():
            if state is None or state.unit not in units:  # else its file is among those of the unit
                self._say_part(f"{STATE_FOLDER}/parts/{name}", state)

    def _say_part(self, path: str, state: PartState | None) -> None:
        rows = [] if state is None else self._audit.of([state.asset.item])
        if state is None or (rows and not any(row.lacking or row.fault for row in rows)):
            self._on_finding(Finding("unrevealed", path, _LEFT))
            return
        length = state.version.length
        total = f" of {format_size(length)}" if length else ""
        detail = f"{format_size(state.offset)}{total} are there; `resume` asks for the rest"
        if state.digest:
            detail = f"all {format_size(state.offset)} are there; `resume` takes them in"
        item = state.asset.item
        self._on_finding(Finding("unrevealed", path, detail, item.collection, item.id, state.asset.key))

    def _check_staged(self, row: AuditRow, damaged: Damaged) -> None:
        folder = self._folder_of(row)
        staged = os.path.join(self._state, "staging", row.unit)
        waiting = 0
        for receipt in row.receipts:
            size = inspect.size_of(os.path.join(staged, row.staged_name(receipt)))
            waiting += size is not None
            if size is None:
                size = inspect.size_of(os.path.join(self._target, folder, receipt.name))
            if size is None:
                damaged(row, receipt, "missing", "neither staged nor revealed")
            elif size != receipt.size_bytes:
                kind = "cut" if size < receipt.size_bytes else "grown"
                damaged(row, receipt, kind, f"{format_count(size)} of {format_count(receipt.size_bytes)} bytes, staged")
        if waiting:
            why = "to be revealed" if row.staged else "held until its other assets have arrived"
            detail = f"staged files: {waiting}, {why}"
            self._on_finding(Finding("unrevealed", folder, detail, row.key.collection, row.key.id))


def _folders_above(path: str) -> Iterator[str]:
    while (at := path.rfind("/")) >= 0:
        path = path[:at]
        yield path


def _names_in(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
