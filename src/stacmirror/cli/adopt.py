"""`stacmirror adopt DEST --from DIR --layout NAME [SOURCE]`: files that someone already has become part of a mirror."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from stacmirror.cli import config
from stacmirror.cli.mirror import Dest, go
from stacmirror.cli.options import ACCESS, FILTERS, LOOK, PLACE, TUNING, ConfigFile, Json, Quiet, Verbose, takes
from stacmirror.cli.session import Look, session_of
from stacmirror.errors import UsageError
from stacmirror.pipeline.task import Adopt

_PANEL = "What is there"
CHECKS = ("sample", "all", "none")

Source = Annotated[
    str, typer.Argument(metavar="[SOURCE]", help="What DEST is a mirror of, where it is none yet.", show_default=False)
]
From = Annotated[
    str,
    typer.Option("--from", metavar="DIR", help="Where the files are; DEST itself: in place.", rich_help_panel=_PANEL),
]
LayoutOf = Annotated[
    str,
    typer.Option(
        "--layout", metavar="NAME", rich_help_panel=_PANEL,
        help="How DIR is laid out: item, notebook, bigearthnet or fanout; a new DEST gets the same.",
    ),
]  # fmt: skip
TemplateOf = Annotated[
    str,
    typer.Option(
        "--path-template", metavar="PATH", rich_help_panel=_PANEL,
        help="The same, as a path with {collection} {item_id} {asset_key} {ext} {hash2}.",
    ),
]  # fmt: skip
DestLayout = Annotated[
    str, typer.Option("--dest-layout", metavar="NAME", help="Layout of a new DEST.", rich_help_panel=_PANEL)
]
Check = Annotated[
    str,
    typer.Option(
        "--check", metavar="HOW", rich_help_panel=_PANEL,
        help="sample: compare 3 files of each asset key with the source, then each 1,000th; all; or none.",
    ),
]  # fmt: skip
Link = Annotated[
    bool,
    typer.Option(
        "--link", metavar="", help="Link files (reflink, else hard link), do not copy.", rich_help_panel=_PANEL
    ),
]


@takes(FILTERS, PLACE.only("incomplete"), TUNING, ACCESS, LOOK)
def adopt(
    ctx: typer.Context,
    dest: Dest,
    flags: dict[str, object],
    source: Source = "",
    from_: From = "",
    layout: LayoutOf = "",
    path_template: TemplateOf = "",
    dest_layout: DestLayout = "",
    check: Check = "sample",
    link: Link = False,
    config_file: ConfigFile = "",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Take files that you already have into a mirror, after checking them; `resume` then fetches only the rest.

    stacmirror adopt ben --from /data/BigEarthNet-v1.0 --layout bigearthnet mlhub:bigearthnet_v1_labels
    stacmirror adopt ben --from /old/notebook --layout notebook --dest-layout item mlhub:bigearthnet_v1_labels
    stacmirror adopt ben --from ben --layout item --check all mlhub:bigearthnet_v1_labels
    stacmirror resume ben

    Asks the source for pages, for items whose folder is there, and for the samples; for no other asset. Files are
    judged by their form (whole TIFF, JSON, PNG, JPEG; not empty), samples byte for byte. DIR is only read.
    """
    look = Look(json, quiet, verbose)
    task = _task(from_, layout, path_template, check, link)
    if os.path.lexists(os.path.join(dest, config.SAVED_FILE)):
        saved = config.load_saved(dest)
        if dest_layout:
            raise UsageError(f"{dest} is a mirror and keeps its layout", hint="leave --dest-layout out")
        resolved = config.resolve(flags, os.environ, config.places(config_file), saved=saved)
        source = source or saved.source
    else:
        if not source:
            raise UsageError(
                f"{dest} is no mirror yet, so SOURCE is needed",
                hint="say what the files are of, such as mlhub:bigearthnet_v1_labels",
            )
        place: dict[str, object] = {"layout": dest_layout or layout}
        if not dest_layout and path_template:
            place = {"path_template": path_template}
        resolved = config.resolve({**flags, **place}, os.environ, config.places(config_file), source=source)
    title = f"adopting files in {from_} into {dest}, a mirror of {source}"
    go(session_of(ctx), resolved, resolved.settings(source, dest), look, title, task)


def _task(folder: str, layout: str, template: str, check: str, link: bool) -> Adopt:
    from stacmirror.layout import make_layout

    if not folder:
        raise UsageError("--from DIR is missing", hint="name the folder that has the files")
    if not os.path.isdir(folder):
        raise UsageError(f"--from {folder}: no such folder", hint="name the folder that has the files, unpacked")
    if not os.listdir(folder):
        raise UsageError(f"--from {folder}: it is empty", hint="name the folder that has the files, unpacked")
    if not layout and not template:
        raise UsageError(
            "--layout NAME is missing",
            hint="how is DIR laid out: item, notebook, bigearthnet, fanout, or --path-template",
        )
    if check not in CHECKS:
        raise UsageError(f"--check {check}: choose one of {', '.join(CHECKS)}", hint="leave it out for samples")
    name = layout or "template"
    make_layout(name, template)
    return Adopt(os.path.abspath(folder), name, template, check, link)
