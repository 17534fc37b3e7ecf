"""stac-asset: download every asset of a ready list of items, 64 at a time. `stac_asset_get.py BASE PATHS`.

The items are made here from the paths, as small as STAC allows: reading a listing is no part of what is measured.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

import stac_asset
from pystac import Asset, Item, ItemCollection
from stac_asset import Config
from stac_asset.config import FileNameStrategy

CONCURRENT = 64


def items_of(base: str, paths: list[str]) -> ItemCollection:
    """Return items whose assets are the paths."""
    found: dict[str, Item] = {}
    for path in paths:
        name, key = path.split("/")
        if name not in found:
            found[name] = Item(name, None, None, datetime(2020, 1, 1, tzinfo=UTC), {})
        found[name].add_asset(key, Asset(f"{base}/{path}"))
    return ItemCollection(list(found.values()))


async def main() -> None:
    """Download all of them."""
    items = items_of(sys.argv[1], Path(sys.argv[2]).read_text().split())  # noqa: ASYNC240 - nothing else runs yet
    await stac_asset.download_item_collection(
        items,
        ".",
        path_template="${id}",
        file_name=None,
        config=Config(file_name_strategy=FileNameStrategy.KEY),
        max_concurrent_downloads=CONCURRENT,
    )


if __name__ == "__main__":
    asyncio.run(main())
