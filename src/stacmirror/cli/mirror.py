"""`stacmirror mirror` and `stacmirror resume`: the main job, and the same job going on; `go` is how each job starts."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from stacmirror.cli import access, config
from stacmirror.cli.checks import check_settings
from stacmirror.cli.config import Resolved
from stacmirror.cli.opening import Warnings, open_run
from stacmirror.cli.options import (
    ACCESS,
    FILTERS,
    GOING_ON,
    LOOK,
    PLACE,
    TUNING,
    ConfigFile,
    Json,
    Quiet,
    Verbose,
    takes,
)
from stacmirror.cli.session import Look, Session, session_of
from stacmirror.pipeline.task import Task
from stacmirror.settings import Settings

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="NAME:COLLECTION (mlhub, or one that `stacmirror sources` lists), an address, a path, or -.",
        show_default=False,
    ),
]
Dest = Annotated[str, typer.Argument(metavar="DEST", help="The mirror's folder.", show_default=False)]


@takes(FILTERS, PLACE, GOING_ON, TUNING, ACCESS, LOOK)
def mirror(
    ctx: typer.Context,
    source: Source,
    dest: Dest,
    flags: dict[str, object],
    config_file: ConfigFile = "",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Mirror a collection: every item, every asset. The same command again goes on; nothing is ever deleted.

    export MLHUB_API_KEY=...  MLHUB_ROOT_URL=https://host/mlhub/v1
    stacmirror mirror mlhub:bigearthnet_v1_labels ben
    stacmirror mirror mlhub:bigearthnet_v1_labels snow --seasonal-snow
    stacmirror mirror mlhub:bigearthnet_v1_labels rice --label-class "Rice fields"
    stacmirror mirror mlhub:bigearthnet_v1_labels ben --layout bigearthnet
    stacmirror mirror mlhub:bigearthnet_v1_labels ben --workers 128 --rate 500/s
    stacmirror mirror earth-search:sentinel-2-l2a s2 --datetime 2020-06
    stacmirror mirror https://host/stac both -c landsat -c sentinel
    stacmirror mirror https://host/catalog.json all
    stac-client search ... | stacmirror mirror - found

    Each flag can also stand in ./stacmirror.toml or in STACMIRROR_<NAME>; see `stacmirror config show --origin`.
    """
    from stacmirror.catalogs import absolute

    look = Look(json, quiet, verbose)
    source = absolute(source)
    resolved = config.resolve(flags, os.environ, config.places(config_file), source=source)
    go(session_of(ctx), resolved, resolved.settings(source, dest), look)


@takes(
    FILTERS.only("max_items"),
    PLACE.only("incomplete", "state_dir"),
    GOING_ON,
    TUNING,
    ACCESS,
    LOOK,
)
def resume(
    ctx: typer.Context,
    dest: Dest,
    flags: dict[str, object],
    config_file: ConfigFile = "",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Go on with a mirror where it stopped, with the settings it was started with. Nothing is fetched twice.

    stacmirror resume ben
    stacmirror resume ben --refresh
    stacmirror resume ben --workers 128 --rate 200/s
    """
    look = Look(json, quiet, verbose)
    saved = config.load_saved(dest)
    resolved = config.resolve(flags, os.environ, config.places(config_file), saved=saved)
    go(session_of(ctx), resolved, resolved.settings(saved.source, dest), look)


def is_profile(settings: Settings) -> bool:
    """Return whether SOURCE names a collection of an API that is known by name."""
    from stacmirror.catalogs import source_of

    return source_of(settings).dialect == "api"


def go(
    session: Session,
    resolved: Resolved,
    settings: Settings,
    look: Look,
    title: str = "",
    task: Task | None = None,
    *,
    asks: bool = True,
) -> None:
    """Check what can be checked before anyone is asked, say `title`, run, and end with the run's exit code.

    `asks`: whether the source is asked anything, so that a key is needed.
    """
    warnings = Warnings()
    for warning in resolved.warnings:
        warnings(warning)
    check_settings(settings)
    access.check_urls(settings)
    is_mlhub = settings.source.startswith("mlhub:")
    api_key = access.need_key(resolved, os.environ, warnings) if is_mlhub and asks else ""
    root = f" from {settings.catalog.api_url}" if is_mlhub or is_profile(settings) else ""
    title = title or f"mirroring {settings.source}{root} to {settings.target}"
    open_run(title, settings, resolved, look, warnings)
    from stacmirror.cli.run import Job, run_mirror

    raise typer.Exit(run_mirror(session, settings, Job(api_key, task=task), look))
