"""A slow world: an origin 80 ms away that answers 429 above 128 at once. Is the pace found without flags?

    python -m benchmarks.slow_world [--latency 0.08] [--at-once 128] [--fixed 32 64 ...] [--rounds N] [--quick]

Runs the product with fixed settings and without any against `slow_world_server`, a process of its own, which counts
what it served, half a second by half a second. Without flags it counts minutes two and three; a fixed pace is the
same all the time, so its window is shorter. `--latency 0 --at-once 0` asks whether finding a pace costs anything
where nothing has to be found. Prints a table and leaves it with a plot in benchmarks/results/. `make bench-slow`
calls it. Run it from the repository's root.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.machine import load, machine
from benchmarks.origin import Way
from benchmarks.peers import product
from benchmarks.plot import Curve, time_charts
from benchmarks.results import RESULTS, command_shown, settings_of
from benchmarks.slow_world_server import FILE_BYTES, KEYS, SLICE_S
from benchmarks.target import Target, fresh_target
from stacmirror import __version__

ITEMS = 100_000
"""More than any run here comes to the end of."""
FREE = "no flags"
_END_S = 30.0
_RATE_MAX = 6_000
"""Files a second that the target has room for."""


@dataclass(frozen=True)
class Windows:
    """Seconds of a run that count: from, until."""

    fixed: tuple[float, float] = (15.0, 45.0)
    free: tuple[float, float] = (60.0, 180.0)

    def of(self, name: str) -> tuple[float, float]:
        """Return the window of a run."""
        return self.free if name == FREE else self.fixed


QUICK = Windows((8.0, 20.0), (20.0, 60.0))


@dataclass(frozen=True)
class Trial:
    """One run: what the origin saw in the window, and what the product said at the end."""

    name: str
    round: int
    files_per_s: float
    refused: float
    at_once: dict[str, float]
    """On average, by host."""
    cpu_ms_per_file: float
    rss_mib: float
    lost: int
    """Assets that failed for good in the whole run: refused at every attempt."""
    failure: str
    slices: list[dict[str, dict[str, float]]] = field(repr=False)


def main() -> int:
    """Run all settings and return the exit code: 1 when a run failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.08, help="seconds that every answer takes")
    parser.add_argument("--at-once", type=int, default=128, help="429 above so many at once on a host; 0: never")
    parser.add_argument("--fixed", type=int, nargs="*", default=[32, 64, 96, 120, 128, 160, 256], metavar="N")
    parser.add_argument("--rounds", type=int, default=1, help="of all settings in turn")
    parser.add_argument("--quick", action="store_true", help="shorter windows")
    parser.add_argument("--windows", type=float, nargs=4, metavar="S", help="fixed from, until, free from, until")
    parser.add_argument("--set", default="", metavar="KEY=VALUE", help="settings of the product, in all runs")
    parser.add_argument("--results", default=str(RESULTS), help="folder for the results")
    wanted = parser.parse_args()
    windows = QUICK if wanted.quick else Windows()
    if wanted.windows:
        first, second, third, fourth = wanted.windows
        windows = Windows((first, second), (third, fourth))
    common = settings_of(wanted.set) if wanted.set else {}
    plans = {str(fixed): {"fixed_pace": "true", "per_host": str(fixed)} for fixed in wanted.fixed} | {FREE: {}}
    started, load_before = datetime.now(UTC), load()
    trials: list[Trial] = []
    kind = ""
    for number in range(wanted.rounds):
        for name, settings in plans.items():
            trial, kind = _try(name, number + 1, {**common, **settings}, wanted.latency, wanted.at_once, windows)
            trials.append(trial)
            said = trial.failure or f"{trial.files_per_s:,.0f} files/s, {trial.cpu_ms_per_file:.3f} CPU ms a file"
            print(f"{name}: {said}", file=sys.stderr)
    world = f"{1000 * wanted.latency:g} ms an answer, " + (
        f"429 with `Retry-After: 1` above {wanted.at_once} at once on a host" if wanted.at_once else "no refusals"
    )
    head = (
        f"## {started:%Y-%m-%d %H:%M} UTC - `{command_shown('slow_world', sys.argv[1:])}`\n\n{machine()}. Origin and "
        f"client share it; load averages {load_before} before, {load()} after. stacmirror {__version__}. "
        f"Written to: {kind}.\n\nThe world: {world}; two hosts, one with pages and redirects, one with files of "
        f"{FILE_BYTES:,} bytes, {len(KEYS)} an item. Counted at the origin, in seconds {windows.fixed[0]:g} to "
        f"{windows.fixed[1]:g} of a fixed pace and {windows.free[0]:g} to {windows.free[1]:g} without flags.\n"
    )
    write_results(started, head, trials, Path(wanted.results))
    return 1 if any(trial.failure for trial in trials) else 0


