"""One pass over what has not arrived: line up the ledger's items that lack assets, with fresh links.

Runs after the walk. What was gone when this run asked (404, no item) is not asked again before the next run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from stacmirror.interfaces import Ledger
from stacmirror.model import LackingItem
from stacmirror.pipeline.bundle import bundle_again
from stacmirror.pipeline.dispatch import Dispatch

_ROWS = 200


class Sweep:
    """`lined_up` counts the items of this pass, after `feed` returned.

    `earlier_only`: try again only what failed in earlier runs.
    """

    def __init__(self, ledger: Ledger, *, earlier_only: bool = False) -> None:
        self._ledger = ledger
        self._earlier_only = earlier_only
        self.lined_up = 0

    async def feed(self, dispatch: Dispatch) -> None:
        """Line up every item with a failure that another try may mend. Cancel: safe."""
        row = 0
        try:
            while lacking := await asyncio.to_thread(self._ledger.lacking, row, _ROWS):
                row = lacking[-1].row
                for item in lacking:
                    if self._is_worth_it(item):
                        await dispatch.put(bundle_again(item))
                        self.lined_up += 1
        finally:
            dispatch.close()

    def _is_worth_it(self, item: LackingItem) -> bool:
        return item.earlier or (not self._earlier_only and any(not failed.permanent for failed in item.failed))


class Probe:
    """Line up a few items of each absent key, before the sweeps: one that has it after all brings the others back."""

    def __init__(self, ledger: Ledger, absent: Sequence[tuple[str, str]]) -> None:
        self._ledger = ledger
        self._absent = absent

    async def feed(self, dispatch: Dispatch) -> None:
        """Line up the samples. Cancel: safe."""
        try:
            for collection, key in self._absent:
                for item in await asyncio.to_thread(self._ledger.samples, collection, key):
                    await dispatch.put(bundle_again(item))
        finally:
            dispatch.close()
