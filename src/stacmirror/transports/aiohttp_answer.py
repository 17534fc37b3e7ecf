"""An answer as aiohttp reads it: its head, its small body or its stream, and the waits for them.

Made by `http`'s session, read by `http`. It knows neither requests nor connections' keeping.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply
from stacmirror.transports.aiohttp_errors import map_error
from stacmirror.transports.listening import Listening

_CHUNK_BYTES = 1 << 18


class Response(aiohttp.ClientResponse):
    """An answer that says when it waits for bytes: for a head, which counts as one, or for some of its body.

    It knows its connection to its end: one that breaks looks to aiohttp like the end of a body without a length.
    """

    listening: Listening
    waits_since_s = 0.0
    waited_s = 0.0
    """For all of its bytes until now."""
    _line: ResponseHandler | None = None

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        self._line = connection.protocol
        self.listening.begin(self)
        try:
            return await super().start(connection)
        finally:
            self.waited_s += self.listening.end(self)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body's bytes as they come."""
        coming = self.content.iter_chunked(_CHUNK_BYTES)
        while True:
            self.listening.begin(self)
            try:
                chunk = await anext(coming)
            except StopAsyncIteration:
                return
            finally:
                self.waited_s += self.listening.end(self)
            yield chunk

    def give_up(self) -> None:
        """Fail whoever waits for head or body as aiohttp's own timer would. See `listening.Waiter`."""
        error = aiohttp.SocketTimeoutError("no byte in time")
        if self._line is not None:
            self._line.set_exception(error)
        if self.content is not None:
            self.content.set_exception(error)

    def refuse_broken(self) -> None:
        """Hear that the body is read. Raises: TransferError where only the connection ends it, and that broke."""
        if self.content_length is None and "Transfer-Encoding" not in self.headers and self._line is not None:
            error = self._line.exception()
            if error is not None and not isinstance(error, aiohttp.ServerDisconnectedError):
                raise TransferError("short", "the connection broke") from error


def heard_by(by: Listening) -> type[Response]:
    """Return the class of a session's answers: aiohttp makes them itself."""

    class Heard(Response):
        listening = by

    return Heard


class Pace(NamedTuple):
    """How fast a body must come at least, while it is waited for."""

    window_s: float
    slowest_bytes_per_s: float

    async def chunks(self, response: Response) -> AsyncIterator[bytes]:
        """Yield a body's bytes. Raises: TransferError (`slow`) for a drip, which to the stall timeout is life."""
        since_s, got_bytes = response.waited_s, 0
        async for chunk in response.chunks():
            got_bytes += len(chunk)
            if response.waited_s - since_s > self.window_s:
                if got_bytes < self.slowest_bytes_per_s * self.window_s:
                    raise TransferError("slow", f"{got_bytes} bytes in {self.window_s:g} s")
                since_s, got_bytes = response.waited_s, 0
            yield chunk


async def read_reply(url: str, response: Response, small_max_bytes: int, pace: Pace) -> Reply:
    """Return the reply whose head has come: with its body, or with a stream where that is larger than small.

    Raises: TransferError.
    """
    headers = _headers(response)
    if response.status < 200:
        raise TransferError("protocol", "the server changed the protocol")
    if headers.get("transfer-encoding", "chunked").strip().lower() != "chunked":
        raise TransferError("protocol", "a transfer coding nobody asked for")
    length = response.content_length
    if response.status in (204, 304):
        response.release()
        return Reply(url, response.status, headers, b"", None)
    chunks = pace.chunks(response)
    if length is not None and length > small_max_bytes:
        return Reply(url, response.status, headers, None, _Stream(response, b"", chunks))
    held = bytearray()
    try:
        # Without a length: read until it ends, or until it proves too large to be held.
        async for chunk in chunks:
            held += chunk
            if len(held) > small_max_bytes:
                return Reply(url, response.status, headers, None, _Stream(response, bytes(held), chunks))
        response.refuse_broken()
    except Exception as error:
        raise map_error(error) from error
    response.release()
    return Reply(url, response.status, headers, bytes(held), None)


def _headers(response: Response) -> dict[str, str]:
    """Return the headers as `wire` has them: a character for each byte, where aiohttp makes surrogates.

    The first of two counts, but of codings all, so that none is hidden.
    """
    found: dict[str, str] = {}
    for name, value in response.headers.items():
        key = name.lower()
        text = value if value.isascii() else value.encode("utf-8", "surrogateescape").decode("latin-1")
        if key in found and key == "content-encoding":
            text = f"{found.pop(key)}, {text}"
        found.setdefault(key, text)
    return found


class _Stream:
    """A large body; what was read before it proved large comes first."""

    def __init__(self, response: Response, first: bytes, rest: AsyncIterator[bytes]) -> None:
        self._response = response
        self._first = first
        self._rest = rest

    async def chunks(self) -> AsyncIterator[bytes]:
        if self._first:
            yield self._first
        try:
            async for chunk in self._rest:
                yield chunk
            self._response.refuse_broken()
        except Exception as error:
            raise map_error(error) from error

    def close(self) -> None:
        # Drops the connection unless the body was read to its end.
        self._response.close() if not self._response.content.at_eof() else self._response.release()
