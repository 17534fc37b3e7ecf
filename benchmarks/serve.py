"""The benchmark's origin by itself, for a profiler or a look by hand: `python -m benchmarks.serve [--ways plain md5]`.

Prints one command a way that mirrors from it, and serves until Ctrl-C.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys

from benchmarks.bench import origin_parent, work_folder
from benchmarks.dataset import ITEMS, make_dataset
from benchmarks.origin import WAYS, origin
from benchmarks.peers import product


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["plain"])
    parser.add_argument("--items", type=int, default=ITEMS, help="13 files each")
    wanted = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with work_folder(origin_parent()) as folder:
        dataset = make_dataset(folder / "files", wanted.items)
        with origin(folder, dataset, tuple(wanted.ways)) as running:
            for way in running.ways.values():
                contender = product(way, {})
                settings = " ".join(f"{key}={shlex.quote(value)}" for key, value in contender.environment.items())
                words = ["./mirror" if word == "." else word for word in contender.command]
                print(f"# {way.name}\n{settings} {shlex.join(words)}", flush=True)
            signal.pause()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
