"""How cost grows with the number of items: CPU a file, memory, ledger, and a second run that finds nothing new.

    python -m benchmarks.growth [--items 1000 10000 100000] [--set KEY=VALUE[,KEY=VALUE]]

Mirrors N items with two tiny assets each from `growth_server`, a process of its own; prints a table and leaves it
with a plot in benchmarks/results/. `make bench-growth` calls it. Run it from the repository's root.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.dataset import Contents
from benchmarks.growth_server import ASSETS
from benchmarks.machine import load, machine
from benchmarks.measure import Cost, contents_of, failure_of, run_command
from benchmarks.origin import Way
from benchmarks.peers import product
from benchmarks.plot import Line, line_charts
from benchmarks.results import RESULTS, command_shown, settings_of
from benchmarks.target import fresh_target
from stacmirror import __version__


@dataclass(frozen=True)
class Growth:
    """What N items cost. `again_*` is the same command once more, with nothing new to find."""

    items: int
    files: int
    seconds: float
    cpu_s: float
    rss_mib: float
    ledger_bytes: int
    again_seconds: float
    again_cpu_s: float
    again_rss_mib: float
    failure: str

    @property
    def cpu_ms_per_file(self) -> float:
        return 1000 * self.cpu_s / self.files


def main() -> int:
    """Measure all sizes and return the exit code: 1 when a run failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--set", default="", metavar="KEY=VALUE", help="settings of the product")
    parser.add_argument("--results", default=str(RESULTS), help="folder for the results")
    wanted = parser.parse_args()
    settings = settings_of(wanted.set) if wanted.set else {}
    started, load_before = datetime.now(UTC), load()
    found: list[Growth] = []
    kind = ""
    for items in wanted.items:
        with tempfile.TemporaryDirectory(prefix="stacmirror-bench-") as work:
            growth, kind = measure_growth(items, settings, Path(work))
        found.append(growth)
        print(f"{items:,} items: {growth.failure or f'{growth.seconds:.1f} s'}", file=sys.stderr)
    command = command_shown("growth", sys.argv[1:])
    head = (
        f"## {started:%Y-%m-%d %H:%M} UTC - `{command}`\n\n{machine()}. Origin and client share it; "
        f"load averages {load_before} before, {load()} after. stacmirror {__version__}. Written to: {kind}.\n"
    )
    write_results(started, head, found, Path(wanted.results))
    return 1 if any(growth.failure for growth in found) else 0


def measure_growth(items: int, settings: Mapping[str, str], work: Path) -> tuple[Growth, str]:
    """Mirror `items` items twice into a fresh target; return the cost and what the target is."""
    bodies = ASSETS.values()
    wanted = Contents(
        items * len(ASSETS), items * sum(map(len, bodies)), items * sum(zlib.crc32(body) for body in bodies)
    )
    # Each item is a folder (an inode and a block) beside its files.
    with fresh_target(work, wanted.files + 2 * items, wanted.size_bytes) as target, _server(items) as api_url:
        contender = product(Way("growth", api_url, ""), settings)
        folder = target.folder / "mirror"
        folder.mkdir()
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(target.folder), **contender.environment}
        target.settle()
        first = run_command(contender.command, folder, environment, 3600.0)
        failure = failure_of(first, contents_of(folder, contender.extras), wanted)
        ledger_bytes = sum(file.stat().st_size for file in (folder / ".stacmirror").glob("ledger.sqlite*"))
        again = run_command(contender.command, folder, environment, 3600.0)
        return _growth(items, wanted.files, first, again, ledger_bytes, failure), target.kind


def _growth(items: int, files: int, first: Cost, again: Cost, ledger_bytes: int, failure: str) -> Growth:
    if not failure and again.exit_code != 0:
        failure = f"the second run: exit code {again.exit_code}"
    return Growth(
        items, files, first.seconds, first.cpu_s, first.rss_mib, ledger_bytes, again.seconds, again.cpu_s,
        again.rss_mib, failure,
    )  # fmt: skip


def table(found: list[Growth]) -> str:
    """Return the figures as a table; a failed size is named, and has none."""
    lines = [
        "Items with two tiny assets each, from a server in a process of its own. CPU counts start-up and end; the",
        "slope (CPU per file between one size and the one before) does not. The second run finds nothing new.",
        "",
        "| items | files/s | CPU ms/file | slope, ms/file | RSS MiB | ledger bytes/item "
        "| second run, s | its CPU us/item | its RSS MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    before: Growth | None = None
    for growth in found:
        if growth.failure:
            lines.append(f"| {growth.items:,} | FAILED: {growth.failure} | | | | | | | |")
            continue
        lines.append(
            f"| {growth.items:,} | {growth.files / growth.seconds:,.0f} | {growth.cpu_ms_per_file:.3f} "
            f"| {_slope(before, growth)} | {growth.rss_mib:.0f} | {growth.ledger_bytes / growth.items:,.0f} "
            f"| {growth.again_seconds:.1f} | {1e6 * growth.again_cpu_s / growth.items:,.0f} "
            f"| {growth.again_rss_mib:.0f} |"
        )
        before = growth
    return "\n".join(lines) + "\n"


def _slope(before: Growth | None, growth: Growth) -> str:
    if before is None or growth.files == before.files:
        return ""
    return f"{1000 * (growth.cpu_s - before.cpu_s) / (growth.files - before.files):.3f}"


def write_results(started: datetime, head: str, found: list[Growth], folder: Path) -> None:
    """Print the table, and write it with a plot and the raw figures."""
    text = f"{head}\n{table(found)}"
    print(text)
    folder.mkdir(exist_ok=True)
    name = f"{started:%Y-%m-%dT%H%M}-growth"
    good = [growth for growth in found if not growth.failure]
    (folder / f"{name}.json").write_text(json.dumps([asdict(growth) for growth in found], indent=1) + "\n")
    (folder / f"{name}.md").write_text(f"{text}\n![How cost grows]({name}.svg)\n")
    if good:
        lines = [
            Line("CPU ms a file, start-up included", [(growth.items, growth.cpu_ms_per_file) for growth in good]),
            Line("peak RSS, MiB", [(growth.items, growth.rss_mib) for growth in good], ".0f"),
            Line(
                "ledger, bytes an item", [(growth.items, growth.ledger_bytes / growth.items) for growth in good], ",.0f"
            ),
        ]
        (folder / f"{name}.svg").write_text(line_charts("How cost grows with the number of items", lines))
    print(f"written to {folder.name}/{name}.md, .svg and .json", file=sys.stderr)


@contextmanager
def _server(items: int) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.growth_server", str(items)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["api"]
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
