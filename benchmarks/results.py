"""What `bench` and `growth` share: where results go, how settings are typed, how a command is shown."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
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


def command_shown(module: str, arguments: Sequence[str]) -> str:
    """Return the command as results name it: without --results, which is a path of somebody's machine."""
    kept: list[str] = []
    skip = False
    for word in arguments:
        if not skip and not word.startswith("--results"):
            kept.append(word)
        skip = word == "--results"
    return shlex.join(["python", "-m", f"benchmarks.{module}", *kept])
