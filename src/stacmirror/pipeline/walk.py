"""Line up the items of the catalog's pages: filters, duplicates, linked items claimed, pages recorded.

Pages are read ahead (`pages`, never more than the prefetch), bundles are lined up (never more than the queue). The
ledger hears of a page before any of its items is lined up, so that a page can settle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from stacmirror.errors import CursorRefused, ListingLoop, SourceError, SourceUnreadable, StacmirrorError, UsageError
from stacmirror.interfaces import Catalog, Filter, Ledger
from stacmirror.model import (
    START,
    Asset,
    Cursor,
    Item,
    ItemKey,
    KnownItem,
    LedgerEntry,
    Page,
    PageRecord,
    ResumePoint,
    SourceLink,
    WalkAgain,
)
from stacmirror.pipeline.again import Again
from stacmirror.pipeline.asset_names import AssetNames
from stacmirror.pipeline.bundle import Bundle, bundle_of
from stacmirror.pipeline.circles import Circles
from stacmirror.pipeline.conflicts import Conflicts
from stacmirror.pipeline.dispatch import Dispatch
from stacmirror.pipeline.joining import Joiner
from stacmirror.pipeline.pages import PagesAhead
from stacmirror.pipeline.progress import Progress
from stacmirror.redact import redact_document


class _StartAgain(Exception):
    """The page where this walk was to go on is not there any more: only a walk from the start finds the rest."""


_LOST_SAID_MAX = 10
"""So many of what could not be read are named; all are counted."""


class Walk:
    """One walk over the listing, from a resume point to its end, `items_max`, or a cancellation.

    Where the source no longer takes the cursor to go on from (it refuses it, or answers with pages from the start),
    the walk begins at the start again, and skips by its id what the ledger has.

    After `feed` returned: `ended` says whether the last page was seen, `limited` whether `items_max` stopped it,
    `error` what broke the listing; `listed` and its like count the items of this walk.
    """

    def __init__(
        self,
        catalog: Catalog,
        ledger: Ledger,
        filters: Sequence[Filter],
        record: Callable[[LedgerEntry], None],
        progress: Progress,
        *,
        prefetch: int,
        items_max: int | None,
        one_to_one: bool,
        wants: Callable[[Asset], bool] = lambda asset: True,
        note: Callable[[str], None] = lambda _: None,
        redact: Callable[[bytes], bytes] = redact_document,
        names: AssetNames | None = None,
        joiner: Joiner | None = None,
        sources: bool = True,
        shard: Filter | None = None,
    ) -> None:
        """`wants` says which assets are fetched; `note` hears what a person should know of the listing.

        `redact` takes secrets out of an item's JSON. `sources`: linked items are fetched as well.
        `shard`: which of the filters says what falls to other mirrors.
        """
        self._names = names
        self._joiner = joiner
        self._sources = sources
        self._shard = shard
        self._lost: list[str] = []
        """What of this walk's pages could not be read."""
        self._note = note
        self._conflicts = Conflicts(ledger, wants, note)
        self._again = Again(ledger, redact)
        self._start = ResumePoint(0, START, 0)
        self._resumed = False
        """On from an earlier run's page, and no page has shown yet that the source understood its cursor."""
        self._catalog = catalog
        self._ledger = ledger
        self._filters = filters
        self._record = record
        self._progress = progress
        self._prefetch = prefetch
        self._items_max = items_max
        self._one_to_one = one_to_one
        self._claimed: set[ItemKey] = set()
        """Items lined up, in hand or met again, of which the ledger does not know yet."""
        self._circles = Circles()
        self.ended = False
        self.limited = False
        self.error: StacmirrorError | None = None
        self.server_total: int | None = None
        self.listed = 0
        self.filtered = 0
        self.elsewhere = 0
        """Of `filtered`: those of other shards."""
        self.duplicate = 0
        self.queued = 0
        self.changed = 0
        """Items that were lined up again since the source has other versions of them."""
        self.there = 0
        """Items met again that the ledger had already, on a page that an earlier run did not settle."""
        self._pages_lined_up = 0

    @property
    def walked(self) -> bool:
        """Whether any page came of which the ledger hears."""
        return self._pages_lined_up > 0

    def release(self, keys: Sequence[ItemKey]) -> None:
        """Hear that these items have a row in the ledger now, where `known` finds them."""
        self._claimed.difference_update(keys)
        self._conflicts.release(keys)

    async def feed(self, dispatch: Dispatch, start: ResumePoint) -> None:
        """Line up all that is wanted, from `start` on.

        Cancel: safe; a page that is not wholly lined up does not settle.
        """
        try:
            try:
                await self._walk(dispatch, start)
            except _StartAgain as reason:
                await self._walk(dispatch, self._begin_again(str(reason)))
        finally:
            if self.limited:
                self.error = None  # of a page read ahead that nobody needed
            if isinstance(self.error, ListingLoop) and self._circles.first_stale is not None:
                # What a listing in circles said last is not to be passed over by the run that finds it mended.
                self._record(replace(self._circles.first_stale, partial=True))
            dispatch.close()

    async def _walk(self, dispatch: Dispatch, start: ResumePoint) -> None:
        self._start = start
        self._again.begin(start)
        self._resumed = start.cursor != START
        pages = PagesAhead(
            self._catalog, self._circles, self._progress, start, prefetch=self._prefetch, on_error=self._hear_error
        )
        try:
            matched = start.matched
            while (entry := await pages.next()) is not None:
                matched = await self._line_up(dispatch, *entry, matched)
                if self.limited:
                    break
            if not self.limited:
                self._tell_lost()
            if self._resumed and isinstance(self.error, CursorRefused):
                raise _StartAgain("the source no longer takes the cursor of the page to go on from")
        except SourceError as error:
            # What is lined up goes on to its end; the run's verdict says that the listing did not.
            self.error = error
        finally:
            await pages.close()

    def _hear_error(self, error: StacmirrorError) -> None:
        self.error = error

    def _begin_again(self, reason: str) -> ResumePoint:
        """Forget what this walk has seen, and return the start. The ledger hears of it before any of its pages."""
        self._note(f"{reason}: walking again from the start; what is here is skipped by its id")
        first = self._start.number + self._pages_lined_up + 1
        self._record(WalkAgain(first))
        self._circles.begin()
        self._lost.clear()
        self._progress.items_listed -= self.listed
        self._progress.items_filtered -= self.filtered
        self._progress.items_elsewhere -= self.elsewhere
        self.listed = self.filtered = self.elsewhere = self.duplicate = self.queued = 0
        self.ended = self._progress.listing_ended = False
        self.error = None
        start = self._start
        return ResumePoint(
            first, START, 0, first=first, again=True, refresh=start.refresh, widen=start.widen, began=start.began
        )

    async def _line_up(self, dispatch: Dispatch, number: int, cursor: Cursor, page: Page, matched: int) -> int:
        """Sort a page's items, record the page, line its bundles up; return the matched items so far."""
        first_of_walk = number == self._start.number
        if self._resumed and first_of_walk and not page.items and page.next is None and self._start.listed:
            raise _StartAgain("the source has nothing where this mirror is to go on")
        items = page.items if self._sources else tuple(replace(item, sources=()) for item in page.items)
        if self._names is not None:
            self._names.look(items)
        if page.total is not None:
            self.server_total = self._progress.items_total = page.total
        keys = [item.key for item in items]
        linked = [link.key for item in items for link in item.sources]
        # What is claimed now is in the ledger or still claimed after the query: never neither.
        claimed_before = {key for key in (*keys, *linked) if key in self._claimed}
        known = await asyncio.to_thread(self._ledger.known, [*keys, *linked]) if keys else {}
        self._refuse_start(page, known)
        again = await asyncio.to_thread(self._again.find, items, known, claimed_before)

        record = PageRecord(
            number, cursor, listed=0, filtered=0, duplicate=0, queued=0, next=page.next, total=page.total
        )
        met: set[ItemKey] = set()
        rejected: set[ItemKey] = set()
        elsewhere = 0
        there: list[ItemKey] = []
        linked_there: list[ItemKey] = []
        bundles: list[Bundle] = []
        repeated: list[Item] = []
        for item in items:
            if self._items_max is not None and matched >= self._items_max:
                record.partial = self.limited = True
                break
            record.listed += 1
            # What is here stays, whatever the filters say by now.
            if item.key not in known and not self._is_wanted(item):
                record.filtered += 1
                rejected.add(item.key)
                elsewhere += self._shard is not None and not self._shard.keeps(item)
            elif item.key in met or item.key in claimed_before or self._is_duplicate(known.get(item.key)):
                record.duplicate += 1
                repeated.append(item)
            elif item.key in again:
                matched += 1
                bundle = again[item.key].bundle(number)
                self._claimed.update(job.key for job in bundle.jobs)
                bundles.append(bundle)
                record.again += (item.key,)
                self.changed += again[item.key].changed
            elif item.key in known:
                matched += 1
                there.append(item.key)
                linked_there += [link.key for link in item.sources if link.key in known]
            else:
                matched += 1
                bundles.append(self._bundle(item, number, known, claimed_before))
                self._conflicts.met(item)
            met.add(item.key)
        if repeated:
            await asyncio.to_thread(self._conflicts.look, repeated)
        self._claimed.update(there)
        record.known, record.known_linked = tuple(there), tuple(linked_there)
        record.queued = len(bundles)
        if page.next is None and not record.partial:
            self.ended = self._progress.listing_ended = True
        if page.lost:
            self._lost += page.lost
            record.partial = True  # a later run reads it again
        if self._items_max is not None and matched >= self._items_max and page.next is not None:
            self.limited = True
        self._pages_lined_up = number - self._start.number + 1
        self._count(record)
        self.elsewhere += elsewhere
        self._progress.items_elsewhere += elsewhere
        self._record(record)
        if self._joiner is not None and bundles:
            await self._joiner.fill(bundles)
        for bundle in bundles:
            await dispatch.put(bundle)
        self._circles.refuse_stale(record, rejected, self._start.ordinal(number))
        return matched

    def _tell_lost(self) -> None:
        """Let the listing count as broken where parts of it could not be read; what was read is mirrored."""
        if self._lost and self.error is None:
            self.ended = False
            for lost in self._lost[1:_LOST_SAID_MAX]:
                self._note(f"not read: {lost}")
            more = f", and {len(self._lost) - 1:,} more" if len(self._lost) > 1 else ""
            self.error = SourceUnreadable(
                f"not all of the listing can be read: {self._lost[0]}{more}", hint="`stacmirror resume` looks again"
            )

    def _refuse_start(self, page: Page, known: dict[ItemKey, KnownItem]) -> None:
        """Find out whether the source understood the cursor to go on from: else it answers with earlier pages."""
        if not self._resumed:
            return
        wanted = [item for item in page.items if item.key in known or self._is_wanted(item)]
        if wanted and all(self._is_duplicate(known.get(item.key)) for item in wanted):
            raise _StartAgain("the source answers with earlier pages where this mirror is to go on")
        self._resumed = not wanted

    def _is_wanted(self, item: Item) -> bool:
        return all(wanted.keeps(item) for wanted in self._filters)

    def _is_duplicate(self, row: KnownItem | None) -> bool:
        """An item that this walk has met on an earlier page."""
        return row is not None and row.listed and not row.unmet and row.page >= self._start.first

    def _bundle(self, item: Item, number: int, known: dict[ItemKey, KnownItem], claimed_before: set[ItemKey]) -> Bundle:
        links: list[SourceLink] = []
        for link in item.sources:
            if link.key in known or link.key in claimed_before or link.key in self._claimed:
                if self._one_to_one:
                    raise UsageError(
                        f"this layout puts a label and its source into one folder, but {link.key.id} has more"
                        f" than one label ({item.key.id})",
                        hint="use --layout item",
                    )
                continue
            links.append(link)
            self._claimed.add(link.key)
        self._claimed.add(item.key)
        return bundle_of(item, number, links)

    def _count(self, record: PageRecord) -> None:
        self.listed += record.listed
        self.filtered += record.filtered
        self.duplicate += record.duplicate
        self.queued += record.queued
        self.there += len(record.known)
        self._progress.items_there += len(record.known)
        self._progress.items_done += len(record.known)
        self._progress.items_listed += record.listed
        self._progress.items_filtered += record.filtered
