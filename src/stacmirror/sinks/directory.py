"""Keep a mirror in a folder: stage unseen, sync by groups, reveal by rename.

    TARGET/.stacmirror/staging/UNIT/…   written, unseen          TARGET/.stacmirror/parts/   large files under way
    TARGET/FOLDER/…                     revealed: whole, always

Staging is on the target's own file system, so that revealing is one rename of a folder. `stage` is the one
blocking call that runs on the event loop: 13 small files cost about 0.4 ms there, half of what a thread hop costs.
Nothing that is already visible is deleted, moved aside or renamed over as a folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from stacmirror.errors import NoOpenFile, TargetUnwritable
from stacmirror.model import AssetKey, PartState, Space, Unit
from stacmirror.shortage import is_shortage, patiently
from stacmirror.sinks.durable import fsync_path, make_syncer
from stacmirror.sinks.part_file import DirectoryPart
from stacmirror.sinks.parts import PartStore

STATE_FOLDER = ".stacmirror"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOENT})
_SHARE = 0x40049409  # FICLONE of Linux: btrfs, xfs, bcachefs
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class DirectorySink:
    """Implements `interfaces.Sink`. `stage` and `part` belong to the event loop, the others to the commit thread."""

    def __init__(self, target: str) -> None:
        self._target = os.path.abspath(target)
        self._staging = os.path.join(self._target, STATE_FOLDER, "staging")
        self._parts = os.path.join(self._target, STATE_FOLDER, "parts")
        try:
            os.makedirs(self._staging, exist_ok=True)
            os.makedirs(self._parts, exist_ok=True)
            self._syncer = make_syncer(self._target)
            self._large = PartStore(self._parts, self._staging, unwritable, self._placed, self._met_shortage)
        except OSError as error:
            raise unwritable(error, self._target) from error
        self.on_shortage: Callable[[], object] = _nothing
        """Called on the event loop when no more files may be open."""
        self._folders: set[str] = set()
        self._links = False
        """Whether a staged name may be a second name of someone's file, which must not be written through."""

    # -- staging ------------------------------------------------------------------------------------------

    def stage(self, unit: Unit, files: Sequence[tuple[str, bytes]]) -> None:
        """See `interfaces.Sink.stage`."""
        folder = os.path.join(self._staging, unit.id)
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)
            folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                for name, content in files:
                    if "/" in name:
                        os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
                    if self._links:
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(name, dir_fd=folder_fd)
                    _write_file(name, content, folder_fd)
                    if self._syncer.listens:
                        self._wrote_file(folder, name)
            finally:
                os.close(folder_fd)
        except OSError as error:
            if is_shortage(error):
                self._met_shortage()
            raise unwritable(error, folder) from error

    def _met_shortage(self) -> None:
        self.on_shortage()

    def _wrote_file(self, folder: str, name: str) -> None:
        path = os.path.join(folder, name)
        self._syncer.wrote(path)
        self._wrote_folders(os.path.dirname(path), self._staging)

    def _wrote_folders(self, folder: str, top: str) -> None:
        """Note `folder` and all above it up to `top`: a name is durable only if every folder on its way is."""
        while len(folder) >= len(top):
            self._syncer.wrote(folder)
            folder = os.path.dirname(folder)

    def _placed(self, folder: str, name: str) -> None:
        if self._syncer.listens:
            self._wrote_file(folder, name)

    def part(self, asset: AssetKey) -> DirectoryPart:
        """See `interfaces.Sink.part`."""
        return self._large.part(asset)

    @property
    def waiting(self) -> Mapping[AssetKey, PartState]:
        """See `interfaces.Sink.waiting`."""
        return self._large.waiting

    def drop_parts(self, assets: Iterable[AssetKey]) -> None:
        """See `interfaces.Sink.drop_parts`."""
        try:
            self._large.drop(assets)
        except OSError as error:
            raise unwritable(error, self._parts) from error

    def link(self, unit: Unit, name: str, path: str) -> bool:
        """See `interfaces.Sink.link`: blocks shared with the other file where that can be, else a second name of it."""
        if os.path.islink(path):
            return False
        folder = os.path.join(self._staging, unit.id)
        staged = os.path.join(folder, name)
        try:
            os.makedirs(os.path.dirname(staged), exist_ok=True)
            self._links = True
            with contextlib.suppress(FileNotFoundError):
                os.unlink(staged)
            if not _share_blocks(path, staged):
                os.link(path, staged)
        except OSError as error:
            if error.errno in _NO_LINK:
                return False
            raise unwritable(error, staged) from error
        if self._syncer.listens:
            self._wrote_file(folder, name)
        return True

    def holds(self, unit: Unit, names: Mapping[str, str]) -> bool:
        """See `interfaces.Sink.holds`."""
        staged, final = os.path.join(self._staging, unit.id), os.path.join(self._target, unit.folder)
        return all(
            os.path.isfile(os.path.join(staged, name)) or os.path.isfile(os.path.join(final, final_name))
            for name, final_name in names.items()
        )

    def read(self, unit: Unit, name: str) -> bytes | None:
        """See `interfaces.Sink.read`. For small files only: it blocks."""
        for folder in (os.path.join(self._staging, unit.id), os.path.join(self._target, unit.folder)):
            try:
                with open(os.path.join(folder, name), "rb") as file:
                    return file.read()
            except OSError:
                continue  # what cannot be read is fetched again
        return None

    def retain(self, units: Mapping[str, Iterable[str]]) -> None:
        """Remove every staged file but `units`' names, and parts without a record: what a kill left."""
        units = {unit: list(names) for unit, names in units.items()}
        try:
            self._large.recall(units)
            for entry in _entries(self._staging):
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.path)
                    continue
                if entry.name not in units:
                    shutil.rmtree(entry.path)
                    continue
                wanted = {os.path.join(entry.path, name) for name in units[entry.name]}
                for path in Path(entry.path).rglob("*"):
                    if not path.is_dir() and str(path) not in wanted:
                        path.unlink()
        except OSError as error:
            raise unwritable(error, self._staging) from error

    # -- durability and visibility ------------------------------------------------------------------------

    def sync(self) -> None:
        """See `interfaces.Sink.sync`."""
        try:
            self._syncer.sync()
        except OSError as error:
            raise unwritable(error, self._target) from error

    def reveal(self, unit: Unit, names: Mapping[str, str]) -> None:
        """See `interfaces.Sink.reveal`."""
        staged = os.path.join(self._staging, unit.id)
        final = os.path.join(self._target, unit.folder) if unit.folder else self._target
        try:
            if not unit.exclusive or not self._rename_folder(staged, final):
                self._merge(staged, final, names)
            if self._large.in_units:
                self._large.revealed(unit.id)
        except OSError as error:
            raise unwritable(error, final) from error

    def _rename_folder(self, staged: str, final: str) -> bool:
        self._make_folder(os.path.dirname(final))
        try:
            os.rename(staged, final)
        except FileNotFoundError:
            return not os.path.isdir(staged)  # revealed before a kill, or an item without files: nothing to do
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                return False
            raise
        self._syncer.wrote(os.path.dirname(final))
        return True

    def _merge(self, staged: str, final: str, names: Mapping[str, str]) -> None:
        """Move file by file: the folder is visible already, or shared with other items."""
        for name, final_name in names.items():
            source, place = os.path.join(staged, name), os.path.join(final, final_name)
            if not os.path.lexists(source):
                continue  # moved before a kill, or in place since an earlier run
            folder = os.path.dirname(place)
            self._make_folder(folder)
            try:
                os.replace(source, place)
            except FileNotFoundError:  # someone removed the folder while we run
                os.makedirs(folder, exist_ok=True)
                os.replace(source, place)
            self._syncer.wrote(folder)
        shutil.rmtree(staged, ignore_errors=True)

    def _make_folder(self, folder: str) -> None:
        if folder not in self._folders:
            os.makedirs(folder, exist_ok=True)
            self._wrote_folders(folder, self._target)
            if len(self._folders) < 10_000:
                self._folders.add(folder)

    def put_document(self, path: str, content: bytes) -> None:
        """See `interfaces.Sink.put_document`."""
        final = os.path.join(self._target, path)
        partial = os.path.join(self._parts, f"document-{os.path.basename(path)}")
        try:
            os.makedirs(os.path.dirname(final), exist_ok=True)
            patiently(_write_file, partial, content, None)
            patiently(fsync_path, partial)
            os.replace(partial, final)
            patiently(fsync_path, os.path.dirname(final))
        except OSError as error:
            raise unwritable(error, final) from error

    def space(self) -> Space | None:
        """See `interfaces.Sink.space`."""
        try:
            found = os.statvfs(self._staging)
        except OSError as error:
            raise unwritable(error, self._target) from error
        if not found.f_blocks:
            return None  # some network file systems do not say
        inodes = found.f_favail if found.f_files else None  # btrfs has no end of them
        return Space(self._target, found.f_bavail * found.f_frsize, inodes, found.f_frsize)

    def close(self) -> None:
        """See `interfaces.Sink.close`."""
        self._large.close()
        self._syncer.close()


