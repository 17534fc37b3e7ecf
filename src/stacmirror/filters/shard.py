"""Keep one machine's share of the items. Made by `filters.make_filters` for `--shard`; knows no catalog.

Which shard an item falls to is fixed for ever, as mirrors that are there rest on it: XXH3 (64 bits, no seed) of the
UTF-8 bytes of its id, modulo the number of shards, plus one. Its collection and its place in the listing do not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import xxhash

from stacmirror.errors import UsageError
from stacmirror.model import Item
from stacmirror.units import parse_shard


def shard_of(item_id: str, shards: int) -> int:
    """Return which of `shards`, counted from 1, an item falls to."""
    return xxhash.xxh3_64_intdigest(item_id.encode("utf-8", "surrogatepass")) % shards + 1


class Shard:
    """Keeps the items that fall to shard K of N."""

    def __init__(self, shard: str) -> None:
        """`shard` is `K/N`, as it is typed. Raises: UsageError."""
        try:
            parsed = parse_shard(shard)
        except ValueError as error:
            raise UsageError(f"--shard {shard}: {error}", hint="leave it out where one machine mirrors all") from None
        self._number, self._shards = parsed or (1, 1)

    @property
    def share(self) -> float:
        """The part of all items that falls to this shard, about."""
        return 1 / self._shards

    def has(self, item_id: str) -> bool:
        """Return True for an id that falls to this shard."""
        return shard_of(item_id, self._shards) == self._number

    def of(self, ids: Iterable[str]) -> list[str]:
        """Return those of `ids` that fall to this shard."""
        return [item_id for item_id in ids if self.has(item_id)]

    def keeps(self, item: Item) -> bool:
        """Return True for an item of this shard."""
        return self.has(item.key.id)

    def describe(self) -> Mapping[str, str]:
        """Return `K/N`."""
        return {"shard": f"{self._number}/{self._shards}"}
