"""POST as a transport: for searches of catalogs and for logins, which are few. Assets are always asked for by GET.

Used by the router, which keeps the budgets, and by logins. Knows no client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from stacmirror.interfaces import Reply


class PostTransport(Protocol):
    """Sends one POST. Raises and Cancel: as `interfaces.Transport`."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, small_max_bytes: int) -> Reply:
        """POST `body` to `url`; the answer as from `interfaces.Transport.fetch`."""
        ...

    async def close(self) -> None:
        """Close all connections. May be called twice."""
        ...


class LazyPosts:
    """Makes the client at the first POST: it takes 150 ms to load, and most runs send none."""

    def __init__(self, make: Callable[[], PostTransport]) -> None:
        self._make = make
        self._made: PostTransport | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, small_max_bytes: int) -> Reply:
        """See `PostTransport`."""
        if self._made is None:
            self._made = self._make()
        return await self._made.post(url, headers, body, small_max_bytes)

    async def close(self) -> None:
        """See `PostTransport`."""
        if self._made is not None:
            await self._made.close()


class Posting:
    """One POST request as an `interfaces.Transport`, so that a router sends it like any other."""

    def __init__(self, posts: PostTransport, body: bytes) -> None:
        self._posts = posts
        self._body = body

    async def fetch(self, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
        """Send it."""
        return await self._posts.post(url, headers, self._body, small_max_bytes)

    async def close(self) -> None:
        """Nothing of its own is open."""
