"""`stacmirror verify` as a person meets it: findings on stdout, words on stderr, codes, and what it refuses."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from stacmirror.cli import app as program
from stacmirror.ledger.store import LedgerStore
from stacmirror.model import START, ItemKey, ItemOutcome, ItemRecord, PageRecord, Receipt, Unit
from stacmirror.record import write_record
from stacmirror.sinks.directory import DirectorySink
from stacmirror.typed import build

FILES = 40


@pytest.fixture
def mirror(alone: Path) -> Path:
    """A mirror of one item with 40 files, made without a network."""
    import xxhash

    write_record(build("mlhub:labels", "ben", {"api_url": "http://localhost/v1"}))
    unit = Unit("1-1", "labels/a")
    bodies = [(f"A{n:02d}", f"A{n:02d}.tif", b"bytes %d" % n) for n in range(FILES)]
    sink = DirectorySink("ben")
    sink.stage(unit, [(name, body) for _, name, body in bodies])
    stored = [Receipt(key, name, len(body), "xxh3", xxhash.xxh3_128_digest(body)) for key, name, body in bodies]
    ledger = LedgerStore("ben/.stacmirror/ledger.sqlite")
    page = PageRecord(0, START, listed=1, filtered=0, duplicate=0, queued=1)
    for reveal in ledger.write([page, ItemOutcome(0, [ItemRecord(ItemKey("labels", "a"), unit, stored, page=0)])], []):
        sink.reveal(reveal.unit, reveal.names)
    ledger.write([], [unit])
    ledger.close()
    sink.close()
    return alone / "ben"


def test_a_whole_mirror_says_nothing_on_stdout(mirror: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No finding is no line; what was checked is said on stderr."""
    for flags in ([], ["--deep"], ["--strict"]):
        assert program.run(["verify", "ben", *flags]) == 0
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("whole: 1 items, 40 files, ")


def test_findings_are_shown_up_to_a_limit_and_reported_in_full(
    mirror: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line of kind, path and detail each; the report has all, as JSON; exit code 7 and what to do next."""
    for number in range(30):
        (mirror / "labels" / "a" / f"A{number:02d}.tif").unlink()
    assert program.run(["verify", "ben", "--show", "4", "--report", "all.ndjson"]) == 7
    said = capsys.readouterr()
    assert said.out.splitlines() == [f"missing\tlabels/a/A{n:02d}.tif\t" for n in range(4)]
    assert "  damage   30 missing\n" in said.err
    assert "next     stacmirror verify ben --repair" in said.err
    found = [json.loads(line) for line in Path("all.ndjson").read_text().splitlines()]
    assert [entry["asset"] for entry in found] == [f"A{n:02d}" for n in range(30)]
    assert found[0] == {
        "kind": "missing", "path": "labels/a/A00.tif", "collection": "labels", "item": "a", "asset": "A00",
    }  # fmt: skip
    assert program.run(["verify", "ben"]) == 7
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 20
    assert "20 of 30; --report FILE has all" in said.err


def test_json_is_one_line_and_repair_says_what_comes_next(mirror: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts by kind; marked once, then `marked` until a resume."""
    (mirror / "labels" / "a" / "A00.tif").write_bytes(b"")
    (mirror / "mine").touch()
    assert program.run(["verify", "ben", "--repair", "--json"]) == 7
    said = capsys.readouterr()
    (line,) = said.out.splitlines()
    found = json.loads(line)
    assert (found["verdict"], found["damage"], found["foreign"], found["marked"], found["exit_code"]) == (
        "damaged", {"cut": 1}, 1, 1, 7,
    )  # fmt: skip
    assert [entry["kind"] for entry in found["shown"]] == ["cut", "foreign"]
    assert "  marked   1 to be fetched again\n  next     stacmirror resume ben\n" in said.err
    assert program.run(["verify", "ben", "--json"]) == 7
    assert json.loads(capsys.readouterr().out)["damage"] == {"marked": 1}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere"], 2, "nowhere is no mirror"),
        (["ben", "--progress", "loud"], 2, "--progress must be one of auto, bar, plain, none, not loud"),
        (["ben", "--show", "-1"], 2, "--show"),
        (["ben", "--report", "ben/found"], 2, "lies in the mirror"),
        (["ben", "--report", "no/where"], 6, "--report no/where cannot be written"),
    ],
)
def test_what_cannot_be_is_one_line(
    mirror: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    """Each mistake names what and where, with its exit code and no traceback."""
    assert program.run(["verify", *arguments]) == code
    heard = capsys.readouterr().err
    assert said in heard
    assert len(heard.splitlines()) == 2


def test_a_ledger_that_is_none_is_refused(mirror: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No ledger, or half of one: exit code 9, one line and a hint."""
    ledger = mirror / ".stacmirror" / "ledger.sqlite"
    content = ledger.read_bytes()
    for broken in (content[: len(content) // 2], b"not a ledger at all" * 100):
        ledger.write_bytes(broken)
        assert program.run(["verify", "ben"]) == 9
        assert len(capsys.readouterr().err.splitlines()) == 2


def test_progress_is_drawn_on_a_terminal_and_cleared(mirror: Path) -> None:
    """On a terminal the bar comes and goes: what stays is the verdict, and stdout has none of it."""
    ours, theirs = pty.openpty()
    slowly = (
        "import sys, time\n"
        "from stacmirror import verify\n"
        "from stacmirror.cli import app\n"
        "before = verify.digest_all\n"
        "def slow(*values):\n"
        "    time.sleep(0.8)\n"
        "    yield from before(*values)\n"
        "verify.digest_all = slow\n"
        "app.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", slowly, "verify", "ben", "--deep"],
        stdout=subprocess.PIPE, stderr=theirs, check=True, env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    )  # fmt: skip
    os.close(theirs)
    said = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.stdout == b""
    assert "verifying ben" in said
    assert "whole: 1 items" in said
