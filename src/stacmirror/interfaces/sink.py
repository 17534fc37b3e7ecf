"""Where bytes go, a large file on its way there, and files that someone already has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from stacmirror.model import AssetKey, PartState, Space, Unit


class Hasher(Protocol):
    """A running digest. A sink updates it in a thread."""

    def update(self, data: Any, /) -> None: ...

    def digest(self) -> bytes: ...


class Part(Protocol):
    """A large file on its way, unseen. Use as `async with`; begin it or go on with it, write, finish, keep.

    Left early, what there is waits for another attempt, in this run or the next, where `ranges.is_resumable`; else,
    and after `drop`, nothing is left. Raises: TargetUnwritable from all but `state` and `drop`.
    Cancel: safe at any await; as left early.
    """

    @property
    def state(self) -> PartState | None:
        """What there is of it, or None."""
        ...

    async def begin(self, state: PartState, hasher: Hasher) -> None:
        """Start with nothing: what there was is gone, its record first."""
        ...

    async def go_on(self, hasher: Hasher) -> None:
        """Run what there is through `hasher`, and write behind it from now on."""
        ...

    async def write(self, chunk: bytes) -> None:
        """Append."""
        ...

    async def finish(self) -> tuple[int, bytes]:
        """Write what is held back; return the size in bytes and the digest, for its check before `keep`."""
        ...

    async def keep(self, unit: Unit, name: str, digest: bytes) -> None:
        """Put the file into `unit`: whole, and from now on not asked for again even if this process is killed."""
        ...

    def drop(self) -> None:
        """Have all of it removed at the end of the block."""
        ...

    async def __aenter__(self) -> Part: ...

    async def __aexit__(self, *exc: object) -> None: ...


class Shelf(Protocol):
    """Files that someone already has. All methods block; paths are relative, with `/`."""

    def path(self, path: str) -> str:
        """Return where a file is, for people and for links."""
        ...

    def has_folder(self, folder: str) -> bool:
        """Return whether there is such a folder."""
        ...

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted; none where there is no such folder."""
        ...

    def size_bytes(self, path: str) -> int | None:
        """Return a file's size, or None where there is no such file."""
        ...

    def read(self, path: str) -> Iterator[bytes]:
        """Give a file's bytes. Raises: OSError."""
        ...


class Sink(Protocol):
    """Where bytes go. Staged bytes are unseen; `reveal` puts them under their final names.

    All methods but `part` block, and raise TargetUnwritable. Names are relative, with `/`, and safe.
    """

    def stage(self, unit: Unit, files: Sequence[tuple[str, bytes]]) -> None:
        """Write small files of `unit`, in one burst. A name staged before is replaced."""
        ...

    def part(self, asset: AssetKey) -> Part:
        """Return the large file of `asset`: new, or what an earlier attempt left. One at a time for an asset."""
        ...

    @property
    def waiting(self) -> Mapping[AssetKey, PartState]:
        """Large files that are there in part, or whole but in no unit."""
        ...

    def drop_parts(self, assets: Iterable[AssetKey]) -> None:
        """Remove what waits of `assets`: nobody will ask for it."""
        ...

    def link(self, unit: Unit, name: str, path: str) -> bool:
        """Stage the file at `path` without copying its bytes; False where that cannot be, and nothing was done."""
        ...

    def sync(self) -> None:
        """Make all that was staged and all renames up to now durable. A failure is final: never call again."""
        ...

    def reveal(self, unit: Unit, names: Mapping[str, str]) -> None:
        """Put the unit's staged files (keys) under their final names. May be called again: what is there stays."""
        ...

    def holds(self, unit: Unit, names: Mapping[str, str]) -> bool:
        """Return whether each of `names` is still staged (keys), or in place under its final name since earlier."""
        ...

    def read(self, unit: Unit, name: str) -> bytes | None:
        """Return a file of `unit`, staged or in place under that name since earlier; None when there is none."""
        ...

    def retain(self, units: Mapping[str, Iterable[str]]) -> None:
        """Remove what a kill left: all that is staged but the `units` (by id) and their names. What is there of large
        files stays, and those that were whole wait again."""
        ...

    def put_document(self, path: str, content: bytes) -> None:
        """Write one small file of the mirror itself (collection.json ...) in place, durably, whole or not at all."""
        ...

    def space(self) -> Space | None:
        """Return what is free where bytes go, or None where that has no end or cannot be told."""
        ...

    def close(self) -> None:
        """Release the target. May be called twice."""
        ...
