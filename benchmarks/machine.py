"""What the figures were measured on, in words for the results."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def machine() -> str:
    """Return cores, CPU model, memory, kernel and Python in one line."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return (
        f"{os.cpu_count()} cores ({_cpu_model()}), {memory_gib:.0f} GiB, {platform.system()} {platform.release()}, "
        f"CPython {platform.python_version()}"
    )


def load() -> str:
    """Return the load averages: what else the machine was doing."""
    return ", ".join(f"{value:.1f}" for value in os.getloadavg())


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
