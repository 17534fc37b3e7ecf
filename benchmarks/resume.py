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
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

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


def fill(path: Path, items: int, kind: str) -> None:
    """Write a ledger as an interrupted run leaves it, its cursors of `kind`."""
    store = LedgerStore(str(path))
    in_place: list[Unit] = []
    try:
        pages = -(-items // PAGE_ITEMS)
        for number in range(pages):
            entries = list(_page(number, items, kind, whole=number < pages - OPEN_PAGES))
            in_place = [reveal.unit for reveal in store.write(entries, in_place)]
        store.write([], in_place)
    finally:
        store.close()


def _page(number: int, items: int, kind: str, *, whole: bool) -> Iterator[LedgerEntry]:
    first, end = number * PAGE_ITEMS, min((number + 1) * PAGE_ITEMS, items)
    cursor = _cursor(number, kind) if number else START
    following = _cursor(number + 1, kind)
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


def _cursor(number: int, kind: str) -> Cursor:
    if kind == "keyset":
        return Cursor(f"token=next:page-{number}", "keyset")
    return Cursor(f"page={number}", "position")


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


async def measure(target: Path, *more: str) -> dict[str, object]:
    """Run `resume` up to its first request; return seconds and MB (most, by then)."""
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
        peak_kb = _peak_kb(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
        server.close()
    return {"seconds": watch.at_s - begun_s, "rss_mb": peak_kb / 1000, "request": watch.request.split(" ")[1]}


def _peak_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


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
    folder = Path(wanted.folder)
    try:
        for kind in ("keyset", "position"):
            target = folder / kind
            state = target / ".stacmirror"
            state.mkdir(parents=True)
            begun_s = time.monotonic()
            fill(state / "ledger.sqlite", wanted.items, kind)
            write_record(build(f"mlhub:{LABELS}", str(target), {"api_url": "http://127.0.0.1:1/v1"}))
            size_bytes = (state / "ledger.sqlite").stat().st_size
            print(json.dumps({
                "ledger": kind, "items": wanted.items, "receipts": wanted.items * 13, "bytes": size_bytes,
                "bytes_an_item": round(size_bytes / wanted.items), "written_s": round(time.monotonic() - begun_s, 1),
            }), flush=True)  # fmt: skip
            cases = {"resume": ()} | ({"resume --refresh": ("--refresh",)} if kind == "keyset" else {})
            for name, more in cases.items():
                found = [asyncio.run(measure(target, *more)) for _ in range(wanted.rounds)]
                print(json.dumps({
                    "ledger": kind, "case": name, "rounds": wanted.rounds,
                    "first_request_s": round(statistics.median(float(str(one["seconds"])) for one in found), 2),
                    "worst_s": round(max(float(str(one["seconds"])) for one in found), 2),
                    "rss_mb": round(max(float(str(one["rss_mb"])) for one in found), 1),
                    "request": found[-1]["request"],
                }), flush=True)  # fmt: skip
            print(json.dumps({"ledger": kind, "case": "status", "s": round(asyncio.run(measure_status(target)), 2)}))
            shutil.rmtree(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
