"""How `status --watch [SECONDS]` is read: its value may be left out, which click has no options for.

Used by status.py. What the flag does is in watch.py, which loads what draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand

from stacmirror.errors import UsageError
from stacmirror.units import parse_duration

EVERY = "2s"
_EVERY_MIN_S = 0.2


class StatusCommand(TyperCommand):
    """Lets `--watch` stand alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See click."""
        return super().parse_args(ctx, with_seconds(args))


def with_seconds(args: Sequence[str]) -> list[str]:
    """Return the words of a command line with the default after each `--watch` that no time follows."""
    words: list[str] = []
    for number, word in enumerate(args):
        words.append(word)
        if word == "--watch" and not (number + 1 < len(args) and _is_time(args[number + 1])):
            words.append(EVERY)
    return words


def _is_time(word: str) -> bool:
    try:
        parse_duration(word)
    except ValueError:
        return False
    return True


def seconds(typed: str) -> float:
    """Return the seconds between two looks. Raises: UsageError."""
    try:
        every_s = parse_duration(typed)
    except ValueError as error:
        raise UsageError(f"--watch {typed}: {error}", hint="such as --watch 5s, or --watch alone") from None
    if every_s < _EVERY_MIN_S:
        raise UsageError(f"--watch {typed}: at least {_EVERY_MIN_S:g}s between two looks", hint="such as --watch 1s")
    return every_s
