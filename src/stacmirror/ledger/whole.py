"""Is the ledger's file as long as it says? Asked before SQLite opens it, which takes what is missing for zeros.

Source: SQLite's "Database File Format", sections 1.3 (the header) and 4 (the WAL).
"""

from __future__ import annotations

import os
import struct

from stacmirror.errors import TargetInUse

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_WAL_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24


def refuse_cut_short(path: str) -> None:
    """Refuse a file that lacks pages which are not in its WAL either. Raises: TargetInUse."""
    try:
        with open(path, "rb") as file:
            header = file.read(_HEADER_BYTES)
            if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
                return  # none, new, or something that SQLite itself refuses
            page_bytes: int = struct.unpack(">H", header[16:18])[0]
            page_bytes = 65_536 if page_bytes == 1 else page_bytes
            pages: int = struct.unpack(">I", header[28:32])[0]
            there = os.fstat(file.fileno()).st_size // max(1, page_bytes)
            if there >= pages or not _lacks(path, there, pages, page_bytes):
                return
            size_bytes = os.fstat(file.fileno()).st_size  # a run beside us may have filled it up since
    except OSError:
        return  # SQLite says what is wrong with it
    if size_bytes < pages * page_bytes:
        raise TargetInUse(
            f"{path} is cut short: {size_bytes} of {pages * page_bytes} bytes", hint="restore the ledger from a copy"
        )


def _lacks(path: str, there: int, pages: int, page_bytes: int) -> bool:
    """Return whether a page from `there` to `pages` is in no frame of the WAL, as after a kill amid a checkpoint."""
    try:
        with open(f"{path}-wal", "rb") as wal:
            if (pages - there) * page_bytes > os.fstat(wal.fileno()).st_size:
                return True
            lacking = set(range(there + 1, pages + 1))
            at = _WAL_HEADER_BYTES
            while lacking and len(frame := os.pread(wal.fileno(), 4, at)) == 4:
                lacking.discard(struct.unpack(">I", frame)[0])
                at += _FRAME_HEADER_BYTES + page_bytes
    except OSError:
        return True
    return bool(lacking)
