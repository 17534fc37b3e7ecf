"""What one call of the program knows about itself: how to speak, and where a traceback may go.

Made by app.main, handed to the commands as typer's `ctx.obj`, read by app.main when something went wrong.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence

import msgspec
import typer

from stacmirror.cli.screen import json_line, safe, without_secrets
from stacmirror.errors import TargetUnwritable, UsageError

_NOBODY_READS = 141
"""What a shell says of a program that SIGPIPE ended."""

_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_SECRET_LENGTH_MIN = 6
"""Shorter ones are words, and would be taken out of everything."""


class Session(msgspec.Struct):
    """One call of the program. The commands fill in what they learn."""

    json: bool = False
    verbose: bool = False
    log_path: str = ""
    secret: str = ""
    """The API key, so that what is said can be searched for it."""
    hides: Callable[[str], str] = str
    """Takes out what the logins of a run have sent, once there is one."""

    def hide(self, text: str) -> str:
        """Return `text` without this call's secrets: a last line of defence; they are taken out where they enter."""
        known = (self.secret, *(os.environ.get(name, "") for name in _SECRETS))
        return self.hides(without_secrets(text, [secret for secret in known if len(secret) >= _SECRET_LENGTH_MIN]))

    @classmethod
    def of(cls, argv: Sequence[str]) -> Session:
        """Return a session from the raw words: a usage error must know `--json` before anything is parsed."""
        words = list(argv)
        typed = words[: words.index("--")] if "--" in words else words
        return cls(json="--json" in typed, verbose="-v" in typed or "--verbose" in typed)


class Look(msgspec.Struct, frozen=True):
    """How much one run says. Raises: UsageError for quiet and verbose together."""

    json: bool
    quiet: bool
    verbose: bool

    def __post_init__(self) -> None:
        if self.quiet and self.verbose:
            raise UsageError("--quiet and --verbose contradict each other", hint="give one of the two, or neither")


def session_of(ctx: typer.Context) -> Session:
    """Return the call's session (a fresh one where typer's own test runner called)."""
    found = ctx.find_object(Session)
    return found if found is not None else Session()


def say(line: str) -> None:
    """Write one line of words to stderr; where they cannot go anywhere, they are not worth a run."""
    with contextlib.suppress(OSError):
        sys.stderr.write(safe(line) + "\n")
        sys.stderr.flush()


def warn(line: str) -> None:
    """Write one warning to stderr."""
    say(f"stacmirror: warning: {line}")


def emit(line: str) -> None:
    """Write one line of data to stdout; control characters cannot pass."""
    _write(safe(line) + "\n")


def emit_row(*cells: str) -> None:
    """Write one row of data to stdout, its cells separated by tabs; no cell can hold one."""
    _write("\t".join(map(safe, cells)) + "\n")


def emit_json(value: object) -> None:
    """Write one value as one line of JSON to stdout; control characters cannot pass."""
    _write(json_line(value) + "\n")


def _write(text: str) -> None:
    """Write data. Raises: TargetUnwritable; typer.Exit when nobody reads any more."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):  # else Python tries again as it ends, with a traceback
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(_NOBODY_READS) from error
        raise TargetUnwritable(
            f"cannot write to stdout: {error.strerror}", hint="make room where the output goes"
        ) from error
