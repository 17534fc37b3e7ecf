"""Figures from runs: medians, ratios round by round, the table, the words around it.

Called by `bench` when a session is over; it measures nothing and writes no file. The arithmetic has tests.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.measure import Run

WHAT_DIFFERS = """\
All store the same files; each run's files, bytes and CRC-32s are compared with the origin's afterwards. The peers get
a ready list of links and do nothing but fetch and write. stacmirror also reads the pages, asks for every source item,
checks lengths and digests, keeps a ledger, syncs, and renames. aria2c calls fsync as it goes, the others do
not. Start-up is counted for all."""
WAYS = {
    "plain": "http: 302 to another port, GET",
    "md5": "http with Content-MD5 (stacmirror checks it, curl does not)",
    "tls": "https on both legs, self-signed ECDSA",
    "s3": "signed path-style GET, no redirect (nginx verifies none; stacmirror checks the ETags, which are MD5s)",
}


@dataclass(frozen=True)
class Spread:
    """A figure over all rounds."""

    median: float
    least: float
    most: float

    def text(self, form: str) -> str:
        """Return `median [least..most]`, each in this format."""
        return f"{self.median:{form}} [{self.least:{form}}..{self.most:{form}}]"


@dataclass(frozen=True)
class WayRuns:
    """All runs of one way. `reference` is whom ratios compare with; `start_up` is the product's run of a few items."""

    way: str
    target: str
    reference: str
    runs: tuple[Run, ...]
    start_up: str = ""

    def names(self) -> list[str]:
        """Return the contenders in the order in which they ran."""
        return list(dict.fromkeys(run.contender for run in self.runs if run.contender != self.start_up))

    def good(self, name: str) -> list[Run]:
        """Return the runs of a contender that count."""
        return [run for run in self.runs if run.contender == name and not run.failure]

    def failures(self) -> list[Run]:
        """Return the runs that do not count."""
        return [run for run in self.runs if run.failure]


def spread(values: Iterable[float]) -> Spread:
    """Return median, least and most. Raises: ValueError for no values."""
    found = list(values)
    if not found:
        raise ValueError("no values")
    return Spread(statistics.median(found), min(found), max(found))


def ratios(ours: Sequence[Run], theirs: Sequence[Run], value: Callable[[Run], float]) -> Spread | None:
    """Return ours / theirs over the rounds in which both count, None where there is no such round.

    Pair by pair, not median by median: two runs of one round met the same state of a shared machine.
    """
    by_round = {run.round: run for run in theirs}
    pairs = [(run, by_round[run.round]) for run in ours if run.round in by_round]
    return spread(value(our) / value(their) for our, their in pairs) if pairs else None


def steady_cpu_s_per_1000(full: Sequence[Run], few: Sequence[Run]) -> Spread | None:
    """Return what 1,000 files cost beyond start-up and end: the slope between a run of few items and a full one."""
    by_round = {run.round: run for run in few}
    pairs = [(run, by_round[run.round]) for run in full if run.round in by_round]
    slopes = [1000 * (run.cpu_s - small.cpu_s) / (run.files - small.files) for run, small in pairs]
    return spread(slopes) if slopes else None


def way_section(way: WayRuns) -> str:
    """Return the table of one way, and what is to be said about it."""
    lines = [f"### {way.way} - {WAYS[way.way]}", "", f"Written to: {way.target}.", ""]
    lines += ["| client | rounds | files/s | CPU s/1000 | RSS MiB | origin CPU s/1000 | cores busy "
              "| files/s: ours/theirs | CPU: ours/theirs |", "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    lines += [_row(way, name) for name in way.names()]
    lines += ["", *_start_up_lines(way)]
    for run in way.failures():
        lines.append(f"FAILED: {run.contender}, round {run.round}: {run.failure}")
    return "\n".join(lines).rstrip() + "\n"


def _row(way: WayRuns, name: str) -> str:
    runs, ours = way.good(name), way.good(way.reference)
    total = len([run for run in way.runs if run.contender == name])
    if not runs:
        return f"| {name} | 0 of {total} | FAILED | | | | | | |"
    cells = [
        name,
        str(total) if len(runs) == total else f"{len(runs)} of {total}",
        spread(run.files_per_s for run in runs).text(",.0f"),
        spread(run.cpu_s_per_1000 for run in runs).text(".3f"),
        f"{max(run.rss_mib for run in runs):.0f}",
        f"{statistics.median(1000 * run.origin_cpu_s / run.files for run in runs):.3f}",
        f"{statistics.median((run.cpu_s + run.origin_cpu_s) / run.seconds for run in runs):.1f}",
    ]
    for value in (_files_per_s, _cpu_s):
        ratio = ratios(ours, runs, value) if name != way.reference else None
        cells.append(ratio.text(".2f") if ratio else "1" if name == way.reference else "")
    return "| " + " | ".join(cells) + " |"


def _start_up_lines(way: WayRuns) -> list[str]:
    few, full = way.good(way.start_up), way.good(way.reference)
    slope = steady_cpu_s_per_1000(full, few)
    if slope is None:
        return []
    cpu = spread(run.cpu_s for run in few).text(".2f")
    wall = spread(run.seconds for run in few).text(".2f")
    return [
        f"{way.start_up} ({few[0].files} files): {cpu} CPU s, {wall} s, most of it start-up and end. Beyond that, "
        f"1,000 files cost {slope.text('.3f')} CPU s.",
        "",
    ]


def _files_per_s(run: Run) -> float:
    return run.files_per_s


def _cpu_s(run: Run) -> float:
    return run.cpu_s_per_1000
