"""`stacmirror retry DEST`: only what failed, with fresh links and without a walk."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from stacmirror.cli import config
from stacmirror.cli.mirror import Dest, go
from stacmirror.cli.options import ACCESS, LOOK, PLACE, TUNING, ConfigFile, Json, Quiet, Verbose, takes
from stacmirror.cli.session import Look, session_of
from stacmirror.errors import KINDS, StacmirrorError, UsageError
from stacmirror.pipeline.task import Retry

Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only", metavar="KIND,...", help="Only failures of these kinds, as `stacmirror status` names them; repeat."
    ),
]


@takes(PLACE.only("incomplete"), TUNING, ACCESS, LOOK)
def retry(
    ctx: typer.Context,
    dest: Dest,
    flags: dict[str, object],
    only: Only = None,
    config_file: ConfigFile = "",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Ask again for what failed, and for nothing else: fresh links, no walk through the listing.

    stacmirror retry ben
    stacmirror retry ben --only timeout,5xx
    stacmirror retry ben --only gone --missing-ok B10

    What is left afterwards stays recorded; the exit code is about the whole mirror, as that of `mirror` is.
    """
    look = Look(json, quiet, verbose)
    saved = config.load_saved(dest)
    kinds = [kind.strip() for words in only or () for kind in words.split(",") if kind.strip()]
    if only and not kinds:
        raise UsageError("--only names no kind of failure", hint="leave it out to try all that failed again")
    refuse_unknown(kinds, dest)
    resolved = config.resolve(flags, os.environ, config.places(config_file), saved=saved)
    title = f"trying again in {dest}: " + (f"what failed with {', '.join(kinds)}" if kinds else "all that failed")
    task = Retry(frozenset(kinds))
    go(
        session_of(ctx), resolved, resolved.settings(saved.source, dest), look, title, task,
        asks=_has_any(dest, task),
    )  # fmt: skip


def _has_any(dest: str, task: Retry) -> bool:
    """Return whether anything has failed that is meant. What cannot be read is the run's to judge."""
    from stacmirror.status import read_kinds

    try:
        return any(map(task.means, read_kinds(dest)))
    except StacmirrorError:
        return True


def refuse_unknown(kinds: list[str], dest: str) -> None:
    """Refuse words that no failure is named by. Raises: UsageError with the kinds that the mirror has."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if not unknown:
        return
    from stacmirror.status import read_kinds

    there = read_kinds(dest)
    unknown = [kind for kind in unknown if kind not in there]
    if unknown:
        listed = ", ".join(f"{kind} ({count:,})" for kind, count in there.items())
        raise UsageError(
            f"--only {unknown[0]}: no failure is of that kind",
            hint=f"in {dest} there are {listed}" if listed else f"in {dest} nothing has failed",
        )
