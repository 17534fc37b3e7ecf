"""The benchmark's arithmetic and its check of what arrived. No timing decides anything here."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from benchmarks.dataset import Contents
from benchmarks.growth_server import ASSETS, Pages
from benchmarks.measure import Cost, Run, contents_of, failure_of
from benchmarks.report import Spread, WayRuns, ratios, spread, steady_cpu_s_per_1000, way_section
from benchmarks.results import command_shown
from benchmarks.slow_world import FREE, Trial, best_ratio, trial_of
from benchmarks.slow_world_server import KEYS
from stacmirror.catalogs.parse import Context, parse_page
from stacmirror.pipeline.signatures import form_of, refuse_other


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


def slices(*served: int) -> list[dict[str, dict[str, float]]]:
    return [
        {
            "api": {"served": files, "refused": 1, "at_once": 10.0},
            "files": {"served": files, "refused": 0, "at_once": 20.0},
        }
        for files in served
    ]


def test_only_the_window_counts() -> None:
    """Of four half seconds the last two: their files by their seconds, refusals of both hosts, at once on average."""
    said = {"exit_code": 130, "assets": {"stored": 1000, "failed": 3}, "cpu_s": 0.5, "peak_rss_mib": 70.0}
    trial = trial_of(FREE, 1, said, slices(1, 1, 50, 150), (1.0, 2.0))
    assert (trial.files_per_s, trial.refused, trial.lost, trial.failure) == (200.0, 2, 3, "")
    assert trial.at_once == {"api": 10.0, "files": 20.0}
    assert trial.cpu_ms_per_file == 0.5


def test_a_run_that_ended_early_is_a_failure() -> None:
    """What was seen for less than the window, or ended by itself, has no rate to compare."""
    said = {"exit_code": 130, "assets": {"stored": 1, "failed": 0}}
    assert "1 s were seen" in trial_of("64", 1, said, slices(1, 1), (1.0, 2.0)).failure
    ended = {"exit_code": 5, "reason": "no more", "assets": {"stored": 1, "failed": 0}}
    assert trial_of("64", 1, ended, slices(1, 1, 1, 1), (1.0, 2.0)).failure == "exit code 5: no more"


def test_the_ratio_is_to_the_best_fixed_setting() -> None:
    """Medians over rounds; failed runs are left out; nothing to compare is None."""

    def trial(name: str, rate: float, failure: str = "") -> Trial:
        return Trial(name, 1, rate, 0, {}, 0.1, 1.0, 0, failure, [])

    trials = [trial("64", 50), trial("128", 90), trial("128", 100), trial("128", 110), trial("256", 900, "lost")]
    assert best_ratio([*trials, trial(FREE, 95)]) == (0.95, "128")
    assert best_ratio(trials) is None


@pytest.mark.parametrize(("server", "body"), [("growth", None), ("slow", b"II*\0" + b"\0" * 10)])
def test_cheap_origins_serve_what_their_items_announce(server: str, body: bytes | None) -> None:
    """Each asset's bytes begin as its media type says: else a benchmark would measure failures."""
    pages = Pages(3, "http://h/v1") if server == "growth" else Pages(3, "http://h/v1", KEYS, "image/tiff")
    page = parse_page(pages.page(0), Context("page", "labels", 0.0, str))
    assert len(page.items) == 3
    for asset in page.items[0].assets:
        refuse_other(form_of(asset), ASSETS[asset.key] if body is None else body)
