"""Where words and data go may be full, closed or gone: one line, the right exit code, and a run that goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stacmirror.cli.session import say

FULL = "/dev/full"
needs_full = pytest.mark.skipif(not os.path.exists(FULL), reason="there is no /dev/full here")


def typed(words: str, **streams: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stacmirror", *words.split()]
    return subprocess.run(command, text=True, check=False, timeout=60, **streams)  # type: ignore[call-overload,no-any-return]


@needs_full
def test_data_for_a_full_disk_is_one_line() -> None:
    """Not an unexpected error, no traceback at the end: exit code 6."""
    with open(FULL, "w") as full:
        done = typed("config show", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 6
    assert done.stderr.splitlines() == [
        "stacmirror: error: cannot write to stdout: No space left on device",
        "  hint: make room where the output goes",
    ]


@needs_full
def test_words_for_a_full_disk_end_nothing(tmp_path: Path) -> None:
    """A demo whose stderr is on a full disk mirrors all the same, and its data say so."""
    with open(FULL, "w") as full:
        done = typed(f"demo {tmp_path / 'mirror'} --items 5 --json", stdout=subprocess.PIPE, stderr=full)
    assert done.returncode == 0
    assert '"verdict":"complete"' in done.stdout


def test_a_reader_that_went_away() -> None:
    """`| head`: quiet, with the exit code that a shell gives for it."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        done = typed("config show", stdout=gone, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (141, "")


def test_say_never_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that is gone is no reason to end a run."""

    class Gone:
        def write(self, text: str) -> None:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    say("anything")


def test_ctrl_c_while_it_loads_is_no_traceback() -> None:
    """Before the program can catch it, the kernel's own end of a process: nothing on stderr."""
    code = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'stacmirror.cli.app':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from stacmirror.__main__ import main\n"
        "sys.argv = ['stacmirror', '--version']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-2, "")
