"""A verification or a manifest on a terminal, by rich: a few lines that are redrawn in place.

Called by watching.py, in a thread of the display's own, where a bar is drawn; loaded nowhere else.
"""

from __future__ import annotations

import contextlib
import threading

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stacmirror.cli.bar import line
from stacmirror.cli.watching import Meter, words
from stacmirror.findings import Checking
from stacmirror.units import format_duration


def draw_checks(console: Console, checking: Checking, title: str, ended: threading.Event, tick_s: float) -> None:
    """Draw the counters every `tick_s` until `ended`."""
    meter = Meter(checking)
    with contextlib.suppress(OSError), Live(console=console, auto_refresh=False, transient=True) as live:
        while not ended.wait(tick_s):
            live.update(_picture(checking, title, meter), refresh=True)


def _picture(now: Checking, title: str, meter: Meter) -> Table:
    picture = Table.grid(expand=True)
    picture.add_row(line(title, "bold"))
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True)
    percent = 100 * now.items / now.items_total if now.items_total else 0
    bar = ProgressBar(total=max(now.items_total, 1), completed=now.items)
    row.add_row(bar, Text(f"{percent:.0f}%"))
    picture.add_row(row)
    picture.add_row(line(words(now)))
    picture.add_row(line(f"{meter.rate()} · {format_duration(meter.elapsed_s())}"))
    return picture
