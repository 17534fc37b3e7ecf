"""Large files on their way: `parts/HASH.part` with `parts/HASH.json` beside it, so that a kill costs no whole file.

    begin      the record of what was there goes, durably; then its bytes; never the other way round
    write      bytes, a MiB at a time; every 16 MiB or 2 s they are fsynced, then the record says so
    keep       bytes fsynced, record with the digest, then the file moves into its unit in staging
    revealed   the row of its item is durable: the record goes

So a record never promises more than is on disk, even after a power cut. Used by the directory sink only; how one file
is written is `part_file`. Bytes and record share one folder, hence one fate; the ledger hears of a file when its item
has a row. Files below 8 MiB have no record when they are done: they are fetched again as soon as their record would be
written.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Iterable, Mapping

import msgspec
import xxhash

from stacmirror.errors import TargetUnwritable
from stacmirror.model import AssetKey, PartState, Unit
from stacmirror.shortage import patiently
from stacmirror.sinks.durable import fsync_fd, fsync_path
from stacmirror.sinks.handles import below, leads_out
from stacmirror.sinks.part_file import PART, RECORD, DirectoryPart

_RECORDED_FROM_BYTES = 8 << 20
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(PartState)


class PartStore:
    """All large files of one target.

    `unwritable` maps its errors; `placed` hears of a file put into staging; `on_shortage` is called on the event loop
    when no more files may be open.
    """

    def __init__(
        self,
        folder: str,
        staging: str,
        staging_fd: int,
        unwritable: Callable[[OSError, str], TargetUnwritable],
        placed: Callable[[str, str], None],
        on_shortage: Callable[[], object],
    ) -> None:
        self._folder = folder
        self._folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.on_shortage = on_shortage
        self._staging = staging
        self._staging_fd = staging_fd
        self.unwritable = unwritable
        self._placed = placed
        self.in_units: dict[str, list[str]] = {}
        """By unit: the records of files that rest in it."""
        self.open: set[AssetKey] = set()
        self.waiting: dict[AssetKey, PartState] = {}
        for path in self._files():
            if (
                path.endswith(RECORD)
                and (state := _read(path)) is not None
                and self._path(state.asset) + RECORD == path
            ):
                self.waiting[state.asset] = state

    def part(self, asset: AssetKey) -> DirectoryPart:
        """See `interfaces.Sink.part`."""
        if asset in self.open:
            raise RuntimeError(f"{asset} is fetched twice at once")
        return DirectoryPart(self, asset, self._path(asset))

    def _path(self, asset: AssetKey) -> str:
        identity = _encoder.encode(asset)
        return os.path.join(self._folder, xxhash.xxh3_128_hexdigest(identity))

    # -- records -------------------------------------------------------------------------------------------

    def save(self, state: PartState, path: str) -> None:
        """Make the bytes durable, then say so."""
        fsync_path(path + PART)
        packed = _encoder.encode(state)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + ".new")
        try:
            with open(path + ".new", "xb") as file:
                file.write(b"%08x %b" % (zlib.crc32(packed), packed))
                file.flush()
                os.fsync(file.fileno())
            os.replace(path + ".new", path + RECORD)
        except OSError:
            with contextlib.suppress(OSError):  # the disk is ill: what it keeps all the same the next run takes away
                os.unlink(path + ".new")
            raise
        self._sync_folder()

    def forget(self, path: str) -> None:
        """Remove a record, durably: what it speaks of is about to change."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + RECORD)
            self._sync_folder()

    def _sync_folder(self) -> None:
        """By a descriptor that stays open: where none can be had, no name may be taken away and not synced."""
        fsync_fd(self._folder_fd)

    def close(self) -> None:
        """Let go of the folder. May be called twice."""
        fd, self._folder_fd = self._folder_fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):  # nothing was written by it
                os.close(fd)

    def remove(self, path: str) -> None:
        """Remove record and bytes."""
        self.forget(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + PART)

    def drop(self, assets: Iterable[AssetKey]) -> None:
        """See `interfaces.Sink.drop_parts`."""
        for asset in assets:
            if asset not in self.open:
                self.waiting.pop(asset, None)
                self.remove(self._path(asset))

    # -- units ---------------------------------------------------------------------------------------------

    def place(self, state: PartState, path: str, unit: Unit) -> None:
        """Put a whole file into `unit`."""
        state.unit = unit.id
        recorded = state.offset >= _RECORDED_FROM_BYTES or os.path.exists(path + RECORD)
        if recorded:
            self.save(state, path)
            self.in_units.setdefault(unit.id, []).append(path)
        patiently(self._move_into_unit, path, f"{unit.id}/{state.name}")
        self._placed(os.path.join(self._staging, unit.id), state.name)

    def _move_into_unit(self, path: str, staged: str) -> None:
        folder, _, base = staged.rpartition("/")
        with below(self._staging_fd, folder) as fd:
            os.replace(path + PART, base, dst_dir_fd=fd)

    def take_back(self, state: PartState, path: str) -> bool:
        """Have a file out of the unit that it was put into, or may have been; return whether it was in one."""
        unit, state.unit = state.unit, ""
        staged = os.path.join(self._staging, unit, state.name)
        if not unit or os.path.islink(staged) or not os.path.isfile(staged):
            return False
        os.replace(staged, path + PART)
        with contextlib.suppress(KeyError, ValueError):
            self.in_units[unit].remove(path)
        return True

    def revealed(self, unit_id: str) -> None:
        """Hear that a unit's row is durable and its files are in place: their records are needed no more."""
        for path in self.in_units.pop(unit_id, ()):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + RECORD)

    def recall(self, units: Mapping[str, Iterable[str]]) -> None:
        """After a kill: take whole files back out of units that have no row, and remove what has no record."""
        kept = {unit: set(names) for unit, names in units.items()}
        for asset, state in list(self.waiting.items()):
            path = self._path(asset)
            if state.unit and state.name in kept.get(state.unit, ()):
                del self.waiting[asset]
                self.in_units.setdefault(state.unit, []).append(path)
                continue
            self.take_back(state, path)
            if not _holds(path + PART, state):
                del self.waiting[asset]
                self.remove(path)
        known = {self._path(asset) for asset in self.waiting}
        known |= {path for paths in self.in_units.values() for path in paths}
        for path in self._files():
            stem, ending = os.path.splitext(path)
            if stem not in known or ending not in (PART, RECORD):
                os.unlink(path)

    def _files(self) -> list[str]:
        with os.scandir(self._folder) as entries:
            return [entry.path for entry in entries]


