"""A file behind a URL that can be sought in: each read is a range request.

Made by `geoparquet`, for a library that reads files and blocks: it is read in threads, and asks on the loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import io
import re
from typing import Any

from stacmirror.catalogs.asking import Means, Question
from stacmirror.errors import SourceUnreadable, TransferError
from stacmirror.interfaces import Reply
from stacmirror.redact import redact_url

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", re.IGNORECASE | re.ASCII)
_LOOK_S = 0.5
"""How often whoever waits in a thread looks whether the run is over."""


class SeekableFile(io.RawIOBase):
    """One such file. `begin` and `let_go` are called on the loop, what a file has in threads."""

    def __init__(self, url: str, means: Means, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._url = url
        self._means = means
        self._loop = loop
        self._at = 0
        self._size = 0
        self._is_over = False
        self.mark = ""
        """Which version of the file it is; "" where the server does not say."""

    async def begin(self) -> None:
        """Find out size and version. Raises: SourceUnreadable where the server gives no ranges."""
        reply = await self._ask(0, 1)
        found = _CONTENT_RANGE.fullmatch(reply.headers.get("content-range", "").strip())
        if found is None or reply.status != 206:
            raise SourceUnreadable(
                f"{redact_url(self._url)}: the server gives no ranges", hint="download the file, and give its path"
            )
        self._size = int(found[2])
        said = _version(reply)
        self.mark = f"{self._size}-{said}" if said else ""

    def let_go(self) -> None:
        """Have whoever waits for a range in a thread give up."""
        self._is_over = True

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = (0, self._at, self._size)[whence] + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        end = min(self._at + len(view), self._size)
        if end <= self._at:
            return 0
        reply = self._wait_for(asyncio.run_coroutine_threadsafe(self._ask(self._at, end), self._loop))
        body = reply.body or b""
        if reply.status != 206 or len(body) != end - self._at:
            raise TransferError("protocol", "the server gave another range than was asked for")
        found = _CONTENT_RANGE.fullmatch(reply.headers.get("content-range", "").strip())
        if found is None or (int(found[1]), int(found[2])) != (self._at, self._size):
            raise TransferError("protocol", "the server gave another range than was asked for")
        if self.mark and self.mark != f"{self._size}-{_version(reply)}":
            raise TransferError("protocol", "it was changed while it was read")
        view[: len(body)] = body
        self._at = end
        return len(body)

    async def _ask(self, start: int, end: int) -> Reply:
        headers = {"range": f"bytes={start}-{end - 1}", "accept": "*/*", "accept-encoding": "identity"}
        question = Question(self._url, headers)
        return await self._means.ask(lambda: question, lambda reply: reply, statuses=(200, 206))

    def _wait_for(self, asked: concurrent.futures.Future[Reply]) -> Reply:
        while True:
            try:
                return asked.result(_LOOK_S)
            except TimeoutError:
                if self._is_over or self._loop.is_closed():
                    asked.cancel()
                    raise TransferError("client", "the run is over") from None


def _version(reply: Reply) -> str:
    return reply.headers.get("etag") or reply.headers.get("last-modified") or ""
