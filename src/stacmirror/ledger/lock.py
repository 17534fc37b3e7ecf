"""One run at a time: a lock file beside the ledger that names its owner, and is kept fresh while the owner lives.

The kernel's lock (flock) decides on one machine: a dead owner's is free at once. On network file systems it may be
granted twice, so the text inside is asked as well, wherever the file system is not surely this kernel's alone:

    same host       the owner lives when a process with its pid has its start time too (pids are used again)
    another host    the owner lives while the file was touched within the last minute, by the file system's own clock

Whoever lost its lock all the same (asleep for longer than that minute) hears of it from `check`, before it writes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from typing import NamedTuple

from stacmirror.errors import TargetInUse, TargetUnwritable
from stacmirror.ledger.network import is_surely_local
from stacmirror.shortage import patiently

BEAT_EVERY_S = 10.0
EXPIRES_S = 60.0
"""An owner on another host that has not touched its lock for so long is dead."""
_TEXT_BYTES = 512
"""The text is padded to this: it is written in one piece, and never partly an older one."""


class _Owner(NamedTuple):
    pid: int
    host: str
    since: str
    started: str
    """When the process began, as the kernel counts; "" where that cannot be known."""


class RunLock:
    """Held from `take` to `release` (or the end of the process)."""

    def __init__(self, state_folder: str) -> None:
        self._path = os.path.join(state_folder, "lock")
        self._fd = -1
        self._is_local = False
        self._text = b""
        self._ended = threading.Event()
        self._beating: threading.Thread | None = None

    def take(self) -> None:
        """Own the mirror; a dead owner's lock is taken over. Waits for less than a second.

        Raises: TargetInUse naming the owner's pid, host and start; TargetUnwritable.
        """
        folder = os.path.dirname(self._path)
        try:
            os.makedirs(folder, exist_ok=True)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise TargetUnwritable(
                f"cannot write to {self._path}: {error.strerror}", hint="choose another target folder"
            ) from error
        try:
            _lock(fd)
            if who := _living_owner(fd, self._path):
                raise BlockingIOError(who)
            self._text = _own_text()
            os.pwrite(fd, self._text, 0)
            os.ftruncate(fd, len(self._text))
        except BlockingIOError:
            os.close(fd)
            raise TargetInUse(
                f"another run works on this mirror: {owner(folder) or 'unknown'}",
                hint="wait for it or stop it; `stacmirror status` shows how far it is",
            ) from None
        except OSError as error:  # no locks here, or no room
            os.close(fd)
            raise TargetUnwritable(
                f"cannot lock {self._path}: {error.strerror}", hint="mend the target, or choose another folder"
            ) from error
        self._fd, self._is_local = fd, is_surely_local(self._path)
        self._ended.clear()
        self._beating = threading.Thread(target=self._beat, name="lock", daemon=True)
        self._beating.start()

    def check(self) -> None:
        """Make sure that nobody has taken the mirror over. Raises: TargetInUse naming who has; TargetUnwritable."""
        try:
            text = self._read()
        except FileNotFoundError:
            raise TargetInUse(
                f"{self._path} was removed while this run worked",
                hint="`stacmirror resume`; leave its folder alone",
            ) from None
        except OSError as error:  # a disk that has failed says nothing of other runs
            raise TargetUnwritable(
                f"cannot read {self._path}: {error.strerror}", hint="mend the target, then `stacmirror resume`"
            ) from error
        if text != self._text:
            raise TargetInUse(
                f"another run has taken this mirror over: {_describe(_parse(text))}",
                hint="this one had not been heard of for a minute; let the other one end",
            )

    def _read(self) -> bytes:
        """Return what the lock says now. Here by our own descriptor, as there may be no other to be had.

        On a network file system only a file that is opened anew is surely as the server has it.
        """
        if self._is_local and os.path.samestat(os.stat(self._path), os.fstat(self._fd)):
            return os.pread(self._fd, _TEXT_BYTES, 0)
        with patiently(open, self._path, "rb") as file:
            return file.read()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_EVERY_S):
            try:
                if os.pread(self._fd, _TEXT_BYTES, 0) != self._text:
                    return  # taken over: it would pass for a sign of the other one
                # To the file system's own clock: hosts' clocks differ.
                os.utime(self._fd)
            except OSError:
                continue  # the run itself will meet what is wrong with the disk

    def release(self) -> None:
        """Give it back. May be called twice."""
        if self._fd < 0:
            return
        self._ended.set()
        if self._beating is not None:
            self._beating.join()
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):  # on a disk that has failed; closing is what gives the lock back
            if os.pread(fd, _TEXT_BYTES, 0) == self._text:
                os.ftruncate(fd, 0)
        with contextlib.suppress(OSError):
            os.close(fd)


def _lock(fd: int) -> None:
    """Lock, or raise BlockingIOError. A `status` may hold the lock for an instant, to see whether anyone does."""
    for _ in range(3):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def owner(state_folder: str) -> str:
    """Return who works on the mirror right now (`pid 12 on host since …`), or "". Takes no lasting lock."""
    path = os.path.join(state_folder, "lock")
    try:
        with open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return _describe(_parse(file.read()))
            return _living_owner(file.fileno(), path)
    except OSError:
        return ""


def _living_owner(fd: int, path: str) -> str:
    """Return who owns the lock though the kernel granted it to us, or ""."""
    text = os.pread(fd, _TEXT_BYTES, 0)
    if not text.strip() or is_surely_local(path):
        return ""
    found = _parse(text)
    if found is not None and found.host == socket.gethostname():
        lives = found.pid != os.getpid() and found.started != "" and found.started == _started(found.pid)
    else:  # another host's, or torn: nobody can say whose
        lives = _age_s(fd, path) < EXPIRES_S
    return _describe(found) if lives else ""


def _age_s(fd: int, path: str) -> float:
    """Return how long ago the lock was touched, by the clock that the file system's times come from."""
    probe = f"{path}.{socket.gethostname()}.{os.getpid()}"
    try:
        probe_fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            os.write(probe_fd, b"0")
            now_s = os.fstat(probe_fd).st_mtime
        finally:
            os.close(probe_fd)
            os.unlink(probe)
    except OSError:  # a reader that may not write here
        now_s = time.time()
    return now_s - os.fstat(fd).st_mtime


def _own_text() -> bytes:
    pid = os.getpid()
    text = {
        "pid": pid,
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "started": _started(pid),
    }
    return json.dumps(text).encode().ljust(_TEXT_BYTES - 1) + b"\n"


def _started(pid: int) -> str:
    """Return when a living process began, in a form that no other process with its pid has; "" when it is dead."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in brackets, may hold anything; the state is the first field after it, the start the 20th.
            fields = file.read().rpartition(b")")[2].split()
            if fields[0] in (b"Z", b"X"):
                return ""  # killed, and its parent has not asked for it yet
            ticks = fields[19].decode()
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot:
            return f"{boot.read(8)}-{ticks}"
    except (OSError, IndexError):
        return ""


def _parse(text: bytes) -> _Owner | None:
    try:
        found = json.loads(text)
        return _Owner(int(found["pid"]), str(found["host"]), str(found["since"]), str(found.get("started", "")))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _describe(found: _Owner | None) -> str:
    if found is None:
        return "a process that did not say its name"
    return f"pid {found.pid} on {found.host} since {found.since}"
