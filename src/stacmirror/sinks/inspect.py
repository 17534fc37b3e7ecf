"""Look at a mirror's folder as it is on disk: sizes of files that should be there, and files that nobody knows.

Used by `verify`. Folders are read by their descriptor, one after another, so that a million items cost no memory.
Links to folders are followed where they lead to an item's folder, and nowhere else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from stacmirror.shortage import patiently
from stacmirror.units import format_count

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILES_A_QUESTION = 5000


class Fault(NamedTuple):
    """What is wrong with one file: `kind` is missing, cut, grown or unreadable."""

    name: str
    kind: str
    detail: str


def examine(folder: str, wanted: Mapping[str, int], *, listed: bool) -> tuple[list[Fault], list[str]]:
    """Hold the files of a folder against their sizes in bytes; with `listed`, return what else is there, too."""
    try:
        fd = patiently(os.open, folder, _FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        return [Fault(name, "missing", "its folder is not there") for name in wanted], []
    except OSError as error:
        return [Fault(name, "unreadable", _reason(error)) for name in wanted], []
    try:
        faults = [fault for name, size in wanted.items() if (fault := _examine_file(fd, name, size)) is not None]
        if not listed:
            return faults, []
        try:
            there = os.listdir(fd)
        except OSError as error:
            return [Fault(name, "unreadable", _reason(error)) for name in wanted], []
    finally:
        os.close(fd)
    if not faults and len(there) == len(wanted) and all(map(wanted.__contains__, there)):
        return [], []
    return faults, [path for path in _files_below(folder) if path not in wanted]


def _examine_file(folder_fd: int, name: str, size_bytes: int) -> Fault | None:
    try:
        found = os.stat(name, dir_fd=folder_fd)
    except (FileNotFoundError, NotADirectoryError):
        return Fault(name, "missing", "")
    except OSError as error:
        return Fault(name, "unreadable", _reason(error))
    if not stat.S_ISREG(found.st_mode):
        return Fault(name, "missing", "something else has its name")
    if found.st_size == size_bytes:
        return None
    kind = "cut" if found.st_size < size_bytes else "grown"
    return Fault(name, kind, f"{format_count(found.st_size)} of {format_count(size_bytes)} bytes")


def size_of(path: str) -> int | None:
    """Return the size of a file in bytes, or None when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def files_elsewhere(
    target: str, is_items_folder: Callable[[str], bool], left_out: str, tick: Callable[[int], None]
) -> Iterator[Sequence[str]]:
    """Give the files below `target` that are in no item's own folder, some at a time, as paths relative to it.

    The folder `left_out`, at the top, is not looked into. `tick` hears how many entries were looked at.
    """
    waiting = [""]
    found: list[str] = []
    while waiting:
        folder = waiting.pop()
        prefix = f"{folder}/" if folder else ""
        seen = 0
        for entry in _entries(os.path.join(target, folder)):
            seen += 1
            path = prefix + entry.name
            if not entry.is_dir(follow_symlinks=False):
                if not (entry.is_symlink() and entry.is_dir()):
                    found.append(path)
            elif path != left_out and not is_items_folder(path):
                waiting.append(path)
            if len(found) >= _FILES_A_QUESTION:
                yield found
                found = []
            if seen == _FILES_A_QUESTION:
                tick(seen)
                seen = 0
        tick(seen)
    if found:
        yield found


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """Give what is in a folder; nothing where it cannot be read, or is gone by now."""
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:
        return


def _files_below(folder: str) -> list[str]:
    """Return all files below a folder, as paths relative to it."""
    found: list[str] = []
    waiting = [""]
    while waiting:
        inner = waiting.pop()
        for entry in _entries(os.path.join(folder, inner)):
            path = f"{inner}/{entry.name}" if inner else entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            else:
                found.append(path)
    return found


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
