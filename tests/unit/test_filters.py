"""Filters keep what the seed's notebook kept, and refuse what cannot be meant."""

import pytest

from stacmirror.errors import UsageError
from stacmirror.filters import AssetChoice, describe, make_asset_choice, make_filters
from stacmirror.model import Item, ItemKey
from stacmirror.settings import FilterSettings


def item(item_id: str = "a", **properties: object) -> Item:
    return Item(ItemKey("c", item_id), (), (), properties, b"", 0.0)


def keeps(wanted: FilterSettings, one: Item) -> bool:
    return all(filter_.keeps(one) for filter_ in make_filters(wanted))


def test_no_settings_no_filters() -> None:
    """Nothing asked, nothing filtered, nothing to say."""
    assert make_filters(FilterSettings()) == []
    assert describe(FilterSettings()) == {}


@pytest.mark.parametrize(
    ("labels", "kept"),
    [
        (["Sea", "Airports"], True),
        (["Airports"], False),
        (["sea"], False),
        ([], False),
        (None, False),
        ("Sea", True),
        (7, False),
        ([None, ["Sea"], {"Sea": 1}, "Beaches, dunes, sands"], True),
    ],
)
def test_label_classes_keep_any_of(labels: object, kept: bool) -> None:
    """One wanted label is enough; odd values are no labels and raise nothing."""
    wanted = FilterSettings(label_class=("Sea", "Beaches, dunes, sands"))
    assert keeps(wanted, item(labels=labels)) is kept
    assert keeps(wanted, item()) is False


@pytest.mark.parametrize("name", ["cloud_and_shadow", "seasonal_snow"])
@pytest.mark.parametrize(
    ("value", "is_true"),
    [
        (True, True), ("true", True), ("True", True), (" TRUE ", True), (1, True),
        (False, False), ("false", False), ("False", False), (None, False), ("", False), (0, False), ([True], False),
    ],
)  # fmt: skip
def test_flags_take_booleans_and_strings(name: str, value: object, is_true: bool) -> None:
    """2020's booleans and 2021's strings mean the same."""
    one = item(**{name: value})
    assert keeps(FilterSettings(**{name: True}), one) is is_true
    assert keeps(FilterSettings(**{name: False}), one) is not is_true


@pytest.mark.parametrize("name", ["cloud_and_shadow", "seasonal_snow"])
def test_a_missing_flag_is_false(name: str) -> None:
    """An item that says nothing of clouds has none."""
    assert keeps(FilterSettings(**{name: False}), item())
    assert not keeps(FilterSettings(**{name: True}), item())


def test_ids_are_exact() -> None:
    """`--item` compares whole ids."""
    wanted = FilterSettings(item=("a", "b"))
    assert keeps(wanted, item("b"))
    assert not keeps(wanted, item("B"))
    assert not keeps(wanted, item("bb"))


def test_all_filters_must_agree() -> None:
    """Families are joined by `and`."""
    wanted = FilterSettings(label_class=("Sea",), seasonal_snow=False)
    assert keeps(wanted, item(labels=["Sea"]))
    assert not keeps(wanted, item(labels=["Sea"], seasonal_snow="true"))


@pytest.mark.parametrize(
    ("include", "exclude", "chosen"),
    [
        ((), (), {"B01", "B10", "labels", "b01"}),
        (("B*",), (), {"B01", "B10"}),
        (("B*",), ("B10",), {"B01"}),
        ((), ("B1?", "lab*"), {"B01", "b01"}),
        (("[Bb]01",), (), {"B01", "b01"}),
    ],
)
def test_asset_choice(include: tuple[str, ...], exclude: tuple[str, ...], chosen: set[str]) -> None:
    """Included and not excluded, by globs in which case counts; asked twice, the same is said."""
    choice = AssetChoice(include, exclude)
    for _ in range(2):
        assert {key for key in ("B01", "B10", "labels", "b01") if choice.chooses(key)} == chosen


def test_asset_choice_remembers_a_bounded_number_of_keys() -> None:
    """A catalog in which each item has keys of its own does not grow the memory for ever."""
    choice = AssetChoice(("x*",), ())
    for number in range(25_000):
        choice.chooses(f"k{number}")
    assert len(choice._chosen) <= 10_000


@pytest.mark.parametrize(
    "wanted",
    [
        FilterSettings(asset=("B*",), exclude_asset=("B*",)),
        FilterSettings(asset=("B01",), exclude_asset=("B0*",)),
        FilterSettings(asset=("B01", "B02"), exclude_asset=("B02",)),
        FilterSettings(exclude_asset=("*",)),
        FilterSettings(asset=("",)),
        FilterSettings(label_class=("",)),
        FilterSettings(item=("",)),
    ],
)
def test_contradictions_are_refused(wanted: FilterSettings) -> None:
    """What could only leave nothing, or is empty, ends with exit code 2 before any request."""
    with pytest.raises(UsageError):
        make_filters(wanted)


def test_describe_does_not_depend_on_order() -> None:
    """The same wish in another order, or said twice, is the same record."""
    one = FilterSettings(label_class=("b", "a"), asset=("B2", "B1"), cloud_and_shadow=False, item=("y", "x"))
    other = FilterSettings(label_class=("a", "b", "a"), asset=("B1", "B2"), cloud_and_shadow=False, item=("x", "y"))
    assert describe(one) == describe(other)
    assert describe(one) == {"item": "x | y", "label_class": "a | b", "cloud_and_shadow": "false", "asset": "B1 | B2"}


def test_asset_choice_comes_from_the_settings() -> None:
    """`make_asset_choice` reads `asset` and `exclude_asset`."""
    choice = make_asset_choice(FilterSettings(asset=("B*",), exclude_asset=("B10",)))
    assert choice.chooses("B01")
    assert not choice.chooses("B10")
