"""Shards share all items out: each to one, always the same one, about as many to each."""

from __future__ import annotations

import pytest

from stacmirror.errors import UsageError
from stacmirror.filters import make_filters, make_shard
from stacmirror.filters.shard import shard_of
from stacmirror.model import Item, ItemKey
from stacmirror.settings import FilterSettings
from stacmirror.typed import build

PATCH = "bigearthnet_v1_labels_S2A_MSIL2A_20170613T101031_0_45"


@pytest.mark.parametrize(
    ("item_id", "of_3", "of_10", "of_10_000"),
    [
        (PATCH, 1, 5, 8315),
        ("a", 2, 10, 8720),
        ("", 2, 9, 3139),
        ("\xe9", 1, 6, 1796),
        ("e\u0301", 2, 1, 9881),
        ("\ud800", 2, 3, 3633),
    ],
)
def test_the_shard_of_an_id_never_changes(item_id: str, of_3: int, of_10: int, of_10_000: int) -> None:
    """Mirrors that are there rest on it, and so may other programs: these values stay as they are."""
    assert [shard_of(item_id, shards) for shards in (1, 3, 10, 10_000)] == [1, of_3, of_10, of_10_000]


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 64])
def test_shards_are_a_partition_and_balanced(shards: int) -> None:
    """Each id is kept by one shard; of 20,000 each has its part, within six standard deviations."""
    ids = [f"S2A_MSIL2A_{number // 90}_{number % 90}" for number in range(20_000)]
    parts = [make_shard(FilterSettings(shard=f"{number}/{shards}")).of(ids) for number in range(1, shards + 1)]
    assert sorted(id_ for part in parts for id_ in part) == sorted(ids)
    part = 20_000 / shards
    assert all(abs(len(found) - part) <= 6 * part**0.5 for found in parts)


def test_only_the_id_counts() -> None:
    """Items of one id in two collections are of one shard, and the filter keeps what `shard_of` says."""
    for number in range(1, 4):
        (keeper,) = make_filters(FilterSettings(shard=f"{number}/3"))
        kept = [keeper.keeps(Item(ItemKey(name, PATCH), (), (), {}, b"", 0.0)) for name in ("labels", "source")]
        assert kept == 2 * [shard_of(PATCH, 3) == number]


def test_no_shard_is_all() -> None:
    """Nothing asked for: everything is this mirror's."""
    shard = make_shard(FilterSettings())
    assert (shard.share, shard.of(["a", "b"])) == (1.0, ["a", "b"])


@pytest.mark.parametrize(
    "typed", ["0/3", "4/3", "a/b", "3", "1/0", "/", "1/", "/3", "1/3/3", "-1/3", "1.0/3", "1/10001", "²/3", " ", 3, 0.5]
)
def test_what_is_no_shard_is_refused(typed: object) -> None:
    """One line that names the value and says what is taken."""
    with pytest.raises(UsageError, match="K from 1 to N") as refused:
        build("mlhub:x", "there", {"shard": typed})
    assert repr(typed) in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(("typed", "kept"), [("2/3", "2/3"), (" 02/003 ", "2/3"), ("1/1", "1/1"), ("", "")])
def test_a_shard_is_kept_as_k_of_n(typed: str, kept: str) -> None:
    """However it was typed, so that the same shard is no other filter."""
    assert build("mlhub:x", "there", {"shard": typed}).filter.shard == kept


def test_a_library_is_told_as_well() -> None:
    """Settings that were made without `build` are looked at, too."""
    with pytest.raises(UsageError, match="--shard 4/3: must be K/N"):
        make_filters(FilterSettings(shard="4/3"))
