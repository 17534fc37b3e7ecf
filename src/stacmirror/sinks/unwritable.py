"""What a failed file operation means to a run, in words. Used by the sinks."""

from __future__ import annotations

import errno

from stacmirror.errors import NoOpenFile, TargetUnwritable
from stacmirror.shortage import is_shortage

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def unwritable(error: OSError, path: str) -> TargetUnwritable:
    """Return the run's error for a failed file operation, with what to do next."""
    reason = error.strerror or type(error).__name__
    if is_shortage(error):
        return NoOpenFile(f"cannot write to {path}: {reason}", hint="raise `ulimit -n`, then `stacmirror resume`")
    hint = (
        "make room, then `stacmirror resume`" if error.errno in _FULL else "mend the target, then `stacmirror resume`"
    )
    return TargetUnwritable(f"cannot write to {path}: {reason}", hint=hint)
