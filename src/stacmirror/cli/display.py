"""One aggregate display of a running mirror on stderr: redrawn in place on a terminal, a line now and then elsewhere.

Made by run.py. Four times a second a timer on the run's loop reads the counters (they belong to that loop) and hands
the picture to a thread of its own: a terminal that stands still (Ctrl-S, a slow ssh) must never hold the run. For the
same reason a note is queued here, and drawn with the next picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.text import Text

from stacmirror.cli.gauge import Meter, panel, plain_line
from stacmirror.cli.log import Log
from stacmirror.cli.screen import safe
from stacmirror.pipeline.progress import Progress

TICK_S = 0.25
PLAIN_EVERY_S = 10.0

Mode = Literal["bar", "plain", "none"]


def choose_mode(wanted: str, console: Console) -> Mode:
    """Return how to show progress: `auto` is a bar on a terminal that can redraw, else plain lines."""
    if wanted == "auto":
        return "bar" if console.is_terminal and not console.is_dumb_terminal else "plain"
    if wanted == "bar":
        return "bar"
    return "plain" if wanted == "plain" else "none"


def stderr_console(wanted: str) -> Console:
    """Return the console for words. A bar that was asked for by name is drawn even where no terminal is seen."""
    return Console(stderr=True, highlight=False, force_terminal=True if wanted == "bar" else None)


class Display:
    """An Observer that shows notes and progress. `quiet` shows neither, and still writes the log."""

    def __init__(
        self,
        console: Console,
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
        self._console = console
        self._mode: Mode = "none" if quiet else mode
        self._title = title
        self._expected_items = expected_items
        self._quiet = quiet
        self._log = log
        self._clock = clock
        self._hide = hide
        self._notes: list[str] = []
        self._running = False
        self._live: Live | None = None
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
            return thread.submit(self._draw, notes, panel(snapshot, self._title))
        if self._mode == "plain" and now_s >= self._plain_at_s:
            self._plain_at_s += PLAIN_EVERY_S
            notes.append(plain_line(snapshot))
        return thread.submit(self._draw, notes, None) if notes else None

    def _draw(self, notes: list[str], picture: object) -> None:
        self._print_notes(notes)
        if picture is None:
            return
        # A terminal that is gone (closed window, ssh cut) is no reason to end a run of many hours.
        with contextlib.suppress(OSError):
            if self._live is None:
                self._live = Live(
                    console=self._console,
                    auto_refresh=False,
                    transient=True,
                    redirect_stdout=False,
                    redirect_stderr=False,
                    vertical_overflow="crop",
                )
                self._live.start()
            self._live.update(picture, refresh=True)  # type: ignore[arg-type]

    def _end(self) -> None:
        with contextlib.suppress(OSError):
            if self._live is not None:
                self._live.stop()
        self._live = None
        self._print_notes(self._taken_notes())

    def _taken_notes(self) -> list[str]:
        taken, self._notes = self._notes, []
        return taken

    def _print_notes(self, notes: list[str]) -> None:
        with contextlib.suppress(OSError):
            for note in notes:
                # In a file a note stays one line, however long.
                self._console.print(Text(safe(note)), soft_wrap=not self._console.is_terminal)
