"""Where the bytes of a file of items come from: a disk, stdin, or a URL; read in order, from an offset.

Used by `files`. Reading a disk or stdin is done in a thread, a MiB at a time.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import zlib
from collections.abc import AsyncIterator
from typing import BinaryIO, Protocol

from stacmirror.catalogs.asking import Means
from stacmirror.errors import SourceUnreachable, TransferError, UsageError
from stacmirror.interfaces import Body, Reply
from stacmirror.redact import redact_url
from stacmirror.retry import error_for_status, with_retries

CHUNK_BYTES = 1 << 20


class Opens(Protocol):
    """Opens a URL, as `interfaces.Opener.open`."""

    async def open(self, href: str) -> Reply: ...


class ByteSource(Protocol):
    """A stream that can be read from an offset on. `mark` says which version of it: "" where nobody can tell."""

    mark: str
    can_go_back: bool
    """Whether an earlier offset can be read again, in this run and in later ones."""

    def chunks(self, at: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `at` on. Raises: SourceUnreachable."""
        ...

    async def check(self) -> None:
        """Find out `mark`. Raises: SourceUnreachable, UsageError."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


class DiskFile:
    """A file of this machine."""

    can_go_back = True

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self.mark = ""

    async def check(self) -> None:
        """See `ByteSource`. The file's size and time are its version."""
        try:
            found = os.stat(self._path)
        except OSError as error:
            raise UsageError(
                f"{self._path}: {error.strerror}", hint="name a file of items, or a catalog.json"
            ) from error
        self.mark = f"{found.st_size}-{found.st_mtime_ns}"

    async def chunks(self, at: int) -> AsyncIterator[bytes]:
        """See `ByteSource`."""
        self.close()
        try:
            file = self._file = await asyncio.to_thread(open, self._path, "rb")
            file.seek(at)
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield chunk
            self.close()
        except OSError as error:
            raise SourceUnreachable(f"{self._path}: {error.strerror}", hint="is the disk well?") from error

    def close(self) -> None:
        """See `ByteSource`."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Stdin:
    """What is piped in: read once."""

    can_go_back = False

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = stream
        self._began = False
        self.mark = ""

    async def check(self) -> None:
        """See `ByteSource`. Raises: UsageError where nothing is piped in."""
        if self._stream is None and sys.stdin.isatty():
            raise UsageError(
                "SOURCE `-` reads items from stdin, and nothing is piped in", hint="... | stacmirror mirror - DEST"
            )

    async def chunks(self, at: int) -> AsyncIterator[bytes]:
        """See `ByteSource`."""
        if self._began:
            raise SourceUnreachable("stdin was read already", hint="pipe the items in again")
        self._began = True
        stream = self._stream or sys.stdin.buffer
        read = getattr(stream, "read1", stream.read)  # what is there, without waiting for a whole MiB
        while chunk := await asyncio.to_thread(read, CHUNK_BYTES):
            yield chunk

    def close(self) -> None:
        """See `ByteSource`: it is not ours to close."""


class RemoteFile:
    """A file behind a URL. What was read before `at` is read past: a listing is small beside its assets."""

    can_go_back = True

    def __init__(self, url: str, opens: Opens, means: Means) -> None:
        self._url = url
        self._opens = opens
        self._means = means
        self._body: Body | None = None
        self.mark = ""

    async def check(self) -> None:
        """See `ByteSource`: the version is known once it is open."""
        reply = await self._open()
        self.mark = _version(reply)
        if reply.stream is not None:
            reply.stream.close()

    async def chunks(self, at: int) -> AsyncIterator[bytes]:
        """See `ByteSource`. A stream that breaks is opened again, and gone on with where it is the same file."""
        attempts, began = 0, at > 0
        while True:
            passed = 0
            try:
                async for chunk in self._whole(began):
                    start = max(0, at - passed)
                    passed += len(chunk)
                    if start < len(chunk):
                        at, began = passed, True
                        yield chunk[start:]
                return
            except TransferError as error:
                attempts += 1
                wait_s = self._means.retry.wait_s(attempts, error, self._means.random)
                if wait_s is None:
                    raise SourceUnreachable(f"{redact_url(self._url)}: {error.message}", hint=_AGAIN) from error
                self._means.on_retry(error, wait_s)
                await self._means.clock.sleep(wait_s)

    async def _whole(self, began: bool) -> AsyncIterator[bytes]:
        """Yield all of it. `began`: bytes of the version `mark` were taken, and none of another may follow."""
        self.close()
        reply = await self._open()
        self._body = reply.stream
        try:
            version = _version(reply)
            if began and version != self.mark:
                raise SourceUnreachable(f"{redact_url(self._url)} was changed while it was read", hint=_AGAIN)
            self.mark = version
            chunks = _held(reply.body or b"") if reply.stream is None else reply.stream.chunks()
            async for chunk in unpacked(chunks, reply.headers.get("content-encoding", "")):
                yield chunk
        finally:
            self.close()

    def close(self) -> None:
        """See `ByteSource`."""
        if self._body is not None:
            self._body.close()
            self._body = None

    async def _open(self) -> Reply:
        means = self._means
        try:
            return await with_retries(self._ask, means.retry, means.random, means.clock.sleep, means.on_retry)
        except TransferError as error:
            raise SourceUnreachable(error.message, hint="is the address right?") from error

    async def _ask(self) -> Reply:
        reply = await self._opens.open(self._url)
        if reply.status != 200:
            if reply.stream is not None:
                reply.stream.close()
            raise error_for_status(reply.status, reply.headers, redact_url(self._url), self._means.clock.wall())
        return reply


async def _held(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def unpacked(chunks: AsyncIterator[bytes], coding: str) -> AsyncIterator[bytes]:
    """Yield a stream's bytes without a coding that nobody asked for, which storage has for what was kept with it.

    Raises: TransferError, kinds `short` and `encoding`, and what the stream raises.
    """
    coding = coding.strip().lower()
    if coding not in ("", "identity", "gzip", "x-gzip"):
        raise TransferError("encoding", f"the server sent it as {coding[:20]!r}, which nobody asked for")
    decoder = zlib.decompressobj(wbits=31) if "gzip" in coding else None
    async for chunk in chunks:
        if decoder is None:
            yield chunk
            continue
        data = chunk
        while data:
            if decoder.eof:  # another member: gzip files may be joined
                decoder = zlib.decompressobj(wbits=31)
            try:
                piece = decoder.decompress(data, CHUNK_BYTES)
            except zlib.error as error:
                raise TransferError("encoding", "damaged gzip, which nobody asked for") from error
            if piece:
                yield piece
            data = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
    if decoder is not None and not decoder.eof:
        raise TransferError("short", "gzip cut short")


_AGAIN = "run the same command again; more --retries bear more trouble"


def _version(reply: Reply) -> str:
    said = [reply.headers.get(name, "") for name in ("etag", "last-modified", "content-length")]
    return hashlib.sha256("|".join(said).encode()).hexdigest()[:16] if any(said) else ""
