"""Files are read by children, in order, whatever becomes of the files, the children or the parent."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash

from stacmirror.sinks.digests import Batch, digest, digest_all


def batches(root: Path, count: int, size: int = 3) -> Iterator[Batch[int]]:
    for start in range(0, count, size):
        batch: Batch[int] = Batch()
        for number in range(start, min(start + size, count)):
            path = root / f"f{number}"
            path.write_bytes(b"x" * (number * 700_001 % 1_500_000))
            batch.add(number, str(path), ("md5", "xxh3", "sha256"))
        yield batch


@pytest.mark.parametrize("processes", [0, 1, 2, 5])
def test_digests_come_in_order(tmp_path: Path, processes: int) -> None:
    """Every file once, in the order given, with the digests that were asked for, over any number of processes."""
    found = [
        pair for tags, done in digest_all(batches(tmp_path, 26), processes) for pair in zip(tags, done, strict=True)
    ]
    assert [number for number, _ in found] == list(range(26))
    for number, done in found:
        content = (tmp_path / f"f{number}").read_bytes()
        assert done.size_bytes == len(content)
        assert done.digests == (
            hashlib.md5(content).digest(),
            xxhash.xxh3_128_digest(content),
            hashlib.sha256(content).digest(),
        )


@pytest.mark.parametrize("processes", [1, 2])
def test_what_cannot_be_read_is_an_answer(tmp_path: Path, processes: int) -> None:
    """A missing file, a folder, a name in the way that is no UTF-8: said, and the others go on."""
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n")
    Path(odd).write_bytes(b"odd")
    batch: Batch[str] = Batch()
    for path in (str(tmp_path / "none"), str(tmp_path), odd):
        batch.add(path, path, ("md5",))
    batch.add("unread", str(tmp_path / "none"), ())
    ((_, (none, folder, found, unread)),) = digest_all([batch], processes)
    assert (none.fault, folder.fault, bool(folder.error)) == ("missing", "unreadable", True)
    assert (found.fault, found.digests) == ("", (hashlib.md5(b"odd").digest(),))
    assert (unread.fault, unread.digests) == ("", ())


def test_a_child_that_is_killed_is_an_error_not_a_wait(tmp_path: Path) -> None:
    """Whoever kills a child gets one error, at once."""

    def killing() -> Iterator[Batch[int]]:
        for number, batch in enumerate(batches(tmp_path, 60)):
            if number == 4:
                for child in children_of(os.getpid()):
                    os.kill(child, signal.SIGKILL)
            yield batch

    with pytest.raises(RuntimeError, match="has ended"):
        list(digest_all(killing(), 2))
    assert not children_of(os.getpid())


def test_children_end_with_their_parent(tmp_path: Path) -> None:
    """The parent is killed outright: no child stays."""
    program = (
        "import sys, time\n"
        "from stacmirror.sinks.digests import Batch, digest_all\n"
        "def batches():\n"
        "    for _ in range(4):\n"
        "        batch = Batch()\n"
        "        batch.add(1, sys.executable, ('md5',))\n"
        "        yield batch\n"
        "    print('here', flush=True)\n"
        "    time.sleep(60)\n"
        "list(digest_all(batches(), 2))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"here\n"
        end_s = time.monotonic() + 60
        while len(children := children_of(parent.pid)) < 2:  # the second may still be what it was forked from
            assert time.monotonic() < end_s
            time.sleep(0.02)
        assert len(children) == 2
        parent.kill()
    end_s = time.monotonic() + 60
    while any(is_alive(child) for child in children):
        assert time.monotonic() < end_s
        time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z" and b"digests" in _command(entry):
            found.append(int(entry.parent.name))
    return found


def _command(stat: Path) -> bytes:
    try:
        return (stat.parent / "cmdline").read_bytes()
    except OSError:
        return b""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_digest_is_of_all_bytes(tmp_path: Path) -> None:
    """A file larger than the buffer, and an empty one."""
    large = bytes(range(256)) * 9000
    (tmp_path / "large").write_bytes(large)
    (tmp_path / "empty").touch()
    assert digest(str(tmp_path / "large"), ("sha256",)).digests == (hashlib.sha256(large).digest(),)
    assert digest(str(tmp_path / "empty"), ("md5",)).digests == (hashlib.md5(b"").digest(),)
