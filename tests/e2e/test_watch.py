"""`status --watch`: it counts what the ledger has, never holds the mirror up, and ends when the run does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stacmirror.cli import app as program
from stacmirror.cli.watch_flag import with_seconds
from stacmirror.errors import TargetInUse
from stacmirror.ledger.lock import RunLock
from stacmirror.ledger.tally import Tally
from stacmirror.mirror import Mirror
from stacmirror.settings import Settings
from stacmirror.watch import Watch
from tests.conftest import simulated
from tests.unit.test_ledger import a_page, commit, fresh_folder, linked, opened, outcome, record

Make = Callable[..., Settings]


def test_a_look_counts_what_came_since_the_last_one() -> None:
    """New rows, rows that failed and were mended, failures by kind, pages: each look says what the ledger says."""
    with fresh_folder() as folder, opened(folder) as store:
        tally = Tally(str(folder / "ledger.sqlite"))
        assert tally.look().items == 0
        commit(store, a_page(0, 2, total=9), outcome(record("a"), linked("s", stored=["B01", "B02"])))
        commit(store, outcome(record("b", failed=["B02", "B03"])))
        first = tally.look()
        assert (first.items, first.lacking_items, first.listed, first.files, first.size_bytes) == (2, 1, 2, 4, 40)
        assert (first.failures, first.total) == ({"gone": 2}, 9)
        commit(store, outcome(record("b", stored=["B01", "B02"], failed=["B03"])))
        assert (tally.look().files, tally.look().failures) == (5, {"gone": 1})
        commit(store, outcome(record("b", stored=["B01", "B02", "B03"])), a_page(1, 1, listed=3, filtered=2))
        commit(store, outcome(record("c", page=1)))
        last = tally.look()
        assert (last.items, last.lacking_items, last.listed, last.filtered, last.files) == (3, 0, 5, 2, 7)
        counts = store.counts()
        assert (last.files, last.size_bytes) == (counts.assets.stored, counts.bytes)


def test_looking_never_makes_the_log_grow() -> None:
    """A ledger that is looked at after each commit folds its log back as often as one that nobody looks at."""

    def largest(looking: bool) -> int:
        with fresh_folder() as folder, opened(folder) as store:
            tally = Tally(str(folder / "ledger.sqlite"))
            most = 0
            for group in range(150):
                commit(store, *(outcome(record(f"{group}-{n}" * 8, page=None)) for n in range(20)))
                if looking:
                    tally.look()
                most = max(most, (folder / "ledger.sqlite-wal").stat().st_size)
            return most

    assert largest(looking=True) <= 1.2 * largest(looking=False)


def test_rates_and_what_is_left() -> None:
    """Rates are differences of looks; what is left follows from the total, which `--max-items` bounds."""
    from stacmirror.record import write_record
    from stacmirror.typed import build

    now_s = 100.0
    with fresh_folder() as folder:
        write_record(build("mlhub:labels", str(folder), {"max_items": 8}))
        with opened(folder / ".stacmirror") as store:
            watch = Watch(str(folder), clock=lambda: now_s)
            commit(store, a_page(0, 9, total=90), outcome(record("a")))
            first = watch.look()
            assert (first.files_per_s, first.total, first.settled) == (None, 8, 1)
            commit(store, outcome(record("b")), outcome(record("c")))
            now_s += 4.0
            second = watch.look()
            assert (second.files_per_s, second.bytes_per_s, second.eta_s) == (0.5, 5.0, 10.0)
            now_s += 60.0
            watch.look()
            now_s += 60.0
            assert watch.look().files_per_s == 0.0


def test_a_run_that_only_begins_is_waited_for(tmp_path: Path) -> None:
    """Between its lock and its ledger a run is on, and has nothing; without a lock, no ledger is an error."""
    from stacmirror.record import write_record
    from stacmirror.typed import build

    write_record(build("mlhub:labels", str(tmp_path), {}))
    with pytest.raises(TargetInUse):
        Watch(str(tmp_path)).look()
    lock = RunLock(str(tmp_path / ".stacmirror"))
    lock.take()
    try:
        look = Watch(str(tmp_path)).look()
    finally:
        lock.release()
    assert (look.held.items, look.running.startswith(f"pid {os.getpid()} on ")) == (0, True)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["ben", "--watch"], ["ben", "--watch", "2s"]),
        (["--watch", "ben"], ["--watch", "2s", "ben"]),
        (["ben", "--watch", "5", "--json"], ["ben", "--watch", "5", "--json"]),
        (["ben", "--watch=1m"], ["ben", "--watch=1m"]),
        (["ben"], ["ben"]),
    ],
)
def test_the_seconds_may_be_left_out(typed: list[str], meant: list[str]) -> None:
    """`--watch` alone looks every two seconds; a word that is no time is DEST."""
    assert with_seconds(typed) == meant


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Too short a time, a folder that is no mirror, and flags that contradict each other."""
    for words, said in (
        (["x", "--watch=0"], "--watch 0: at least 0.2s"),
        (["x", "--watch=soon"], "--watch soon: must be a duration"),
        ([str(tmp_path), "--watch"], "is no mirror"),
        ([str(tmp_path), "--watch", "--failed"], "contradict each other"),
    ):
        assert program.run(["status", *words]) == 2
        assert said in capsys.readouterr().err


async def test_from_another_process_until_the_run_ends(quick_settings: Make) -> None:
    """A line a look while the run is on, then its verdict, exit 0; as JSON, a value a line."""
    async with simulated(items=60, generation=2021) as simulator:
        settings = quick_settings(simulator, workers=2, retries=100)
        gate = asyncio.Event()
        simulator.on_request = lambda record: None if gate.is_set() or "B08" not in record.path else "503"
        running = asyncio.create_task(Mirror(settings, api_key=simulator.key).run())
        state = Path(settings.target, ".stacmirror")
        while not (state / "ledger.sqlite").exists():
            await asyncio.sleep(0.01)
        words = [sys.executable, "-m", "stacmirror", "status", settings.target, "--watch", "0.2"]
        plain = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        as_json = await asyncio.create_subprocess_exec(*words, "--json", stdout=subprocess.PIPE)
        gone = await asyncio.create_subprocess_exec(
            *words,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs have it ignored
        )
        assert plain.stdout is not None
        assert gone.stdout is not None
        first = await asyncio.wait_for(plain.stdout.readline(), 30)
        await asyncio.wait_for(gone.stdout.readline(), 30)
        gone.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(gone.communicate(), 30)
        assert (gone.returncode, err) == (0, b"")
        gate.set()
        summary = await running
        rest, err = await asyncio.wait_for(plain.communicate(), 30)
        values, _ = await asyncio.wait_for(as_json.communicate(), 30)
    assert f"pid {os.getpid()} on " in first.decode()
    assert summary.verdict == "complete"
    lines = rest.decode().splitlines()
    assert "no run is on: the mirror is complete" in lines
    assert any("60 listed = 60 complete" in line for line in lines)
    assert (plain.returncode, err) == (0, b"")
    *looks, last = [json.loads(value) for value in values.splitlines()]
    assert all(look["running"] for look in looks)
    assert (last["running"], last["items"]["complete"]) == ("", 60)
