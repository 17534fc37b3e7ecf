"""`stacmirror status DEST`: what is there, what is not, and whether a run is on. Reads the ledger, asks nobody."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import to_builtins

from stacmirror.cli.mirror import Dest
from stacmirror.cli.options import Json
from stacmirror.cli.report import absent_rows, aligned, counts_json, counts_rows, failed_rows, shard_rows
from stacmirror.cli.session import emit, emit_json, emit_row, say
from stacmirror.cli.watch_flag import StatusCommand as StatusCommand
from stacmirror.cli.watch_flag import seconds
from stacmirror.errors import UsageError
from stacmirror.units import format_count, format_size

if TYPE_CHECKING:
    from stacmirror.status import MirrorStatus


def status(
    ctx: typer.Context,
    dest: Dest,
    failed: Annotated[
        bool, typer.Option("--failed", help="List every asset that is missing: collection, item, asset, kind, why.")
    ] = False,
    watch: Annotated[
        str,
        typer.Option(
            "--watch",
            metavar="[SECONDS]",
            help="Look again every 2 seconds, or SECONDS, until the run ends; Ctrl-C ends it, too.",
            show_default=False,
        ),
    ] = "",
    json: Json = False,
) -> None:
    """Say what a mirror has, from its ledger; also beside a run that is on, from another terminal.

    stacmirror status ben
    stacmirror status ben --watch
    stacmirror status ben --watch 10s --json
    stacmirror status ben --json
    stacmirror status ben --failed > failed.tsv
    """
    from stacmirror.status import read_failed, read_status, tell_failed

    if watch:
        if failed:
            raise UsageError("--watch and --failed contradict each other", hint="give one of the two")
        every_s = seconds(watch)
        from stacmirror.cli.watch import watch as watch_run  # here: it loads rich

        if not watch_run(dest, every_s, json=json):
            return
    if failed:
        if json:
            for told in tell_failed(dest):
                emit_json(told)
            return
        has_failed = False
        for asset in read_failed(dest):
            has_failed = True
            emit_row(asset.collection, asset.item, asset.asset, asset.kind, asset.message)
        if not has_failed:
            say(f"{dest}: no asset has failed")
        return
    found = read_status(dest)
    if json:
        emit_json(_as_json(found))
        return
    if watch:
        emit(_verdict(found))
    for line in _as_lines(found):
        emit(line)


def _verdict(found: MirrorStatus) -> str:
    if _is_complete(found):
        return "no run is on: the mirror is complete"
    return "no run is on: the mirror is not complete"


def _as_json(found: MirrorStatus) -> dict[str, Any]:
    return {
        "source": found.source,
        "target": os.path.abspath(found.target),
        "layout": found.layout,
        "shard": found.shard,
        **counts_json(found.counts),
        "parts": {"files": found.parts, "bytes": found.parts_bytes},
        "running": found.running,
        "ended_at": found.ended_at,
        "failures": to_builtins(found.failures),
        "absences": to_builtins(found.absences),
    }


def _as_lines(found: MirrorStatus) -> list[str]:
    rows = [("files", os.path.abspath(found.target)), ("layout", found.layout), *shard_rows(found.shard)]
    rows += counts_rows(found.counts)
    rows.append(("size", format_size(found.counts.bytes)))
    if found.parts:
        files = f"{format_count(found.parts)} large {'file' if found.parts == 1 else 'files'}"
        rows.append(("in parts", f"{format_size(found.parts_bytes)} of {files} on the way"))
    rows += absent_rows(found.absences) + failed_rows(found.failures)
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
