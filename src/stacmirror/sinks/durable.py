"""Make written bytes and renames survive a power cut: one `syncfs` a group where the file system honours it.

Used by the directory sink only. A failed sync is final: the kernel may have dropped the pages and would
report success the next time, so nobody calls again and trusts it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import sys
import threading
from typing import Protocol

_SYNCFS_HONOURED = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "tmpfs", "bcachefs", "ramfs"})
"""File systems whose `syncfs` waits for data and journal and reports errors. Others get fsync, file by file."""


class Syncer(Protocol):
    """What a directory sink needs: to be told what was written, and to make it durable."""

    listens: bool
    """Whether `wrote` does anything; where not, a caller on a hot path need not work out the paths."""

    def wrote(self, path: str) -> None:
        """Note a file or folder that changed."""
        ...

    def sync(self) -> None:
        """Return when all that was noted is on disk. Raises: OSError."""
        ...

    def close(self) -> None: ...


class SyncFs:
    """One `syncfs` on a descriptor that stays open for the run, so that no write-back error goes unseen."""

    listens = False

    def __init__(self, folder: str) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def wrote(self, path: str) -> None:
        pass

    def sync(self) -> None:
        if self._libc.syncfs(self._fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class FsyncEach:
    """fsync of every file and folder noted since the last sync (F_FULLFSYNC on macOS)."""

    listens = True

    def __init__(self) -> None:
        self._paths: set[str] = set()
        self._lock = threading.Lock()

    def wrote(self, path: str) -> None:
        with self._lock:
            self._paths.add(path)

    def sync(self) -> None:
        with self._lock:
            paths, self._paths = self._paths, set()
        for path in paths:
            # A path may have moved on: a revealed folder's files are synced under the name they had when written.
            with contextlib.suppress(FileNotFoundError):
                fsync_path(path)

    def close(self) -> None:
        pass


def fsync_path(path: str) -> None:
    """Make one file or folder durable. Raises: OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        full = getattr(fcntl, "F_FULLFSYNC", None)
        if full is not None:
            fcntl.fcntl(fd, full)
        else:
            os.fsync(fd)
    finally:
        os.close(fd)


def make_syncer(folder: str) -> Syncer:
    """Return the cheapest syncer that can be trusted on the file system of `folder`."""
    if sys.platform == "linux" and file_system_of(folder) in _SYNCFS_HONOURED:
        return SyncFs(folder)
    return FsyncEach()


def file_system_of(folder: str) -> str:
    """Return the type of the file system that holds `folder`, such as `ext4`, or "" where it cannot be told."""
    device = os.stat(folder).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                left, _, right = line.partition(" - ")
                if left.split()[2] == wanted:
                    return right.split()[0]
    except OSError:
        return ""
    return ""
