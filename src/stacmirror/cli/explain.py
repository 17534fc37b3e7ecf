"""`stacmirror explain DEST ITEM`: everything that happened to one item. Reads the ledger, asks nobody."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import to_builtins

from stacmirror.cli.mirror import Dest
from stacmirror.cli.options import Json
from stacmirror.cli.report import aligned
from stacmirror.cli.session import emit, emit_json
from stacmirror.units import format_count

if TYPE_CHECKING:
    from stacmirror.explain import AssetStory, Explanation

_STATES = {
    "held": "held: durable but not visible, since it lacks assets",
    "staged": "staged: durable, about to be visible",
    "committed": "committed: visible and durable",
    "incomplete": "incomplete: visible and durable, but it lacks assets",
}
_NAMES_MAX = 5


def explain(
    dest: Dest,
    item: Annotated[str, typer.Argument(metavar="ITEM", help="The item's id, or COLLECTION/ID.", show_default=False)],
    json: Json = False,
) -> None:
    """Say everything that the ledger knows of one item: its page, its files, and what failed, when and where.

    stacmirror explain ben bigearthnet_v1_labels_S2B_MSIL2A_20170709T094029_30_50
    stacmirror explain ben COLLECTION/ITEM --json
    """
    from stacmirror.explain import explain as explained

    found = explained(dest, item)
    if json:
        emit_json({"items": to_builtins(found)})
        return
    for one in found:
        for line in _lines(one, dest):
            emit(line)


def _lines(found: Explanation, dest: str) -> list[str]:
    rows = [("state", _STATES[found.state])]
    if found.at_s:
        done = "committed" if found.state in ("committed", "incomplete") else "written"
        rows.append(("when", f"{done} {_when(found.at_s)}, last met or written by run {found.run}"))
    rows.append(("page", _page(found)))
    rows += _names("sources", found.sources) + _names("named by", found.named_by)
    rows.append(("folder", os.path.join(os.path.abspath(dest), found.folder)))
    rows.append(("item JSON", "kept in the ledger" if found.documented else "not kept"))
    for asset in found.assets:
        rows += _asset(asset, found.folder)
    if found.running:
        rows.append(("running", f"{found.running}: this may change"))
    width = max(len(name) for name, _ in rows)
    return [f"{found.collection}/{found.item}", *_aligned(rows, width)]


def _aligned(rows: list[tuple[str, str]], width: int) -> list[str]:
    return aligned(rows) if width < 9 else [f"  {name:<{width}}  {words}" for name, words in rows]


def _page(found: Explanation) -> str:
    if found.unmet:
        return "its page is walked again by the next run"
    if found.page is None:
        return "listed by no page: a label names it"
    return f"number {found.page}, " + (f"which starts at {found.cursor}" if found.cursor else "the first")


def _names(word: str, names: list[str]) -> list[tuple[str, str]]:
    shown = names[:_NAMES_MAX]
    if len(names) > _NAMES_MAX:
        shown.append(f"and {format_count(len(names) - _NAMES_MAX)} more")
    return [(word if number == 0 else "", name) for number, name in enumerate(shown)]


def _asset(asset: AssetStory, folder: str) -> list[tuple[str, str]]:
    name = "item" if asset.key == "@item" else asset.key
    if asset.outcome == "stored":
        path = asset.path.removeprefix(f"{folder}/")
        words = f"{path}, {format_count(asset.size_bytes)} bytes, {asset.digest}"
        return [(name, words), *([("", f"DAMAGED: {asset.damage}")] if asset.damage else [])]
    if asset.outcome == "absent":
        asked = asset.kind == "asked"
        why = "asked for, and not at the source" if asked else "not asked for: missing on all items that were"
        return [
            (name, f"absent: {why}"),
            ("", "again: every run asks for a few such items, and for all when one is there"),
        ]
    words = f"failed: {asset.kind}"
    if asset.attempts:
        words += f" after {asset.attempts} {'attempt' if asset.attempts == 1 else 'attempts'}"
    words += f", {_when(asset.at_s)}, run {asset.run}"
    if asset.host:
        words += f", at {asset.host}"
    return [(name, words), ("", asset.message), ("", f"again: {asset.again}, or the next resume")]


def _when(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S%z", time.localtime(at_s))