def look(folder: str) -> dict[str, PartState | None]:
    """Return what rests in a folder of parts: by file name, what its record says. Reads only, beside nobody."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return {}
    states = {name.removesuffix(RECORD): _read(os.path.join(folder, name)) for name in names if name.endswith(RECORD)}
    found: dict[str, PartState | None] = {}
    for name in names:
        stem, ending = os.path.splitext(name)
        state = states.get(stem)
        if state is None or ending not in (PART, RECORD):
            found[name] = None
        elif ending == PART or f"{stem}{PART}" not in names:
            found[name] = state
    return found


def _read(path: str) -> PartState | None:
    """Return what a record says, or None where it is damaged."""
    try:
        with open(path, "rb") as file:
            crc, _, packed = file.read().partition(b" ")
        state = _decoder.decode(packed) if int(crc, 16) == zlib.crc32(packed) else None
    except (OSError, ValueError):
        return None
    # A record can be made up: what it names would be moved.
    return None if state is None or leads_out(state.unit) or "/" in state.unit or leads_out(state.name) else state


def _holds(path: str, state: PartState) -> bool:
    """Return whether a file has all that its record promises; more is what came after the last promise."""
    try:
        size_bytes = os.stat(path, follow_symlinks=False).st_size
    except FileNotFoundError:
        return False
    return size_bytes == state.offset if state.digest else size_bytes >= state.offset > 0
