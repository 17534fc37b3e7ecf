"""What a folder's file system has free. Asked by the directory sink as it writes, and by `plan` before there is one."""

from __future__ import annotations

import os

from stacmirror.model import Space
from stacmirror.sinks.unwritable import unwritable


def space_of(folder: str, target: str) -> Space | None:
    """Return what is free where `folder` is; None where the file system does not say.

    `target` is how the mirror's folder was named. Raises: TargetUnwritable, also where the folder is gone.
    """
    try:
        found = os.statvfs(folder)
    except OSError as error:
        raise unwritable(error, target) from error
    if not found.f_blocks:
        return None  # some network file systems do not say
    inodes = found.f_favail if found.f_files else None  # btrfs has no end of them
    return Space(target, found.f_bavail * found.f_frsize, inodes, found.f_frsize)


def nearest(folder: str) -> str:
    """Return the folder, or what there is of the way to it: where it would be made."""
    place = os.path.abspath(folder)
    while not os.path.lexists(place) and os.path.dirname(place) != place:
        place = os.path.dirname(place)
    return place
