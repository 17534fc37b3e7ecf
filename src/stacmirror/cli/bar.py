"""How far a mirror is, as a bar and in words: for a run seen from within (`drawing`) and from beside (`watch`)."""

from __future__ import annotations

from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stacmirror.cli.gauge import items
from stacmirror.cli.screen import safe
from stacmirror.units import format_duration


def bar(settled: int, total: int | None, listed: int, eta_s: float | None) -> RenderableType:
    """Return a bar with the items and the time left; words alone where nobody knows how many items there are."""
    words = items(settled, total, listed)
    if total is None:
        return line(words)
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True)
    row.add_column(no_wrap=True, justify="right")
    percent = 100 * settled / total if total else 100
    left = f"{format_duration(eta_s)} left" if eta_s is not None else ""
    drawn = ProgressBar(total=max(total, 1), completed=settled)
    row.add_row(drawn, Text(f"{percent:.0f}%  {words}"), Text(left, style="cyan"))
    return row


def line(text: str, style: str = "") -> Text:
    """Return one line that does not wrap. Text, not a string: an id with [brackets] is no markup."""
    return Text(safe(text), style=style, no_wrap=True, overflow="ellipsis")
