"""Files that someone already has, in a folder: what `adopt` looks through. Reads only; all methods block.

Called in threads, an item at a time. What a path looks like is the layout's business, what it is worth `adopt`'s.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

_CHUNK_BYTES = 1 << 20


class FolderShelf:
    """Implements `interfaces.Shelf` over the folder `root`."""

    def __init__(self, root: str) -> None:
        self._root = os.path.abspath(root)

    def path(self, path: str) -> str:
        """See `interfaces.Shelf.path`."""
        return os.path.join(self._root, path) if path else self._root

    def names(self, folder: str) -> list[str]:
        """See `interfaces.Shelf.names`."""
        try:
            return sorted(os.listdir(self.path(folder)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def has_folder(self, folder: str) -> bool:
        """See `interfaces.Shelf.has_folder`."""
        return os.path.isdir(self.path(folder))

    def size_bytes(self, path: str) -> int | None:
        """See `interfaces.Shelf.size_bytes`."""
        place = self.path(path)
        return os.path.getsize(place) if os.path.isfile(place) else None

    def read(self, path: str) -> Iterator[bytes]:
        """See `interfaces.Shelf.read`."""
        with open(self.path(path), "rb", buffering=0) as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
