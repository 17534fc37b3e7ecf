"""`stacmirror status DEST`: what is there, what is not, and whether a run is on. Reads the ledger, asks nobody."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

import typer

from stacmirror.cli.mirror import Dest
from stacmirror.cli.options import Json
from stacmirror.cli.report import aligned, counts_json, counts_rows
from stacmirror.cli.session import emit, emit_json
from stacmirror.units import format_count, format_size

if TYPE_CHECKING:
    from stacmirror.status import MirrorStatus


def status(ctx: typer.Context, dest: Dest, json: Json = False) -> None:
    """Say what a mirror has, from its ledger.

    stacmirror status ben
    stacmirror status ben --json
    """
    from stacmirror.status import read_status

    found = read_status(dest)
    if json:
        emit_json(_as_json(found))
        return
    for line in _as_lines(found):
        emit(line)


def _as_json(found: MirrorStatus) -> dict[str, Any]:
    return {
        "source": found.source,
        "target": os.path.abspath(found.target),
        "layout": found.layout,
        **counts_json(found.counts),
        "running": found.running,
        "ended_at": found.ended_at,
        "failures": [{"asset": asset, "kind": kind, "count": count} for asset, kind, count in found.failures],
    }


def _as_lines(found: MirrorStatus) -> list[str]:
    rows = [("files", os.path.abspath(found.target)), ("layout", found.layout), *counts_rows(found.counts)]
    rows.append(("size", format_size(found.counts.bytes)))
    rows += [
        ("failed" if number == 0 else "", f"{asset}: {format_count(count)} {kind}")
        for number, (asset, kind, count) in enumerate(found.failures)
    ]
    if found.running:
        rows.append(("running", found.running))
    if found.ended_at:
        rows.append(("last run", found.ended_at))
    if not found.running and not _is_complete(found):
        rows.append(("next", f"stacmirror resume {shlex.quote(found.target)}"))
    return [found.source, *aligned(rows)]


def _is_complete(found: MirrorStatus) -> bool:
    counts = found.counts
    return counts.listing.ended and not (counts.items.incomplete or counts.items.pending or counts.assets.failed)
