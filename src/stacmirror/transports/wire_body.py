"""The large body of an answer, as it comes: chunks wait here, and the server waits while there are too many.

Made by `wire_answer` and `wire_turns`, read by whoever asked. It knows its connection only to pause and to drop it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Protocol

from stacmirror.errors import TransferError

_STREAM_HIGH_BYTES = 1 << 20
_STREAM_LOW_BYTES = 1 << 18


class BodyLine(Protocol):
    """The connection, as a large body sees it."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def drop(self, answer: Any, error: TransferError) -> None: ...


class WireBody:
    """A large body: chunks wait here, at most about a MiB of them. Implements `interfaces.Body`."""

    def __init__(self, answer: object, line: BodyLine) -> None:
        """`answer` is what the connection knows it by."""
        self._answer = answer
        self._line = line
        self._chunks: deque[bytes] = deque()
        self._held_bytes = 0
        self._ended = False
        self._error: TransferError | None = None
        self._more: asyncio.Future[None] | None = None
        self.paused = False

    def feed(self, chunk: bytes) -> None:
        """Take a chunk from the answer."""
        self._chunks.append(chunk)
        self._held_bytes += len(chunk)
        if self._held_bytes > _STREAM_HIGH_BYTES and not self.paused:
            self.paused = True
            self._line.pause()
        self._tell()

    def end(self, error: TransferError | None) -> None:
        """Hear that nothing more comes."""
        if not self._ended:
            self._ended = True
            self._error = error
            # From now on the connection is another's, or gone: a reader that catches up must not touch it.
            self.paused = False
            self._tell()

    def _tell(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    async def chunks(self) -> AsyncIterator[bytes]:
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._held_bytes -= len(chunk)
                if self.paused and self._held_bytes < _STREAM_LOW_BYTES:
                    self.paused = False
                    self._line.resume()
                yield chunk
            if self._error is not None:
                raise self._error
            if self._ended:
                return
            self._more = asyncio.get_running_loop().create_future()
            await self._more

    def close(self) -> None:
        """Drop the connection unless the body came to its end. Whoever still reads gets an error."""
        self._chunks.clear()
        self._line.drop(self._answer, TransferError("reset", "the body was closed before its end"))
