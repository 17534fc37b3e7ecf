"""Run one contender once: start it, wait, look at what it stored.

Called by `bench` and `growth`. A run whose folder does not hold what it should is a failure with a reason, whatever
its exit code says. It knows no contender by name.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.dataset import Contents

_LAUNCHER = Path(__file__).with_name("launch.py")
_SAID_CHARACTERS = 300


@dataclass(frozen=True)
class Cost:
    """What a command used: `cpu_s` is user + system of its process tree, `rss_mib` its largest process's peak."""

    exit_code: int
    seconds: float
    cpu_s: float
    rss_mib: float
    said: str
    """The end of what it wrote, for a failure's reason."""


@dataclass(frozen=True)
class Run:
    """One contender's run in one round. `failure` is "" for one that stored what it should."""

    contender: str
    round: int
    files: int
    seconds: float
    cpu_s: float
    rss_mib: float
    origin_cpu_s: float
    failure: str = ""

    @property
    def files_per_s(self) -> float:
        return self.files / self.seconds

    @property
    def cpu_s_per_1000(self) -> float:
        return 1000 * self.cpu_s / self.files


def run_command(command: Sequence[str], folder: Path, environment: Mapping[str, str], timeout_s: float) -> Cost:
    """Run `command` in `folder` and return its cost; a command that takes longer is killed, with exit code -9."""
    report, said = folder.with_suffix(".cost"), folder.with_suffix(".said")
    with said.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_LAUNCHER), str(report), *command],
            cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(timeout_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return Cost(-signal.SIGKILL, timeout_s, 0.0, 0.0, f"killed after {timeout_s:.0f} s")
    last = said.read_bytes()[-_SAID_CHARACTERS:].decode(errors="replace").strip()
    if process.returncode != 0:
        return Cost(127, 0.0, 0.0, 0.0, last)
    found = json.loads(report.read_text())
    return Cost(found["exit_code"], found["seconds"], found["cpu_s"], found["rss_kib"] / 1024, last)


def contents_of(folder: Path, extras: frozenset[str]) -> Contents:
    """Return what `folder` holds, without files and folders that have one of the names in `extras`."""
    files = size_bytes = crc_sum = 0
    for path in _files_below(str(folder), extras):
        with open(path, "rb") as file:
            body = file.read()
        files += 1
        size_bytes += len(body)
        crc_sum += zlib.crc32(body)
    return Contents(files, size_bytes, crc_sum)


def failure_of(cost: Cost, found: Contents, wanted: Contents) -> str:
    """Return why a run does not count, "" when it does."""
    if cost.exit_code != 0:
        return f"exit code {cost.exit_code}: {' / '.join(cost.said.splitlines()[-3:]) or 'it said nothing'}"
    if found.files != wanted.files:
        return f"{found.files:,} of {wanted.files:,} files"
    if found.size_bytes != wanted.size_bytes:
        return f"{found.size_bytes:,} of {wanted.size_bytes:,} bytes"
    return "" if found.crc_sum == wanted.crc_sum else "the bytes are not the origin's"


def _files_below(folder: str, extras: frozenset[str]) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in extras:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _files_below(entry.path, extras)
            else:
                yield entry.path
