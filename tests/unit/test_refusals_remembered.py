"""What the AWS SDK said is remembered, and a refusal that ends the run is not taken for a loss on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from stacmirror.catalogs.static import _lost
from stacmirror.errors import LoginRefused
from stacmirror.model import Item, ItemKey, SourceLink
from stacmirror.pipeline.bundle import bundle_of
from stacmirror.pipeline.joining import Joiner
from stacmirror.transports.aws import AwsSession
from tests.unit.fakes import FakeClock
from tests.unit.test_filters import item


async def test_a_login_that_failed_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many wait, and others come later: the SDK, which may run a program or ask a service, is asked once."""
    session, asked = AwsSession(FakeClock().monotonic), 0

    async def find() -> Any:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        raise LoginRefused("no AWS credentials", hint="set them")

    monkeypatch.setattr(session, "_find", find)
    came = await asyncio.gather(*(session.credentials() for _ in range(16)), return_exceptions=True)
    assert [str(error) for error in came] == ["no AWS credentials"] * 16
    with pytest.raises(LoginRefused) as again:
        await session.credentials()
    assert (again.value.hint, asked) == ("set them", 1)


def ending() -> LoginRefused:
    error = LoginRefused("the host refuses the login", hint="x")
    error.ends_run = True
    return error


def test_a_static_catalog_loses_a_refused_document_and_not_a_refused_login() -> None:
    """A document that wants another login is a loss that is told; a login that counts as refused ends the walk."""
    assert _lost(LoginRefused("h wants a login (401)", hint="x")) == "h wants a login (401)"
    with pytest.raises(LoginRefused):
        _lost(ending())


class _Joining:
    def __init__(self, error: LoginRefused) -> None:
        self._error = error

    async def several(self, links: Sequence[SourceLink]) -> dict[ItemKey, Item] | None:
        raise self._error


async def test_a_search_by_ids_that_is_refused_is_given_up_and_a_refused_login_is_not() -> None:
    """Items may be had where searches may not; once the login counts as refused, nothing may."""
    links = [SourceLink(ItemKey("c", f"s{n}"), f"https://h/s{n}") for n in range(2)]
    notes: list[str] = []
    await Joiner(_Joining(LoginRefused("refused", hint="x")), notes.append).fill([bundle_of(item("l"), 1, links)])
    assert notes == ["source items are asked for one by one, by their links: refused"]
    with pytest.raises(LoginRefused):
        await Joiner(_Joining(ending()), notes.append).fill([bundle_of(item("l"), 1, links)])
