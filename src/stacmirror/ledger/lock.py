"""One run at a time: a lock file in the mirror's state folder that names its owner.

The lock is the kernel's (flock), so that a dead owner's is free at once; the text inside is for people.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time

from stacmirror.errors import TargetInUse, TargetUnwritable


class RunLock:
    """Held from `take` to `release` (or the end of the process)."""

    def __init__(self, state_folder: str) -> None:
        self._path = os.path.join(state_folder, "lock")
        self._fd = -1

    def take(self) -> None:
        """Own the mirror.

        Raises: TargetInUse naming the owner's pid, host and start; TargetUnwritable.
        """
        try:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise TargetUnwritable(
                f"cannot write to {self._path}: {error.strerror}", hint="choose another target folder"
            ) from error
        try:
            _lock(fd)
            text = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps(text).encode(), 0)
        except BlockingIOError:
            os.close(fd)
            raise TargetInUse(
                f"another run works on this mirror: {owner(os.path.dirname(self._path)) or 'unknown'}",
                hint="wait for it or stop it; `stacmirror status` shows how far it is",
            ) from None
        except OSError as error:  # no locks here, or no room
            os.close(fd)
            raise TargetUnwritable(
                f"cannot lock {self._path}: {error.strerror}", hint="mend the target, or choose another folder"
            ) from error
        self._fd = fd

    def release(self) -> None:
        """Give it back. May be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):  # on a disk that has failed; closing is what gives the lock back
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
        with open(path, encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return _describe(file.read())
    except OSError:
        return ""
    return ""


def _describe(text: str) -> str:
    try:
        found = json.loads(text)
        return f"pid {found['pid']} on {found['host']} since {found['since']}"
    except (ValueError, KeyError, TypeError):
        return "a process that did not say its name"
