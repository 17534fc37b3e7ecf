"""How long a mirror of 590,326 items takes to go on: from the command to its first request, and in how much memory.

    python -m benchmarks.resume [--items N] [--folder DIR] [--rounds N]

Writes a ledger with the real store: labels with one file, each with a source of 12, in pages of 100, the last ones not
settled. Then runs `stacmirror resume` against a server that notes when it is first asked, and ends the run there.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from stacmirror.ledger.store import LedgerStore
from stacmirror.model import START, Cursor, ItemKey, ItemOutcome, ItemRecord, LedgerEntry, PageRecord, Receipt, Unit
from stacmirror.record import write_record
from stacmirror.typed import build

LABELS, SOURCES = "bigearthnet_v1_labels", "bigearthnet_v1_source"
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
PAGE_ITEMS = 100
OPEN_PAGES = 8
"""Pages at the end with an item that has no row: where the run was interrupted."""
PATIENCE_S = 120.0


def fill(path: Path, items: int) -> None:
    """Write a ledger as an interrupted run leaves it."""
    store = LedgerStore(str(path))
    in_place: list[Unit] = []
    try:
        pages = -(-items // PAGE_ITEMS)
        for number in range(pages):
            entries = list(_page(number, items, whole=number < pages - OPEN_PAGES))
            in_place = [reveal.unit for reveal in store.write(entries, in_place)]
        store.write([], in_place)
    finally:
        store.close()


def _page(number: int, items: int, *, whole: bool) -> Iterator[LedgerEntry]:
    first, end = number * PAGE_ITEMS, min((number + 1) * PAGE_ITEMS, items)
    cursor = _cursor(number) if number else START
    following = _cursor(number + 1)
    yield PageRecord(number, cursor, end - first, 0, 0, end - first, next=following)
    for index in range(first, end if whole else end - 1):
        patch = f"S2A_MSIL2A_20170613T101031_{index // 90}_{index % 90}_{index:06}"
        label, source = ItemKey(LABELS, f"{LABELS}_{patch}"), ItemKey(SOURCES, f"{SOURCES}_{patch}")
        yield ItemOutcome(
            number,
            [
                ItemRecord(
                    label,
                    Unit(f"1-{2 * index:x}", f"{LABELS}/{label.id}"),
                    [_receipt("labels", "labels.geojson", index)],
                    sources=(source,),
                    page=number,
                ),
                ItemRecord(
                    source,
                    Unit(f"1-{2 * index + 1:x}", f"{SOURCES}/{source.id}"),
                    [_receipt(key, f"{key}.tif", index) for key in BANDS],
                ),
            ],
        )


def _cursor(number: int) -> Cursor:
    return Cursor(f"token=next:page-{number}", "keyset")


def _receipt(key: str, name: str, index: int) -> Receipt:
    digest = hashlib.md5(f"{key}{index}".encode(), usedforsecurity=False).digest()
    return Receipt(key, name, 7_000 + index % 999, "md5", digest)


class Watch:
    """Answers nothing; knows when it was first asked, and for what."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_s = 0.0
        self.request = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if not self.asked.is_set():
            self.at_s, self.request = time.monotonic(), line.decode()
            self.asked.set()
        writer.close()


class Measured(NamedTuple):
    """Up to the first request: time since the command was typed, CPU, the most memory, and what was asked."""

    seconds: float
    cpu_s: float
    rss_mb: float
    request: str


async def measure(target: Path, *more: str) -> Measured:
    """Run `resume` up to its first request, and kill it there."""
    watch = Watch()
    server = await asyncio.start_server(watch.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    environment = {**os.environ, "MLHUB_API_KEY": "k"}
    command = [sys.executable, "-m", "stacmirror", "resume", str(target), "--api-url", f"http://127.0.0.1:{port}/v1"]
    begun_s = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *command, "--progress", "none", "-q", *more, env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await asyncio.wait_for(watch.asked.wait(), PATIENCE_S)
        cpu_s, rss_mb = _cost(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
        server.close()
    return Measured(watch.at_s - begun_s, cpu_s, rss_mb, watch.request.split(" ")[1].partition("&key=")[0])


def _cost(pid: int) -> tuple[float, float]:
    status = Path(f"/proc/{pid}/status").read_text()
    peak_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), peak_kib / 1024 * 1.048576


async def measure_status(target: Path) -> float:
    begun_s = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "stacmirror", "status", str(target), stdout=asyncio.subprocess.DEVNULL
    )
    await process.wait()
    return time.monotonic() - begun_s


def main() -> None:
    """Print one line of JSON a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=590_326)
    parser.add_argument("--folder", default="/dev/shm/stacmirror-resume")
    parser.add_argument("--rounds", type=int, default=5)
    wanted = parser.parse_args()
    target = Path(wanted.folder) / "mirror"
    state = target / ".stacmirror"
    state.mkdir(parents=True)
    ledger = state / "ledger.sqlite"
    try:
        begun_s = time.monotonic()
        fill(ledger, wanted.items)
        write_record(build(f"mlhub:{LABELS}", str(target), {"api_url": "http://127.0.0.1:1/v1"}))
        size_bytes = ledger.stat().st_size
        _tell(
            case="ledger",
            items=wanted.items,
            receipts=wanted.items * (1 + len(BANDS)),
            bytes=size_bytes,
            bytes_an_item=round(size_bytes / wanted.items),
            written_s=round(time.monotonic() - begun_s, 1),
        )
        _measure_case(target, wanted.rounds, "keyset")
        _tell(case="status", s=round(asyncio.run(measure_status(target)), 2))
        connection = sqlite3.connect(ledger)
        connection.execute("UPDATE page SET kind = 'position' WHERE number > 0")
        connection.commit()
        connection.close()
        _measure_case(target, wanted.rounds, "position")
        _measure_case(target, wanted.rounds, "refresh", "--refresh")
    finally:
        shutil.rmtree(wanted.folder, ignore_errors=True)


def _measure_case(target: Path, rounds: int, name: str, *more: str) -> None:
    found = [asyncio.run(measure(target, *more)) for _ in range(rounds)]
    _tell(
        case=name,
        rounds=rounds,
        first_request_s=round(statistics.median(one.seconds for one in found), 2),
        worst_s=round(max(one.seconds for one in found), 2),
        cpu_s=round(statistics.median(one.cpu_s for one in found), 2),
        rss_mb=round(max(one.rss_mb for one in found), 1),
        request=found[0].request,
    )


def _tell(**values: object) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()
