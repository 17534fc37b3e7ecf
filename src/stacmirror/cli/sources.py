"""`stacmirror sources`: the sources that are known by name, and how to log in to hosts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from stacmirror.cli import config
from stacmirror.cli.layers import Layer
from stacmirror.cli.options import ConfigFile, Json
from stacmirror.cli.screen import safe
from stacmirror.cli.session import emit_json, emit_row
from stacmirror.profiles import PROFILES
from stacmirror.typed import SECRETS

Auth = Annotated[bool, typer.Option("--auth", help="List the schemes of --auth instead.", metavar="")]


def sources(auth: Auth = False, config_file: ConfigFile = "", json: Json = False) -> None:
    r"""List the sources known by name: built in, and `\[source.NAME]` of your files. Nothing is asked of anyone.

    stacmirror sources
    stacmirror mirror earth-search:sentinel-2-l2a s2 --bbox 5,50,6,51 --datetime 2020-06
    stacmirror collections planetary-computer:
    stacmirror sources --auth
    """
    if auth:
        _list_schemes(json)
        return
    found = config.named_sources(config.places(config_file))
    if json:
        emit_json({"sources": {name: _settings_of(layer) for name, layer in found.items()}})
        return
    rows = [
        (name, str(layer["api_url"].value) if "api_url" in layer else "", *_words_of(name, layer))
        for name, layer in found.items()
    ]
    if sys.stdout.isatty():
        _print_table(("name", "root", "what", "settings and notes"), rows)
        return
    for row in rows:
        emit_row(*row)


def _list_schemes(json: bool) -> None:
    from stacmirror.transports.logins import SCHEMES

    if json:
        emit_json({"schemes": SCHEMES})
    elif sys.stdout.isatty():
        _print_table(("--auth HOST=", "what"), list(SCHEMES.items()))
    else:
        for row in SCHEMES.items():
            emit_row(*row)


def _settings_of(layer: Layer) -> dict[str, object]:
    return {key: ["(secret)"] if key in SECRETS else given.value for key, given in layer.items()}


def _words_of(name: str, layer: Layer) -> tuple[str, str]:
    """Return what a source is, and what is particular to it."""
    profile = PROFILES.get(name)
    particular = {key: value for key, value in _settings_of(layer).items() if key not in ("api_url", "profile", "auth")}
    words = ", ".join(f"{key} {_said(value)}" for key, value in particular.items())
    notes = profile.notes if profile is not None else layer["profile"].origin
    return profile.title if profile is not None else "", "; ".join(filter(None, [words, notes]))


def _said(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _print_table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, title in enumerate(titles):
        table.add_column(title, overflow="fold", ratio=2 if number == len(titles) - 1 else None)
    for row in rows:
        table.add_row(*(Text(safe(cell)) for cell in row))
    Console(file=sys.stdout, highlight=False).print(table)
