"""Summaries made by hand, for the tests of the report and of the run."""

from __future__ import annotations

from stacmirror.model import AbsentKey, AssetCounts, Counts, ItemCounts, ListingState, Summary


def counts(complete: int = 200, *, ended: bool = True, total: int | None = 200, **items: int) -> Counts:
    listed = complete + sum(items.values())
    return Counts(
        items=ItemCounts(listed=listed, complete=complete, **items),
        listing=ListingState(ended=ended, server_total=total),
        assets=AssetCounts(stored=13 * complete, absent=20, assumed_absent=180),
        bytes=32_900_000,
    )


def complete() -> Summary:
    both = counts()
    return Summary(
        verdict="complete",
        run=both,
        mirror=both,
        requests=5_800,
        seconds=4.1,
        cpu_s=3.9,
        peak_rss_mib=81.25,
        exit_code=0,
        absences=[AbsentKey("bigearthnet_v1_source", "B10", 20, 180)],
    )
