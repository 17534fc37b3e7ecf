"""Where clients write: a fresh journaled ext4 image on a loop device, else tmpfs, else the temporary folder.

Opened by `bench` and `growth` for a session or a part of one. Nothing is deleted in it while it is measured: on an
ext4 without a journal, a file costs twenty times as much for minutes after a tree was deleted, and what one client
leaves behind must not cost the next one. The image goes as a whole at the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SPARE_BYTES = 512 << 20
_FILE_BYTES = 4096
"""What a file takes beyond its bytes, at most: a partly filled block. Its inode comes extra."""
_SHM = Path("/dev/shm")


@dataclass(frozen=True)
class Target:
    """A folder to write to, and what it is, in words for the results."""

    folder: Path
    kind: str

    def settle(self) -> None:
        """Bring what was written to the device, so that no later run pays for it."""
        os.sync()


@contextmanager
def fresh_target(work: Path, files: int, size_bytes: int) -> Iterator[Target]:
    """Open a target for `files` files of `size_bytes` together, over all runs that it is for."""
    needed_bytes = int(1.1 * size_bytes) + files * (_FILE_BYTES + 512) + _SPARE_BYTES
    reason = _no_image(work, needed_bytes)
    if not reason:
        try:
            mounted = _mount(work, needed_bytes, inodes=int(1.3 * files) + 20_000)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = f"no loop device could be mounted ({type(error).__name__})"
        else:
            try:
                yield Target(mounted, "fresh journaled ext4 image on a loop device")
            finally:
                _unmount(work, mounted)
            return
    yield from _folder(work, needed_bytes, reason)


def _no_image(work: Path, needed_bytes: int) -> str:
    if os.geteuid() != 0:
        return "not root, so no loop device"
    if not all(shutil.which(name, path=_system_path()) for name in ("mkfs.ext4", "mount", "umount")):
        return "mkfs.ext4 or mount is missing"
    free_bytes = shutil.disk_usage(work).free
    return "" if free_bytes > needed_bytes else f"{needed_bytes >> 30} GiB are not free for an image"


def _mount(work: Path, needed_bytes: int, inodes: int) -> Path:
    image, mounted = work / "target.img", work / "target"
    with image.open("wb") as file:
        file.truncate(needed_bytes)
    # Nothing is left for the kernel to initialise behind the clients' backs.
    features = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    _system("mkfs.ext4", "-q", "-F", "-m", "0", "-N", str(inodes), "-E", features, str(image))
    mounted.mkdir()
    try:
        _system("mount", "-o", "loop", str(image), str(mounted))
    except subprocess.CalledProcessError:
        mounted.rmdir()
        image.unlink()
        raise
    return mounted


def _unmount(work: Path, mounted: Path) -> None:
    try:
        _system("umount", str(mounted))
    except subprocess.CalledProcessError:  # somebody looks into it: it goes as soon as they leave
        _system("umount", "--lazy", str(mounted))
    mounted.rmdir()
    (work / "target.img").unlink()


def _folder(work: Path, needed_bytes: int, reason: str) -> Iterator[Target]:
    if _SHM.is_dir() and os.access(_SHM, os.W_OK) and shutil.disk_usage(_SHM).free > needed_bytes:
        folder, kind = _SHM / f"stacmirror-bench-{os.getpid()}", f"tmpfs, where syncs are free ({reason})"
    else:
        folder, kind = work / "target", f"the temporary folder ({reason})"
    folder.mkdir()
    try:
        yield Target(folder, kind)
    finally:
        shutil.rmtree(folder)


def _system(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PATH": _system_path()})


def _system_path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
