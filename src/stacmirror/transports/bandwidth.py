"""Bytes a second, for all hosts together (`--bwlimit`): a transport around another one that waits for its share.

Made by `assembly` where there is a limit, and only there: a run without one pays nothing for it. A request waits until
those before it are paid for, itself by the mean of late; what a body really had is settled when it is read, so that the
line is kept busy and never begged for more at once than a burst. Source: the generic cell rate algorithm (ITU-T I.371).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from stacmirror.interfaces import Body, Reply, Transport

_BURST_S = 0.25
"""So much may come at once after a pause, as time of the line."""
_WEIGHT = 1 / 64
_MEAN_MAX_BYTES = 1 << 20


class Bandwidth:
    """One line's bytes, shared by all who read. `bytes_per_s` is above 0."""

    def __init__(self, bytes_per_s: float, now: Callable[[], float], sleep: Callable[[float], Awaitable[None]]) -> None:
        self._s_per_byte = 1 / bytes_per_s
        self._now = now
        self._sleep = sleep
        self._free_s = 0.0
        """When all that was taken will have passed the line."""
        self._settled_s = 0.0
        """The sum of what bodies had beyond what was expected."""
        self._mean_bytes = 0.0

    async def take(self, size_bytes: float) -> None:
        """Take so many bytes, and wait until those taken before have passed. Cancel: safe; they stay taken."""
        start_s = max(self._now() - _BURST_S, self._free_s)
        self._free_s = start_s + size_bytes * self._s_per_byte
        due_s = start_s - self._settled_s
        # Again, since bodies ahead of this one may have had more than they took for themselves.
        while (wait_s := due_s + self._settled_s - self._now()) > 0:
            await self._sleep(wait_s)

    async def expect(self) -> float:
        """Take what a body may well have; return it, for `settle`."""
        expected = self._mean_bytes
        await self.take(expected)
        return expected

    def settle(self, expected: float, size_bytes: int) -> None:
        """Hear what the body had."""
        more_s = (size_bytes - expected) * self._s_per_byte
        self._free_s += more_s
        self._settled_s += more_s
        self._mean_bytes += (min(size_bytes, _MEAN_MAX_BYTES) - self._mean_bytes) * _WEIGHT


class LimitedTransport:
    """Implements `interfaces.Transport`, by another one, no faster than the line."""

    def __init__(self, transport: Transport, line: Bandwidth) -> None:
        self._transport = transport
        self._line = line

    async def fetch(self, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
        """See `interfaces.Transport.fetch`."""
        expected = await self._line.expect()
        size_bytes = 0
        try:
            reply = await self._transport.fetch(url, headers, small_max_bytes)
            if reply.stream is not None:
                reply.stream = _LimitedBody(reply.stream, self._line)
            elif reply.body is not None:
                size_bytes = len(reply.body)
            return reply
        finally:
            self._line.settle(expected, size_bytes)

    async def close(self) -> None:
        """See `interfaces.Transport.close`."""
        await self._transport.close()


class _LimitedBody:
    """A large body, read no faster than the line allows; its sender waits when nobody reads."""

    def __init__(self, body: Body, line: Bandwidth) -> None:
        self._body = body
        self._line = line

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._body.chunks():
            await self._line.take(len(chunk))
            yield chunk

    def close(self) -> None:
        self._body.close()
