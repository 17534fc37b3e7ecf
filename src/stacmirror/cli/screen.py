"""What may reach a screen or a log line: ids and messages come from servers, and a terminal obeys control characters.

Called by everything in cli/ that prints text it did not write itself.
"""

from __future__ import annotations

import re

_QUERY_KEY = re.compile(r"(?i)\b((?:key|token|sig|signature|x-amz-[a-z-]+)=)[^&\s'\"]+")


def safe(text: str) -> str:
    """Return `text` as one line: characters that steer a terminal (escapes, line breaks, bidi marks) become U+FFFD."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "\ufffd" for char in text)


def without_secrets(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Return `text` (line breaks kept) without the known secrets and without keys in URLs."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[key]")
    return _QUERY_KEY.sub(r"\1[key]", text)
