"""Pages are asked for by halves where the server cannot give them, and the size stays right for the whole walk."""

from __future__ import annotations

import random

import pytest

from stacmirror.catalogs.page_size import GROWS_AFTER, PageSize
from stacmirror.errors import TransferError

SLOW = TransferError("5xx", "504", status=504)
LARGE = TransferError("status", "413", status=413, retryable=False)


def good(size: PageSize, pages: int, *, may_grow: bool = True) -> None:
    for _ in range(pages):
        size.succeeded(may_grow=may_grow)


@pytest.mark.parametrize("error", [LARGE, TransferError("too-large", "more than 5 bytes", retryable=False)])
def test_too_large_is_halved_at_once(error: TransferError) -> None:
    """There is nothing to wait for; at one item there is nothing left to halve."""
    size = PageSize(5)
    assert [(size.failed(error), size.now) for _ in range(3)] == [(True, 2), (True, 1), (False, 1)]


@pytest.mark.parametrize("error", [SLOW, TransferError("5xx", "502", status=502), TransferError("timeout", "no byte")])
def test_too_slow_is_halved_at_the_second_time(error: TransferError) -> None:
    """One bad gateway is nobody's size; two in a row for one page are."""
    size = PageSize(100)
    assert (size.failed(error), size.now) == (False, 100)
    size.succeeded(may_grow=True)
    assert (size.failed(error), size.failed(error), size.now) == (False, True, 50)


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_other_trouble_is_nothing_to_it(status: int) -> None:
    """A busy or broken server is not helped by smaller pages."""
    size = PageSize(100)
    assert not any(size.failed(TransferError("5xx", "x", status=status)) for _ in range(9))
    assert size.now == 100


def test_it_is_remembered_and_tried_again_ever_later() -> None:
    """After many good pages twice the size is tried; where that fails, only after twice as many."""
    size = PageSize(100)
    size.failed(LARGE)
    good(size, GROWS_AFTER - 1)
    assert size.now == 50
    good(size, 1)
    assert size.now == 100
    size.failed(LARGE)
    good(size, 2 * GROWS_AFTER - 1)
    assert size.now == 50
    good(size, 1)
    assert size.now == 100
    good(size, 10 * GROWS_AFTER)
    assert size.now == 100


def test_pages_by_number_never_grow() -> None:
    """A page number means other items at another size."""
    size = PageSize(100)
    size.failed(LARGE)
    good(size, 10 * GROWS_AFTER, may_grow=False)
    assert size.now == 50


def test_chance_does_not_shrink_it_for_good() -> None:
    """With every twentieth answer a 502, 5,000 pages are not asked for one by one."""
    size, chance, asked = PageSize(100), random.Random(7), []
    for _ in range(5000):
        while chance.random() < 0.05:
            size.failed(SLOW)
        asked.append(size.now)
        size.succeeded(may_grow=True)
    assert sum(asked) / len(asked) > 50
