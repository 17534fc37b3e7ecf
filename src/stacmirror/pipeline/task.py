"""What a run is to do, where that is not the whole mirror: plain values, made by the command line."""

from __future__ import annotations

from typing import NamedTuple


class Retry(NamedTuple):
    """Only what failed before, with fresh links, and no walk. `kinds` are the failures that are meant; empty: all."""

    kinds: frozenset[str] = frozenset()

    def means(self, kind: str) -> bool:
        """Return whether a failure of `kind` is to be tried again."""
        return not self.kinds or kind in self.kinds


class Adopt(NamedTuple):
    """Take files from `folder`, laid out as `layout` (or `template`) says; fetch only what they are checked with.

    `check` is `sample`, `all` or `none`: how many are compared with the source. `link`: link instead of copying, where
    the file system can.
    """

    folder: str
    layout: str = "item"
    template: str = ""
    check: str = "sample"
    link: bool = False


Task = Retry | Adopt
