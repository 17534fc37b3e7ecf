"""One run at a time on a mirror, its owner is named, and a dead owner's lock is no lock."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stacmirror.errors import TargetInUse, TargetUnwritable
from stacmirror.ledger import lock as lock_module
from stacmirror.ledger.lock import EXPIRES_S, RunLock, owner


def taken(folder: Path) -> RunLock:
    lock = RunLock(str(folder))
    lock.take()
    return lock


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that other hosts see as well, where the kernel's lock is given to everyone."""
    monkeypatch.setattr(lock_module, "is_surely_local", lambda _: False)
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)


def left(folder: Path, **values: object) -> Path:
    """Leave a lock behind, as an owner that did not release it."""
    text = {"pid": os.getpid(), "host": socket.gethostname(), "since": "long ago", "started": "x-1"} | values
    (folder / "lock").write_text(json.dumps(text))
    return folder / "lock"


def test_the_second_run_is_refused_and_told_who_works(tmp_path: Path) -> None:
    """While one holds the lock, another hears pid and host; after the release it can have it."""
    first, second = RunLock(str(tmp_path)), RunLock(str(tmp_path))
    first.take()
    with pytest.raises(TargetInUse, match=f"pid {os.getpid()} on {socket.gethostname()} since 20"):
        second.take()
    assert f"pid {os.getpid()}" in owner(str(tmp_path))
    first.release()
    first.release()
    assert owner(str(tmp_path)) == ""
    second.take()
    second.release()


@contextmanager
def another_process(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Hold the lock in a process of its own."""
    code = (
        "import sys; from stacmirror.ledger.lock import RunLock; "
        "lock = RunLock(sys.argv[1]); lock.take(); print('held', flush=True); sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("flock", [True, False], ids=["local", "shared"])
def test_a_killed_owner_is_no_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flock: bool) -> None:
    """Refused while another process holds it; free the moment that is killed, even before its parent knows."""
    if not flock:
        monkeypatch.setattr(lock_module, "is_surely_local", lambda _: False)
        monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    with another_process(tmp_path) as process:
        with pytest.raises(TargetInUse, match=f"pid {process.pid} on "):
            taken(tmp_path)
        assert f"pid {process.pid} " in owner(str(tmp_path))
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and a zombie
        assert owner(str(tmp_path)) == ""
        taken(tmp_path).release()


@pytest.mark.parametrize("text", ["", "{", '{"pid": 1', "[]", "null", "\0" * 512, '{"pid": "x", "host": 1}', "\xff"])
def test_a_torn_text_is_no_lock(tmp_path: Path, text: str) -> None:
    """Whatever a kill left in the file, where the kernel's lock is free the mirror is free."""
    (tmp_path / "lock").write_text(text, encoding="latin-1")
    assert owner(str(tmp_path)) == ""
    lock = taken(tmp_path)
    assert f"pid {os.getpid()} on " in owner(str(tmp_path))
    lock.release()


def test_what_a_dead_owner_left_is_no_lock(tmp_path: Path) -> None:
    """The file stays when a process is killed, with whatever host it ran on; the kernel's lock does not."""
    left(tmp_path, host="a container that is no more")
    assert owner(str(tmp_path)) == ""
    taken(tmp_path).release()


def test_a_pid_that_is_used_again_is_no_owner(tmp_path: Path, shared: None) -> None:
    """A living process with the owner's pid that began at another time is somebody else."""
    started = lock_module._started(os.getppid())
    assert started
    left(tmp_path, pid=os.getppid(), started="0-" + started)
    taken(tmp_path).release()
    left(tmp_path, pid=os.getppid(), started=started)
    with pytest.raises(TargetInUse, match=f"pid {os.getppid()} on "):
        taken(tmp_path)


def test_another_hosts_lock_is_kept_while_it_is_touched(tmp_path: Path, shared: None) -> None:
    """Fresh: refused at once, and `status` names it. Not touched for a minute: taken over."""
    path = left(tmp_path, pid=7, host="elsewhere")
    with pytest.raises(TargetInUse, match="pid 7 on elsewhere since long ago"):
        taken(tmp_path)
    assert owner(str(tmp_path)) == "pid 7 on elsewhere since long ago"
    old = time.time() - EXPIRES_S - 1
    os.utime(path, (old, old))
    assert owner(str(tmp_path)) == ""
    taken(tmp_path).release()
    assert [entry.name for entry in tmp_path.iterdir()] == ["lock"]


def test_who_was_taken_over_gives_no_sign(tmp_path: Path, shared: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not keep the other's lock fresh: that one may be dead by now."""
    monkeypatch.setattr(lock_module, "BEAT_EVERY_S", 0.2)
    lock = taken(tmp_path)
    path = left(tmp_path, pid=7, host="elsewhere")
    os.utime(path, (1.0, 1.0))
    assert lock._beating is not None
    lock._beating.join(10)
    assert not lock._beating.is_alive()
    assert path.stat().st_mtime == 1.0
    lock.release()


def test_a_torn_text_on_a_shared_file_system_expires(tmp_path: Path, shared: None) -> None:
    """Nobody can say whose it is: it counts until it is old."""
    (tmp_path / "lock").write_text('{"pid":')
    with pytest.raises(TargetInUse, match="did not say its name"):
        taken(tmp_path)
    old = time.time() - EXPIRES_S - 1
    os.utime(tmp_path / "lock", (old, old))
    taken(tmp_path).release()


def test_an_owner_touches_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it lives, the file's time moves on."""
    monkeypatch.setattr(lock_module, "BEAT_EVERY_S", 0.01)
    lock = taken(tmp_path)
    os.utime(tmp_path / "lock", (1.0, 1.0))
    deadline = time.monotonic() + 10
    while (tmp_path / "lock").stat().st_mtime < 1e9:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    lock.release()


def test_who_was_taken_over_hears_of_it(tmp_path: Path, shared: None) -> None:
    """An owner that slept too long stops before it writes, and does not release what is not its own any more."""
    lock = taken(tmp_path)
    lock.check()
    path = left(tmp_path, pid=7, host="elsewhere")
    with pytest.raises(TargetInUse, match="pid 7 on elsewhere"):
        lock.check()
    lock.release()
    assert b"elsewhere" in path.read_bytes()


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


def test_a_lock_that_was_removed_is_said_so(tmp_path: Path) -> None:
    """Someone removed the file: another run could begin, so this one ends, and blames nobody who is not there."""
    lock = RunLock(str(tmp_path))
    lock.take()
    try:
        (tmp_path / "lock").unlink()
        with pytest.raises(TargetInUse, match="lock was removed while this run worked"):
            lock.check()
    finally:
        lock.release()
