"""The program's commands in the order of its help page, and the group that loads the one that was typed.

Used by app.py. A command's module is imported when its name is met: one run needs one of them, and all together take
longer to load than a small mirror takes to fetch. `--help` and a shell's completion load them all.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from stacmirror.cli.exit_codes import epilog


class Entry(NamedTuple):
    """Where a command is, what stands below its help, and what reads its words."""

    module: str
    """In this folder."""
    name: str
    """The function, or a group's `typer.Typer`."""
    codes: str = epilog()
    """What its exit codes mean; a group's commands have their own."""
    reader: str = ""
    """A TyperCommand in the same module, for what typer cannot say."""


_ADOPTED = epilog("all that was there was adopted, whether it is all or not", 1, 2, 3, 4, 5, 6, 9, 130, 143)
_LISTED = epilog("listed", 1, 2, 4, 5, 130)

COMMANDS = {
    "demo": Entry("demo", "demo"),
    "mirror": Entry("mirror", "mirror"),
    "resume": Entry("mirror", "resume"),
    "retry": Entry("retry", "retry"),
    "adopt": Entry(
        "adopt",
        "adopt",
        epilog("all that was there was adopted, whether it is all or not", 1, 2, 3, 4, 5, 6, 9, 130, 143),
    ),
    "status": Entry("status", "status", epilog("told, whether complete or not", 1, 2, 9), "StatusCommand"),
    "explain": Entry("explain", "explain", epilog("told", 1, 2, 9)),
    "verify": Entry("verify", "verify", epilog("all is there, and whole", 1, 2, 6, 7, 9, 130, 143)),
    "manifest": Entry("manifest", "manifest", epilog("listed", 1, 2, 6, 7, 9, 130, 143)),
    "collections": Entry("listings", "collections", _LISTED),
    "classes": Entry("listings", "classes", _LISTED),
    "sources": Entry("sources", "sources", epilog("listed", 1, 2)),
    "plan": Entry("plan", "plan", epilog("foretold, whether it fits or not", 1, 2, 4, 5, 6, 130)),
    "tune": Entry("tune", "tune", epilog("measured, or a cap was reached", 1, 2, 4, 5, 130)),
    "simulate": Entry("simulate", "simulate", epilog("ended by Ctrl-C or SIGTERM", 1, 2), "SimulateCommand"),
    "config": Entry("config_show", "config_app"),
}


class Interrupted(Exception):
    """Ctrl-C, as what typer lets through."""


class Commands(TyperGroup):
    """A group that has all of COMMANDS, and builds each when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """See click."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """See click."""
        # For a name that is none of them typer looks for near ones among those that are built.
        for name in [cmd_name] if cmd_name in COMMANDS else COMMANDS:
            if name not in self.commands:
                self.commands[name] = _built(name)
        return self.commands.get(cmd_name)

    def invoke(self, ctx: Any) -> Any:
        """See click. Raises: Interrupted for a Ctrl-C, which typer would end with 130 and an empty line."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted from error


def _built(name: str) -> Any:
    entry = COMMANDS[name]
    module = import_module(f"stacmirror.cli.{entry.module}")
    found = getattr(module, entry.name)
    if isinstance(found, typer.Typer):
        return get_command(found)
    reader: type[TyperCommand] | None = getattr(module, entry.reader) if entry.reader else None
    alone = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
    alone.command(name, cls=reader, epilog=entry.codes)(found)
    return get_command(alone)
