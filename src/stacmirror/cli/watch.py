"""`stacmirror status DEST --watch [SECONDS]`: a running mirror, seen from another terminal, until its run ends.

On a terminal a few lines that are redrawn, elsewhere a line a look. Ctrl-C ends the watching and nothing else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from msgspec import to_builtins
from rich.console import Console, Group, RenderableType
from rich.live import Live

from stacmirror.cli.bar import bar, line
from stacmirror.cli.gauge import items
from stacmirror.cli.session import emit, emit_json
from stacmirror.units import format_count, format_duration, format_size
from stacmirror.watch import Look, Watch

_KINDS_MAX = 6


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
