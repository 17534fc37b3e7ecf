"""For whole runs: hosts that are down are looked at again soon, since a simulator is never far."""

from __future__ import annotations

import pytest

from stacmirror import health


@pytest.fixture(autouse=True)
def soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the waits of outages; tests/faults has their real ones."""
    monkeypatch.setattr(health, "_PROBE_FIRST_S", 0.05)
    monkeypatch.setattr(health, "_PROBE_MAX_S", 0.1)
    monkeypatch.setattr(health, "_LOOK_AGAIN_S", 0.1)
