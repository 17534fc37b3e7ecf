"""`stacmirror verify DEST`: is what the ledger says is there, there? Asks nobody; with --repair, marks what is not."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer
from msgspec import to_builtins

from stacmirror.cli.checks import refuse_inside
from stacmirror.cli.mirror import Dest
from stacmirror.cli.options import Json
from stacmirror.cli.report import aligned
from stacmirror.cli.screen import json_line
from stacmirror.cli.session import emit_json, emit_row, say
from stacmirror.cli.watching import default_processes, terminable, watching
from stacmirror.errors import TargetUnwritable
from stacmirror.units import format_count, format_duration, format_size

if TYPE_CHECKING:
    from stacmirror.findings import Finding, Verification

Progress = Annotated[str, typer.Option("--progress", help="auto, bar, plain or none.", metavar="HOW")]
Processes = Annotated[
    int,
    typer.Option(
        "--processes", help="Processes that read files; default: as many as cores.", metavar="N", min=0, max=256
    ),
]


def verify(
    ctx: typer.Context,
    dest: Dest,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every byte and compare digests, not only names and sizes.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Mark what is damaged, so that `stacmirror resume` fetches it again."),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Foreign and unrevealed files are damage, too (exit code 7).")
    ] = False,
    show: Annotated[int, typer.Option("--show", help="Print at most so many findings.", metavar="N", min=0)] = 20,
    report: Annotated[
        str, typer.Option("--report", help="Write all findings here, a line of JSON each.", metavar="FILE")
    ] = "",
    processes: Processes = 0,
    progress: Progress = "auto",
    json: Json = False,
) -> None:
    """Hold a mirror's files against its ledger: by names and sizes, or --deep by digests.

    Finds files that are missing, cut, grown, flipped (--deep) or unreadable, and
    damaged rows of the ledger: exit code 7. Foreign files (the ledger does not
    know them; nothing is ever deleted) and unrevealed ones (a run was cut short,
    `resume` finishes it) are said, and are damage only with --strict. Prints
    kind, path and detail, separated by tabs. Works beside a running mirror.
    Not checked: collection.json, CITATION.txt and LICENSE.txt, which every run
    writes anew; what --incomplete hide holds back is checked by size only.

    stacmirror verify ben
    stacmirror verify ben --deep --report damage.ndjson
    stacmirror verify ben --deep --repair && stacmirror resume ben
    """
    from stacmirror.findings import Checking
    from stacmirror.verify import verify as check

    shown: list[Finding] = []
    checking = Checking()
    with terminable(), _reporting(report, dest) as write:

        def found(finding: Finding) -> None:
            if len(shown) < show:
                shown.append(finding)
            write(finding)

        with watching(checking, f"verifying {dest}", progress):
            result = check(
                dest,
                deep=deep,
                repair=repair,
                strict=strict,
                processes=processes or default_processes(),
                on_finding=found,
                checking=checking,
            )
    if json:
        emit_json({**_as_json(result), "shown": to_builtins(shown), "report": report or None})
    else:
        for finding in shown:
            emit_row(finding.kind, finding.path, finding.detail)
    for line in _verdict(result, len(shown), report):
        say(line)
    raise typer.Exit(result.exit_code)


@contextmanager
def _reporting(path: str, dest: str) -> Iterator[Callable[[Finding], None]]:
    """Give what writes a finding to the report, if one is wanted. Raises: UsageError, TargetUnwritable."""
    if not path:
        yield lambda finding: None
        return
    refuse_inside("--report", path, dest)
    with told(f"--report {path}"):
        file = open(path, "wb")  # noqa: SIM115
    try:
        yield lambda finding: _write(path, file, finding)
    finally:
        with told(f"--report {path}"):
            file.close()


@contextmanager
def told(name: str) -> Iterator[None]:
    """Turn what a file of the user's refuses into one line. Raises: TargetUnwritable."""
    try:
        yield
    except OSError as error:
        raise TargetUnwritable(
            f"{name} cannot be written: {error.strerror}", hint="name a place that is there and has room"
        ) from error


def _write(path: str, file: IO[bytes], finding: Finding) -> None:
    with told(f"--report {path}"):
        file.write(json_line(to_builtins(finding)).encode() + b"\n")


def _as_json(result: Verification) -> dict[str, Any]:
    return {
        "target": os.path.abspath(result.target),
        "verdict": "damaged" if result.exit_code else "whole",
        "deep": result.deep,
        "items": result.items,
        "files": result.files,
        "bytes": result.bytes,
        "damage": result.damage,
        "foreign": result.notes.get("foreign", 0),
        "unrevealed": result.notes.get("unrevealed", 0),
        "lacking": result.lacking,
        "running": result.running,
        "marked": result.marked,
        "seconds": round(result.seconds, 3),
        "exit_code": result.exit_code,
    }


def _verdict(result: Verification, shown: int, report: str) -> list[str]:
    how = "by digest" if result.deep else "by name and size"
    rate = result.files / result.seconds if result.seconds else 0.0
    checked = (
        f"{format_count(result.items)} items, {format_count(result.files)} files, {format_size(result.bytes)}"
        f" checked {how} in {format_duration(result.seconds)} ({rate:,.0f} files/s)"
    )
    damaged, foreign = sum(result.damage.values()), result.notes.get("foreign", 0)
    unrevealed = result.notes.get("unrevealed", 0)
    dest = shlex.quote(result.target)
    rows = []
    if damaged:
        rows.append(("damage", ", ".join(f"{format_count(n)} {kind}" for kind, n in result.damage.items())))
    if foreign:
        rows.append(("foreign", f"{format_count(foreign)} that the ledger does not know; they are left alone"))
    if unrevealed:
        rows.append(
            ("staged", f"{format_count(unrevealed)} unrevealed: under way when a run ended, or held; `resume` goes on")
        )
    if result.lacking:
        lacking = f"{format_count(result.lacking)} assets never arrived: stacmirror status {dest} --failed"
        rows.append(("lacking", lacking))
    if result.running:
        rows.append(("running", f"{result.running}; what it has under way was left out"))
    total = damaged - result.damage.get("marked", 0) + foreign + unrevealed
    if report:
        rows.append(("report", report))
    elif total > shown:
        rows.append(("shown", f"{format_count(shown)} of {format_count(total)}; --report FILE has all"))
    if result.marked:
        rows.append(("marked", f"{format_count(result.marked)} to be fetched again"))
        rows.append(("next", f"stacmirror resume {dest}"))
    elif set(result.damage) == {"marked"}:
        rows.append(("next", f"stacmirror resume {dest}"))
    elif damaged:
        rows.append(("next", f"stacmirror verify {dest}{' --deep' if result.deep else ''} --repair"))
    return [f"{'damaged' if result.exit_code else 'whole'}: {checked}", *aligned(rows)]
