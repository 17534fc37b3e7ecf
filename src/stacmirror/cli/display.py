"""One aggregate display of a running mirror on stderr: redrawn in place on a terminal, a line now and then elsewhere.

Made by run.py. Four times a second a timer on the run's loop reads the counters (they belong to that loop) and hands
the picture to a thread of its own: a terminal that stands still (Ctrl-S, a slow ssh) must never hold the run. For the
same reason a note is queued here, and drawn with the next picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, Protocol

from stacmirror.cli.gauge import Meter, Snapshot, plain_line
from stacmirror.cli.log import Log
from stacmirror.cli.session import say
from stacmirror.pipeline.progress import Progress

TICK_S = 0.25
PLAIN_EVERY_S = 10.0

Mode = Literal["bar", "plain", "none"]
_TERMINALS = {"FORCE_COLOR", "TTY_COMPATIBLE"}
"""Variables by which rich takes a pipe for a terminal; what they mean is left to it."""


class Screen(Protocol):
    """Where words go, and pictures if it can draw. Any call may raise OSError."""

    @property
    def can_redraw(self) -> bool:
        """Whether a bar is of use."""

    @property
    def width(self) -> int | None:
        """The terminal's columns; None where there is none."""

    def note(self, text: str) -> None:
        """Say one line, above the picture."""

    def draw(self, now: Snapshot, title: str) -> None:
        """Draw the picture, in place of the one before."""

    def end(self) -> None:
        """Take the picture away."""


class Lines:
    """A Screen that is no terminal: a line a note, and nothing is drawn."""

    can_redraw = False
    width = None

    def note(self, text: str) -> None:
        """Say one line, however long."""
        say(text)

    def draw(self, now: Snapshot, title: str) -> None:
        """Draw nothing."""

    def end(self) -> None:
        """There is no picture."""


def stderr_screen(wanted: str) -> Screen:
    """Return the screen for words. A bar that was asked for by name is drawn even where no terminal is seen."""
    if wanted == "bar" or sys.stderr.isatty() or not _TERMINALS.isdisjoint(os.environ):
        from stacmirror.cli.drawing import Drawing, stderr_console  # here: rich takes 25 ms to load

        return Drawing(stderr_console(wanted))
    return Lines()


def choose_mode(wanted: str, screen: Screen) -> Mode:
    """Return how to show progress: `auto` is a bar on a terminal that can redraw, else plain lines."""
    if wanted == "auto":
        return "bar" if screen.can_redraw else "plain"
    if wanted == "bar":
        return "bar"
    return "plain" if wanted == "plain" else "none"


class Display:
    """An Observer that shows notes and progress. `quiet` shows neither, and still writes the log."""

    def __init__(
        self,
        screen: Screen,
        mode: Mode,
        *,
        title: str = "",
        expected_items: int | None = None,
        quiet: bool = False,
        log: Log | None = None,
        clock: Callable[[], float] = time.monotonic,
        hide: Callable[[str], str] = str,
    ) -> None:
        """`hide` takes secrets out of a note."""
        self._screen = screen
        self._mode: Mode = "none" if quiet else mode
        self._title = title
        self._expected_items = expected_items
        self._quiet = quiet
        self._log = log
        self._clock = clock
        self._hide = hide
        self._notes: list[str] = []
        self._running = False
        self._plain_at_s = 0.0

    def note(self, message: str) -> None:
        """Say one line."""
        message = self._hide(message)
        if self._log is not None:
            self._log.write(message)
        if self._quiet:
            return
        self._notes.append(message)
        if not self._running:
            self._print_notes(self._taken_notes())

    @contextlib.contextmanager
    def showing(self, progress: Progress) -> Iterator[None]:
        """Show `progress` until the block ends. Enter and leave on the loop whose tasks write it."""
        meter = Meter(self._clock(), self._expected_items)
        self._plain_at_s = self._clock() + PLAIN_EVERY_S
        drawing: Future[None] | None = None
        timer: asyncio.TimerHandle | None = None
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stacmirror-display")

        def tick() -> None:
            nonlocal drawing, timer
            timer = loop.call_later(TICK_S, tick)
            if drawing is None or drawing.done():
                drawing = self._start_drawing(thread, meter, progress)

        self._running = True
        tick()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            self._running = False
            thread.shutdown(wait=True)
            self._end()
            if drawing is not None:
                drawing.result()

    def _start_drawing(self, thread: ThreadPoolExecutor, meter: Meter, progress: Progress) -> Future[None] | None:
        now_s = self._clock()
        snapshot = meter.read(progress, now_s)
        notes = self._taken_notes()
        if self._mode == "bar":
            return thread.submit(self._draw, notes, snapshot)
        if self._mode == "plain" and now_s >= self._plain_at_s:
            self._plain_at_s += PLAIN_EVERY_S
            notes.append(plain_line(snapshot))
        return thread.submit(self._draw, notes, None) if notes else None

    def _draw(self, notes: list[str], picture: Snapshot | None) -> None:
        self._print_notes(notes)
        if picture is None:
            return
        # A terminal that is gone (closed window, ssh cut) is no reason to end a run of many hours.
        with contextlib.suppress(OSError):
            self._screen.draw(picture, self._title)

    def _end(self) -> None:
        with contextlib.suppress(OSError):
            self._screen.end()
        self._print_notes(self._taken_notes())

    def _taken_notes(self) -> list[str]:
        taken, self._notes = self._notes, []
        return taken

    def _print_notes(self, notes: list[str]) -> None:
        with contextlib.suppress(OSError):
            for note in notes:
                self._screen.note(note)
