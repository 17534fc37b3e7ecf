"""Is this folder on a network file system? Locks and SQLite's shared memory cannot be relied on there.

Reads Linux's own table of mounts; elsewhere nothing is known, and nothing is said.
"""

from __future__ import annotations

import os

_NETWORK = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "davfs", "fhgfs", "gpfs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4",
    "orangefs", "panfs", "pvfs2", "smb2", "smb3", "smbfs", "virtiofs", "wekafs",
})  # fmt: skip
_NETWORK_FUSE = ("sshfs", "glusterfs", "ceph", "s3fs", "rclone", "gcsfuse", "goofys", "juicefs", "blobfuse", "davfs",
                 "mountpoint-s3", "nfs", "lustre", "mergerfs.nfs", "afp", "smb")  # fmt: skip
_LOCAL = frozenset({
    "bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "nilfs2", "overlay", "ramfs", "reiserfs", "rootfs",
    "tmpfs", "xfs", "zfs",
})  # fmt: skip
_MOUNTS = "/proc/self/mountinfo"


def network_file_system(path: str) -> str:
    """Return the kind of network file system that `path` (or where it would be made) is on, or ""."""
    kind = _kind(path)
    is_fuse = kind.startswith("fuse.") and kind.removeprefix("fuse.").startswith(_NETWORK_FUSE)
    return kind if kind in _NETWORK or is_fuse else ""


def is_surely_local(path: str) -> bool:
    """Return whether one kernel alone sees this file system: its locks hold for everyone."""
    return _kind(path) in _LOCAL


def _kind(path: str) -> str:
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
            mounts = [_mount(line) for line in file]
    except OSError:
        return ""
    place = os.path.realpath(path)
    best, kind = "", ""
    for point, type_ in mounts:
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # of two at one place, the later one covers the other
            best, kind = point, type_
    return kind


def _mount(line: str) -> tuple[str, str]:
    """Return the mount point and type of one line: `36 35 98:0 / /mnt rw,noatime shared:1 - ext3 /dev/root rw`."""
    before, _, after = line.partition(" - ")
    fields = before.split(" ")
    point = fields[4] if len(fields) > 4 else ""
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        point = point.replace(code, letter)
    return point, after.partition(" ")[0]
