"""The benchmark's arithmetic and its check of what arrived. No timing decides anything here."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from benchmarks.dataset import Contents
from benchmarks.measure import Cost, Run, contents_of, failure_of
from benchmarks.report import Spread, WayRuns, ratios, spread, steady_cpu_s_per_1000, way_section
from benchmarks.results import command_shown


def run(
    name: str, number: int, *, seconds: float = 1.0, cpu_s: float = 1.0, files: int = 1000, failure: str = ""
) -> Run:
    return Run(name, number, files, seconds, cpu_s, 10.0, 0.1, failure)


def test_ratios_are_taken_round_by_round() -> None:
    """A slow round of a shared machine is slow for both: the ratio is the median of pairs, not a ratio of medians."""
    ours = [run("ours", 1, cpu_s=1.0), run("ours", 2, cpu_s=10.0), run("ours", 3, cpu_s=3.0)]
    theirs = [run("theirs", 1, cpu_s=2.0), run("theirs", 2, cpu_s=20.0), run("theirs", 3, cpu_s=2.0)]
    assert ratios(ours, theirs, lambda one: one.cpu_s) == Spread(0.5, 0.5, 1.5)


def test_rounds_without_a_partner_are_left_out() -> None:
    """A round in which one of the two failed has no ratio; none at all is None, not a division by nothing."""
    ours = [run("ours", 2, cpu_s=4.0)]
    theirs = [run("theirs", 1), run("theirs", 2, cpu_s=2.0)]
    assert ratios(ours, theirs, lambda one: one.cpu_s) == Spread(2.0, 2.0, 2.0)
    assert ratios(ours, theirs[:1], lambda one: one.cpu_s) is None


def test_median_of_an_even_number_lies_between() -> None:
    """Two rounds give their mean, least and most; no round is an error."""
    assert spread([3.0, 1.0]) == Spread(2.0, 1.0, 3.0)
    with pytest.raises(ValueError, match="no values"):
        spread([])


def test_steady_state_is_a_slope() -> None:
    """What start-up costs is in both runs and drops out: (9 - 1) s over 800 files are 10 s a thousand."""
    full, few = [run("ours", 1, cpu_s=9.0, files=1000)], [run("few", 1, cpu_s=1.0, files=200)]
    assert steady_cpu_s_per_1000(full, few) == Spread(10.0, 10.0, 10.0)


def test_a_failed_peer_is_named_and_has_no_figures() -> None:
    """A peer that stored nothing is not fast: its row says FAILED, and the reason stands below the table."""
    runs = (run("ours", 1), run("theirs", 1, seconds=0.001, failure="0 of 1,000 files"))
    text = way_section(WayRuns("plain", "tmpfs", "ours", runs))
    assert "| theirs | 0 of 1 | FAILED |" in text
    assert "FAILED: theirs, round 1: 0 of 1,000 files" in text


def test_what_arrived_is_compared(tmp_path: Path) -> None:
    """Files, bytes and contents count; a wrong byte is seen, and what the product keeps beside its files is not."""
    (tmp_path / "item").mkdir()
    (tmp_path / "item" / "B01").write_bytes(b"abc")
    (tmp_path / ".stacmirror").mkdir()
    (tmp_path / ".stacmirror" / "ledger.sqlite").write_bytes(b"much")
    fine, extras = Cost(0, 1.0, 1.0, 1.0, ""), frozenset({".stacmirror"})
    wanted = Contents(1, 3, zlib.crc32(b"abc"))
    assert failure_of(fine, contents_of(tmp_path, extras), wanted) == ""
    assert failure_of(fine, contents_of(tmp_path, frozenset()), wanted) == "2 of 1 files"
    assert failure_of(Cost(3, 1.0, 1.0, 1.0, "sorry"), wanted, wanted) == "exit code 3: sorry"
    (tmp_path / "item" / "B01").write_bytes(b"abd")
    assert failure_of(fine, contents_of(tmp_path, extras), wanted) == "the bytes are not the origin's"


def test_a_results_folder_is_not_shown() -> None:
    """What results say of their command holds no path of the machine they were made on."""
    words = ["--rounds", "3", "--results", "/somewhere/else", "--set", "workers=8", "--results=/there"]
    assert command_shown("bench", words) == "python -m benchmarks.bench --rounds 3 --set workers=8"
