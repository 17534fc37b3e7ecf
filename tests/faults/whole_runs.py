"""What the tests of whole runs against a simulator share: settings of a way, a run, and what must hold after it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from stacmirror.mirror import Mirror
from stacmirror.model import Summary
from stacmirror.settings import Settings
from stacmirror.simulator import Simulator
from tests.conftest import tree
from tests.faults.invariants import hold_simulated, simulated_files
from tests.unit.fakes import Notes

Make = Callable[..., Settings]
Way = tuple[str, int]


async def mirror(settings: Settings, key: str, notes: Notes | None = None) -> Summary:
    return await Mirror(settings, api_key=key, observer=notes or Notes()).run()


def by(way: Way) -> dict[str, object]:
    """Return the settings that a way is: the client, and how many workers."""
    return {"http_client": way[0], "workers": way[1]}


def is_whole(summary: Summary, simulator: Simulator, target: Path, said: Iterable[str] = ()) -> None:
    """Complete, without a failure, and i1 to i7 hold."""
    assert (summary.verdict, summary.failures) == ("complete", [])
    hold_simulated(target, simulator, summary, said)
    assert set(tree(target)) == set(simulated_files(simulator))
