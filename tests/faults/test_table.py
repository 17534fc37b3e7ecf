"""The table of README.md has all 53 rows, and names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROWS = [
    line.strip("|\n ").split(" | ")
    for line in (TESTS / "faults" / "README.md").read_text().splitlines()
    if re.match(r"\| \d+ \|", line)
]


def test_the_rows_are_53() -> None:
    """Each class of fault once, in order, with its outcome."""
    assert [int(row[0]) for row in ROWS] == list(range(1, 54))
    assert all(len(row) >= 4 and row[1] and row[2] for row in ROWS)


def test_each_test_that_is_named_is_there() -> None:
    """A reader who looks a row up finds it."""
    for number, _, _, shown, *_ in ROWS:
        named = re.findall(r"([\w/]+\.py)::(\w+)", shown)
        assert named or "none yet" in shown, f"row {number} names no test"
        for path, name in named:
            assert re.search(rf"^(async )?def {name}\(", (TESTS / path).read_text(), re.MULTILINE), (
                f"row {number}: {path}::{name}"
            )


def test_each_row_is_held_here() -> None:
    """Each row names a test of this folder, which holds all invariants."""
    for number, _, _, shown, *_ in ROWS:
        assert "faults/" in shown, f"row {number}"
