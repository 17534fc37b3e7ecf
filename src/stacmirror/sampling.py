"""Read the first pages of a source and ask for what a few of their items list, to foretell the rest; keeps nothing.

A composition root beside `mirror`, called by the command line's `plan`. It asks as a mirror would, with its pace and
its filters, but for two things: what is larger than a small file is not read where its length is told, and nothing is
asked for a second time. It knows no terminal and no disk.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping

from stacmirror.assembly import check_logins, make_catalog, make_router
from stacmirror.catalogs import AnyCatalog, source_of
from stacmirror.clock import SystemClock
from stacmirror.errors import NothingThere, SourceError, StacmirrorError, TransferError, first_of
from stacmirror.filters import AssetChoice, make_filters
from stacmirror.forecast import Sample
from stacmirror.interfaces import Reply
from stacmirror.layout import make_layout
from stacmirror.model import START, Asset, Cursor, Item, ItemKey, SourceLink
from stacmirror.open_files import fit_open_files
from stacmirror.pipeline.progress import Progress
from stacmirror.redact import Redactor
from stacmirror.retry import error_for_status
from stacmirror.settings import Settings

PAGES_MAX = 20
"""Pages read in search of items that the filters want."""
_ASKERS = 32
"""Items asked for side by side; the hosts' own pace may allow less."""
_GONE = (404, 410)


class Sampler:
    """One sample of one source."""

    def __init__(
        self,
        settings: Settings,
        *,
        items: int,
        api_key: str = "",
        note: Callable[[str], None] = lambda message: None,
        secrets: Mapping[str, str] | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        """`items`: so many that match are asked for, at most. `secrets` as for `Mirror`, `redactor` for `make_router`.

        Raises: UsageError for settings that cannot be.
        """
        source_of(settings)
        check_logins(settings)
        settings = fit_open_files(settings, note)
        clock = SystemClock()
        self._settings, self._items, self._clock = settings, items, clock
        self._router = make_router(settings, clock, note=note, secrets=secrets, redactor=redactor)
        self._catalog: AnyCatalog = make_catalog(settings, api_key, self._router, clock, Progress())
        self._choice = AssetChoice(settings.filter.asset, settings.filter.exclude_asset)
        self._wanted: deque[Item] = deque()
        self._linked: set[ItemKey] = set()
        self._layout = make_layout(settings.place.layout, settings.place.path_template)
        self._folders: set[str] = set()
        self._files = self._bytes = self._sized = self._shared = 0
        self._found: set[str] = set()
        self._absent: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._first_failure = ""

    async def run(self) -> Sample:
        """Take the sample.

        Raises: SourceError when the listing cannot be had or has nothing, LoginRefused, UsageError.
        Cancel: safe; all connections are closed.
        """
        try:
            pages, listed, matched, total, ended = await self._read_pages()
            asked, before = len(self._wanted), self._router.requests
            started_s = self._clock.monotonic()
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(_ASKERS, asked)):
                        group.create_task(self._ask_on())
            except* StacmirrorError as errors:
                raise first_of(errors) from None
            return Sample(
                pages=pages,
                listed=listed,
                matched=matched,
                ended=ended,
                total=total,
                asked=asked,
                linked=len(self._linked),
                files=self._files,
                bytes=self._bytes,
                sized=self._sized,
                requests=self._router.requests - before,
                seconds=self._clock.monotonic() - started_s,
                folders=len(self._folders),
                shared=self._shared,
                absent=dict(self._absent),
                phantoms=tuple(sorted(self._absent.keys() - self._found)),
                failed=dict(self._failed),
                first_failure=self._first_failure,
            )
        finally:
            self._catalog.close()
            await self._router.close()

    async def _read_pages(self) -> tuple[int, int, int, int | None, bool]:
        """Read pages until enough items match; return pages, items listed, items matched, the total, and the end."""
        filters = make_filters(self._settings.filter, self._catalog.sends)
        cursor: Cursor | None = START
        pages = listed = matched = 0
        total: int | None = None
        seen: set[ItemKey] = set()
        while cursor is not None and pages < PAGES_MAX and len(self._wanted) < self._items:
            page = await self._catalog.page(cursor)
            pages, cursor = pages + 1, page.next
            total = page.total if page.total is not None else total
            for item in page.items:
                if item.key in seen:
                    continue
                seen.add(item.key)
                listed += 1
                if all(wanted.keeps(item) for wanted in filters):
                    matched += 1
                    if len(self._wanted) < self._items:
                        self._wanted.append(item)
        if not listed and cursor is None:
            raise NothingThere("the listing has no items", hint="see `stacmirror collections` for what the source has")
        return pages, listed, matched, total, cursor is None

    async def _ask_on(self) -> None:
        while self._wanted:
            item = self._wanted.popleft()
            wants_own = not (self._settings.filter.only_sources and item.sources)
            if wants_own:
                await self._ask_for_assets(item, item.key)
            for link in item.sources if self._settings.filter.sources else ():
                if link.key in self._linked:
                    self._shared += 1
                else:
                    self._linked.add(link.key)
                    await self._ask_for_linked(link, item.key)

    async def _ask_for_linked(self, link: SourceLink, walked: ItemKey) -> None:
        try:
            item = await self._catalog.item(link.key, link.href)
        except SourceError as error:
            self._hear("source", error.message)
            return
        if item is None:
            self._hear("source", f"the catalog has no item {link.key}")
        else:
            await self._ask_for_assets(item, walked)

    async def _ask_for_assets(self, item: Item, walked: ItemKey) -> None:
        comes = False
        for asset in item.assets:
            if self._choice.takes(asset):
                try:
                    comes |= await self._ask_for(asset)
                except TransferError as error:
                    comes = True
                    self._hear(error.kind, str(error))
        if comes:
            self._folders.add(self._layout.folder(item.key, walked)[0])

    def _hear(self, kind: str, words: str) -> None:
        self._failed[kind] += 1
        self._first_failure = self._first_failure or words

    async def _ask_for(self, asset: Asset) -> bool:
        """Return False for what is not there. Raises: TransferError."""
        if not asset.href:
            raise TransferError("no-href", "the catalog gives no address", retryable=False)
        reply = await self._router.open(asset.href)
        try:
            if reply.status in _GONE:
                self._absent[asset.key] += 1
                return False
            if reply.status != 200:
                raise error_for_status(reply.status, reply.headers, "an asset's address", self._clock.wall())
            size_bytes = await self._size_of(asset, reply)
        finally:
            if reply.stream is not None:
                reply.stream.close()
        self._files += 1
        self._found.add(asset.key)
        if size_bytes is not None:
            self._sized += 1
            self._bytes += size_bytes
        return True

    async def _size_of(self, asset: Asset, reply: Reply) -> int | None:
        if reply.body is not None:
            return len(reply.body)
        return reply.length_bytes if reply.length_bytes is not None else asset.size_bytes
