"""One pass over what has not arrived: line up the ledger's items that lack assets, with fresh links.

Runs after the walk, or without one (`Again`). What was gone when this run asked (404, no item) is not asked again
before the next run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from stacmirror.errors import UNASKED_KINDS
from stacmirror.interfaces import Ledger
from stacmirror.model import Failed, LackingItem
from stacmirror.pipeline.bundle import bundle_again
from stacmirror.pipeline.dispatch import Dispatch
from stacmirror.pipeline.task import Retry

_ROWS = 200


class Sweep:
    """`lined_up` counts the items of this pass, after `feed` returned.

    `earlier_only`: try again only what failed in earlier runs.
    """

    def __init__(self, ledger: Ledger, *, earlier_only: bool = False) -> None:
        self._ledger = ledger
        self._earlier_only = earlier_only
        self.lined_up = 0
        self.unasked = False
        """Whether it lined up what nobody had asked the source for (an adoption's rest)."""

    async def feed(self, dispatch: Dispatch) -> None:
        """Line up every item with a failure that another try may mend. Cancel: safe."""
        try:
            async with aclosing(_lacking(self._ledger)) as items:
                async for item in items:
                    if self._is_worth_it(item):
                        await dispatch.put(bundle_again(item))
                        self.lined_up += 1
                        self.unasked = self.unasked or any(failed.kind in UNASKED_KINDS for failed in item.failed)
        finally:
            dispatch.close()

    def _is_worth_it(self, item: LackingItem) -> bool:
        return item.earlier or (not self._earlier_only and any(not failed.permanent for failed in item.failed))


class Again:
    """Line up what failed before this run and is meant by a retry, and what this run has asked for in vain so far."""

    def __init__(self, ledger: Ledger, retry: Retry) -> None:
        self._ledger = ledger
        self._retry = retry
        self.lined_up = 0

    async def feed(self, dispatch: Dispatch) -> None:
        """Line up every item with a failure that is meant; its others are left as they are. Cancel: safe."""
        try:
            async with aclosing(_lacking(self._ledger)) as items:
                async for item in items:
                    meant = [failed for failed in item.failed if self._means(failed)]
                    if meant and any(failed.key == "@item" for failed in item.failed):
                        meant = list(item.failed)  # once the item can be read, all of it can be asked for
                    if meant:
                        left = [failed for failed in item.failed if failed not in meant]
                        item.failed = meant
                        await dispatch.put(bundle_again(item, left))
                        self.lined_up += 1
        finally:
            dispatch.close()

    def _means(self, failed: Failed) -> bool:
        if failed.run == self._ledger.run:
            return not failed.permanent
        return self._retry.means(failed.kind)


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


async def _lacking(ledger: Ledger) -> AsyncGenerator[LackingItem, None]:
    """Yield every item that lacks assets, in the order of their rows, some read at a time."""
    row = 0
    while lacking := await asyncio.to_thread(ledger.lacking, row, _ROWS):
        row = lacking[-1].row
        for item in lacking:
            yield item
