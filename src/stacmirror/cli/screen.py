"""What may reach a screen or a log line: ids and messages come from servers, and a terminal obeys control characters.

Called by everything in cli/ that prints text it did not write itself. What steers a terminal or turns text around
(escapes, line breaks, bidi marks) never passes; markup is none, since no text of a server is ever handed to rich as a
string.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

_BEYOND_ASCII = re.compile(r"[^\x00-\x7e]")


def safe(text: str) -> str:
    """Return `text` as one line: characters that steer a terminal (escapes, line breaks, bidi marks) become U+FFFD."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "\ufffd" for char in text)


def safe_lines(text: str) -> str:
    """Return `text` with its line breaks, each line safe."""
    return "\n".join(map(safe, text.split("\n")))


def json_line(value: object) -> str:
    """Return a value as one line of JSON. What JSON itself would let pass (DEL, bidi marks, C1) is escaped, too."""
    line = msgspec.json.encode(value).decode()
    return line if line.isprintable() else _BEYOND_ASCII.sub(_escaped, line)


def _escaped(match: re.Match[str]) -> str:
    if match[0].isprintable():
        return match[0]
    units = match[0].encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def without_secrets(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` (line breaks kept) without the known secrets, in any form, and without what looks like one."""
    from stacmirror.redact import Redactor  # here: its patterns take 10 ms, and most calls say nothing of servers

    return Redactor(secrets).text(text)
