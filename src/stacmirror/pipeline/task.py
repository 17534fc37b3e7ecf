"""What a run is to do, where that is not the whole mirror: plain values, made by the command line."""

from __future__ import annotations

from typing import NamedTuple


class Retry(NamedTuple):
    """Only what failed before, with fresh links, and no walk. `kinds` are the failures that are meant; empty: all."""

    kinds: frozenset[str] = frozenset()

    def means(self, kind: str) -> bool:
        """Return whether a failure of `kind` is to be tried again."""
        return not self.kinds or kind in self.kinds


Task = Retry
