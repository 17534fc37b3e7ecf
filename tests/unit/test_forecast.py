"""What a sample foretells: exact where the sample is the whole, in proportion else, and nothing where nobody knows."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from stacmirror.forecast import LEDGER_BYTES, Forecast, Sample, forecast

SAMPLE = Sample(
    pages=2, listed=200, matched=100, ended=False, total=1000, asked=50, linked=50, files=600, bytes=600_000, sized=600,
    requests=1350, seconds=10.0, folders=100, absent={"B10": 50}, phantoms=("B10",),
)  # fmt: skip


def foretold(sample: Sample, **wanted: int | float | None) -> Forecast:
    usual = {"items_max": None, "ids": 0, "missing_after": 20, "rate_per_s": None, "block_bytes": 4096}
    return forecast(sample, **{**usual, **wanted})  # type: ignore[arg-type]


def test_in_proportion_to_the_servers_total() -> None:
    """Half of the items match; twelve files an item, each with half a block, two folders, two rows."""
    found = foretold(SAMPLE)
    assert (found.items, found.files, found.bytes) == (500, 6000, 6_000_000)
    assert found.inodes == 6000 + 2 * 500
    assert found.on_disk_bytes == 6_000_000 + 6000 * 2048 + 1000 * (4096 + LEDGER_BYTES)


def test_a_key_that_nobody_has_is_asked_for_a_while_only() -> None:
    """Two requests an asset, one a linked item, ten pages; the phantom's for twenty items."""
    assert foretold(SAMPLE).requests == 10 + 500 * (1 + 12 * 2) + 20 * 2
    assert foretold(SAMPLE, missing_after=10_000).requests == 10 + 500 * (1 + 13 * 2)


def test_time_is_the_samples_or_the_rates() -> None:
    """1,350 requests took ten seconds; a rate that is slower counts, one that is faster does not."""
    found = foretold(SAMPLE)
    assert found.requests is not None
    assert found.seconds == pytest.approx(found.requests / 135)
    assert foretold(SAMPLE, rate_per_s=10.0).seconds == pytest.approx(found.requests / 10)
    assert foretold(SAMPLE, rate_per_s=1000.0).seconds == found.seconds
    assert found.line_seconds == pytest.approx(6_000_000 * 8 / 1e8)


@pytest.mark.parametrize(
    ("sample", "wanted", "items"),
    [
        (replace(SAMPLE, total=None), {}, None),
        (replace(SAMPLE, total=None), {"items_max": 300}, 300),
        (replace(SAMPLE, total=None), {"ids": 70}, 70),
        (replace(SAMPLE, ended=True, total=99_999), {}, 100),
        (SAMPLE, {"items_max": 10}, 10),
        (SAMPLE, {"items_max": 10_000}, 500),
        (replace(SAMPLE, total=3), {}, 100),
        (replace(SAMPLE, matched=0, asked=0, files=0), {"items_max": 10}, None),
        (replace(SAMPLE, matched=0, asked=0, files=0, ended=True), {}, 0),
    ],
    ids=["no total", "a bound", "ids", "ended", "less", "more", "a lie", "none yet", "none"],
)
def test_how_many_items(sample: Sample, wanted: dict[str, int], items: int | None) -> None:
    """The least of what is wanted and what there is; never less than was seen; None where nobody can know."""
    found = foretold(sample, **wanted)
    assert found.items == items
    assert (found.files is None) == (items is None)


def test_what_failed_is_counted_as_coming() -> None:
    """A mirror asks again."""
    assert foretold(replace(SAMPLE, files=550, sized=550, failed={"5xx": 50})).files == 6000


def test_items_without_files_have_no_folder() -> None:
    """Labels of which nothing is wanted: their rows count, no inode does."""
    bare = foretold(replace(SAMPLE, folders=50))
    assert bare.inodes == 6000 + 500
    assert bare.on_disk_bytes == 6_000_000 + 6000 * 2048 + 500 * 4096 + 1000 * LEDGER_BYTES


def test_without_any_size_nothing_is_said_of_bytes() -> None:
    """Nothing came, or nothing that came told its size: no bytes are foretold, rather than none at all."""
    failed = replace(SAMPLE, files=0, sized=0, bytes=0, failed={"5xx": 600})
    for found in (foretold(failed), foretold(replace(SAMPLE, sized=0, bytes=0))):
        assert (found.files, found.bytes, found.on_disk_bytes, found.line_seconds) == (6000, None, None, None)
    nothing_wanted = foretold(replace(failed, failed={}))
    assert (nothing_wanted.files, nothing_wanted.bytes) == (0, 0)


def test_files_of_no_known_size_are_like_the_others() -> None:
    """Bytes are those of the files whose size is known, in proportion."""
    assert foretold(replace(SAMPLE, sized=300, bytes=300_000)).bytes == 6_000_000
