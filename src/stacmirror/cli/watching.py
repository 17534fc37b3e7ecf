"""Show a verification or a manifest on stderr while it works: redrawn on a terminal, a line now and then elsewhere.

The work is synchronous and only raises counters; a thread of the display's own reads them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stacmirror.cli.display import PLAIN_EVERY_S, TICK_S, choose_mode, stderr_console
from stacmirror.cli.screen import safe
from stacmirror.cli.session import say
from stacmirror.errors import UsageError
from stacmirror.findings import Checking
from stacmirror.units import format_count, format_duration, format_size

_MODES = ("auto", "bar", "plain", "none")


def default_processes() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def watching(checking: Checking, title: str, wanted: str) -> Iterator[None]:
    """Show `checking` until the block ends. Raises: UsageError for a mode that is not there."""
    if wanted not in _MODES:
        raise UsageError(f"--progress must be one of {', '.join(_MODES)}, not {wanted}", hint="leave it out for auto")
    console = stderr_console(wanted)
    mode = choose_mode(wanted, console)
    if mode == "none":
        yield
        return
    ended = threading.Event()
    draw = _draw_bar if mode == "bar" else _say_lines
    thread = threading.Thread(target=draw, args=(console, checking, title, ended), name="display", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(1.0)  # a terminal that stands still must not hold the end


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block in order: children are ended, files closed, exit code 130 or 143."""

    def heard(number: int, frame: FrameType | None) -> None:
        say("stacmirror: error: terminated")
        sys.exit(143)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, heard)
    try:
        yield
    except KeyboardInterrupt:
        say("stacmirror: error: interrupted")
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, before)


def _say_lines(console: Console, checking: Checking, title: str, ended: threading.Event) -> None:
    meter = _Meter(checking)
    while not ended.wait(PLAIN_EVERY_S):
        with contextlib.suppress(OSError):
            say(f"[{format_duration(meter.elapsed_s())}] {_words(checking)}, {meter.rate()}")


def _draw_bar(console: Console, checking: Checking, title: str, ended: threading.Event) -> None:
    meter = _Meter(checking)
    with contextlib.suppress(OSError), Live(console=console, auto_refresh=False, transient=True) as live:
        while not ended.wait(TICK_S):
            live.update(_picture(checking, title, meter), refresh=True)


class _Meter:
    def __init__(self, checking: Checking, clock: Callable[[], float] = time.monotonic) -> None:
        self._checking = checking
        self._clock = clock
        self._started_s = clock()

    def elapsed_s(self) -> float:
        return self._clock() - self._started_s

    def rate(self) -> str:
        spent_s = max(self.elapsed_s(), 1e-9)
        return f"{self._checking.files / spent_s:,.0f} files/s, {format_size(self._checking.bytes / spent_s)}/s"


def _words(now: Checking) -> str:
    words = f"{now.phase}: {format_count(now.items)} of {format_count(now.items_total)} items"
    words += f", {format_count(now.files)} files, {format_size(now.bytes)}"
    if now.elsewhere:
        words += f", {format_count(now.elsewhere)} names elsewhere"
    return words + (f", {format_count(now.damage)} damaged" if now.damage else "")


def _picture(now: Checking, title: str, meter: _Meter) -> Table:
    picture = Table.grid(expand=True)
    picture.add_row(_line(title, "bold"))
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True)
    percent = 100 * now.items / now.items_total if now.items_total else 0
    bar = ProgressBar(total=max(now.items_total, 1), completed=now.items)
    row.add_row(bar, Text(f"{percent:.0f}%"))
    picture.add_row(row)
    picture.add_row(_line(_words(now)))
    picture.add_row(_line(f"{meter.rate()} · {format_duration(meter.elapsed_s())}"))
    return picture


def _line(text: str, style: str = "") -> Text:
    return Text(safe(text), style=style, no_wrap=True, overflow="ellipsis")
