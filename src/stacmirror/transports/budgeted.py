"""A large body that counts as under way until it is closed. Made by the router, and where items are asked in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator

from stacmirror.budget import HostBudget
from stacmirror.interfaces import Body


class Budgeted:
    """A large body that keeps its host's place until it is closed."""

    def __init__(self, body: Body, budget: HostBudget, place: int, asked_s: float) -> None:
        self._body = body
        self._budget: HostBudget | None = budget
        self._place = place
        self._asked_s = asked_s

    def chunks(self) -> AsyncIterator[bytes]:
        return self._body.chunks()

    def close(self) -> None:
        self._body.close()
        if self._budget is not None:
            self._budget.answered(self._place, self._asked_s)
            self._budget.stream_ended()
            self._budget.release()
            self._budget = None
