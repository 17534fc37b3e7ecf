"""What each exit code means, for `--help`; the classes in stacmirror.errors and the run's Summary carry the numbers."""

from __future__ import annotations

EXIT_CODES = {
    0: "complete (reaching --max-items is complete)",
    1: "unexpected error",
    2: "usage or settings",
    3: "finished, but some assets failed",
    4: "login refused, or no key",
    5: "source unreachable, or its listing incomplete or looping",
    6: "target cannot be written (space, inodes, quota, I/O error, read-only)",
    8: "a limit that you set stopped it, or files want a login that you did not",
    9: "target in use by another run, or its ledger is foreign or unreadable",
    130: "interrupted (Ctrl-C); resumable",
    143: "terminated (SIGTERM); resumable",
}

_OTHER_CODES = {7: "damage was found"}
"""Codes that no run ends with."""


def epilog(zero: str = "", *others: int) -> str:
    """Return the exit codes as one block for a help page: a run's, or what 0 means there, and those of `others`."""
    known = EXIT_CODES | _OTHER_CODES
    codes = {0: zero, **{code: known[code] for code in others}} if zero else EXIT_CODES
    lines = [f"  {code:>3}  {meaning}" for code, meaning in codes.items()]
    return "Exit codes:\n" + "\n".join(lines)
