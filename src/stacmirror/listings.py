"""What a source says of itself: its collections, and the label classes of one. Nothing is mirrored.

A composition root beside `mirror`, called by the command line's `collections` and `classes`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from stacmirror.assembly import make_catalog, make_router
from stacmirror.catalogs import AnyCatalog
from stacmirror.catalogs.parse import label_classes
from stacmirror.clock import SystemClock
from stacmirror.model import START, CollectionInfo
from stacmirror.pipeline.progress import Progress
from stacmirror.redact import Redactor
from stacmirror.settings import Settings


async def list_collections(
    settings: Settings, api_key: str, secrets: Mapping[str, str] | None = None, redactor: Redactor | None = None
) -> list[CollectionInfo]:
    """Return what every collection of the source says of itself. Raises: SourceError, LoginRefused."""
    async with _opened(settings, api_key, secrets, redactor) as catalog:
        return await catalog.collections()


async def list_classes(
    settings: Settings, api_key: str, secrets: Mapping[str, str] | None = None, redactor: Redactor | None = None
) -> dict[str, list[str]]:
    """Return the label classes of the source's first item, by property. Raises: SourceError, LoginRefused."""
    async with _opened(settings, api_key, secrets, redactor) as catalog:
        page = await catalog.page(START)
        return label_classes(page.items[0]) if page.items else {}


@asynccontextmanager
async def _opened(
    settings: Settings, api_key: str, secrets: Mapping[str, str] | None, redactor: Redactor | None
) -> AsyncIterator[AnyCatalog]:
    clock = SystemClock()
    router = make_router(settings, clock, secrets=secrets, redactor=redactor)
    catalog = make_catalog(settings, api_key, router, clock, Progress())
    try:
        yield catalog
    finally:
        catalog.close()
        await router.close()
