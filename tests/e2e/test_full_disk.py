"""A target that takes no more: the run ends with a verdict that agrees with the tree, and the next one ends the job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stacmirror.errors import TargetUnwritable
from stacmirror.ledger.store import LedgerStore
from stacmirror.mirror import Mirror
from stacmirror.settings import Settings
from stacmirror.sinks.directory import DirectorySink
from tests.conftest import simulated, tree

Make = Callable[..., Settings]


def failing_from(call: int, method: Callable[..., object]) -> Callable[..., object]:
    calls = 0

    def fails(*values: object) -> object:
        nonlocal calls
        calls += 1
        if calls >= call:
            raise TargetUnwritable("no space left")
        return method(*values)

    return fails


@pytest.mark.parametrize(
    ("owner", "step", "call"),
    [
        (DirectorySink, "stage", 9),
        (DirectorySink, "sync", 3),
        (DirectorySink, "reveal", 5),
        (DirectorySink, "put_document", 1),
        (LedgerStore, "write", 3),
        (LedgerStore, "set_listing", 1),
    ],
)
async def test_the_verdict_counts_what_is_there(
    quick_settings: Make, monkeypatch: pytest.MonkeyPatch, owner: type, step: str, call: int
) -> None:
    """Wherever the disk is full: exit code 6, a summary, and no file counted that is not in the mirror."""
    async with simulated(items=12) as simulator:
        settings = quick_settings(simulator, workers=4)
        with monkeypatch.context() as patched:
            patched.setattr(owner, step, failing_from(call, getattr(owner, step)))
            patched.setattr(LedgerStore, "set_ended", failing_from(1, LedgerStore.set_ended))
            summary = await Mirror(settings, api_key=simulator.key).run()
        assert (summary.exit_code, summary.reason) == (6, "no space left")
        assert summary.run.assets.stored == summary.mirror.assets.stored
        assert summary.run.bytes == summary.mirror.bytes
        assert summary.mirror.assets.stored >= len(tree(Path(settings.target)))

        summary = await Mirror(settings, api_key=simulator.key).run()
        assert (summary.verdict, summary.reason) == ("complete", "")
        assert summary.mirror.assets.stored == len(tree(Path(settings.target))) == 12 * 13
