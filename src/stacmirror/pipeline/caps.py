"""What a run may cost before it stops by itself: failed assets, bytes; and what it would ask for in vain.

Asked by the workers after every item. It stops the run softly, as Ctrl-C does: items in hand are finished.
"""

from __future__ import annotations

from stacmirror.pipeline.missing import MissingKeys
from stacmirror.pipeline.progress import Progress
from stacmirror.pipeline.stop import Stop
from stacmirror.units import Allowed, format_count, format_size

EXIT_CODE = 8
_SHARE_OF_MIN = 1000
"""A share says something from so many assets on."""


class Caps:
    """One for the run. `failures` and `transfer_bytes` are None where there is no limit."""

    def __init__(
        self,
        failures: Allowed | None,
        transfer_bytes: int | None,
        progress: Progress,
        missing: MissingKeys,
        stop: Stop,
    ) -> None:
        self._failures = failures
        self._transfer_bytes = transfer_bytes
        self._progress = progress
        self._missing = missing
        self._stop = stop

    def check(self) -> None:
        """Ask the run to stop where a limit is reached."""
        if self._stop.asked.is_set():
            return
        progress = self._progress
        if self._transfer_bytes is not None and progress.bytes_stored >= self._transfer_bytes:
            self._stop.ask(EXIT_CODE, f"--max-transfer {format_size(self._transfer_bytes)} is reached")
        elif self._failures is None and self._missing.wants_login:
            self._stop.ask(EXIT_CODE, self._missing.wants_login)
        elif self._failures is not None and progress.phase == "fetching":
            self._check_failures(self._failures)

    def _check_failures(self, allowed: Allowed) -> None:
        progress = self._progress
        settled = progress.failures + progress.files_stored
        most = allowed.number if allowed.share is None else int(allowed.share * max(settled, _SHARE_OF_MIN))
        if progress.failures <= most:
            return
        # A key that may be missing everywhere is a failure only until that is known.
        failures = progress.failures - self._missing.undecided()
        if failures > most:
            assets = "asset" if failures == 1 else "assets"
            words = f"{format_count(failures)} {assets} failed, more than --max-failures {allowed.text}"
            self._stop.ask(EXIT_CODE, f"{words}; `status --failed` says why")
