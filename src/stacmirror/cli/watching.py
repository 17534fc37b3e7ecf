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

from stacmirror.cli.display import PLAIN_EVERY_S, TICK_S, choose_mode, stderr_screen
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
    mode = choose_mode(wanted, stderr_screen(wanted))
    if mode == "none":
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_say_lines, args=(checking, ended), name="display", daemon=True)
    if mode == "bar":
        # here: they load rich
        from stacmirror.cli.drawing import stderr_console
        from stacmirror.cli.drawing_checks import draw_checks

        drawn = (stderr_console(wanted), checking, title, ended, TICK_S)
        thread = threading.Thread(target=draw_checks, args=drawn, name="display", daemon=True)
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


def _say_lines(checking: Checking, ended: threading.Event) -> None:
    meter = Meter(checking)
    while not ended.wait(PLAIN_EVERY_S):
        with contextlib.suppress(OSError):
            say(f"[{format_duration(meter.elapsed_s())}] {words(checking)}, {meter.rate()}")


class Meter:
    """Counts since it was made, a second."""

    def __init__(self, checking: Checking, clock: Callable[[], float] = time.monotonic) -> None:
        self._checking = checking
        self._clock = clock
        self._started_s = clock()

    def elapsed_s(self) -> float:
        """Return how long it has taken so far."""
        return self._clock() - self._started_s

    def rate(self) -> str:
        """Return how fast it goes, in words."""
        spent_s = max(self.elapsed_s(), 1e-9)
        return f"{self._checking.files / spent_s:,.0f} files/s, {format_size(self._checking.bytes / spent_s)}/s"


def words(now: Checking) -> str:
    """Return the counters as one line."""
    words = f"{now.phase}: {format_count(now.items)} of {format_count(now.items_total)} items"
    words += f", {format_count(now.files)} files, {format_size(now.bytes)}"
    if now.elsewhere:
        words += f", {format_count(now.elsewhere)} names elsewhere"
    return words + (f", {format_count(now.damage)} damaged" if now.damage else "")
