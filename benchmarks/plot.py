"""Plots as SVG, written by hand: no library, and the file is a few kilobytes of text.

Called by `bench` (bars), `growth` (lines) and `slow_world` (curves over time). It knows nothing of what the
numbers mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_OURS, _THEIRS, _INK, _FAINT = "#1f6f8b", "#9aa5ad", "#222", "#ddd"
_STYLE = f"font-family: sans-serif; font-size: 12px; fill: {_INK}"


@dataclass(frozen=True)
class Bar:
    """One bar with the range of its rounds."""

    name: str
    value: float
    least: float
    most: float
    ours: bool


@dataclass(frozen=True)
class Bars:
    """A group of bars under a title."""

    title: str
    bars: Sequence[Bar]


@dataclass(frozen=True)
class Line:
    """One quantity over a logarithmic axis."""

    title: str
    points: Sequence[tuple[float, float]]
    form: str = ".3g"


@dataclass(frozen=True)
class Curve:
    """One quantity of one run over time, in seconds."""

    name: str
    points: Sequence[tuple[float, float]]
    ours: bool


def bar_chart(title: str, groups: Sequence[Bars]) -> str:
    """Return horizontal bars, group below group, all to one scale from zero."""
    left, width, height = 190, 480, 22
    most = max((bar.most for group in groups for bar in group.bars), default=1.0) or 1.0
    body, y = [_text(12, 24, title, "bold")], 34
    for group in groups:
        y += 26
        body.append(_text(12, y, group.title, "bold"))
        y += 8
        for bar in group.bars:
            middle, end = y + height / 2, left + width * bar.value / most
            low, high = left + width * bar.least / most, left + width * bar.most / most
            body.append(_text(left - 8, middle + 4, bar.name, anchor="end"))
            body.append(
                f'<rect x="{left}" y="{y + 3}" width="{end - left:.1f}" height="{height - 6}" '
                f'fill="{_OURS if bar.ours else _THEIRS}"/>'
            )
            body.append(_stroke(low, middle, high, middle, _INK))
            body.append(_text(max(end, high) + 6, middle + 4, f"{bar.value:.3f}"))
            y += height
    return _svg(left + width + 70, y + 16, body)


def line_charts(title: str, lines: Sequence[Line]) -> str:
    """Return one small chart a line, side by side; x is logarithmic, y starts at zero."""
    size, gap = 220, 50
    body = [_text(12, 24, title, "bold")]
    for number, line in enumerate(lines):
        left, top = 40 + number * (size + gap), 70
        logs = [math.log10(x) for x, _ in line.points]
        span = (max(logs) - min(logs)) or 1.0
        most = 1.25 * max(y for _, y in line.points) or 1.0
        places = [
            (left + size * (log - min(logs)) / span, top + size * (1 - y / most))
            for log, (_, y) in zip(logs, line.points, strict=True)
        ]
        body.append(_text(left, top - 16, line.title))
        body.append(_stroke(left, top + size, left + size, top + size, _INK))
        body.append(_stroke(left, top, left, top + size, _FAINT))
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        body.append(f'<polyline points="{path}" fill="none" stroke="{_OURS}" stroke-width="2"/>')
        for (x, y), (items, value) in zip(places, line.points, strict=True):
            body.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{_OURS}"/>')
            body.append(_text(x, y - 8, f"{value:{line.form}}", anchor="middle"))
            body.append(_text(x, top + size + 16, f"{items:,.0f}", anchor="middle"))
    return _svg(40 + len(lines) * (size + gap) + 10, 70 + size + 34, body)


def time_charts(title: str, charts: Mapping[str, Sequence[Curve]]) -> str:
    """Return one wide chart a title, below each other; all to one scale of time, each from zero."""
    left, width, height, gap = 60, 640, 150, 54
    longest = max((x for curves in charts.values() for curve in curves for x, _ in curve.points), default=1.0) or 1.0
    body = [_text(12, 24, title, "bold")]
    for number, (name, curves) in enumerate(charts.items()):
        top = 56 + number * (height + gap)
        most = 1.1 * max((y for curve in curves for _, y in curve.points), default=1.0) or 1.0
        body.append(_text(left, top - 8, name, "bold"))
        for share in (0.0, 0.5, 1.0):
            y = top + height * (1 - share / 1.1)
            body.append(_stroke(left, y, left + width, y, _FAINT))
            body.append(_text(left - 6, y + 4, f"{most / 1.1 * share:,.0f}", anchor="end"))
        for seconds in range(0, int(longest) + 1, 30):
            x = left + width * seconds / longest
            body.append(_text(x, top + height + 16, f"{seconds} s", anchor="middle"))
        for curve in sorted(curves, key=lambda one: one.ours):
            path = " ".join(
                f"{left + width * x / longest:.1f},{top + height * (1 - y / most):.1f}" for x, y in curve.points
            )
            colour, stroke = (_OURS, 2) if curve.ours else (_THEIRS, 1)
            body.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{stroke}"/>')
            if curve.points:
                x, y = curve.points[-1]
                body.append(_text(left + width * x / longest + 4, top + height * (1 - y / most) + 4, curve.name))
    return _svg(left + width + 80, 56 + len(charts) * (height + gap), body)


def _text(x: float, y: float, words: str, weight: str = "normal", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-weight="{weight}" text-anchor="{anchor}">{escape(words)}</text>'


def _stroke(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _svg(width: float, height: float, body: Sequence[str]) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    inner = "\n".join(body)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} style="{_STYLE}">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{inner}\n</svg>\n'
    )
