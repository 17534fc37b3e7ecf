"""A simulator that is far away, and that refuses too many requests at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from stacmirror.simulator import SimulatorSettings

from .conftest import Client

Start = Callable[..., Any]


async def test_more_at_once_than_a_host_takes_are_refused(start: Start) -> None:
    """Of ten requests side by side on a host that takes three, seven get 429 with Retry-After; one by one all pass."""
    client: Client = await start(latency_s=0.3, at_once=3)
    url = f"{client.sim.api_url}/collections/bigearthnet_v1_labels?key={client.sim.key}"
    answers = await asyncio.gather(*(client.get(url) for _ in range(10)))
    assert sorted(status for status, _, _ in answers) == [200] * 3 + [429] * 7
    assert {headers.get("Retry-After") for status, headers, _ in answers if status == 429} == {"1"}
    assert [(await client.get(url))[0] for _ in range(3)] == [200] * 3


@pytest.mark.parametrize("wrong", [{"latency_s": -1.0}, {"latency_s": 4000.0}, {"at_once": 0}])
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    """A latency below nothing, and a host that takes no request."""
    with pytest.raises(ValueError, match="must be"):
        SimulatorSettings(**wrong)
