"""The ramp against a simulator: what it asks for, where it stops, what it says. No rate decides anything here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stacmirror.errors import LoginRefused, SourceUnreachable
from stacmirror.ramp import Caps, Step, recommended
from stacmirror.settings import Settings
from stacmirror.tune import Tuner
from tests.conftest import simulated

Make = Callable[..., Settings]


async def test_the_ramp_goes_to_the_ceiling_and_writes_nothing(quick_settings: Make, tmp_path: Path) -> None:
    """Steps up to --per-host at most; files of labels and sources came; the target was never made."""
    async with simulated(items=5, latency_s=0.01) as simulator:
        heard: list[Step] = []
        tuner = Tuner(
            quick_settings(simulator, per_host=8), api_key=simulator.key, caps=Caps(1.0), on_step=heard.append
        )
        found = await tuner.run()
        kinds = {record.path.rpartition("/")[2].partition("?")[0] for record in simulator.requests}
    assert list(found.steps) == heard
    assert [step.at_once for step in heard] == [4, 8][: len(heard)]
    assert sum(step.files for step in heard) > 13
    assert found.workers == 2 * found.per_host
    assert len(kinds) > 5
    assert list(tmp_path.iterdir()) == []


async def test_a_refusal_ends_the_ramp(quick_settings: Make) -> None:
    """Refused at 16 (it takes 12 at once): no more steps, and less than 16 is what to keep."""
    async with simulated(items=20, latency_s=0.02, at_once=12) as simulator:
        found = await Tuner(quick_settings(simulator, per_host=256), api_key=simulator.key, caps=Caps(5.0)).run()
    assert found.steps[-1].refused > 0
    assert all(step.refused == 0 for step in found.steps[:-1])
    assert found.steps[-1].at_once == 16
    assert found.per_host < 16
    assert "refused" in found.ended


async def test_requests_are_capped_for_good(quick_settings: Make) -> None:
    """Not one request above the cap reaches the source, however many are under way."""
    async with simulated(items=20) as simulator:
        caps = Caps(5.0, requests_max=150)
        found = await Tuner(quick_settings(simulator), api_key=simulator.key, caps=caps).run()
        assert simulator.counts["total"] == found.requests == 150
    assert "150 requests" in found.ended


async def test_bytes_are_capped(quick_settings: Make) -> None:
    """After the cap of bytes no asset is begun: what comes above it was under way."""
    async with simulated(items=20) as simulator:
        found = await Tuner(quick_settings(simulator), api_key=simulator.key, caps=Caps(5.0, bytes_max=50_000)).run()
    assert 50_000 <= found.bytes < 50_000 + 8 * 200_000
    assert "bytes" in found.ended


async def test_requester_pays_is_refused_without_the_flag(quick_settings: Make) -> None:
    """A requester-pays bucket gives nothing without --request-payer: an error that names the flag; with it, files."""
    async with simulated(items=2, generation=2020, s3_request_payer=True) as simulator:
        settings = quick_settings(simulator)
        with pytest.raises(SourceUnreachable) as caught:
            await Tuner(settings, api_key=simulator.key, caps=Caps(1.0)).run()
        assert "--request-payer" in caught.value.hint
        paying = quick_settings(simulator, request_payer=True, per_host=4)
        assert (await Tuner(paying, api_key=simulator.key, caps=Caps(0.5)).run()).steps[0].files > 0


async def test_a_wrong_key_is_a_refused_login(quick_settings: Make) -> None:
    """The API's own refusal ends the ramp as it ends a mirror."""
    async with simulated(items=2) as simulator:
        with pytest.raises(LoginRefused):
            await Tuner(quick_settings(simulator), api_key="wrong", caps=Caps(1.0)).run()


def step(at_once: int, rate: float, refused: int = 0) -> Step:
    return Step(at_once, 1.0, int(rate), rate, 0, 0, 0.0, 0.0, refused, 0, 0.0)


@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        ([step(4, 50), step(8, 100), step(16, 101)], 8),
        ([step(4, 50), step(8, 100), step(16, 190, refused=3)], 8),
        ([step(4, 50, refused=1)], 2),
    ],
)
def test_the_least_that_is_nearly_the_best_is_kept(steps: list[Step], kept: int) -> None:
    """Twice as many for a hundredth more is not worth it, and a refused step is none to keep."""
    assert recommended(steps) == kept
