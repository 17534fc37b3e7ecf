"""What does a start cost? CPU of whole `mirror` processes of a few items, for one or several source trees in turn.

    python -m benchmarks.startup [--items 20] [--rounds 15] [SRC ...]      default: this tree's src

A tree is a folder with the package in it, such as another checkout's `src`; each gets its bytecode first. Prints a row
a tree: CPU seconds and peak memory, medians. The simulator is a process of its own, the mirror a new folder in
/dev/shm (or the temporary folder) each time, stderr a pipe. Fewer than 3 items cannot tell that B10 is nowhere.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

OURS = str(Path(__file__).parents[1] / "src")
PROGRAM = (sys.executable, "-m", "stacmirror")


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("trees", nargs="*", default=[OURS])
    parser.add_argument("--items", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=15)
    typed = parser.parse_args()
    for tree in typed.trees:
        compileall.compile_dir(tree, quiet=1)
    serve = [*PROGRAM, "simulate", "--items", str(typed.items), "--generation", "2022", "--port", "0"]
    with subprocess.Popen([*serve, "--until-stdin-ends"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        urls = json.loads(server.stdout.readline())
        took: dict[str, list[tuple[float, float]]] = {tree: [] for tree in typed.trees}
        for _ in range(typed.rounds):
            for tree in typed.trees:
                took[tree].append(one_run(tree, urls["api"], urls["key"]))
        server.stdin.close()
    for tree, runs in took.items():
        cpu_s, rss_mib = (statistics.median(values) for values in zip(*runs, strict=True))
        print(f"{tree}: {cpu_s:.3f} CPU s (least {min(runs)[0]:.3f}), {rss_mib:.1f} MiB, {len(runs)} runs")


def one_run(tree: str, api_url: str, key: str) -> tuple[float, float]:
    """Return the CPU seconds and the peak MiB of one mirror into a new folder."""
    fast = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=fast) as folder:
        command = [*PROGRAM, "mirror", "mlhub:bigearthnet_v1_labels", os.path.join(folder, "m"), "--api-url", api_url]
        environ = os.environ | {"PYTHONPATH": tree, "MLHUB_API_KEY": key}
        child = subprocess.Popen([*command, "--progress", "none"], env=environ, stderr=subprocess.PIPE)
        assert child.stderr is not None
        said = child.stderr.read()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            sys.exit(said.decode())
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