def _nothing() -> None:
    pass


def _entries(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _write_file(name: str, content: bytes, folder_fd: int | None) -> None:
    fd = os.open(name, _NEW_FILE, 0o666, dir_fd=folder_fd)
    try:
        written = os.write(fd, content)
        while written < len(content):
            # os.write may write a part without an error (a disk about to be full, a size limit).
            more = os.write(fd, content[written:])
            if more == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written += more
    finally:
        os.close(fd)


def _share_blocks(path: str, staged: str) -> bool:
    """Make `staged` a file of its own that shares the blocks of `path`; False where the file system cannot."""
    if sys.platform != "linux":
        return False
    with open(path, "rb") as source, open(staged, "xb") as copy:
        try:
            fcntl.ioctl(copy.fileno(), _SHARE, source.fileno())
        except OSError:
            os.unlink(staged)
            return False
    return True


def unwritable(error: OSError, path: str) -> TargetUnwritable:
    """Return the run's error for a failed file operation, with what to do next."""
    reason = error.strerror or type(error).__name__
    if is_shortage(error):
        return NoOpenFile(f"cannot write to {path}: {reason}", hint="raise `ulimit -n`, then `stacmirror resume`")
    hint = (
        "make room, then `stacmirror resume`" if error.errno in _FULL else "mend the target, then `stacmirror resume`"
    )
    return TargetUnwritable(f"cannot write to {path}: {reason}", hint=hint)
