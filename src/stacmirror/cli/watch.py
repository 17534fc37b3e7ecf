"""`stacmirror status DEST --watch [SECONDS]`: a running mirror, seen from another terminal, until its run ends.

On a terminal a few lines that are redrawn, elsewhere a line a look. Ctrl-C ends the watching and nothing else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import to_builtins
from rich.console import Console, Group, RenderableType
from rich.live import Live
from typer.core import TyperCommand

from stacmirror.cli.bar import bar, items, line
from stacmirror.cli.session import emit, emit_json
from stacmirror.errors import UsageError
from stacmirror.units import format_count, format_duration, format_size, parse_duration
from stacmirror.watch import Look, Watch

EVERY = "2s"
_EVERY_MIN_S = 0.2
_KINDS_MAX = 6


class StatusCommand(TyperCommand):
    """Lets `--watch` stand alone: click has no options whose value may be left out."""

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


def watch(dest: str, every_s: float, *, json: bool, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Show the mirror in `dest` until its run ends: True. False when Ctrl-C ended the watching before."""
    watched = Watch(dest)
    console = Console(highlight=False)
    live: Live | None = None
    if console.is_terminal and not console.is_dumb_terminal and not json:
        live = Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop")
        live.start()
    try:
        while (look := watched.look()).running:
            if json:
                emit_json(_as_json(look))
            elif live is not None:
                live.update(_panel(look, dest), refresh=True)
            else:
                emit(f"{time.strftime('%H:%M:%S')} {_line(look)}")
            sleep(every_s)
    except KeyboardInterrupt:
        return False
    finally:
        if live is not None:
            live.stop()
    return True


def _as_json(look: Look) -> dict[str, Any]:
    rates = {"files_per_s": look.files_per_s, "bytes_per_s": look.bytes_per_s, "eta_s": look.eta_s}
    rounded = {name: None if value is None else round(value, 1) for name, value in rates.items()}
    return {
        "at_s": int(time.time()),
        "running": look.running,
        **to_builtins(look.held),
        **rounded,
        "wanted": look.wanted,
    }


def _line(look: Look) -> str:
    parts = [
        items(look.settled, look.total, look.held.listed),
        f"{format_count(look.held.files)} files, {format_size(look.held.size_bytes)}",
    ]
    if look.files_per_s is not None:
        parts.append(f"{look.files_per_s:.0f} files/s")
    parts += _failures(look)
    if look.eta_s is not None:
        parts.append(f"{format_duration(look.eta_s)} left")
    return ", ".join([*parts, look.running])


def _failures(look: Look) -> list[str]:
    found = [f"{format_count(count)} {kind}" for kind, count in look.held.failures.items()]
    more = [f"{len(found) - _KINDS_MAX} more kinds"] if len(found) > _KINDS_MAX else []
    return [f"missing so far: {' + '.join(found[:_KINDS_MAX] + more)}"] if found else []


def _panel(look: Look, dest: str) -> RenderableType:
    rates = ""
    if look.files_per_s is not None and look.bytes_per_s is not None:
        rates = f" · {look.files_per_s:.0f} files/s · {format_size(look.bytes_per_s)}/s"
    held = look.held
    lines: list[RenderableType] = [
        line(f"{look.source} to {os.path.abspath(dest)}", "bold"),
        bar(look.settled, look.total, look.held.listed, look.eta_s),
        line(f"{format_count(held.files)} files · {format_size(held.size_bytes)}{rates}"),
    ]
    lines += [line(f"{format_count(held.lacking_items)} items lack assets; {words}") for words in _failures(look)]
    lines.append(line(f"{look.running} · Ctrl-C ends the watching, not the run", "dim"))
    return Group(*lines)
