"""Read the pages of a listing ahead, so that lining their items up need not wait for each of them.

Made by the walk, anew for each start. It ends a listing that leads back to where it was, or is empty on and on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from stacmirror.errors import SourceUnreachable, SourceUnreadable, StacmirrorError
from stacmirror.interfaces import Catalog
from stacmirror.model import Cursor, Page, ResumePoint
from stacmirror.pipeline.circles import Circles
from stacmirror.pipeline.progress import Progress


class PagesAhead:
    """The pages from `start` on, in server order, read in a task of its own, which begins at once."""

    def __init__(
        self,
        catalog: Catalog,
        circles: Circles,
        progress: Progress,
        start: ResumePoint,
        *,
        prefetch: int,
        on_error: Callable[[StacmirrorError], None],
    ) -> None:
        """`on_error` hears what breaks the listing, at once; the pages before that are given all the same."""
        self._catalog = catalog
        self._circles = circles
        self._progress = progress
        self._start = start
        self._pages: asyncio.Queue[tuple[int, Cursor, Page] | None] = asyncio.Queue(max(1, prefetch))
        self._on_error = on_error
        self._reader = asyncio.create_task(self._read_all(), name="pages")

    async def next(self) -> tuple[int, Cursor, Page] | None:
        """Return the next page, with its number and cursor; None where there is no more. Cancel: safe."""
        entry = await self._pages.get()
        if entry is None:
            await self._reader  # for what nobody foresaw
        return entry

    async def close(self) -> None:
        """Read no further."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _read_all(self) -> None:
        number, cursor = self._start.number, self._start.cursor
        try:
            while True:
                self._circles.refuse_again(cursor)
                page = await self._read(number, cursor)
                self._progress.pages += 1
                self._circles.refuse_empty(len(page.items), self._start.ordinal(number))
                await self._pages.put((number, cursor, page))
                if page.next is None:
                    break
                number, cursor = number + 1, page.next
        except StacmirrorError as error:
            self._on_error(error)
        except Exception:
            await self._pages.put(None)
            raise
        await self._pages.put(None)

    async def _read(self, number: int, cursor: Cursor) -> Page:
        try:
            return await self._catalog.page(cursor)
        except (SourceUnreachable, SourceUnreadable) as error:
            message = f"page {self._start.ordinal(number)} of the listing: {error.message}"
            raise type(error)(message, hint=error.hint) from error
