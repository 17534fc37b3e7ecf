"""Fit the requests at once into what this process may have open: raise the limit, else lower the ceiling.

Called by the composition roots at the start of a run. Connections and files under way share one limit (RLIMIT_NOFILE),
and a run that meets it fails with "too many open files" wherever it happens to be: in a socket, in the ledger, in a
name look-up.
"""

from __future__ import annotations

import resource
from collections.abc import Callable

from msgspec.structs import replace

from stacmirror.settings import Settings

_SPARE = 128
"""For the ledger, the loop, locks, name look-ups, the terminal, and what the program that uses us has open."""
_EACH = 3
"""A place of `per_host` takes a connection at the API, one at the files' host, and a file where the body is large."""

Limits = tuple[int, int]


def fit_open_files(
    settings: Settings,
    note: Callable[[str], None],
    read: Callable[[], Limits] = lambda: resource.getrlimit(resource.RLIMIT_NOFILE),
    write: Callable[[Limits], None] = lambda limits: resource.setrlimit(resource.RLIMIT_NOFILE, limits),
) -> Settings:
    """Return the settings with a `per_host` that fits, after raising the soft limit as far as needed and allowed.

    `read` and `write` are of soft and hard limit. What is lowered is said to `note`. The limit is the process's, and
    stays raised.
    """
    per_host = settings.limit.per_host
    needed = _SPARE + _EACH * per_host
    soft, hard = read()
    if _suffices(soft, needed):
        return settings
    wanted = needed if _suffices(hard, needed) else hard
    if wanted != soft:
        try:
            write((wanted, hard))
        except (OSError, ValueError):  # macOS has a second limit, of the kernel, below the one that it names
            wanted = soft
    fitting = max(1, (wanted - _SPARE) // _EACH)
    if fitting >= per_host:
        return settings
    note(
        f"only {wanted:,} files and connections may be open at once (ulimit -n), so a host is asked for at most "
        f"{fitting} at once, not {per_host}"
    )
    return replace(settings, limit=replace(settings.limit, per_host=fitting))


def _suffices(limit: int, needed: int) -> bool:
    return limit == resource.RLIM_INFINITY or limit >= needed
