"""SIGINT and SIGTERM: the first asks the run to finish what is in hand, the second ends it now.

Called by run.py on the run's loop. After the second, the signals have the kernel's own meaning, so that a third one
ends the process whatever it hangs in (a disk that does not answer, say); what is committed stays committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator

from stacmirror.pipeline.stop import Stop

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


@contextlib.contextmanager
def stopping(stop: Stop, note: Callable[[str], None]) -> Iterator[None]:
    """Turn signals into `stop` until the block ends."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in EXIT_CODES}

    def heard(number: signal.Signals) -> None:
        again = stop.asked.is_set()
        stop.ask(EXIT_CODES[number], "interrupted" if number == signal.SIGINT else "terminated")
        if again:
            note("stopping now: keeping what is whole; interrupt once more to end without waiting for the disk")
            release()
            for each in EXIT_CODES:
                signal.signal(each, signal.SIG_DFL)  # Python's own way to end would wait for the threads
            _show_cursor()
        else:
            # A turn later: by then the run has said that it finishes what is in hand.
            loop.call_soon(note, "interrupt once more to stop now")

    def release() -> None:
        for number in EXIT_CODES:
            loop.remove_signal_handler(number)

    for number in EXIT_CODES:
        loop.add_signal_handler(number, heard, number)
    try:
        yield
    finally:
        release()
        for number, handler in before.items():
            if handler is not None:  # of another language's making
                signal.signal(number, handler)


def _show_cursor() -> None:
    """The bar hides it, and nobody will be there to show it again when the next signal ends the process."""
    if sys.stderr.isatty():
        with contextlib.suppress(OSError):
            sys.stderr.write("\x1b[?25h")
            sys.stderr.flush()
