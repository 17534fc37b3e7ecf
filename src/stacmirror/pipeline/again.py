"""Find among listed items that are here already those that must be fetched again, and make their bundles.

Called by the walk, a page at a time. Two reasons: the catalog has another version of the item (`--refresh`), or more
of it is wanted than before (`--change-filter` to more assets).

An item has changed when its `updated` property has. Where it has none (MLHub's never had), its JSON is compared
instead, without links and hrefs, which differ on every listing. Asking each asset for its ETag would be exact, and
would cost as many requests as fetching them: 17 million for BigEarthNet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import msgspec

from stacmirror.interfaces import Ledger
from stacmirror.model import Item, ItemKey, KnownItem, LackingItem, ResumePoint
from stacmirror.pipeline.bundle import Bundle, Job


@dataclass(frozen=True)
class Fetching:
    """What is to be fetched again of one listed item."""

    item: Item
    jobs: Sequence[Job]
    changed: bool

    def bundle(self, page: int) -> Bundle:
        """Return its bundle, as the item's page."""
        return Bundle(self.item.key, page, list(self.jobs), tuple(link.key for link in self.item.sources))


class Again:
    """What of one walk's items is to be fetched again."""

    def __init__(self, ledger: Ledger, redact: Callable[[bytes], bytes]) -> None:
        """`redact` is what was done to the JSON that is kept."""
        self._ledger = ledger
        self._redact = redact
        self._start: ResumePoint | None = None

    def begin(self, start: ResumePoint) -> None:
        """Hear which walk this is."""
        self._start = start

    def find(
        self, items: Sequence[Item], known: Mapping[ItemKey, KnownItem], claimed: Set[ItemKey]
    ) -> dict[ItemKey, Fetching]:
        """Return those of a page's `items` that are to be fetched again. Blocks: it reads the ledger."""
        start = self._start
        if start is None or not (start.refresh or start.widen):
            return {}
        there = [item for item in items if item.key in known and item.key not in claimed]
        found: dict[ItemKey, Fetching] = {}
        if start.refresh:
            kept = self._ledger.documents([item.key for item in there])
            for item in there:
                document = kept.get(item.key)
                if document is not None and has_changed(document, self._redact(item.document)):
                    found[item.key] = Fetching(item, [Job(item.key, item=item)], changed=True)
        if start.widen:
            taken = set(claimed)
            for item in there:
                if item.key not in found and (jobs := self._widened(item, known, start.began, taken)):
                    found[item.key] = Fetching(item, jobs, changed=False)
                    taken.update(job.key for job in jobs)
        return found

    def _widened(self, item: Item, known: Mapping[ItemKey, KnownItem], began: int, taken: Set[ItemKey]) -> list[Job]:
        """Return the jobs of an item, and of those of its linked items that this walk has not looked at yet."""
        # A row that this walk has written is as wide as it is wanted; the listed item's own row tells by its page.
        linked = {
            link.key: link.href
            for link in item.sources
            if link.key not in taken and (link.key not in known or known[link.key].run < began)
        }
        rows = self._ledger.rows([item.key, *linked])
        jobs = [Job(item.key, item=item, before=_widened(rows[item.key]))] if item.key in rows else []
        for key, href in linked.items():
            before = rows.get(key)
            jobs.append(Job(key, href=href, before=_widened(before) if before is not None else None))
        return jobs


def _widened(row: LackingItem) -> LackingItem:
    row.widen = True
    return row


def has_changed(kept: bytes, listed: bytes) -> bool:
    """Return whether an item's JSON as listed is another version than the one that is kept; both are redacted."""
    before, now = _decoded(kept), _decoded(listed)
    stamps = [_updated(document) for document in (before, now)]
    if all(stamps):
        return stamps[0] != stamps[1]
    return bool(_content(before) != _content(now))


def _decoded(document: bytes) -> Any:
    try:
        return msgspec.json.decode(document)
    except msgspec.DecodeError:
        return document


def _updated(document: Any) -> str:
    properties = document.get("properties") if isinstance(document, dict) else None
    updated = properties.get("updated") if isinstance(properties, dict) else None
    return updated if isinstance(updated, str) else ""


def _content(document: Any) -> Any:
    """Return an item without what differs from listing to listing: its links, and where its assets are."""
    if not isinstance(document, dict):
        return document
    content = {name: value for name, value in document.items() if name != "links"}
    assets = content.get("assets")
    if isinstance(assets, dict):
        content["assets"] = {key: _without_href(asset) for key, asset in assets.items()}
    return content


def _without_href(asset: Any) -> Any:
    return {name: value for name, value in asset.items() if name != "href"} if isinstance(asset, dict) else asset
