"""A ramp of requests at once as plain values: what it may cost, what its steps showed, its end, and what to keep.

Made by `tune`, printed by the command line. It asks nothing of anyone.
"""

from __future__ import annotations

from dataclasses import dataclass

RAMP = (4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
_GOOD = 0.95
_WORTH = 1.05
_BUSY = 0.8


@dataclass(frozen=True)
class Caps:
    """What a ramp may cost. Bytes are those of bodies; what is under way when they are reached is not cut short."""

    seconds: float = 60.0
    requests_max: int = 50_000
    bytes_max: int = 1 << 30


@dataclass(frozen=True)
class Step:
    """One allowance and what came of it. `p50_s` and `p95_s` are of single requests, of all hosts."""

    at_once: int
    seconds: float
    files: int
    files_per_s: float
    bytes: int
    requests: int
    p50_s: float
    p95_s: float
    refused: int
    failed: int
    busy: float
    """The share of time for which our own loop worked."""


@dataclass(frozen=True)
class Tuning:
    """What a ramp found. `per_host` is the least that brings nearly the best rate without a refusal."""

    steps: tuple[Step, ...]
    ended: str
    per_host: int
    workers: int
    requests: int
    bytes: int


def why_last(steps: list[Step], ended: str) -> str:
    """Return why the last of `steps` ends the ramp, "" where it does not; `ended` is what came up while it was on."""
    step = steps[-1]
    if step.refused:
        return f"the source refused {step.refused:,} requests (429, 503) at {step.at_once} at once"
    if ended:
        return ended
    if not step.files and step.failed:
        return f"nothing came at {step.at_once} at once"
    if step.busy > _BUSY:
        return f"this machine is the limit: busy for {step.busy:.0%} of the time at {step.at_once} at once"
    if len(steps) > 2 and step.files_per_s < _WORTH * max(one.files_per_s for one in steps[:-2]):
        return "more at once brought no more, twice"
    return ""


def recommended(steps: list[Step]) -> int:
    """Return the least allowance that had nearly the best rate, of the steps that were not refused."""
    good = [step for step in steps if not step.refused] or steps[:1]
    best = max(step.files_per_s for step in good)
    found = next(step.at_once for step in good if step.files_per_s >= _GOOD * best)
    # Refused in the first step already: half of it is the best that can be said.
    return max(1, found // 2) if steps[0].refused else found
