"""The last words of a run: they add up, they say what to type next, and JSON says the same."""

from __future__ import annotations

import json

import msgspec
import pytest

from stacmirror.cli.report import Ending, listing_words, summary_json, verdict_lines
from stacmirror.errors import KINDS
from stacmirror.model import AssetCounts, Counts, FailureCount, ItemCounts, Summary

from .summaries import complete, counts


def _lines(summary: Summary) -> list[str]:
    return verdict_lines(
        Ending(
            summary=summary,
            folder="/data/ben",
            resume_command="stacmirror resume ben",
            status_command="stacmirror status ben",
            citation=["Sumbul et al. 2019"],
        )
    )


def test_a_complete_run_says_so_in_its_first_line() -> None:
    """The verdict's first line has items, files, bytes, time and rate; the rest says where and what next."""
    lines = _lines(complete())
    assert lines[0] == "complete: 200 of 200 items, 2,600 files, 32.9 MB in 4.1s (634 files/s)"
    text = "\n".join(lines)
    assert "200 listed = 200 complete" in text
    assert "absent   B10: listed but not at the source for 20 items asked, 180 more not asked after that" in text
    assert "read to its end; the server says 200 items" in text
    assert "Sumbul et al. 2019" in text
    assert "/data/ben" in text
    assert lines[-1].split() == ["next", "stacmirror", "status", "ben"]
    assert not any(line.startswith("  mirror") for line in lines), "the mirror's counts are the run's: not said twice"


def test_predicted_files_are_told_where_there_are_any() -> None:
    """What was asked for without the request for a redirect is one row, and a number of the JSON value."""
    summary = complete()
    assert "learned" not in "\n".join(_lines(summary))
    assert summary_json(summary)["predicted"] == 0
    summary.predicted = 2_249
    assert "  learned  2,249 files asked for without the request for a redirect" in _lines(summary)
    assert summary_json(summary)["predicted"] == 2_249


def test_an_incomplete_run_names_failures_by_kind_and_how_to_go_on() -> None:
    """Failed assets come with their kinds, the reason stands in the first line, and the next command goes on."""
    part = counts(190, incomplete=4, pending=6)
    part.assets.failed = 9
    summary = msgspec.structs.replace(
        complete(),
        verdict="incomplete",
        run=part,
        mirror=counts(390, incomplete=4, pending=6),
        reason="9 assets failed",
        failures=[
            FailureCount("B04", "timeout", 7),
            FailureCount("B05", "timeout", 2),
            FailureCount("B10", "gone", 1),
            FailureCount("@item", "source", 1),
        ],
        exit_code=3,
    )
    lines = _lines(summary)
    text = "\n".join(lines)
    assert lines[0].startswith("incomplete: 390 of 400 items; this run brought 2,470 files")
    assert lines[0].endswith(": 9 assets failed")
    assert (
        "  failed   timeout: 9 (B04 7, B05 2)\n           gone: 1 (B10)\n           source: 1 (the item itself)\n"
        in text
    )
    assert "200 listed = 190 complete + 4 incomplete + 6 pending" in text
    assert "400 listed = 390 complete + 4 incomplete + 6 pending" in text
    assert lines[-2].split() == ["next", "stacmirror", "resume", "ben"]
    assert lines[-1].strip() == "if the source never had that: stacmirror resume ben --missing-ok B10"


def test_what_cannot_be_shown_to_be_whole_is_said() -> None:
    """Unverified assets stand beside the stored ones; files of the wrong kind come with the way to take them."""
    part = counts(4)
    part.assets.unverified = 1200
    failures = [FailureCount("B01", "content", 3)]
    lines = _lines(
        msgspec.structs.replace(complete(), verdict="incomplete", run=part, failures=failures, exit_code=3, reason="x")
    )
    assert ", 1,200 unverified, 0 failed" in "\n".join(lines)
    assert lines[-1].strip() == "if these are good files, and their types wrong: stacmirror resume ben --any-content"


def test_many_kinds_of_failure_do_not_fill_the_screen() -> None:
    """Six rows, the last of which counts the rest; six keys of a kind, and how many more."""
    many = [FailureCount(f"B{n:02}", "timeout", 20 - n) for n in range(20)]
    many += [FailureCount("B00", kind, 1) for kind in list(KINDS)[1:20]]
    lines = _lines(msgspec.structs.replace(complete(), verdict="incomplete", exit_code=3, failures=many))
    start = next(n for n, line in enumerate(lines) if line.startswith("  failed"))
    row = "failed   timeout: 210 (B00 20, B01 19, B02 18, B03 17, B04 16, B05 15, and 14 more keys)"
    assert lines[start].strip() == row
    assert lines[start + 5].strip() == "and 15 more kinds of that"
    assert not lines[start + 6].startswith("           ")