def _try(
    name: str, number: int, settings: Mapping[str, str], latency_s: float, at_once: int, windows: Windows
) -> tuple[Trial, str]:
    window = windows.of(name)
    files = int(_RATE_MAX * window[1])
    with (
        tempfile.TemporaryDirectory(prefix="stacmirror-bench-") as work,
        fresh_target(Path(work), 2 * files // len(KEYS) + files, files * FILE_BYTES) as target,
        _server(latency_s, at_once) as (api_url, slices),
    ):
        said = _run(target, api_url, settings, window[1])
        target.settle()
        kind = target.kind
    return trial_of(name, number, said, slices, window), kind


def _run(target: Target, api_url: str, settings: Mapping[str, str], seconds: float) -> dict[str, object]:
    """Let the product work for `seconds`, stop it as a person would, and return what it says as JSON."""
    # Nobody waits for the end, for which there is no room.
    contender = product(Way("slow", api_url, ""), {"preflight": "false", **settings})
    folder = target.folder / "mirror"
    folder.mkdir()
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(target.folder), **contender.environment}
    with (target.folder / "said").open("w+b") as errors:
        process = subprocess.Popen(
            [*contender.command, "--json"], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
        )  # fmt: skip
        try:
            time.sleep(seconds + 2.0)  # it starts within two seconds; the origin's clock begins with its first request
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=_END_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        errors.seek(0)
        lines = output.splitlines()
        if not lines:
            return {"failure": errors.read().decode(errors="replace")[-300:] or f"exit code {process.returncode}"}
        answer: dict[str, object] = json.loads(lines[-1])
        return answer


def trial_of(
    name: str,
    number: int,
    said: Mapping[str, object],
    slices: list[dict[str, dict[str, float]]],
    window: tuple[float, float],
) -> Trial:
    """Return what a run amounts to; `said` is the product's verdict, or has a `failure`."""
    first, after = (int(second / SLICE_S) for second in window)
    counted = slices[first:after]
    seconds = len(counted) * SLICE_S
    assets = said.get("assets")
    stored, failed = (assets["stored"], assets["failed"]) if isinstance(assets, dict) else (0, 0)
    failure = str(said.get("failure", ""))
    if not failure and said["exit_code"] != 130:
        failure = f"exit code {said['exit_code']}: {said['reason']}"
    if not failure and failed > stored:
        failure = f"{failed} assets failed, {stored} came"
    if not failure and len(counted) < after - first:
        failure = f"only {len(slices) * SLICE_S:g} s were seen"
    cpu_s, rss_mib = (float(str(said.get(key, 0.0))) for key in ("cpu_s", "peak_rss_mib"))
    return Trial(
        name=name,
        round=number,
        files_per_s=sum(one["files"]["served"] for one in counted) / seconds if seconds else 0.0,
        refused=sum(one[host]["refused"] for one in counted for host in one),
        at_once={
            host: round(sum(one[host]["at_once"] for one in counted) / len(counted), 1)
            for host in (counted[0] if counted else {})
        },
        cpu_ms_per_file=1000 * cpu_s / stored if stored else 0.0,
        rss_mib=rss_mib,
        lost=failed,
        failure=failure,
        slices=slices,
    )


