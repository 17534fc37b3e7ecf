"""Digests of many files, in processes of their own: what `verify --deep` and manifests read the disk with.

A child reads batches of paths from its stdin and answers on its stdout, so that it ends when its parent does, however
that ends. `python -c` starts it: it loads nothing of the parent's.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Generic, TypeVar

import msgspec
import xxhash
from msgspec import Struct

Tag = TypeVar("Tag")

_CHUNK_BYTES = 1 << 20
_AHEAD = 2
"""Batches that wait at each child, so that none is idle while the parent looks away."""
_SERVE = "from stacmirror.sinks.digests import serve; serve()"
_LENGTH_BYTES = 4


class Digested(Struct, array_like=True):
    """What one file turned out to be: its size, its digests in the order they were asked for, or why it has none.

    `fault` is "", `missing` or `unreadable`; `error` says why.
    """

    size_bytes: int = 0
    digests: tuple[bytes, ...] = ()
    fault: str = ""
    error: str = ""


class Batch(Generic[Tag]):
    """Files to read: each a path and the digests that are wanted of it (`md5`, `xxh3`, `sha256`); none: no reading."""

    def __init__(self) -> None:
        self.tags: list[Tag] = []
        self.files: list[tuple[bytes, tuple[str, ...]]] = []

    def add(self, tag: Tag, path: str, kinds: tuple[str, ...]) -> None:
        """Add one file; `tag` comes back with its digests."""
        self.tags.append(tag)
        self.files.append((os.fsencode(path), kinds))


def digest_all(batches: Iterable[Batch[Tag]], processes: int) -> Iterator[tuple[list[Tag], list[Digested]]]:
    """Read every batch's files and give their digests, in the order of the batches. `processes` below 2: in this one.

    Holds `processes` times three batches at most. Raises: RuntimeError when a child ends before its work.
    """
    if processes < 2:
        for batch in batches:
            yield batch.tags, [digest(os.fsdecode(path), kinds) for path, kinds in batch.files]
        return
    children: list[_Child] = []
    waiting: deque[tuple[_Child, Batch[Tag]]] = deque()
    turn = 0
    try:
        for batch in batches:
            if len(children) < processes and len(waiting) >= len(children):
                children.append(_Child())
                child = children[-1]
            else:
                child = children[turn % len(children)]
            turn += 1
            child.ask(batch.files)
            waiting.append((child, batch))
            if len(waiting) > _AHEAD * processes:
                child, done = waiting.popleft()
                yield done.tags, child.answer()
        while waiting:
            child, done = waiting.popleft()
            yield done.tags, child.answer()
    finally:
        for child in children:
            child.close()


class _Child:
    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", _SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # a Ctrl-C is the parent's to hear
        )

    def ask(self, files: list[tuple[bytes, tuple[str, ...]]]) -> None:
        if self._process.stdin is None:
            raise RuntimeError("a child without a stdin")
        try:
            _send(self._process.stdin, files)
        except BrokenPipeError as error:
            raise RuntimeError("a process that computes digests has ended") from error

    def answer(self) -> list[Digested]:
        found: list[Digested] | None = _receive(self._process.stdout, list[Digested])
        if found is None:
            raise RuntimeError("a process that computes digests has ended")
        return found

    def close(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # what it was about to be asked
                    pipe.close()
        self._process.wait()


def serve() -> None:
    """Answer batches until there are no more."""
    while (files := _receive(sys.stdin.buffer, list[tuple[bytes, tuple[str, ...]]])) is not None:
        _send(sys.stdout.buffer, [digest(os.fsdecode(path), kinds) for path, kinds in files])


def _send(pipe: IO[bytes], value: object) -> None:
    content = msgspec.msgpack.encode(value)
    pipe.write(len(content).to_bytes(_LENGTH_BYTES, "big") + content)
    pipe.flush()


def _receive(pipe: IO[bytes] | None, wanted: Any) -> Any:
    if pipe is None:
        raise RuntimeError("a child without a stdout")
    header = pipe.read(_LENGTH_BYTES)
    if len(header) < _LENGTH_BYTES:
        return None
    content = pipe.read(int.from_bytes(header, "big"))
    return msgspec.msgpack.decode(content, type=wanted)


def digest(path: str, kinds: tuple[str, ...]) -> Digested:
    """Read one file and return its digests. What cannot be read is an answer, not an exception."""
    if not kinds:
        return Digested()
    hashers = [_HASHERS[kind]() for kind in kinds]
    size_bytes = 0
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # A buffer no larger than the file: most are small, and a MiB for each costs more than reading them.
            ask_bytes = min(os.fstat(fd).st_size + 1, _CHUNK_BYTES)
            while chunk := os.read(fd, ask_bytes):
                size_bytes += len(chunk)
                for hasher in hashers:
                    hasher.update(chunk)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return Digested(fault="missing")
    except OSError as error:
        return Digested(fault="unreadable", error=error.strerror or type(error).__name__)
    return Digested(size_bytes, tuple(hasher.digest() for hasher in hashers))


_HASHERS: dict[str, Callable[[], Any]] = {
    "md5": functools.partial(hashlib.md5, usedforsecurity=False),
    "sha256": hashlib.sha256,
    "xxh3": xxhash.xxh3_128,
}