@pytest.mark.parametrize(
    ("items", "assets", "words"),
    [
        (ItemCounts(), AssetCounts(), "nothing to fetch: the listing is empty"),
        (
            ItemCounts(listed=1200, filtered=1200),
            AssetCounts(),
            "nothing to fetch: no item passed the filters; 1,200 were listed",
        ),
        (
            ItemCounts(listed=6, complete=6),
            AssetCounts(),
            "nothing to fetch: of 6 items no asset was wanted, or there",
        ),
    ],
)
def test_nothing_to_fetch_says_why(items: ItemCounts, assets: AssetCounts, words: str) -> None:
    """A filter that nothing passes does not look like a mirror that is all there."""
    empty = Counts(items=items, assets=assets)
    assert _lines(msgspec.structs.replace(complete(), run=empty, mirror=empty, seconds=0.2))[0] == (
        f"complete: {words} (0.2s)"
    )


def test_a_second_run_over_a_complete_mirror_says_that_nothing_was_left() -> None:
    """When all was there already, the first line counts the mirror and does not claim 0 of 0 items."""
    idle = Counts(items=ItemCounts(listed=0), assets=AssetCounts())
    summary = msgspec.structs.replace(complete(), run=idle, seconds=0.2)
    assert _lines(summary)[0] == (
        "complete: nothing was left to fetch; the ledger has all 200 items, 2,600 files, 32.9 MB (0.2s)"
    )


@pytest.mark.parametrize(
    ("ended", "total", "words"),
    [
        (True, None, "read to its end; the server names no total"),
        (False, 500, "not read to its end; the server says 500 items"),
        (True, 210, "read to its end; the server says 210 items, 10 more than it listed"),
    ],
)
def test_the_listings_own_proof_is_told(ended: bool, total: int | None, words: str) -> None:
    """Whether the last page was seen and what the server's total is are said, a difference too."""
    assert listing_words(counts(ended=ended, total=total)) == words


def test_json_has_the_promised_shape_and_adds_up() -> None:
    """The JSON value has exactly the promised keys, for the run and for the mirror, and its item counts add up."""
    value = json.loads(json.dumps(summary_json(complete())))
    assert list(value) == [
        "verdict", "shard", "items", "listing", "assets", "bytes", "requests", "predicted", "there_bytes", "seconds",
        "files_per_s", "cpu_s", "peak_rss_mib", "exit_code", "reason", "hint", "failures", "absences", "mirror",
    ]  # fmt: skip
    assert list(value["mirror"]) == ["items", "listing", "assets", "bytes"]
    assert set(value["items"]) == {"listed", "complete", "incomplete", "filtered", "duplicate", "pending"}
    assert set(value["listing"]) == {"ended", "server_total", "gone"}
    assert set(value["assets"]) == {"stored", "skipped", "absent", "assumed_absent", "failed", "unverified"}
    items = value["items"]
    assert items["listed"] == sum(count for name, count in items.items() if name != "listed")


def test_the_listing_is_judged_for_the_mirror_not_for_one_run() -> None:
    """A resumed run that listed only the rest does not claim that the server has more than was listed."""
    summary = msgspec.structs.replace(complete(), run=counts(50))
    (line,) = [line for line in _lines(summary) if line.startswith("  listing")]
    assert line.endswith("read to its end; the server says 200 items")


def test_a_refused_key_is_to_be_checked_first() -> None:
    """Going on with a key that was refused helps nobody: the next step says so."""
    hint = "put it in MLHUB_API_KEY"
    lines = _lines(msgspec.structs.replace(complete(), verdict="stopped", exit_code=4, hint=hint))
    assert lines[-2:] == ["  hint     put it in MLHUB_API_KEY", "  next     log in, then: stacmirror resume ben"]


def test_a_long_citation_fits_the_screen_and_a_command_is_never_broken() -> None:
    """On a screen the citation is wrapped below itself; path and command stay in one piece to be copied."""
    ending = Ending(complete(), "/data/" + "x" * 90, "resume " + "y" * 90, "status " + "z" * 90, ["word " * 40])
    lines = verdict_lines(ending, width=60)
    cited = [line for line in lines if "word" in line]
    assert len(cited) > 1
    assert all(len(line) <= 60 for line in cited)
    assert lines[-1].endswith("status " + "z" * 90)


def test_a_run_of_no_time_divides_by_nothing() -> None:
    """A summary of zero seconds has a rate of zero."""
    assert summary_json(msgspec.structs.replace(complete(), seconds=0.0))["files_per_s"] == 0.0


def test_no_line_is_wider_than_the_terminal() -> None:
    """At 80 columns words go on below each other; paths and commands stay whole, to be copied."""
    ending = Ending(
        summary=complete(),
        folder="/data/" + "x" * 90,
        resume_command="stacmirror resume ben",
        status_command="stacmirror status ben",
        citation=["Sumbul et al. 2019, " + "a title of some length " * 9],
    )
    lines = verdict_lines(ending, 80)
    assert [line for line in lines if len(line) > 80] == [f"  files    {ending.folder}"]
