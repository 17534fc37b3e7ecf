"""Make written bytes and renames survive a power cut: one `syncfs` a group where the file system honours it.

Used by the directory sink only. A failed sync is final: the kernel may have dropped the pages and would
report success the next time, so nobody calls again and trusts it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import stat
import sys
import threading
from typing import Protocol

from stacmirror.shortage import patiently

_SYNCFS_HONOURED = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "tmpfs", "bcachefs", "ramfs"})
"""File systems whose `syncfs` waits for data and journal and reports errors. Others get fsync, file by file."""
_SYNCFS_REPORTS_SINCE = (5, 8)
"""Before this Linux, `syncfs` says that all is well after a write-back error: then it is fsync, too."""
_CANNOT = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOTTY, errno.ENOSYS})
"""What a file system says of a kind of sync that it does not know. Anything else is a failure."""


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
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):  # nothing was written by it
                os.close(fd)


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
                patiently(fsync_path, path)  # what can be tried again is to open it: no sync fails for want of files

    def close(self) -> None:
        pass


def fsync_path(path: str) -> None:
    """Make one file or folder durable. Raises: OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fsync_fd(fd)
    finally:
        os.close(fd)


def fsync_fd(fd: int) -> None:
    """Make what is open as `fd` durable. Raises: OSError."""
    try:
        if not _full_fsync(fd):
            os.fsync(fd)
    except OSError as error:
        # Some file systems (FUSE, SMB) have no fsync of folders: they have no way to do more.
        if error.errno not in _CANNOT or not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise


def _full_fsync(fd: int) -> bool:
    """Have macOS empty the drive's cache, too; False where there is no such call, or the volume knows it not."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is None:
        return False
    try:
        fcntl.fcntl(fd, full)
    except OSError as error:
        if error.errno in _CANNOT:
            return False
        raise
    return True


def make_syncer(folder: str) -> Syncer:
    """Return the cheapest syncer that can be trusted on the file system of `folder`."""
    if sys.platform == "linux" and file_system_of(folder) in _SYNCFS_HONOURED and _syncfs_reports(os.uname().release):
        return SyncFs(folder)
    return FsyncEach()


def _syncfs_reports(release: str) -> bool:
    """Return whether `syncfs` of the Linux `release` (such as `5.10.0-28-amd64`) reports write-back errors."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return found is not None and (int(found[1]), int(found[2])) >= _SYNCFS_REPORTS_SINCE


def file_system_of(folder: str, mounts: str = "/proc/self/mountinfo") -> str:
    """Return the type of the file system that holds `folder`, such as `ext4`, or "" where it cannot be told.

    By its device; where no mount has that (each subvolume of a btrfs has one of its own), by the nearest mount above.
    """
    device = os.stat(folder).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    place = os.path.realpath(folder)
    nearest, kind = "", ""
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                left, _, right = line.partition(" - ")
                fields, name = left.split(" "), right.split(" ")[0]
                if fields[2] == wanted:
                    return name
                point = _ESCAPED.sub(lambda found: chr(int(found[1], 8)), fields[4])
                # Of two mounts on one place, the later one is seen.
                if len(point) >= len(nearest) and os.path.commonpath((point, place)) == point:
                    nearest, kind = point, name
    except OSError:
        return ""
    return kind


_ESCAPED = re.compile(r"\\([0-7]{3})")
