"""--log-file: every note with its time, one a line, appended.

Made by run.py, written through display.py. A log that cannot be written any more must not end a run.
"""

from __future__ import annotations

import contextlib
import time
from types import TracebackType
from typing import TextIO

from stacmirror.cli.screen import safe
from stacmirror.errors import UsageError


class Log:
    """A file of notes, flushed line by line so that `tail -f` shows what happens."""

    def __init__(self, path: str) -> None:
        try:
            self._file: TextIO = open(path, "a", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
        except OSError as error:
            raise UsageError(
                f"log file {path} cannot be written: {error.strerror}", hint="name a file in a folder that is there"
            ) from error

    def write(self, message: str) -> None:
        """Append one note."""
        with contextlib.suppress(OSError):
            self._file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {safe(message)}\n")

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
