"""Where a crawl over static catalogs stands: the nodes from the root down, and a cursor that leads there again.

Kept by `static`, which reads the nodes. It asks nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from stacmirror.model import Cursor


@dataclass
class Node:
    """One catalog or collection: its links in their order, and which of them is next."""

    url: str
    collection: str
    items: list[str]
    children: list[str]
    at: int = 0
    looked: int = 0
    """Children that were asked for ahead, or need not be."""

    @property
    def hrefs(self) -> list[str]:
        """All links, in the order in which they are followed."""
        return self.items + self.children

    @property
    def is_at_item(self) -> bool:
        """Whether the link that is next is one to an item."""
        return self.at < len(self.items)

    @property
    def is_done(self) -> bool:
        """Whether no link is left."""
        return self.at >= len(self.items) + len(self.children)

    @property
    def href(self) -> str:
        """The link that is next."""
        return self.items[self.at] if self.is_at_item else self.children[self.at - len(self.items)]


@dataclass
class Way:
    """Where the crawl stands: the nodes from the root down, and the cursor of that place."""

    nodes: list[Node] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def cursor(self) -> Cursor | None:
        """Return where the crawl goes on, having left the nodes that are done; None at the end."""
        while self.nodes and self.nodes[-1].is_done:
            self.nodes.pop()
            if self.nodes:
                self.nodes[-1].at += 1
        return Cursor(json.dumps([node.href for node in self.nodes], separators=(",", ":"))) if self.nodes else None


def hrefs_of(cursor: Cursor) -> list[str]:
    """Return the links that lead to where a cursor points, from the root down; an empty one for what is no cursor."""
    try:
        hrefs: list[str] = json.loads(cursor.value)
    except ValueError:
        return [""]
    return hrefs
