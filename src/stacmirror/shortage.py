"""No more files or connections may be open just now (EMFILE, ENFILE): how that is told from a failure, and waited out.

The limit of a process may fall while it runs, the program around us may open files of its own, and the machine's table
may be full. That is no failure of a disk, a host or an asset. Used by sinks, the ledger's lock, transports and budgets.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

KIND = "files"
"""The kind of a TransferError that comes of it."""
_SHORT = frozenset({errno.EMFILE, errno.ENFILE})
_PATIENCE_S = 60.0
_WAIT_FIRST_S, _WAIT_MAX_S = 0.01, 0.5

P = ParamSpec("P")
T = TypeVar("T")


def is_shortage(error: BaseException | None) -> bool:
    """Return whether an error says that no more files may be open."""
    return isinstance(error, OSError) and error.errno in _SHORT


def patiently(call: Callable[P, T], *values: P.args, **named: P.kwargs) -> T:
    """Call, again and again for a minute while no file can be opened. Blocks: not on the event loop."""
    ends_s = time.monotonic() + _PATIENCE_S
    wait_s = _WAIT_FIRST_S
    while True:
        try:
            return call(*values, **named)
        except OSError as error:
            if not is_shortage(error) or time.monotonic() >= ends_s:
                raise
        time.sleep(wait_s)
        wait_s = min(_WAIT_MAX_S, 2 * wait_s)
