"""`file://`: assets and documents of this machine, for catalogs that are themselves on it.

Built by the composition root only where SOURCE is a path or stdin: a catalog from the net must not have files of this
machine copied. Reading is done in threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from email.utils import formatdate
from typing import BinaryIO
from urllib.parse import unquote

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply

_CHUNK_BYTES = 1 << 20


class FileTransport:
    """Implements `interfaces.Transport`: a file that is there is a 200, one that is not a 404."""

    async def fetch(self, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
        """See `interfaces.Transport.fetch`. A range is not looked at: the whole file is the answer."""
        path = unquote(url.partition("://")[2], errors="surrogateescape")
        if not path.startswith("/"):
            raise TransferError("url", "a file:// address of another host", retryable=False)
        return await asyncio.to_thread(_read, url, path, small_max_bytes)

    async def close(self) -> None:
        """Nothing is open. May be called twice."""


def _read(url: str, path: str, small_max_bytes: int) -> Reply:
    try:
        file = open(path, "rb")  # noqa: SIM115 - a large one is closed by its reader
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return Reply(url, 404, {}, b"", None)
    except PermissionError:
        return Reply(url, 403, {}, b"", None)
    except OSError as error:
        raise TransferError("client", f"{error.strerror}: {path}") from error
    try:
        body = file.read(small_max_bytes + 1)
        size = file.seek(0, 2)
        headers = {"content-length": str(size), "last-modified": formatdate(_mtime_s(file), usegmt=True)}
        if len(body) <= small_max_bytes:
            file.close()
            return Reply(url, 200, headers, body, None)
        file.seek(0)
        return Reply(url, 200, headers, None, _Stream(file))
    except OSError as error:
        file.close()
        raise TransferError("client", f"{error.strerror}: {path}") from error


def _mtime_s(file: BinaryIO) -> float:
    import os

    return os.fstat(file.fileno()).st_mtime


class _Stream:
    """A large file, open."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            while chunk := await asyncio.to_thread(self._file.read, _CHUNK_BYTES):
                yield chunk
        except OSError as error:
            raise TransferError("client", str(error.strerror)) from error

    def close(self) -> None:
        self._file.close()
