"""Notice a listing that has no end: it leads back to where it was, or goes on and on without a new item.

Asked by `pages` before each page, and told by the walk after it. It remembers a hash of each cursor, and what the last
few pages held.
"""

from __future__ import annotations

from collections import deque

from stacmirror.errors import ListingLoop
from stacmirror.model import Cursor, ItemKey, PageRecord

_STALE_PAGES_MAX = 3
"""Pages in a row that hold only items seen before: the listing goes in circles."""
_EMPTY_PAGES_MAX = 100
"""Empty pages in a row that all name a next one."""
_HINT = "what was listed so far is mirrored; tell the catalog's owner"


class Circles:
    """One listing, from its begin on. `first_stale` is the first of the last pages, if they held nothing new."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget everything: a walk begins."""
        self._cursors: set[int] = set()
        self._empty = self._stale = 0
        self._rejected: deque[set[ItemKey]] = deque(maxlen=_STALE_PAGES_MAX)
        self.first_stale: PageRecord | None = None

    def refuse_again(self, cursor: Cursor) -> None:
        """Hear that a page is about to be asked for. Raises: ListingLoop when it has been already."""
        mark = hash(cursor.value)
        if mark in self._cursors:
            raise ListingLoop(f"the listing goes in circles: it leads back to `{cursor.value[:80]}`", hint=_HINT)
        self._cursors.add(mark)

    def refuse_empty(self, items: int, ordinal: int) -> None:
        """Hear how many items a page holds. Raises: ListingLoop when too many in a row held none."""
        self._empty = 0 if items else self._empty + 1
        if self._empty > _EMPTY_PAGES_MAX:
            raise ListingLoop(f"{self._empty} empty pages in a row, and still a next one: page {ordinal}", hint=_HINT)

    def refuse_stale(self, record: PageRecord, rejected: set[ItemKey], ordinal: int) -> None:
        """Hear what became of a page's items; `rejected` by the filters: the ledger has no row of them.

        Raises: ListingLoop when too many pages in a row held nothing new, and there is a next one.
        """
        old = record.filtered + record.duplicate == record.listed and rejected <= set().union(*self._rejected)
        self.first_stale = (self.first_stale or record) if old else None
        if record.listed:  # an empty page says nothing, either way
            self._stale = self._stale + 1 if old else 0
            self._rejected.append(rejected)
        if self._stale >= _STALE_PAGES_MAX and record.next is not None:
            raise ListingLoop(
                f"{self._stale} pages in a row without a new item, up to page {ordinal}: the listing goes in circles",
                hint=_HINT,
            )
