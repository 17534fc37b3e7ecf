"""Large files on their way: `parts/HASH.part` with `parts/HASH.json` beside it, so that a kill costs no whole file.

    begin      the record of what was there goes, durably; then its bytes; never the other way round
    write      bytes, a MiB at a time; every 16 MiB or 2 s they are fsynced, then the record says so
    keep       bytes fsynced, record with the digest, then the file moves into its unit in staging
    revealed   the row of its item is durable: the record goes

So a record never promises more than is on disk, even after a power cut. Used by the directory sink only. Bytes and
record share one folder, hence one fate; the ledger hears of a file when its item has a row. Files below 8 MiB have no
record when they are done: they are fetched again as soon as their record would be written.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
import xxhash
from aiofiles.threadpool import wrap

from stacmirror.errors import TargetUnwritable
from stacmirror.interfaces import Hasher
from stacmirror.model import AssetKey, PartState, Unit
from stacmirror.ranges import is_resumable
from stacmirror.sinks.durable import fsync_path

_BUFFER_BYTES = 1 << 20
_SAVED_EVERY_BYTES = 16 << 20
_SAVED_EVERY_S = 2.0
_RECORDED_FROM_BYTES = 8 << 20
_PART, _RECORD = ".part", ".json"
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(PartState)


class PartStore:
    """All large files of one target. `unwritable` maps its errors; `placed` hears of a file put into staging."""

    def __init__(
        self,
        folder: str,
        staging: str,
        unwritable: Callable[[OSError, str], TargetUnwritable],
        placed: Callable[[str, str], None],
    ) -> None:
        self._folder = folder
        self._staging = staging
        self.unwritable = unwritable
        self._placed = placed
        self.in_units: dict[str, list[str]] = {}
        """By unit: the records of files that rest in it."""
        self.open: set[AssetKey] = set()
        self.waiting: dict[AssetKey, PartState] = {}
        for path in self._files():
            if (
                path.endswith(_RECORD)
                and (state := _read(path)) is not None
                and self._path(state.asset) + _RECORD == path
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
        fsync_path(path + _PART)
        packed = _encoder.encode(state)
        with open(path + ".new", "wb") as file:
            file.write(b"%08x %b" % (zlib.crc32(packed), packed))
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + ".new", path + _RECORD)
        fsync_path(self._folder)

    def forget(self, path: str) -> None:
        """Remove a record, durably: what it speaks of is about to change."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + _RECORD)
            fsync_path(self._folder)

    def remove(self, path: str) -> None:
        """Remove record and bytes."""
        self.forget(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + _PART)

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
        recorded = state.offset >= _RECORDED_FROM_BYTES or os.path.exists(path + _RECORD)
        if recorded:
            self.save(state, path)
            self.in_units.setdefault(unit.id, []).append(path)
        staged = os.path.join(self._staging, unit.id, state.name)
        os.makedirs(os.path.dirname(staged), exist_ok=True)
        os.replace(path + _PART, staged)
        self._placed(os.path.join(self._staging, unit.id), state.name)

    def revealed(self, unit_id: str) -> None:
        """Hear that a unit's row is durable and its files are in place: their records are needed no more."""
        for path in self.in_units.pop(unit_id, ()):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + _RECORD)

    def recall(self, units: Mapping[str, Iterable[str]]) -> None:
        """After a kill: take whole files back out of units that have no row, and remove what has no record."""
        kept = {unit: set(names) for unit, names in units.items()}
        for asset, state in list(self.waiting.items()):
            path = self._path(asset)
            if state.unit and state.name in kept.get(state.unit, ()):
                del self.waiting[asset]
                self.in_units.setdefault(state.unit, []).append(path)
                continue
            staged = os.path.join(self._staging, state.unit, state.name)
            if state.unit and not os.path.islink(staged) and os.path.isfile(staged):
                os.replace(staged, path + _PART)
            state.unit = ""
            if not _holds(path + _PART, state):
                del self.waiting[asset]
                self.remove(path)
        known = {self._path(asset) for asset in self.waiting}
        known |= {path for paths in self.in_units.values() for path in paths}
        for path in self._files():
            stem, ending = os.path.splitext(path)
            if stem not in known or ending not in (_PART, _RECORD):
                os.unlink(path)

    def _files(self) -> list[str]:
        with os.scandir(self._folder) as entries:
            return [entry.path for entry in entries]


