"""Hold a mirror's tree against its ledger: names and sizes, or every byte; mark what is damaged, to be fetched again.

A composition root, called by the command line and as a library. Without `repair` it takes no lock and writes nothing,
and works beside a running mirror: what that has under way is no damage. Holds one item at a time, and 8 bytes of each.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack

from stacmirror.findings import DAMAGE_KINDS, DAMAGED_EXIT_CODE, Checking, Finding, Verification
from stacmirror.layout import Layout, make_layout
from stacmirror.ledger.audit import AuditRow, LedgerAudit
from stacmirror.ledger.home import LEDGER, state_folder, take_home
from stacmirror.ledger.lock import owner
from stacmirror.ledger.repair import RepairStore
from stacmirror.model import Receipt
from stacmirror.record import STATE_FOLDER, read_record
from stacmirror.sinks import inspect
from stacmirror.sinks.digests import Batch, Digested, digest_all
from stacmirror.strays import ItemFolders, Strays
from stacmirror.units import format_count

_BATCH_FILES = 64
_BATCH_BYTES = 64 << 20
_MARKED_ROWS_MAX = 5000

_Tag = tuple[AuditRow, Receipt]


def verify(
    target: str,
    *,
    deep: bool = False,
    repair: bool = False,
    strict: bool = False,
    processes: int = 1,
    on_finding: Callable[[Finding], None] = lambda finding: None,
    checking: Checking | None = None,
) -> Verification:
    """Check the mirror in `target`; `deep` reads every byte, `strict` counts foreign and unrevealed files as damage.

    Raises: UsageError when there is no mirror; TargetInUse when its ledger is foreign or unreadable, and with `repair`
            when a run is on; TargetUnwritable when nothing can be marked.
    """
    record = read_record(target)
    place = record.get("place", {})
    layout = make_layout(str(place.get("layout", "item")), str(place.get("path_template", "")))
    own = os.path.join(target, STATE_FOLDER)
    state = state_folder(own)
    ledger = os.path.join(state, LEDGER)
    started_s = time.monotonic()
    with ExitStack() as stack:
        marks = None
        if repair:
            _, lock = take_home(own, "")
            stack.callback(lock.release)
            store = RepairStore(ledger, lock.check)
            stack.callback(store.close)
            marks = _Marks(store, layout)
        audit = LedgerAudit(ledger)
        stack.callback(audit.close)
        verifier = _Verifier(target, state, layout, audit, marks, on_finding, checking or Checking(), strict)
        result = verifier.run(deep=deep, processes=processes)
    result.seconds = time.monotonic() - started_s
    return result


class _Marks:
    """What is to be fetched again, written down some thousand rows at a time."""

    def __init__(self, store: RepairStore, layout: Layout) -> None:
        self._store = store
        self._layout = layout
        self._files: dict[int, dict[str, str]] = {}
        self._rows: list[int] = []
        self.count = 0

    def add_file(self, row: AuditRow, receipt: Receipt, what: str) -> None:
        self._files.setdefault(row.row, {})[receipt.key] = what
        self.count += 1
        if len(self._files) >= _MARKED_ROWS_MAX:
            self._write_files()

    def add_row(self, row: AuditRow) -> None:
        self._rows.append(row.row)
        self.count += 1

    def mend_indexes(self, audit: LedgerAudit) -> None:
        self._store.reindex()
        self.count += not audit.check_file()

    def write(self) -> None:
        self._write_files()
        if self._rows:
            layout = self._layout
            folder = (lambda key: layout.folder(key, key)[0]) if layout.one_to_one else None
            self._store.mark_rows(self._rows, folder)

    def _write_files(self) -> None:
        if self._files:
            self._store.mark_files(self._files)
            self._files = {}


class _Verifier:
    """One verification, top to bottom: rows and their files, what is unrevealed, what nobody knows."""

    def __init__(
        self,
        target: str,
        state: str,
        layout: Layout,
        audit: LedgerAudit,
        marks: _Marks | None,
        on_finding: Callable[[Finding], None],
        checking: Checking,
        strict: bool,
    ) -> None:
        self._target = os.path.abspath(target)
        self._state = state
        self._layout = layout
        self._audit = audit
        self._marks = marks
        self._on_finding = on_finding
        self._now = checking
        self._strict = strict
        self._result = Verification(target, False, "")
        self._folders = ItemFolders()
        self._strays = Strays(self._target, audit, self._folder_of, self._found)
        self._last_row = 0

    def run(self, *, deep: bool, processes: int) -> Verification:
        result, now = self._result, self._now
        result.deep = deep
        result.running = self._running()
        run_before = self._audit.meta("run")
        now.items_total = self._audit.items()
        marked_before = self._audit.marked_assets()
        now.phase = "reading" if deep else "checking"
        for tags, answers in digest_all(self._check_rows(deep), processes if deep else 1):
            self._judge(tags, answers)
        now.phase = "looking for foreign files"
        self._strays.find_foreign(self._folders, self._last_row, now)
        result.running = result.running or self._running()
        if not result.running and run_before == self._audit.meta("run"):
            now.phase = "looking at what is unrevealed"
            self._strays.find_unrevealed(self._damaged)
            if marked_before:
                result.damage["marked"] = marked_before
                result.lacking -= marked_before
            if deep and (wrong := self._audit.check_file()):
                self._found(Finding("ledger", self._audit.path, wrong))
                if self._marks is not None:
                    self._marks.mend_indexes(self._audit)
        if self._marks is not None:
            self._marks.write()
            result.marked = self._marks.count
        if result.damage or (self._strict and result.notes):
            result.exit_code = DAMAGED_EXIT_CODE
        return result

    def _running(self) -> str:
        return "" if self._marks is not None else owner(self._state)

    def _found(self, finding: Finding) -> None:
        counts = self._result.damage if finding.kind in DAMAGE_KINDS else self._result.notes
        counts[finding.kind] = counts.get(finding.kind, 0) + 1
        self._now.damage += finding.kind in DAMAGE_KINDS
        self._on_finding(finding)

    def _damaged(self, row: AuditRow, receipt: Receipt, kind: str, detail: str) -> None:
        path = _joined(self._folder_of(row), receipt.name)
        self._found(Finding(kind, path, detail, row.key.collection, row.key.id, receipt.key))
        if self._marks is not None:
            self._marks.add_file(row, receipt, f"{kind}: {detail}" if detail else kind)

    # -- rows and their files ------------------------------------------------------------------------------

    def _check_rows(self, deep: bool) -> Iterator[Batch[_Tag]]:
        """Check names and sizes of all items; give the files whose bytes are to be read."""
        now = self._now
        batch: Batch[_Tag] = Batch()
        size_bytes = 0
        for rows in self._audit.slices():
            for row in rows:
                for folder, receipt in self._check_row(row):
                    if not deep:
                        continue
                    path = os.path.join(self._target, folder, receipt.name)
                    batch.add((row, receipt), path, (receipt.digest_kind,))
                    size_bytes += receipt.size_bytes
                    if len(batch.tags) >= _BATCH_FILES or size_bytes >= _BATCH_BYTES:
                        yield batch
                        batch, size_bytes = Batch(), 0
                now.items += 1
            self._last_row = rows[-1].row
        if batch.tags:
            yield batch

    def _folder_of(self, row: AuditRow) -> str:
        return self._layout.folder(row.key, row.key)[0] if row.folder is None else row.folder

    def _check_row(self, row: AuditRow) -> list[tuple[str, Receipt]]:
        """Check one item's names and sizes; return the files that passed, with their folder."""
        result, now = self._result, self._now
        result.items += 1
        folder = self._folder_of(row)
        if row.exclusive:
            self._folders.add(folder)
        if row.fault:
            self._found(Finding("row", folder, row.fault, row.key.collection, row.key.id))
            if self._marks is not None:
                self._marks.add_row(row)
            return []
        result.lacking += row.lacking
        if row.unit:
            return []  # not revealed, or about to be
        wanted = {receipt.name: receipt.size_bytes for receipt in row.receipts}
        # A source in its label's folder is no owner of it: what else is there is asked of the label.
        owns_folder = row.exclusive and (row.walked or not self._layout.one_to_one)
        faults, others = inspect.examine(os.path.join(self._target, folder), wanted, listed=owns_folder)
        size_bytes = sum(wanted.values())
        result.files += len(wanted)
        result.bytes += size_bytes
        now.files, now.bytes = result.files, result.bytes
        if others:
            self._judge_others(row, folder, others)
        if not faults:
            return [(folder, receipt) for receipt in row.receipts]
        wrong = {fault.name: fault for fault in faults}
        current = self._current(row)
        for receipt in row.receipts:
            fault = wrong.get(receipt.name)
            if fault is not None and receipt in current:
                self._damaged(row, receipt, fault.kind, fault.detail)
        return [(folder, receipt) for receipt in row.receipts if receipt.name not in wrong]

    def _current(self, row: AuditRow) -> list[Receipt]:
        """Return the receipts of an item as the ledger has them now; none while a run works on it again."""
        again = self._audit.again(row.row)
        return [] if again is None or again.unit or again.fault else again.receipts

    def _judge_others(self, row: AuditRow, folder: str, others: Iterable[str]) -> None:
        """Say which of the other files in an item's folder nobody knows.

        They were seen before the ledger is asked once more: a file is in the ledger before it is visible.
        """
        # Marks before rows: a run that takes a mark away has written the row by then.
        if self._audit.marked(self._sharing(row, folder)):
            return
        rows = self._sharing(row, folder)
        if not rows or any(found.fault for found in rows):
            return
        known = {receipt.name for found in rows for receipt in found.receipts}
        for name in sorted(set(others) - known):
            self._found(Finding("foreign", _joined(folder, name)))

    def _sharing(self, row: AuditRow, folder: str) -> list[AuditRow]:
        """Return the rows of the items in an item's folder, as they are now."""
        again = self._audit.again(row.row)
        if again is None or not self._layout.one_to_one:
            return [] if again is None else [again]
        return [again, *(source for source in self._audit.of(again.sources) if self._folder_of(source) == folder)]

    def _judge(self, tags: Sequence[_Tag], answers: Sequence[Digested]) -> None:
        """Hold what was read against the receipts."""
        for (row, receipt), answer in zip(tags, answers, strict=True):
            if answer.digests == (receipt.digest,) and answer.size_bytes == receipt.size_bytes:
                continue
            if receipt not in self._current(row):
                continue
            if answer.fault:
                self._damaged(row, receipt, answer.fault, answer.error)
            elif answer.size_bytes != receipt.size_bytes:
                kind = "cut" if answer.size_bytes < receipt.size_bytes else "grown"
                self._damaged(
                    row, receipt, kind, f"{format_count(answer.size_bytes)} of {format_count(receipt.size_bytes)} bytes"
                )
            else:
                detail = f"{receipt.digest_kind} is {answer.digests[0].hex()}, not {receipt.digest.hex()}"
                self._damaged(row, receipt, "flipped", detail)


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
