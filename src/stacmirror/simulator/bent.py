"""How storage gets ranges wrong: the faults that are in what is said, not in how it is sent.

Called by `server` for the storage hosts. It must not know sockets or objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from .answers import Answer, Ask

_CONTENT_RANGE = re.compile(rb"Content-Range: bytes (\d+)-(\d+)/")
_VALIDATORS = re.compile(rb"(ETag: )(?=\")|Last-Modified: [^\r]*\r\n")
_PIECE = bytes(range(256)) * 256


def bent_ask(ask: Ask, fault: str, *, ignores_conditions: bool) -> Ask:
    """Return the request as such a server takes it."""
    deaf = {"Range"} if fault == "whole" else set()
    if ignores_conditions:
        deaf |= {"If-Range", "If-Match", "If-Unmodified-Since"}
    if not deaf:
        return ask
    return replace(ask, headers={name: value for name, value in ask.headers.items() if name.title() not in deaf})


def bent_answer(answer: Answer, fault: str) -> Answer:
    """Return the answer as such a server gives it."""
    if fault == "wrong-range":
        return replace(answer, headers=_CONTENT_RANGE.sub(_shifted, answer.headers))
    if fault == "endless" and answer.status == 200:
        return replace(answer, body=_endless(answer.body), length=None)
    return answer


def weakened(answer: Answer) -> Answer:
    """Return the answer of a server whose validators name no version."""
    return replace(answer, headers=_VALIDATORS.sub(lambda found: b"ETag: W/" if found[1] else b"", answer.headers))


def _shifted(found: re.Match[bytes]) -> bytes:
    return b"Content-Range: bytes %d-%d/" % (int(found[1]) + 1, int(found[2]) + 1)


def _endless(body: bytes | Iterator[bytes]) -> Iterator[bytes]:
    # The object first: what begins as another kind of file is given up long before any cap.
    yield from [body] if isinstance(body, bytes) else body
    while True:
        yield _PIECE
