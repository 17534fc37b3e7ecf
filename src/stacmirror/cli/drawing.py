"""Words and pictures on a terminal, by rich: a running mirror as a few lines that are redrawn in place.

Made by display.py where stderr is a terminal or a bar was asked for, and loaded by nobody who draws nothing: rich
takes as long to load as ten items take to fetch.
"""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from stacmirror.cli.bar import bar, line
from stacmirror.cli.gauge import PHASES, Snapshot, troubles, waited_for
from stacmirror.cli.screen import safe
from stacmirror.units import format_count, format_duration, format_size

SLOW_S = 1.0
"""A transfer younger than this is not worth a line."""


def stderr_console(wanted: str) -> Console:
    """Return the console for words. A bar that was asked for by name is drawn even where no terminal is seen."""
    return Console(stderr=True, highlight=False, force_terminal=True if wanted == "bar" else None)


class Drawing:
    """Words that rich writes. Called by one thread at a time."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Live | None = None

    @property
    def can_redraw(self) -> bool:
        """Whether a bar is of use."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    @property
    def width(self) -> int | None:
        """The terminal's columns; None where there is none."""
        return self.console.width if self.console.is_terminal else None

    def note(self, text: str) -> None:
        """Say one line, above the picture."""
        # In a file a note stays one line, however long.
        self.console.print(Text(safe(text)), soft_wrap=not self.console.is_terminal)

    def draw(self, now: Snapshot, title: str) -> None:
        """Draw the picture, in place of the one before."""
        if self._live is None:
            self._live = Live(
                console=self.console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            self._live.start()
        self._live.update(panel(now, title), refresh=True)

    def end(self) -> None:
        """Take the picture away."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()


def panel(now: Snapshot, title: str) -> RenderableType:
    """Return the snapshot as a few lines that are redrawn in place; nothing in it wraps."""
    return Group(
        line(f"{PHASES[now.phase]} {title}", "bold"),
        bar(now.settled, now.total, now.listed, now.eta_s),
        line(
            f"{format_count(now.files)} files · {format_size(now.size_bytes)} · "
            f"{now.files_per_s:.0f} files/s · {format_size(now.bytes_per_s)}/s · {format_duration(now.elapsed_s)}"
        ),
        line(" · ".join([f"{now.in_flight} in flight", f"{format_count(now.queued)} queued", *troubles(now)])),
        _slowest(now),
    )


def _slowest(now: Snapshot) -> Text:
    if now.hosts:
        return line(waited_for(now)[0], "yellow")
    if now.slowest is None or now.slowest[1] < SLOW_S:
        return Text("")
    label, age_s = now.slowest
    return line(f"slowest {format_duration(age_s)}: {label}", "dim")
