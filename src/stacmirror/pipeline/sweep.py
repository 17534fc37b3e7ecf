"""One pass over what has not arrived: line up the ledger's items that lack assets, with fresh links.

Runs after the walk. What is gone for good (404, no item) is not asked again here; `retry` asks for everything.
"""

from __future__ import annotations

import asyncio

from stacmirror.interfaces import Ledger
from stacmirror.model import LackingItem
from stacmirror.pipeline.bundle import bundle_again
from stacmirror.pipeline.dispatch import Dispatch

_ROWS = 200


class Sweep:
    """`lined_up` counts the items of this pass, after `feed` returned."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.lined_up = 0

    async def feed(self, dispatch: Dispatch) -> None:
        """Line up every item with a failure that another try may mend. Cancel: safe."""
        row = 0
        try:
            while lacking := await asyncio.to_thread(self._ledger.lacking, row, _ROWS):
                row = lacking[-1].row
                for item in lacking:
                    if _worth_it(item):
                        await dispatch.put(bundle_again(item))
                        self.lined_up += 1
        finally:
            dispatch.close()


def _worth_it(item: LackingItem) -> bool:
    return any(not failed.permanent for failed in item.failed)
