"""Some room kept beside the ledger, so that the last commit succeeds on a full disk. Used by the store.

Without it, items whose bytes have just filled the disk would be staged and synced, and fetched again by the next run
since no row could be written.
"""

from __future__ import annotations

import contextlib
import os

RESERVE_BYTES = 8 << 20
"""A group of 500 items writes about 6 MB: rows, JSON, and pages of indexes."""
_SHARE = 64
"""Of what is free, at most one part in so many."""


class Reserve:
    """A file that holds nothing. `free` gives its room back, once."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, "reserve")
        self._kept = False

    def keep(self) -> None:
        """Take the room where there is some. Never raises: a disk that is full already is met soon enough."""
        try:
            free = os.statvfs(os.path.dirname(self._path))
            size_bytes = min(RESERVE_BYTES, free.f_bavail * free.f_frsize // _SHARE)
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError:
            return
        self._kept = True
        try:
            _allocate(fd, size_bytes)
        except OSError:
            self.free()
        finally:
            os.close(fd)

    def free(self) -> bool:
        """Give the room back; False where there is none (any more)."""
        kept, self._kept = self._kept, False
        if kept:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        return kept


def _allocate(fd: int, size_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        if size_bytes:
            os.posix_fallocate(fd, 0, size_bytes)
        return
    block = bytes(1 << 20)
    for start in range(0, size_bytes, len(block)):
        os.pwrite(fd, block[: size_bytes - start], start)
