"""Everything that happened to one item, from a mirror's ledger, and whether its files are where they should be.

A composition root beside `status`. Asks nobody; works beside a running mirror.
"""

from __future__ import annotations

import os
import shlex

from msgspec import Struct

from stacmirror.errors import UsageError
from stacmirror.layout import Layout, make_layout
from stacmirror.ledger.home import LEDGER, state_folder
from stacmirror.ledger.lock import owner
from stacmirror.ledger.story import ItemStory, LedgerStories
from stacmirror.record import STATE_FOLDER, read_record


class AssetStory(Struct, omit_defaults=True):
    """One asset: `stored` with its receipt, `absent` or `failed` with the reason; `again` says what would ask for it.

    `path` is relative to the mirror; `damage` is "" or what a look at the disk found.
    """

    key: str
    outcome: str
    path: str = ""
    size_bytes: int = 0
    digest: str = ""
    damage: str = ""
    kind: str = ""
    message: str = ""
    host: str = ""
    attempts: int = 0
    at_s: float = 0.0
    run: int = 0
    again: str = ""


class Explanation(Struct):
    """One item of one collection."""

    collection: str
    item: str
    state: str
    at_s: int
    run: int
    page: int | None
    cursor: str
    unmet: bool
    folder: str
    documented: bool
    sources: list[str]
    named_by: list[str]
    assets: list[AssetStory]
    running: str


def explain(target: str, name: str) -> list[Explanation]:
    """Return what the ledger of `target` knows of the item `name` (an id, or COLLECTION/ID), a value a collection.

    Raises: UsageError when there is no mirror, or no such item, with near names; TargetInUse.
    """
    record = read_record(target)
    place = record.get("place", {})
    layout = make_layout(str(place.get("layout", "item")), str(place.get("path_template", "")))
    folder = state_folder(os.path.join(target, STATE_FOLDER))
    ledger = LedgerStories(os.path.join(folder, LEDGER))
    try:
        stories = ledger.stories(name)
        if not stories:
            near = ledger.near(name)
            raise UsageError(
                f"no item {name!r} in the ledger of {target}",
                hint=f"near: {', '.join(near)}" if near else "not listed so far, or left out by the mirror's filters",
            )
        running = owner(folder)
        return [_explained(story, target, layout, running) for story in stories]
    finally:
        ledger.close()


def _explained(story: ItemStory, target: str, layout: Layout, running: str) -> Explanation:
    folder = story.folder or layout.folder(story.key, story.key)[0]
    visible = story.state in ("committed", "incomplete")
    assets = [
        AssetStory(
            key=receipt.key,
            outcome="stored",
            path=f"{folder}/{receipt.name}" if folder else receipt.name,
            size_bytes=receipt.size_bytes,
            digest=f"{receipt.digest_kind}:{receipt.digest.hex()}",
            damage=_damage(os.path.join(target, folder, receipt.name), receipt.size_bytes) if visible else "",
        )
        for receipt in story.stored
    ]
    retry = f"stacmirror retry {shlex.quote(target)} --only "
    assets += [
        AssetStory(
            key=failed.key,
            outcome="failed",
            kind=failed.kind,
            message=failed.message,
            host=failed.host,
            attempts=failed.attempts,
            at_s=failed.at_s,
            run=failed.run,
            again=retry + shlex.quote(failed.kind),
        )
        for failed in story.failed
    ]
    assets += [
        AssetStory(key=absent.key, outcome="absent", kind="assumed" if absent.assumed else "asked")
        for absent in story.absent
    ]
    return Explanation(
        collection=story.key.collection,
        item=story.key.id,
        state=story.state,
        at_s=story.at_s,
        run=story.run,
        page=story.page,
        cursor=story.cursor,
        unmet=story.unmet,
        folder=folder,
        documented=story.documented,
        sources=[str(key) for key in story.sources],
        named_by=[str(key) for key in story.named_by],
        assets=sorted(assets, key=lambda asset: asset.key),
        running=running,
    )


def _damage(path: str, size_bytes: int) -> str:
    try:
        found = os.stat(path).st_size
    except OSError as error:
        return f"not on the disk ({error.strerror})"
    return "" if found == size_bytes else f"{found:,} bytes on the disk"
