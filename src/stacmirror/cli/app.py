"""The program: what is above its commands, and the one place where an exception becomes a line and an exit code.

Called as the console script and by `python -m stacmirror`. Nothing here may import a command (commands.py does, when
it is typed), the network or a run: the commands do that when they run, so that `--help` and `status` stay quick.
"""

from __future__ import annotations

import gc
import io
import os
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer

from stacmirror import __version__
from stacmirror.cli.commands import Commands, Interrupted
from stacmirror.cli.exit_codes import epilog
from stacmirror.cli.screen import safe_lines
from stacmirror.cli.session import Session, emit, emit_json, say
from stacmirror.errors import StacmirrorError, TargetUnwritable

app = typer.Typer(
    name="stacmirror",
    cls=Commands,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=epilog(),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        emit(f"stacmirror {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def stacmirror(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", metavar="", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Mirror whole STAC collections to a folder: resumable and provably complete. Nothing at the target is deleted.

    stacmirror demo                  try it: offline, 200 items, 2,600 files
    stacmirror mirror mlhub:bigearthnet_v1_labels DEST --api-url URL
    stacmirror mirror earth-search:sentinel-2-l2a DEST    a source of `stacmirror sources`, or any STAC address
    stacmirror resume DEST           go on where it stopped
    stacmirror retry DEST            only what failed
    stacmirror adopt DEST --from DIR --layout NAME    take files that are there already
    stacmirror status DEST           what is there, what is not
    stacmirror verify DEST           is it whole? against the ledger, by size or --deep by digest
    """
    if ctx.invoked_subcommand is None:
        sys.stdout.write(ctx.get_help() + "\n")


def main() -> None:
    """Run the program and end the process."""
    # Imports and an item's path make next to no cycles: looking for them took 15 ms of a start, 5 % of a run.
    gc.set_threshold(50_000, 20, 50)
    # A citation with an umlaut must not end a program whose output goes to an ASCII pipe.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    code = run(sys.argv[1:])
    gc.freeze()  # all is flushed and closed: looking for cycles once more took 20 ms of every command's end
    sys.exit(code)


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code. Every failure is told in one line, never as a traceback."""
    session = Session.of(argv)
    try:
        if os.name == "nt":
            return _tell(session, "Windows is not supported yet", "use Linux, macOS or WSL", 2)
        code = app(list(argv), prog_name="stacmirror", standalone_mode=False, obj=session)
    except StacmirrorError as error:
        return _tell(session, error.message, error.hint, error.exit_code)
    except (KeyboardInterrupt, Interrupted, typer.Abort):
        return _tell(session, "interrupted", "", 130)
    except Exception as error:
        # typer's own usage errors have no common public class below 0.29; what they share is `format_message`.
        format_message = getattr(error, "format_message", None)
        if callable(format_message):
            command = getattr(getattr(error, "ctx", None), "command_path", "stacmirror")
            return _tell(session, str(format_message()), f"see `{command} --help`", getattr(error, "exit_code", 2))
        return _tell_unexpected(session, error)
    return code if isinstance(code, int) else 0


def _tell(session: Session, message: str, hint: str, exit_code: int) -> int:
    # A server's answer can reach a message: one line it stays, whatever is in it.
    message, hint = (" ".join(session.hide(text).split()) for text in (message, hint))
    say(f"stacmirror: error: {message}")
    if hint:
        say(f"  hint: {hint}")
    if session.json:
        with suppress(typer.Exit, TargetUnwritable):  # nobody can hear it
            emit_json({"error": {"message": message, "hint": hint}, "exit_code": exit_code})
    return exit_code


def _tell_unexpected(session: Session, error: Exception) -> int:
    told = safe_lines(session.hide("".join(traceback.format_exception(error))))
    where = "run again with -v to see where"
    if session.log_path and _append(session.log_path, told):
        where = f"the traceback is in {session.log_path}"
    if session.verbose:
        sys.stderr.write(told)
        where = ""
    return _tell(session, f"unexpected {type(error).__name__}: {error}", where, 1)


def _append(path: str, told: str) -> bool:
    try:
        with open(path, "a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} unexpected error\n{told}")
    except OSError:
        return False
    return True
