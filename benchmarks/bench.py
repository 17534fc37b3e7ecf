"""stacmirror and its peers, in turn, against one origin on this machine.

    python -m benchmarks.bench [--rounds 5] [--ways plain md5 tls s3] [--set KEY=VALUE[,KEY=VALUE]]...
    python -m benchmarks.bench --quick

Sets itself up (nginx, the peers, a file system to write to), runs A B C A B C ..., prints a table for each way, and
leaves it with a plot and the raw figures in benchmarks/results/. Each --set adds a variant of the product:
`--set http_client=wire --set http_client=aiohttp` compares two; the first is whom ratios compare with.

It composes the other modules; `make bench` and `make bench-quick` call it. Run it from the repository's root.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.dataset import ITEMS, Dataset, make_dataset
from benchmarks.install import install_debian, install_python
from benchmarks.machine import load, machine
from benchmarks.measure import Run, contents_of, failure_of, run_command
from benchmarks.origin import WAYS, Origin, OriginFailed, Way, find_nginx, origin
from benchmarks.peers import Contender, Lists, Peer, find_program, peers, product, version_of
from benchmarks.plot import Bar, Bars, bar_chart
from benchmarks.report import WHAT_DIFFERS, WayRuns, spread, way_section
from benchmarks.results import RESULTS, command_shown, settings_of
from benchmarks.target import Target, fresh_target
from stacmirror import __version__

FEW_ITEMS = 20
"""Items of the run that tells start-up from steady state."""
_SHM = Path("/dev/shm")


@dataclass(frozen=True)
class Plan:
    """What a session does."""

    ways: tuple[str, ...]
    rounds: int
    items: int
    variants: tuple[dict[str, str], ...]
    quick: bool
    only: tuple[str, ...]
    timeout_s: float


@dataclass(frozen=True)
class Found:
    """The peers that are there, with their programs; `missing` are those that are not, with reasons."""

    programs: dict[str, str]
    versions: dict[str, str]
    missing: dict[str, str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a session and return the exit code: 0, or 1 when the product failed or the origin did not start."""
    wanted = _parser().parse_args(arguments)
    plan = Plan(
        ways=("plain",) if wanted.quick else tuple(wanted.ways),
        rounds=wanted.rounds,
        items=wanted.items,
        variants=tuple(settings_of(text) for text in wanted.set) or ({},),
        quick=wanted.quick,
        only=tuple(wanted.only),
        timeout_s=wanted.timeout,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers stop and folders go
    started = datetime.now(UTC)
    load_before = load()
    found = find_peers(plan, install=not wanted.no_install)
    try:
        with work_folder(None) as work, work_folder(origin_parent()) as origin_folder:
            dataset = make_dataset(origin_folder / "files", plan.items)
            with origin(origin_folder, dataset, plan.ways) as running:
                results = [run_way(plan, way, running, dataset, found, work) for way in running.ways.values()]
                versions = {"stacmirror": __version__, "nginx": running.version, **found.versions}
    except OriginFailed as error:
        print(f"no origin: {error}", file=sys.stderr)
        return 1
    command = command_shown("bench", sys.argv[1:] if arguments is None else arguments)
    head = head_text(started, command, f"{load_before} before, {load()} after", dataset, versions, found.missing)
    write_results(started, head, results, Path(wanted.results))
    return 1 if any(run.contender.startswith("stacmirror") for way in results for run in way.failures()) else 0


def find_peers(plan: Plan, *, install: bool) -> Found:
    """Install what can be had, and say of every peer of this session where it is or why not."""
    chosen = [peer for peer in peers() if _is_wanted(peer, plan)]
    if install:
        install_python()
        lacking = {peer.debian for peer in chosen if peer.debian and find_program(peer.program) is None}
        install_debian([*sorted(lacking), *(["nginx-light"] if find_nginx() is None else [])])
    programs: dict[str, str] = {}
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    for peer in chosen:
        program = find_program(peer.program)
        version = version_of(peer, program) if program else None
        if program is None or version is None:
            missing[peer.name] = "not installed, and could not be"
        else:
            programs[peer.name], versions[peer.name] = program, version
    return Found(programs, versions, missing)


def run_way(plan: Plan, way: Way, running: Origin, dataset: Dataset, found: Found, work: Path) -> WayRuns:
    """Run all contenders of one way, round by round, on a fresh target."""
    lists_folder = work / f"lists-{way.name}"
    lists_folder.mkdir()
    lists = Lists(lists_folder, tuple(file.path for file in dataset.files))
    contenders = [product(way, settings) for settings in plan.variants]
    for peer in peers():
        program = found.programs.get(peer.name)
        if program is not None and way.name in peer.ways:
            contenders.append(Contender(peer.name, peer.build(program, way, lists), peer.environment))
    few = product(way, plan.variants[0], items_max=FEW_ITEMS)
    few = Contender(f"{few.name}, {FEW_ITEMS} items", few.command, few.environment, few.extras, is_product=True)
    whole = dataset.contents()
    runs: list[Run] = []
    turns = plan.rounds * (len(contenders) + 1)
    with fresh_target(work, turns * whole.files, turns * whole.size_bytes) as target:
        course = Course(target, running, dataset, plan.timeout_s)
        for number in range(1, plan.rounds + 1):
            for contender in [*contenders, few]:
                items_max = FEW_ITEMS if contender is few else None
                runs.append(course.run(contender, number, items_max))
                _show(way, runs[-1])
        return WayRuns(way.name, target.kind, contenders[0].name, tuple(runs), few.name)


@dataclass
class Course:
    """What all runs of one way share: where to write, whom to ask, what must arrive."""

    target: Target
    running: Origin
    dataset: Dataset
    timeout_s: float
    runs: int = 0

    def run(self, contender: Contender, number: int, items_max: int | None) -> Run:
        """Run one contender in a folder of its own."""
        self.runs += 1
        folder, home = self.target.folder / f"run{self.runs:03}", self.target.folder / f"home{self.runs:03}"
        folder.mkdir()
        home.mkdir()  # empty: nobody's own configuration counts
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(home), "LANG": "C.UTF-8"}
        self.target.settle()
        before_s = self.running.cpu_s()
        cost = run_command(contender.command, folder, environment | dict(contender.environment), self.timeout_s)
        origin_cpu_s = self.running.cpu_s() - before_s
        wanted = self.dataset.contents(items_max)
        failure = failure_of(cost, contents_of(folder, contender.extras), wanted)
        return Run(contender.name, number, wanted.files, cost.seconds, cost.cpu_s, cost.rss_mib, origin_cpu_s, failure)


