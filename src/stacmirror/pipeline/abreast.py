"""Bring what is left of an item several at once, when its files are large: one after another would leave a line idle.

Called by the workers, once an item has shown a large file. Small files stay one after another: a task a file costs more
than it brings there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from stacmirror.model import Transfer


async def settle_abreast(
    transfers: Sequence[Transfer], settle: Callable[[Transfer], Awaitable[bool]], at_once: int
) -> list[Transfer]:
    """Bring each of `transfers` to an outcome by `settle`, `at_once` at a time; return those that must wait, in order.

    Raises: an ExceptionGroup of what `settle` raises, when the others have been cancelled and have ended.
    Cancel: safe; all of them are cancelled.
    """
    line = deque(enumerate(transfers))
    later: dict[int, Transfer] = {}

    async def work() -> None:
        while line:
            number, transfer = line.popleft()
            if not await settle(transfer):
                later[number] = transfer

    async with asyncio.TaskGroup() as group:
        for _ in range(min(at_once, len(transfers))):
            group.create_task(work(), name="large")
    return [later[number] for number in sorted(later)]
