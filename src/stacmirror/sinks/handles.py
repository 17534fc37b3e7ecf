"""Folders by handle: each opened below another, made where it is missing, and never through a symbolic link.

Used by the sink for everything that it writes or moves below its target. What the target itself is called may lead
through links: that is the user's own word. Below it, a link that someone has put there would lead our writing out.
Source: openat(2), O_NOFOLLOW; CWE-59.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_PARTS = frozenset({"", ".", ".."})
_MAYBE_LINK = frozenset({errno.ENOTDIR, errno.ELOOP, errno.EMLINK})


class LeadsOut(OSError):
    """A path that does not stay below its folder: from a ledger or a record that someone has made up."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EINVAL, f"{path!r} leads out of the mirror", path)


class LinkInTheWay(OSError):
    """A symbolic link stands where a folder should be."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.ELOOP, f"{path!r} is a symbolic link, and nothing is written through one", path)


@contextlib.contextmanager
def below(top_fd: int, path: str, *, make: bool = True) -> Iterator[int]:
    """Give a handle of the folder `path` (relative, "" for the top itself) below `top_fd`; closed at the end.

    Raises: LinkInTheWay, LeadsOut; OSError, FileNotFoundError where it is not there and is not to be made.
    """
    if leads_out(path):
        raise LeadsOut(path)
    fd = top_fd
    try:
        for part in path.split("/") if path else ():
            inner = _open(fd, part, path, make=make)
            if fd != top_fd:
                os.close(fd)
            fd = inner
        yield fd
    finally:
        if fd != top_fd:
            os.close(fd)


def leads_out(path: str) -> bool:
    """Return whether a relative path has a part that is no name: `..`, `.`, nothing, or a root."""
    return bool(path) and not _NO_PARTS.isdisjoint(path.split("/"))


def _open(fd: int, part: str, path: str, *, make: bool) -> int:
    try:
        return os.open(part, FOLDER, dir_fd=fd)
    except FileNotFoundError:
        if not make:
            raise
    except OSError as error:
        raise _named(error, fd, part, path) from error
    with contextlib.suppress(FileExistsError):
        os.mkdir(part, dir_fd=fd)
    try:
        return os.open(part, FOLDER, dir_fd=fd)
    except OSError as error:
        raise _named(error, fd, part, path) from error


def _named(error: OSError, fd: int, part: str, path: str) -> OSError:
    if error.errno in _MAYBE_LINK and _mode(part, fd, stat.S_ISLNK):
        return LinkInTheWay(path)
    return error


def write_file(name: str, content: bytes, folder_fd: int) -> int:
    """Write a new file and return its descriptor, which is the caller's to close; an older one of that name goes first.

    The name is removed, never written through: it may be a link, or a second name of someone's file.
    """
    try:
        fd = os.open(name, NEW_FILE, 0o666, dir_fd=folder_fd)
    except FileExistsError:
        os.unlink(name, dir_fd=folder_fd)
        fd = os.open(name, NEW_FILE, 0o666, dir_fd=folder_fd)
    try:
        written = os.write(fd, content)
        while written < len(content):
            # os.write may write a part without an error (a disk about to be full, a size limit).
            more = os.write(fd, content[written:])
            if more == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written += more
    except BaseException:
        os.close(fd)
        raise
    return fd


def is_file(name: str, folder_fd: int) -> bool:
    """Return whether `name` is a file, and no link to one."""
    return _mode(name, folder_fd, stat.S_ISREG)


def is_there(name: str, folder_fd: int) -> bool:
    """Return whether anything has that name."""
    return _mode(name, folder_fd, lambda mode: True)


def _mode(name: str, folder_fd: int, judge: Callable[[int], bool]) -> bool:
    try:
        return judge(os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode)
    except OSError:
        return False