def best_ratio(trials: Sequence[Trial]) -> tuple[float, str] | None:
    """Return files/s without flags over those of the best fixed setting (medians over rounds), and which it is."""
    names = dict.fromkeys(trial.name for trial in trials if not trial.failure)
    rates = {name: median(one.files_per_s for one in trials if one.name == name and not one.failure) for name in names}
    free = rates.pop(FREE, None)
    if free is None or not rates:
        return None
    best = max(rates, key=lambda name: rates[name])
    return free / rates[best], best


def table(trials: Sequence[Trial]) -> str:
    """Return the figures as a table, in the order in which they ran."""
    lines = [
        "| setting | round | files/s | at once: API, files | refused in the window | lost | CPU ms/file | RSS, MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for trial in trials:
        if trial.failure:
            lines.append(f"| {trial.name} | {trial.round} | FAILED: {trial.failure} | | | | | |")
            continue
        at_once = ", ".join(f"{value:.0f}" for value in trial.at_once.values())
        lines.append(
            f"| {trial.name} | {trial.round} | {trial.files_per_s:,.0f} | {at_once} | {trial.refused:,.0f} "
            f"| {trial.lost} | {trial.cpu_ms_per_file:.3f} | {trial.rss_mib:.0f} |"
        )
    found = best_ratio(trials)
    if found is not None:
        lines += ["", f"No flags against the best fixed setting ({found[1]}): {found[0]:.3f}."]
    return "\n".join(lines) + "\n"


def write_results(started: datetime, head: str, trials: Sequence[Trial], folder: Path) -> None:
    """Print the table, and write it with a plot and the raw figures."""
    text = f"{head}\n{table(trials)}"
    print(text)
    folder.mkdir(exist_ok=True)
    name = f"{started:%Y-%m-%dT%H%M}-slow-world"
    raw = ",\n".join(json.dumps(asdict(trial)) for trial in trials)
    (folder / f"{name}.json").write_text(f"[{raw}]\n")
    (folder / f"{name}.md").write_text(f"{text}\n![Rate and requests at once over time]({name}.svg)\n")
    good = [trial for trial in trials if not trial.failure and trial.round == 1]
    (folder / f"{name}.svg").write_text(
        time_charts(
            "Without flags (dark) and fixed, over time",
            {
                "files/s": [_curve(trial, "files", "served", 1 / SLICE_S) for trial in good],
                "at once at the API": [_curve(trial, "api", "at_once", 1.0) for trial in good],
                "at once at the files": [_curve(trial, "files", "at_once", 1.0) for trial in good],
            },
        )
    )
    print(f"written to {folder.name}/{name}.md, .svg and .json", file=sys.stderr)


def _curve(trial: Trial, host: str, key: str, scale: float) -> Curve:
    """Return one quantity over time, two seconds by two."""
    width = int(2 / SLICE_S)
    values = [one[host][key] * scale for one in trial.slices]
    points = [(at * SLICE_S, sum(values[at : at + width]) / width) for at in range(0, len(values) - width + 1, width)]
    return Curve(trial.name, points, ours=trial.name == FREE)


@contextmanager
def _server(latency_s: float, at_once: int) -> Iterator[tuple[str, list[dict[str, dict[str, float]]]]]:
    """Start the origin; yield its API root, and what it saw: filled when the block ends."""
    command = [sys.executable, "-m", "benchmarks.slow_world_server", str(ITEMS), str(latency_s), str(at_once)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    slices: list[dict[str, dict[str, float]]] = []
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["api"], slices
        output, _ = process.communicate(timeout=_END_S)
        slices.extend(json.loads(output))
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
