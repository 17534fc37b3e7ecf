"""Does memory stay flat? Mirrors N items from the simulator and says what the process held on the way.

    python benchmarks/memory.py [--items 5000] [--generation 2022] [--set KEY=VALUE ...]

Prints one JSON line: RSS in MiB when 500 items were done and at every thousandth after, the peak, files a second,
CPU seconds per 1,000 files. The simulator runs in a process of its own; the target is a temporary folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile

import uvloop

from stacmirror.mirror import Mirror
from stacmirror.typed import build


def rss_mib() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


async def watch(mirror: Mirror, seen: dict[int, float]) -> None:
    """Note the RSS at 500 items and at every thousand."""
    marks = [500, *range(1000, 1_000_000, 1000)]
    while True:
        while mirror.progress.items_done >= marks[0]:
            seen[marks.pop(0)] = round(rss_mib(), 1)
        await asyncio.sleep(0.02)


async def measure(api_url: str, key: str, items: int, target: str, more: dict[str, str]) -> dict[str, object]:
    settings = build("mlhub:bigearthnet_v1_labels", target, {"api_url": api_url, **more})
    mirror = Mirror(settings, api_key=key)
    seen: dict[int, float] = {}
    watcher = asyncio.create_task(watch(mirror, seen))
    summary = await mirror.run()
    await asyncio.sleep(0.05)
    watcher.cancel()
    files = summary.run.assets.stored
    return {
        "verdict": summary.verdict,
        "items": items,
        "files": files,
        "rss_mib_at_items": seen,
        "peak_rss_mib": round(summary.peak_rss_mib, 1),
        "files_per_s": round(files / summary.seconds, 1),
        "cpu_s_per_1000_files": round(1000 * summary.cpu_s / files, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--generation", type=int, default=2022)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, as in TOML")
    wanted = parser.parse_args()
    more = dict(pair.split("=", 1) for pair in wanted.set)
    simulator = subprocess.Popen(
        [sys.executable, "-m", "stacmirror", "simulate", "--items", str(wanted.items), "--generation",
         str(wanted.generation)],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert simulator.stdout is not None
        at = json.loads(simulator.stdout.readline())
        with tempfile.TemporaryDirectory() as target:
            print(json.dumps(uvloop.run(measure(at["api"], at["key"], wanted.items, target, more))))
    finally:
        simulator.terminate()
        simulator.wait()


if __name__ == "__main__":
    main()
