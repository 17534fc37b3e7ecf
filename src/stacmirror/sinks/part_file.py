"""One large file being written: by aiofiles, hashed in the same thread, made durable now and then.

Made by `parts`, which keeps the records of all of them and puts whole files into their units.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import msgspec

from stacmirror.errors import TargetUnwritable
from stacmirror.interfaces import Hasher
from stacmirror.model import AssetKey, PartState, Unit
from stacmirror.ranges import is_resumable
from stacmirror.shortage import is_shortage

if TYPE_CHECKING:
    from stacmirror.sinks.parts import PartStore

PART, RECORD = ".part", ".json"
"""Endings of a file's bytes and of its record."""
_BUFFER_BYTES = 1 << 20
_SAVED_EVERY_BYTES = 16 << 20
_SAVED_EVERY_S = 2.0
_SHORTAGE_WAIT_S, _PATIENCE_S = 0.2, 60.0


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
        self._at_it: asyncio.Task[Any] | None = None
        """What a thread does with the file, or did last: it goes on when whoever waits for it is cancelled."""
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
        await self._in_thread(self._open_at, hasher, offset, patience_s=0.0)
        self._chunks, self._chunks_bytes, self._saved_bytes = [], 0, offset
        self._saved_at_s = time.monotonic()

    def _open_at(self, hasher: Hasher, offset: int) -> None:
        # Here, since most mirrors have no large files; and where it is waited out that no file can be opened.
        from aiofiles.threadpool import wrap

        if not offset:
            self._store.forget(self._path)
        raw = _HashedFile(self._path + PART, hasher)
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
        self._raw, self._file = raw, wrap(raw)

    async def write(self, chunk: bytes) -> None:
        """See `interfaces.Part.write`. One thread hop a MiB, not a chunk."""
        self._chunks.append(chunk)
        self._chunks_bytes += len(chunk)
        if self._chunks_bytes >= _BUFFER_BYTES:
            await self._flush()
            await self._save_now_and_then()

    async def _flush(self) -> None:
        chunks, self._chunks, self._chunks_bytes = self._chunks, [], 0
        try:
            await self._alone(self._append(chunks))
        except OSError as error:
            raise self._store.unwritable(error, self._path + PART) from error

    async def _append(self, chunks: list[bytes]) -> None:
        state, view = self._there(), memoryview(b"".join(chunks))
        while view:  # an unbuffered write may be short without an error
            written = await self._file.write(view)
            if not written:
                raise OSError(28, "No space left on device")
            view = view[written:]
            state.offset += written

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
        """Wait for the record that is being written. Cancel: safe; whoever leaves then waits for it once more."""
        if self._saving is None:
            return
        try:
            await asyncio.shield(self._saving)  # it goes on in its thread, and nobody else may write a record meanwhile
        except OSError as error:
            if not is_shortage(error):
                raise self._store.unwritable(error, self._path + PART) from error
            # Nothing new is promised, that is all.
        finally:
            if self._saving.done():
                self._saving = None

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

    async def _in_thread(self, work: Callable[..., Any], *values: Any, patience_s: float = _PATIENCE_S) -> Any:
        """Do `work`, which may be done again; where no file can be opened, later: no thread waits for that."""
        waited_s = 0.0
        while True:
            try:
                return await self._alone(asyncio.to_thread(work, *values))
            except OSError as error:
                if not is_shortage(error) or waited_s >= patience_s:
                    if is_shortage(error):
                        self._store.on_shortage()
                    raise self._store.unwritable(error, self._path + PART) from error
            self._store.on_shortage()
            await asyncio.sleep(_SHORTAGE_WAIT_S)
            waited_s += _SHORTAGE_WAIT_S

    async def _alone(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do `work`, which a thread does. Cancel: safe; it goes on, and nothing else is done to the file meanwhile."""
        self._at_it = asyncio.ensure_future(work)
        self._at_it.add_done_callback(_seen)
        return await asyncio.shield(self._at_it)

    async def __aexit__(self, *exc: object) -> None:
        error = exc[1]
        try:
            if self._kept:
                return
            if self._at_it is not None:
                await asyncio.wait([self._at_it])
            if not self._dropped and not isinstance(error, TargetUnwritable) and self._raw is not None:
                await self._flush()
            with contextlib.suppress(TargetUnwritable):
                await self._saved()
            self._close()
            await self._in_thread(self._leave, isinstance(error, TargetUnwritable))
        finally:
            if self._at_it is None or self._at_it.done():
                self._close()
            else:  # cancelled once more: a descriptor that is closed under a thread may be another file's by then
                self._at_it.add_done_callback(lambda _: self._close())
            self._store.open.discard(self._asset)

    def _leave(self, failed: bool) -> None:
        """Leave what there is to another attempt, or leave nothing."""
        state = self._state
        taken_back = state is not None and not failed and self._store.take_back(state, self._path)
        if self._dropped or state is None or not state.offset or not (state.digest or is_resumable(state.version)):
            self._store.waiting.pop(self._asset, None)
            self._store.remove(self._path)
        elif not failed:
            if taken_back or state.offset != self._saved_bytes or not os.path.exists(self._path + RECORD):
                self._store.save(state, self._path)
            self._store.waiting[self._asset] = state
        elif not os.path.exists(self._path + RECORD):  # a full disk: what no record speaks of is in the way
            self._store.remove(self._path)

    def _close(self) -> None:
        raw, self._raw, self._file = self._raw, None, None
        if raw is not None:
            raw.close()


def _seen(task: asyncio.Task[Any]) -> None:
    """Take note of what broke: whoever waited for it may have been cancelled meanwhile."""
    if not task.cancelled():
        task.exception()


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
