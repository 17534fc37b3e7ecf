"""A disk that fails in the midst of a large file: the n-th write, a sync, a rename; writes that are short (41, 42)."""

from __future__ import annotations

import errno
import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stacmirror.model import AssetKey, ItemKey
from stacmirror.sinks import durable, part_file, parts
from stacmirror.sinks.parts import PartStore, look
from tests.contract.wire_server import Step, ok
from tests.faults.invariants import Before, hold, ledger_receipts, mends
from tests.faults.test_ranges import asked, begins, has_come, rest
from tests.faults.world import COLLECTION, Bench, path_of, truth

ITEM = "i2"
PATH = f"/files/{ITEM}/B02"
PIECE, SAVED, WRITE = 32_768, 16_384, 4096
"""Bytes that come first, after so many there is a record, and at most so many are written in one call."""
TAG = 'ETag: "one"'
LATER = PIECE // WRITE + 4
"""A write that comes after the first record."""
WHOLE, NOTHING = (0,), ()


class Fault(NamedTuple):
    """The `n`-th call of a kind fails with `code`; `again`: from where on the next run asks, None: from the record."""

    kind: str
    n: int
    code: int
    again: Sequence[int] | None


FAULTS = {
    "write, no room": Fault("write", LATER, errno.ENOSPC, None),
    "write, ill": Fault("write", LATER, errno.EIO, None),
    "write, no word": Fault("write", LATER, 0, None),
    "first write": Fault("write", 1, errno.ENOSPC, WHOLE),
    "sync": Fault("sync", 1, errno.EIO, WHOLE),
    "record": Fault("record", 1, errno.ENOSPC, WHOLE),
    "rename of the record": Fault("rename of the record", 1, errno.EIO, WHOLE),
    "rename of the part": Fault("rename of the part", 1, errno.EIO, NOTHING),
}


class Disk:
    """The disk as the large file of one item meets it."""

    def __init__(self, path: str, fault: Fault | None, *, for_ever: bool = False) -> None:
        self.path = path
        self._fault = fault
        self._for_ever = for_ever
        self.met: dict[str, int] = {}
        self.synced_bytes = 0
        self.promised: list[tuple[int, int]] = []
        """Of each record: what it promises, and what was there when the file was synced last."""

    def fails(self, kind: str, path: str) -> bool:
        """Count a call for `path`, and return whether it fails."""
        if not path.startswith(self.path):
            return False
        self.met[kind] = nth = self.met.get(kind, 0) + 1
        if self._fault is None or kind != self._fault.kind:
            return False
        return nth >= self._fault.n if self._for_ever else nth == self._fault.n

    def check(self, kind: str, path: str) -> None:
        if self.fails(kind, path):
            raise self.error()

    def error(self) -> OSError:
        code = self._fault.code if self._fault is not None else 0
        return OSError(code, os.strerror(code))

    def file(self) -> type[io.FileIO]:
        """Return the file below the product's: each write is short; one that fails has written a part all the same."""
        disk = self

        class Short(io.FileIO):
            def write(self, data: Any, /) -> int:
                if disk.fails("write", str(self.name)):
                    if not disk.error().errno:
                        return 0
                    super().write(data[: WRITE // 2])
                    raise disk.error()
                return super().write(data[:WRITE])

        return Short


class _Os:
    """The module os as the product's modules see it."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fsync(self, fd: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        self._disk.check("record" if path.endswith(".new") else "sync", path)
        if path == f"{self._disk.path}.part":
            self._disk.synced_bytes = os.fstat(fd).st_size
            time.sleep(0.02)  # in a thread: meanwhile more is written
        os.fsync(fd)

    def replace(self, source: str, target: str, **where: Any) -> None:
        self._disk.check(f"rename of the {'record' if source.endswith('.new') else 'part'}", source)
        if source == f"{self._disk.path}.new":
            record = parts._read(source)
            assert record is not None
            self._disk.promised.append((record.offset, self._disk.synced_bytes))
        os.replace(source, target, **where)


def part_of(bench: Bench) -> str:
    """Return where the large file's part and record are, without their endings."""
    store = PartStore.__new__(PartStore)
    store._folder = str(bench.target / ".stacmirror" / "parts")
    return store._path(AssetKey(ItemKey(COLLECTION, ITEM), "B02"))


@contextmanager
def on(disk: Disk) -> Iterator[None]:
    """Put `disk` below the large files, with a record every few writes."""
    with pytest.MonkeyPatch.context() as patched:
        file = type("File", (part_file._HashedFile, disk.file()), {})
        patched.setattr(part_file, "_HashedFile", file)
        patched.setattr(part_file, "_BUFFER_BYTES", WRITE)
        patched.setattr(part_file, "_SAVED_EVERY_BYTES", SAVED)
        for module in (parts, durable):
            patched.setattr(module, "os", _Os(disk))
        yield


def in_pieces(bench: Bench) -> Callable[[int, bytes], Sequence[Step]]:
    """Say a body in two pieces, the second once the first has come; and its rest, where that is asked for."""

    def fault(nth: int, body: bytes) -> Sequence[Step]:
        start = begins(bench.world.heard[-1])
        if start:
            return rest(body, start, TAG)
        said = ok(body, TAG)
        at = len(said) - len(body) + PIECE
        return said[:at], has_come(bench, PATH, PIECE), said[at:]

    return fault


async def test_short_writes(bench: Bench) -> None:
    """Every write takes 4 kB of what it was given: the file is whole; no record promises what was not synced before."""
    bench.world.lasting[PATH] = in_pieces(bench)
    disk, before = Disk(part_of(bench), None), Before()
    with on(disk):
        run = await bench.run()
    assert (run.summary.verdict, run.summary.exit_code) == ("complete", 0), run.summary.reason
    size_bytes = len(truth(ITEM, "B02"))
    assert disk.met["write"] >= size_bytes / WRITE
    assert len(disk.promised) >= 2
    assert all(promised <= synced for promised, synced in disk.promised), disk.promised
    assert ledger_receipts(bench.target)[path_of(ITEM, "B02")].size_bytes == size_bytes
    hold(bench, run, before)
    await mends(bench)


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("name", FAULTS)
async def test_a_large_file_meets_a_disk_that_fails(bench: Bench, name: str, *, for_ever: bool) -> None:
    """Exit 6 with the reason, nothing of it in sight; the next run goes on where a record says that it was."""
    fault = FAULTS[name]
    bench.world.lasting[PATH] = in_pieces(bench)
    disk, before = Disk(part_of(bench), fault, for_ever=for_ever), Before()
    with on(disk):
        run = await bench.run()
    assert disk.met.get(fault.kind, 0) >= fault.n, "it was not called"
    assert (run.summary.verdict, run.summary.exit_code) == ("stopped", 6), run.summary.reason
    assert os.strerror(fault.code or errno.ENOSPC) in run.summary.reason
    assert not (bench.target / path_of(ITEM, "B02")).exists()
    hold(bench, run, before, cut=True, ill=for_ever)
    record = look(os.path.dirname(part_of(bench))).get(f"{Path(part_of(bench)).name}.part")
    again: Sequence[int]
    if fault.again is None:
        assert record is not None, "what had come is lost"
        assert SAVED <= record.offset <= WRITE * fault.n
        again = [record.offset]
    else:
        again = fault.again
    bench.world.heard.clear()
    await mends(bench)
    assert [begins(request) for request in asked(bench, PATH)] == list(again)
