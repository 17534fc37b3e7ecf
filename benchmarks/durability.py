"""What it costs that nothing is lost in a power cut: the product beside the same build that syncs nothing.

    python -m benchmarks.durability [--rounds 5] [--items 800] [--fsync]

Interleaved rounds over nginx, each into a folder of one fresh journaled ext4 image; medians, and the median of the
rounds' own ratios. `--fsync` adds a sync file by file. Leaves a table in benchmarks/results/. Run it from the
repository's root. Where the image cannot be mounted, syncs may be free, and the head says so.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.bench import origin_parent, work_folder
from benchmarks.dataset import make_dataset
from benchmarks.machine import load, machine
from benchmarks.measure import contents_of, failure_of, run_command
from benchmarks.origin import origin
from benchmarks.peers import Contender, product
from benchmarks.results import RESULTS, command_shown
from benchmarks.target import fresh_target
from stacmirror import __version__

SYNCED = "as it is"
NAMES = {"none": "no syncs", "fsync": "fsync of each file"}


@dataclass(frozen=True)
class Round:
    """One run of one contender."""

    name: str
    round: int
    files_per_s: float
    cpu_s: float
    failure: str


def main() -> int:
    """Run the rounds and return the exit code: 1 when a run failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", type=int, default=800, help="13 files each; the origin keeps all of them open")
    parser.add_argument("--fsync", action="store_true", help="also file by file")
    parser.add_argument("--results", default=str(RESULTS), help="folder for the results")
    wanted = parser.parse_args()
    started, load_before = datetime.now(UTC), load()
    ways = ["none", *(["fsync"] if wanted.fsync else [])]
    rounds, kind = run_rounds(wanted.items, wanted.rounds, ways)
    head = (
        f"## {started:%Y-%m-%d %H:%M} UTC - `{command_shown('durability', sys.argv[1:])}`\n\n{machine()}. "
        f"Origin and client share it; load averages {load_before} before, {load()} after. stacmirror {__version__}. "
        f"{wanted.items * 13:,} files a run, to a {kind}.\n"
    )
    write_results(started, head, rounds, Path(wanted.results))
    return 1 if any(each.failure for each in rounds) else 0


def run_rounds(items: int, count: int, ways: Sequence[str]) -> tuple[list[Round], str]:
    """Run every contender `count` times, turn by turn; return the rounds and what the target is."""
    found: list[Round] = []
    with work_folder(origin_parent()) as served, work_folder(None) as work:
        dataset = make_dataset(served / "files", items)
        contents = dataset.contents()
        runs = count * (1 + len(ways))
        with (
            origin(served, dataset, ("plain",)) as running,
            fresh_target(work, runs * (contents.files + 2 * items), runs * contents.size_bytes) as target,
        ):
            contenders = [_contender(product(running.ways["plain"], {}), way) for way in ("", *ways)]
            for number in range(count):
                # Whoever goes first finds the disk quieter: they take turns at that, too.
                turn = number % len(contenders)
                for contender in contenders[turn:] + contenders[:turn]:
                    folder = target.folder / f"{number}-{contenders.index(contender)}"
                    folder.mkdir()
                    target.settle()
                    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(work), **contender.environment}
                    environment["PYTHONPATH"] = str(Path.cwd())
                    cost = run_command(contender.command, folder, environment, 600.0)
                    failure = failure_of(cost, contents_of(folder, contender.extras), contents)
                    rate = contents.files / cost.seconds if cost.seconds else 0.0
                    found.append(Round(contender.name, number, rate, cost.cpu_s, failure))
                    print(f"{number} {contender.name}: {failure or f'{rate:,.0f} files/s'}", file=sys.stderr)
            return found, target.kind


def _contender(plain: Contender, way: str) -> Contender:
    if not way:
        return replace(plain, name=SYNCED)
    python, module, _, *words = plain.command
    return replace(plain, name=NAMES[way], command=(python, module, "benchmarks.sync_child", way, *words))


def table(rounds: Sequence[Round]) -> str:
    """Return medians by contender, and how each round's rate stands to that of the same round as it is."""
    names = list(dict.fromkeys(each.name for each in rounds))
    mine = {each.round: each for each in rounds if each.name == SYNCED and not each.failure}
    lines = ["| | files/s | CPU s | rate of it / as it is |", "|---|---|---|---|"]
    for name in names:
        good = [each for each in rounds if each.name == name and not each.failure]
        if not good:
            lines.append(f"| {name} | failed | | |")
            continue
        ratios = [each.files_per_s / mine[each.round].files_per_s for each in good if each.round in mine] or [0.0]
        lines.append(
            f"| {name} | {median(each.files_per_s for each in good):,.0f} | {median(each.cpu_s for each in good):.2f} "
            f"| {median(ratios):.2f} [{min(ratios):.2f}..{max(ratios):.2f}] |"
        )
    return "\n".join(lines) + "\n"


def write_results(started: datetime, head: str, rounds: Sequence[Round], folder: Path) -> None:
    """Print the table and leave it, with the raw figures, in `folder`."""
    text = f"{head}\n{table(rounds)}"
    print(text)
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{started:%Y-%m-%dT%H%M}-durability"
    stem.with_suffix(".md").write_text(text)
    stem.with_suffix(".json").write_text(json.dumps([asdict(each) for each in rounds], indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