def _show(way: Way, run: Run) -> None:
    figures = run.failure or f"{run.files_per_s:7,.0f} files/s  {run.cpu_s_per_1000:.3f} CPU s/1000"
    print(f"{way.name:5}  round {run.round}  {run.contender:28}  {figures}", file=sys.stderr)


def head_text(
    started: datetime, command: str, loads: str, dataset: Dataset, versions: dict[str, str], missing: dict[str, str]
) -> str:
    """Return date, machine, versions and what is compared: what stands above the tables."""
    whole = dataset.contents()
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines = [
        f"## {started:%Y-%m-%d %H:%M} UTC - `{command}`",
        "",
        f"{machine()}; load averages {loads}.",
        "Clients share it with the origin: nginx, one worker, pinned to the last core.",
        f"{dataset.items:,} items, {whole.files:,} files, {whole.size_bytes / 1e6:.1f} MB.",
        f"Versions: {listed}.",
        *(f"LEFT OUT: {name}: {reason}." for name, reason in missing.items()),
        "",
        WHAT_DIFFERS,
        "",
        "Figures are medians [least..most] over the rounds, which are interleaved (A B C A B C ...). Ratios are taken",
        "round by round. CPU is user + system of the client's process tree. Cores busy: client and origin together.",
    ]
    return "\n".join(lines) + "\n"


def write_results(started: datetime, head: str, results: Sequence[WayRuns], folder: Path) -> None:
    """Print the results, and write them as text, plot and raw figures."""
    text = head + "\n" + "\n".join(way_section(way) for way in results)
    print(text)
    folder.mkdir(exist_ok=True)
    name = f"{started:%Y-%m-%dT%H%M}"
    groups = [
        Bars(way.way, [_bar(way, contender) for contender in way.names() if way.good(contender)]) for way in results
    ]
    (folder / f"{name}.md").write_text(f"{text}\n![CPU seconds per 1,000 files]({name}.svg)\n")
    (folder / f"{name}.svg").write_text(bar_chart("Client CPU seconds per 1,000 files (less is better)", groups))
    (folder / f"{name}.json").write_text(json.dumps([asdict(way) for way in results], indent=1) + "\n")
    print(f"written to {folder.name}/{name}.md, .svg and .json", file=sys.stderr)


def _bar(way: WayRuns, name: str) -> Bar:
    found = spread(run.cpu_s_per_1000 for run in way.good(name))
    return Bar(name, found.median, found.least, found.most, name.startswith("stacmirror"))


def _is_wanted(peer: Peer, plan: Plan) -> bool:
    if plan.only:
        return peer.name in plan.only
    return (peer.quick or not plan.quick) and bool(set(peer.ways) & set(plan.ways))


def origin_parent() -> str | None:
    """Return where the origin's files go: memory where there is room, so that the disk is the clients' alone."""
    return str(_SHM) if _SHM.is_dir() and shutil.disk_usage(_SHM).free > 1 << 30 else None


@contextmanager
def work_folder(parent: str | None) -> Iterator[Path]:
    with ExitStack() as stack:
        yield Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stacmirror-bench-", dir=parent)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--items", type=int, default=ITEMS, help="13 files each")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a variant of the product")
    parser.add_argument("--only", nargs="+", default=[], metavar="PEER", help="only these peers")
    parser.add_argument("--quick", action="store_true", help="plain way, curl and obstore only")
    parser.add_argument("--no-install", action="store_true", help="install nothing")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds that one run may take")
    parser.add_argument("--results", default=str(RESULTS), help="folder for the results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