class DirectoryPart:
    """Implements `interfaces.Part`: written by aiofiles, hashed in the same thread, a MiB at a time."""

    def __init__(self, store: PartStore, asset: AssetKey, path: str) -> None:
        self._store = store
        self._asset = asset
        self._path = path
        self._state = store.waiting.get(asset)
        self._raw: _HashedFile | None = None
        self._file: Any = None
        self._chunks: list[bytes] = []
        self._chunks_bytes = 0
        self._saved_bytes = self._state.offset if self._state is not None else 0
        self._saved_at_s = 0.0
        self._saving: asyncio.Future[None] | None = None
        self._kept = self._dropped = False

    @property
    def state(self) -> PartState | None:
        """See `interfaces.Part.state`."""
        return self._state

    async def __aenter__(self) -> DirectoryPart:
        self._store.open.add(self._asset)
        return self

    async def begin(self, state: PartState, hasher: Hasher) -> None:
        """See `interfaces.Part.begin`."""
        self._store.waiting.pop(self._asset, None)
        self._state = state
        await self._open(hasher, 0)

    async def go_on(self, hasher: Hasher) -> None:
        """See `interfaces.Part.go_on`."""
        await self._open(hasher, self._there().offset)

    def _there(self) -> PartState:
        if self._state is None:
            raise RuntimeError(f"nothing is there of {self._asset}")
        return self._state

    async def _open(self, hasher: Hasher, offset: int) -> None:
        self._close()
        self._raw = await self._in_thread(self._open_at, hasher, offset)
        self._file = wrap(self._raw)
        self._chunks, self._chunks_bytes, self._saved_bytes = [], 0, offset
        self._saved_at_s = time.monotonic()

    def _open_at(self, hasher: Hasher, offset: int) -> _HashedFile:
        if not offset:
            self._store.forget(self._path)
        raw = _HashedFile(self._path + _PART, hasher)
        try:
            raw.truncate(offset)
            while raw.tell() < offset:
                block = raw.read(min(_BUFFER_BYTES, offset - raw.tell()))
                if not block:
                    raise OSError(5, "the file has become shorter")
                hasher.update(block)
        except BaseException:
            raw.close()
            raise
        return raw

    async def write(self, chunk: bytes) -> None:
        """See `interfaces.Part.write`. One thread hop a MiB, not a chunk."""
        self._chunks.append(chunk)
        self._chunks_bytes += len(chunk)
        if self._chunks_bytes >= _BUFFER_BYTES:
            await self._flush()
            await self._save_now_and_then()

    async def _flush(self) -> None:
        state = self._there()
        chunks, self._chunks, self._chunks_bytes = self._chunks, [], 0
        try:
            view = memoryview(b"".join(chunks))
            while view:  # an unbuffered write may be short without an error
                written = await self._file.write(view)
                if not written:
                    raise OSError(28, "No space left on device")
                view = view[written:]
                state.offset += written
        except OSError as error:
            raise self._store.unwritable(error, self._path + _PART) from error

    async def _save_now_and_then(self) -> None:
        state, now_s = self._there(), time.monotonic()
        due = state.offset - self._saved_bytes >= _SAVED_EVERY_BYTES or now_s - self._saved_at_s >= _SAVED_EVERY_S
        if not due or not is_resumable(state.version):
            return
        await self._saved()
        self._saved_bytes, self._saved_at_s = state.offset, now_s
        # Beside the writing: what comes meanwhile is not promised.
        promised = msgspec.structs.replace(state)
        self._saving = asyncio.get_running_loop().run_in_executor(None, self._store.save, promised, self._path)

    async def _saved(self) -> None:
        """Wait for the record that is being written."""
        saving, self._saving = self._saving, None
        if saving is not None:
            try:
                await saving
            except OSError as error:
                raise self._store.unwritable(error, self._path + _PART) from error

    async def finish(self) -> tuple[int, bytes]:
        """See `interfaces.Part.finish`."""
        if self._raw is None:
            raise RuntimeError(f"{self._asset} was not begun")
        await self._flush()
        await self._saved()
        return self._there().offset, self._raw.hasher.digest()

    async def keep(self, unit: Unit, name: str, digest: bytes) -> None:
        """See `interfaces.Part.keep`."""
        state = self._there()
        self._close()
        state.name, state.digest = name, digest
        await self._in_thread(self._store.place, state, self._path, unit)
        self._kept = True
        self._store.waiting.pop(self._asset, None)

    def drop(self) -> None:
        """See `interfaces.Part.drop`."""
        self._dropped = True

    async def _in_thread(self, work: Callable[..., Any], *values: Any) -> Any:
        try:
            return await asyncio.to_thread(work, *values)
        except OSError as error:
            raise self._store.unwritable(error, self._path + _PART) from error

    async def __aexit__(self, *exc: object) -> None:
        error = exc[1]
        try:
            if self._kept:
                return
            if not self._dropped and not isinstance(error, TargetUnwritable) and self._raw is not None:
                await self._flush()
            with contextlib.suppress(TargetUnwritable):
                await self._saved()
            self._close()
            await self._in_thread(self._leave, isinstance(error, TargetUnwritable))
        finally:
            self._close()
            self._store.open.discard(self._asset)

    def _leave(self, failed: bool) -> None:
        """Leave what there is to another attempt, or leave nothing."""
        state = self._state
        if self._dropped or state is None or not state.offset or not is_resumable(state.version):
            self._store.waiting.pop(self._asset, None)
            self._store.remove(self._path)
        elif not failed:
            if state.offset != self._saved_bytes or not os.path.exists(self._path + _RECORD):
                self._store.save(state, self._path)
            self._store.waiting[self._asset] = state
        elif not os.path.exists(self._path + _RECORD):  # a full disk: what no record speaks of is in the way
            self._store.remove(self._path)

    def _close(self) -> None:
        raw, self._raw, self._file = self._raw, None, None
        if raw is not None:
            raw.close()


class _HashedFile(io.FileIO):
    """An unbuffered file whose writes go through a digest, in the thread that writes."""

    def __init__(self, path: str, hasher: Hasher) -> None:
        super().__init__(path, "r+", opener=_open_unfollowed)
        self.hasher = hasher

    def write(self, data: Any, /) -> int:
        written = super().write(data) or 0
        self.hasher.update(data[:written])
        return written


def _open_unfollowed(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def _read(path: str) -> PartState | None:
    """Return what a record says, or None where it is damaged."""
    try:
        with open(path, "rb") as file:
            crc, _, packed = file.read().partition(b" ")
        return _decoder.decode(packed) if int(crc, 16) == zlib.crc32(packed) else None
    except (OSError, ValueError):
        return None


def _holds(path: str, state: PartState) -> bool:
    """Return whether a file has all that its record promises; more is what came after the last promise."""
    try:
        size_bytes = os.stat(path, follow_symlinks=False).st_size
    except FileNotFoundError:
        return False
    return size_bytes == state.offset if state.digest else size_bytes >= state.offset > 0
