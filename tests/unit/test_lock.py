"""One run at a time on a mirror, and its owner is named."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from stacmirror.errors import TargetInUse, TargetUnwritable
from stacmirror.ledger.lock import RunLock, owner


def test_the_second_run_is_refused_and_told_who_works(tmp_path: Path) -> None:
    """While one holds the lock, another hears pid and host; after the release it can have it."""
    first, second = RunLock(str(tmp_path)), RunLock(str(tmp_path))
    first.take()
    with pytest.raises(TargetInUse, match=f"pid {os.getpid()} on "):
        second.take()
    assert f"pid {os.getpid()}" in owner(str(tmp_path))
    first.release()
    first.release()
    assert owner(str(tmp_path)) == ""
    second.take()
    second.release()


def test_what_a_dead_owner_left_is_no_lock(tmp_path: Path) -> None:
    """The file stays when a process is killed; the lock does not."""
    (tmp_path / "lock").write_text('{"pid": 1, "host": "x", "since": "long ago"}')
    assert owner(str(tmp_path)) == ""
    lock = RunLock(str(tmp_path))
    lock.take()
    lock.release()


@pytest.mark.parametrize("call", ["flock", "pwrite"])
def test_a_disk_that_cannot_lock_is_not_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """No locks on this file system, or no room for the owner's name: the reason is told, and nothing stays locked."""

    def failing(*values: object) -> None:
        raise OSError(errno.ENOLCK if call == "flock" else errno.ENOSPC, "the reason")

    lock = RunLock(str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(fcntl if call == "flock" else os, call, failing)
        with pytest.raises(TargetUnwritable, match="the reason"):
            lock.take()
    lock.take()
    lock.release()
