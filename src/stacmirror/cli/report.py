"""The last words of a run: a verdict that counts, as lines for a person and as one JSON value.

Called by run.py and status.py. Pure: values in, text out. It says what Summary says and computes nothing else.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stacmirror.model import AssetCounts, Counts, ItemCounts, ListingState, Summary
from stacmirror.units import format_count, format_duration, format_size

_INDENT = 11
"""Columns before the words."""
_FIRST = {4: "check the API key, then: ", 6: "make the target writable (room, inodes, rights), then: "}
"""By exit code: what to do before the next command can help."""


@dataclass(frozen=True)
class Ending:
    """What a verdict needs besides the summary. `failures` are this run's failed assets by kind."""

    summary: Summary
    folder: str
    """Where the files are, absolute."""
    resume_command: str
    """What to type to go on."""
    status_command: str
    failures: Mapping[str, int] = field(default_factory=dict)
    citation: Sequence[str] = ()


def summary_json(summary: Summary) -> dict[str, Any]:
    """Return the summary as the value that `--json` prints in one line."""
    return {
        "verdict": summary.verdict,
        **counts_json(summary.run),
        "requests": summary.requests,
        "seconds": round(summary.seconds, 3),
        "files_per_s": round(_rate(summary), 1),
        "cpu_s": round(summary.cpu_s, 3),
        "peak_rss_mib": round(summary.peak_rss_mib, 1),
        "exit_code": summary.exit_code,
        "reason": summary.reason,
        "mirror": counts_json(summary.mirror),
    }


def counts_json(counts: Counts) -> dict[str, Any]:
    """Return `items`, `listing`, `assets` and `bytes`."""
    built: dict[str, Any] = msgspec.to_builtins(counts)
    return {key: built[key] for key in ("items", "listing", "assets", "bytes")}


def verdict_lines(ending: Ending, width: int | None = None) -> list[str]:
    """Return the verdict: one line that says it, then what it counts, where the files are and what to type next.

    `width` is the screen's, for the citation; paths and commands are never broken.
    """
    summary = ending.summary
    # A resumed run lists only the rest: whether the listing is whole is a matter of the mirror.
    rows = [*_work_rows(summary.run), ("listing", listing_words(summary.mirror))]
    if ending.failures:
        kinds = sorted(ending.failures.items(), key=lambda kind: (-kind[1], kind[0]))
        rows.append(("failed", ", ".join(f"{format_count(count)} {kind}" for kind, count in kinds)))
    if summary.mirror != summary.run:
        rows.append(("mirror", f"{_sum(summary.mirror.items)}"))
        rows.append(("", f"{_assets(summary.mirror.assets)}, {format_size(summary.mirror.bytes)}, over all runs"))
    cited = [part for line in ending.citation for part in _wrapped(line, width and width - _INDENT)]
    rows += [("cite" if number == 0 else "", line) for number, line in enumerate(cited)]
    rows.append(("files", ending.folder))
    rows.append(("next", _next(ending)))
    return [*_wrapped(_headline(summary), width, "  "), *aligned(rows)]


def counts_rows(counts: Counts) -> list[tuple[str, str]]:
    """Return what the counts say, as names and words."""
    return [*_work_rows(counts), ("listing", listing_words(counts))]


def _work_rows(counts: Counts) -> list[tuple[str, str]]:
    rows = [("items", _sum(counts.items)), ("assets", _assets(counts.assets))]
    if counts.assets.absent or counts.assets.assumed_absent:
        rows.append(("absent", _absent(counts.assets)))
    return rows


def listing_words(counts: Counts) -> str:
    """Return whether the listing was read to its end, and what the server says there is."""
    state: ListingState = counts.listing
    words = "read to its end" if state.ended else "not read to its end"
    if state.server_total is None:
        return f"{words}; the server names no total"
    words += f"; the server says {format_count(state.server_total)} items"
    missing = state.server_total - (counts.items.listed - counts.items.duplicate)
    if state.ended and missing:
        words += f", {format_count(abs(missing))} {'more' if missing > 0 else 'fewer'} than it listed"
    return words


def aligned(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Return rows as indented lines with the words below each other."""
    return [f"  {name:<{_INDENT - 2}}{words}" for name, words in rows]


def _wrapped(text: str, width: int | None, indent: str = "") -> list[str]:
    if width is None:
        return [text]
    return textwrap.wrap(text, max(20, width), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _headline(summary: Summary) -> str:
    items, mirror = summary.run.items, summary.mirror
    took = format_duration(summary.seconds)
    if summary.verdict == "complete" and summary.run.assets.stored == 0 and mirror.items.complete:
        return (
            f"complete: nothing was left to fetch; all {format_count(mirror.items.complete)} items, "
            f"{_files(mirror.assets)}, {format_size(mirror.bytes)} were there ({took})"
        )
    wanted = items.complete + items.incomplete + items.pending
    line = (
        f"{summary.verdict}: {format_count(items.complete)} of {format_count(wanted)} items, "
        f"{_files(summary.run.assets)}, {format_size(summary.run.bytes)} in {took} ({_rate(summary):.0f} files/s)"
    )
    return f"{line}: {summary.reason}" if summary.reason else line


def _rate(summary: Summary) -> float:
    return summary.run.assets.stored / summary.seconds if summary.seconds > 0 else 0.0


def _files(assets: AssetCounts) -> str:
    return f"{format_count(assets.stored)} {'file' if assets.stored == 1 else 'files'}"


def _sum(items: ItemCounts) -> str:
    parts = [f"{format_count(items.complete)} complete"]
    for name in ("incomplete", "filtered", "duplicate", "pending"):
        count = getattr(items, name)
        if count:
            parts.append(f"{format_count(count)} {name}")
    return f"{format_count(items.listed)} listed = " + " + ".join(parts)


def _assets(assets: AssetCounts) -> str:
    parts = [f"{format_count(assets.stored)} stored"]
    if assets.skipped:
        parts.append(f"{format_count(assets.skipped)} there already")
    parts.append(f"{format_count(assets.failed)} failed")
    return ", ".join(parts)


def _absent(assets: AssetCounts) -> str:
    words = f"{format_count(assets.absent)} listed but not at the source"
    if assets.assumed_absent:
        words += f", {format_count(assets.assumed_absent)} more not asked for after that"
    return words


def _next(ending: Ending) -> str:
    if ending.summary.verdict == "complete":
        return ending.status_command
    return _FIRST.get(ending.summary.exit_code, "") + ending.resume_command
