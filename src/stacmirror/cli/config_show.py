"""`stacmirror config show` and `stacmirror config path`: which settings are in force, and who said so."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from stacmirror.cli import config
from stacmirror.cli.exit_codes import epilog
from stacmirror.cli.options import ConfigFile, Json
from stacmirror.cli.session import emit, emit_json, warn
from stacmirror.typed import SECRETS, options

config_app = typer.Typer(
    name="config",
    add_completion=False,
    rich_markup_mode="rich",
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@config_app.callback(invoke_without_command=True)
def config_group(ctx: typer.Context) -> None:
    """Show the settings in force and where they come from.

    stacmirror config show --origin
    stacmirror config path
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


@config_app.command("show", epilog=epilog("shown", 1, 2))
def show(
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.", metavar="")] = False,
    config_file: ConfigFile = "",
    json: Json = False,
) -> None:
    """Show every setting as valid TOML: environment, ./stacmirror.toml, user config and defaults together.

    stacmirror config show --origin
    stacmirror config show > stacmirror.toml
    """
    resolved = config.resolve({}, os.environ, config.places(config_file))
    for warning in resolved.warnings:
        warn(warning)
    settings = resolved.settings()
    values = {key: getattr(getattr(settings, option.section), option.field_name) for key, option in options().items()}
    values.update({key: ["(secret)"] for key in SECRETS if values[key]})
    if json:
        shown = {key: {"value": value, "origin": resolved.origin(key)} for key, value in values.items()}
        emit_json(shown if origin else values)
        return
    section = ""
    for key, option in options().items():
        if option.section != section:
            section = option.section
            emit(f"[{section}]")
        line = f"{key} = {to_toml(values[key])}"
        emit(f"{line:<40} # {resolved.origin(key)}" if origin else line)


@config_app.command("path", epilog=epilog("shown", 1, 2))
def path(config_file: ConfigFile = "", json: Json = False) -> None:
    """Show which files are read, the stronger first."""
    where = config.places(config_file)
    files = [("project", where.project), ("user", where.user)]
    if json:
        emit_json({name: {"path": str(file.absolute()), "exists": file.is_file()} for name, file in files})
        return
    for name, file in files:
        emit(f"{name:<8} {file.absolute()}{'' if file.is_file() else ' (not there)'}")


def to_toml(value: object) -> str:
    """Return a setting's value as TOML. "Not set" is an empty text, as config_file.py reads it."""
    if value is None:
        return '""'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(to_toml(part) for part in value) + "]"
    if isinstance(value, str):
        return '"' + "".join(_escaped(char) for char in value) + '"'
    return str(value)


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if char.isprintable() else f"\\U{ord(char):08X}"
