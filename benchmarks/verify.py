"""How fast is `verify`? Lays out a mirror of BigEarthNet's shape without a network, and verifies it in every way.

    python -m benchmarks.verify FOLDER [--items 15400]      15,400 labels and as many sources: 200,200 files

FOLDER is made, filled (about 2.6 GB), measured and, with --keep, left. Prints a row a way.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time

from stacmirror.ledger.store import LedgerStore
from stacmirror.model import Cursor, ItemKey, ItemOutcome, ItemRecord, PageRecord, Receipt, Unit
from stacmirror.record import write_record
from stacmirror.sinks.directory import DirectorySink
from stacmirror.typed import build

SIZES = {"B01": 1160, "B09": 1160} | dict.fromkeys(("B05", "B06", "B07", "B11", "B12", "B8A"), 7560)
SIZES |= dict.fromkeys(("B02", "B03", "B04", "B08"), 29192)
WAYS = {
    "names and sizes": [],
    "--deep, 1 process": ["--deep", "--processes", "1"],
    "--deep, 2 processes": ["--deep", "--processes", "2"],
}


def lay_out(target: str, items: int) -> None:
    """Fill a mirror: its record, its ledger, and every file with bytes of its own."""
    settings = build("mlhub:bigearthnet_v1_labels", target, {"api_url": "http://localhost/mlhub/v1"})
    sink = DirectorySink(target)
    write_record(settings)
    ledger = LedgerStore(os.path.join(target, ".stacmirror", "ledger.sqlite"))
    ledger.write([PageRecord(0, Cursor(""), listed=items, filtered=0, duplicate=0, queued=items)], [])
    for start in range(0, items, 500):
        entries: list[ItemOutcome] = []
        units: list[Unit] = []
        for number in range(start, min(start + 500, items)):
            source = ItemKey("bigearthnet_v1_source", f"bigearthnet_v1_source_S2A_MSIL2A_20170613T101031_{number}")
            label = ItemKey("bigearthnet_v1_labels", f"bigearthnet_v1_labels_S2A_MSIL2A_20170613T101031_{number}")
            records = [
                fetched(sink, label, f"l{number}", {"labels": 990}, ".geojson", (source,), 0),
                fetched(sink, source, f"s{number}", SIZES, ".tif", (), None),
            ]
            entries.append(ItemOutcome(0, records))
        for reveal in ledger.write(entries, units):
            sink.reveal(reveal.unit, reveal.names)
            units.append(reveal.unit)
        ledger.write([], units)
    ledger.close()
    sink.sync()
    sink.close()


def fetched(
    sink: DirectorySink,
    key: ItemKey,
    unit_id: str,
    sizes: dict[str, int],
    suffix: str,
    sources: tuple[ItemKey, ...],
    page: int | None,
) -> ItemRecord:
    unit = Unit(unit_id, f"{key.collection}/{key.id}")
    bodies = [(asset, f"{asset}{suffix}", random.randbytes(size)) for asset, size in sizes.items()]
    sink.stage(unit, [(name, body) for _, name, body in bodies])
    stored = [Receipt(asset, name, len(body), "md5", hashlib.md5(body).digest()) for asset, name, body in bodies]
    return ItemRecord(key, unit, stored, sources=sources, page=page)


def measure(target: str, flags: list[str]) -> dict[str, float]:
    command = [sys.executable, "-m", "stacmirror", "verify", target, "--json", "--progress", "none", *flags]
    started_s, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, check=True)
    found = json.loads(done.stdout)
    if found["verdict"] != "whole":
        raise SystemExit(f"not whole: {found}")
    wall_s, after = time.monotonic() - started_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**found, "wall_s": wall_s, "cpu_s": cpu_s}


def main() -> None:
    """Lay out, measure each way three times in turn, print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--items", type=int, default=15_400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", action="store_true")
    wanted = parser.parse_args()
    target = os.path.join(wanted.folder, "verify-bench")
    if not os.path.isdir(target):
        lay_out(target, wanted.items)
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(wanted.rounds):
        for way, flags in WAYS.items():
            found[way].append(measure(target, flags))
    print("| way | files | s | files/s | MB/s | CPU s |\n|---|---|---|---|---|---|")
    for way, runs in found.items():
        middle = sorted(runs, key=lambda run: run["wall_s"])[len(runs) // 2]
        wall_s = middle["wall_s"]
        rate, size = middle["files"] / wall_s, middle["bytes"] / wall_s / 1e6
        print(f"| {way} | {middle['files']:,} | {wall_s:.2f} | {rate:,.0f} | {size:,.0f} | {middle['cpu_s']:.2f} |")
    if not wanted.keep:
        shutil.rmtree(target)


if __name__ == "__main__":
    main()
