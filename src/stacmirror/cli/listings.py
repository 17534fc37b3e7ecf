"""`stacmirror collections` and `stacmirror classes`: what a source has, before anything is fetched from it."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from stacmirror.cli import access, config
from stacmirror.cli.options import ACCESS, TUNING, ConfigFile, Json, takes
from stacmirror.cli.screen import safe
from stacmirror.cli.session import emit, emit_json, emit_row, say, session_of, warn
from stacmirror.errors import UsageError
from stacmirror.model import CollectionInfo
from stacmirror.settings import Settings

if TYPE_CHECKING:
    from stacmirror.redact import Redactor

Answer = TypeVar("Answer")
Listed = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="NAME: (mlhub, or of `stacmirror sources`), NAME:COLLECTION for one of it, or an address.",
        show_default=False,
    ),
]
Walked = Annotated[str, typer.Argument(metavar="SOURCE", help="As of `mirror`.", show_default=False)]
_NETWORK = TUNING.only("retries", "stall_timeout", "connect_timeout")


@takes(ACCESS.only("api_url", "key_file", "auth", "header", "ca_file"), _NETWORK)
def collections(
    ctx: typer.Context, source: Listed, flags: dict[str, object], config_file: ConfigFile = "", json: Json = False
) -> None:
    """List a source's collections: id, license, citation. Into a pipe: a line each, separated by tabs, no heading.

    stacmirror collections mlhub: --api-url https://host/mlhub/v1
    stacmirror collections mlhub:bigearthnet_v1_labels
    stacmirror collections mlhub: | cut -f1
    """
    from stacmirror.listings import list_collections

    settings, key = _settle(ctx, source, flags, config_file, key_needed=False)
    found = _only(_ask(list_collections(settings, key, os.environ, _redactor(ctx))), settings)
    if json:
        emit_json({"collections": [_collection_json(info) for info in found]})
        return
    if sys.stdout.isatty():
        _print_table(found)
        return
    for info in found:
        emit_row(info.id, info.license, info.citation or info.title)


@takes(ACCESS.only("api_url", "key_file", "auth", "header", "ca_file"), _NETWORK)
def classes(
    ctx: typer.Context, source: Walked, flags: dict[str, object], config_file: ConfigFile = "", json: Json = False
) -> None:
    """List the label classes of a collection, one a line, for --label-class.

    stacmirror classes mlhub:bigearthnet_v1_labels --api-url https://host/mlhub/v1
    """
    from stacmirror.listings import list_classes

    settings, key = _settle(ctx, source, flags, config_file, key_needed=True)
    listed = _ask(list_classes(settings, key, os.environ, _redactor(ctx)))
    found = {name: values for name, values in listed.items() if values}
    if not found:
        say(f"{source} has no label classes: its first item names none; --label-class finds them in label collections")
    if json:
        emit_json({"classes": found})
        return
    for name, values in found.items():
        # Data is one class a line; which property it belongs to matters only where there are several.
        if len(found) > 1:
            emit(f"{name}:")
        for value in values:
            emit(value)


def _only(found: list[CollectionInfo], settings: Settings) -> list[CollectionInfo]:
    """Return the collection that the source names, or all. Raises: UsageError with the nearest name."""
    from stacmirror.catalogs import source_of

    dialect, wanted = source_of(settings, needs_collection=False)
    name = settings.source.partition(":")[0]
    if dialect not in ("mlhub", "api"):
        return found
    ids = [info.id for info in found]
    if wanted and wanted not in ids:
        near = difflib.get_close_matches(wanted, ids, n=1, cutoff=0.4)
        raise UsageError(
            f"no collection `{wanted}` at {settings.catalog.api_url}"
            + (f"; did you mean `{name}:{near[0]}`?" if near else ""),
            hint=f"`stacmirror collections {name}:` lists the {len(ids)} that are there",
        )
    if not found:
        say(f"{settings.catalog.api_url} lists no collections")
    return [info for info in found if wanted in ("", info.id)]


def _settle(
    ctx: typer.Context, source: str, flags: dict[str, object], config_file: str, *, key_needed: bool
) -> tuple[Settings, str]:
    from stacmirror.catalogs import source_of

    resolved = config.resolve(flags, os.environ, config.places(config_file), source=source)
    for warning in resolved.warnings:
        warn(warning)
    settings = resolved.settings(source, "")
    source_of(settings, needs_collection=key_needed)
    access.check_urls(settings)
    key = ""
    if source.startswith("mlhub:"):
        find = access.need_key if key_needed else access.find_key
        key = find(resolved, os.environ, warn)
    session_of(ctx).secret = key
    return settings, key


def _redactor(ctx: typer.Context) -> Redactor:
    """Return what learns this call's secrets, and have all that is said searched for them."""
    from stacmirror.redact import Redactor  # here: its patterns take 10 ms

    session = session_of(ctx)
    redactor = Redactor(())
    redactor.learn(session.secret)
    session.hides = redactor.text
    return redactor


def _ask(question: Coroutine[Any, Any, Answer]) -> Answer:
    import asyncio

    with asyncio.Runner() as runner:
        return runner.run(question)


def _collection_json(info: CollectionInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "title": info.title,
        "license": info.license,
        "citation": info.citation,
        "doi": info.doi,
        "providers": list(info.providers),
    }


def _print_table(found: list[CollectionInfo]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, leading=1)
    table.add_column("id", overflow="fold")
    table.add_column("license", overflow="fold")
    table.add_column("citation", overflow="fold", ratio=1)
    for info in found:
        table.add_row(*(Text(safe(cell)) for cell in (info.id, info.license, info.citation or info.title)))
    console.print(table)
