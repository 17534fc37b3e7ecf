"""What `bench` and `growth` share: where results go, and how the product's settings are typed."""

from __future__ import annotations

from pathlib import Path

RESULTS = Path(__file__).with_name("results")


def settings_of(text: str) -> dict[str, str]:
    """Return the settings in `KEY=VALUE,KEY=VALUE`. Raises: SystemExit with how to write it."""
    found: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise SystemExit(f"--set {text}: give KEY=VALUE, or several with commas between them")
        found[key] = value
    return found
