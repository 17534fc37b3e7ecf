"""--failures FILE: every asset that is missing when a run has ended, a line of JSON each.

Used by run.py: opened before the run, so that a place that cannot be written is told before anyone is asked; written
anew once the run has let go of its ledger, however the run ended. `status --failed --json` says the same.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec import json

from stacmirror.cli.checks import refuse_inside
from stacmirror.errors import TargetUnwritable, UsageError


@contextmanager
def failure_file(path: str, target: str) -> Iterator[Callable[[], int]]:
    """Give what writes the file, and returns how many lines it has; with no path, what does nothing.

    Raises: UsageError when it cannot be written, or lies in the mirror; TargetUnwritable when it can be no longer.
    """
    if not path:
        yield lambda: 0
        return
    refuse_inside("--failures", path, target)
    try:
        file = open(path, "ab")  # noqa: SIM115  (appended to, so that a run which does not begin leaves the last one's)
    except OSError as error:
        raise UsageError(
            f"--failures {path} cannot be written: {error.strerror}", hint="name a file in a folder that is there"
        ) from error

    def write() -> int:
        from stacmirror.status import tell_failed

        lines = 0
        try:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                file.truncate(0)
            for told in tell_failed(target):
                file.write(json.encode(told) + b"\n")
                lines += 1
            file.flush()
        except OSError as error:
            raise TargetUnwritable(
                f"--failures {path} cannot be written: {error.strerror}",
                hint=f"stacmirror status {target} --failed --json says the same",
            ) from error
        return lines

    try:
        yield write
    finally:
        file.close()
