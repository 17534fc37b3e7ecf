"""Items cut out of a stream of JSON as it comes: NDJSON, Items one after another, FeatureCollections of any size.

Pure: bytes go in, each item's bytes come out with where they stood. It holds one item at a time, and decodes nothing:
it counts braces outside of strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from stacmirror.errors import SourceUnreadable

Mode = Literal["lines", "values", "features", "rest"]
"""`lines`: an item a line; `values`: JSON values in a row; `features`: in a list of them; `rest`: behind it."""

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)
_ARRAY = re.compile(rb"\s*:\s*\[")
_AFTER_KEY_BYTES = 64
"""Within so many bytes behind a key its value begins."""
_SPACE = b" \t\r\n,\x1e\xef\xbb\xbf"
"""What may stand between values: also the separators of GeoJSON text sequences, and a byte order mark."""
_WHOLE_HINT = "the file ends amid an item: was it copied whole?"


class Piece(NamedTuple):
    """One item's bytes, where they begin in the stream, and where a later reader goes on, in which mode."""

    body: bytes
    at: int
    after: int
    mode: Mode


class Splitter:
    """Cuts a stream. `feed` it, take its pieces, and call `end` when nothing more comes."""

    def __init__(self, mode: Mode, at: int, item_max_bytes: int) -> None:
        """`at` is where the stream is gone on with, in `mode`."""
        self._mode: Mode = mode
        self._held = b""
        self._at = at
        """Where what is held begins in the stream."""
        self._from = 0
        """Where in it begins what is not given out yet."""
        self._scanned = 0
        self._depth = 0
        self._start = 0
        self._ended = False
        self._awaits_list = False
        """The next bracket opens the list of features."""
        self._item_max_bytes = item_max_bytes

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        """Yield the items that are whole by now. Raises: SourceUnreadable above the limit for one item."""
        self._held = self._held[self._from :] + chunk
        self._at += self._from
        self._scanned -= self._from
        self._start -= self._from
        self._from = 0
        yield from self._lines() if self._mode == "lines" else self._values()
        if len(self._held) - self._from > self._item_max_bytes:
            raise SourceUnreadable(
                f"one item is above {self._item_max_bytes:,} bytes", hint="if that is right, `page_max` takes more"
            )

    def end(self) -> Iterator[Piece]:
        """Yield what is left. Raises: SourceUnreadable where the stream ended amid an item or a list."""
        self._ended = True
        if self._mode != "lines":
            yield from self._values()
        rest = self._held[self._from :].strip(_SPACE)
        if self._mode == "lines":
            if rest:
                yield Piece(rest, self._at + self._from, self._at + len(self._held), "lines")
        elif rest or self._mode == "features":
            raise SourceUnreadable(f"it ends in the middle, at byte {self._at + len(self._held):,}", hint=_WHOLE_HINT)

    def _lines(self) -> Iterator[Piece]:
        while (found := self._held.find(b"\n", self._scanned)) >= 0:
            line, at = self._held[self._from : found], self._at + self._from
            self._from = self._scanned = found + 1
            if body := line.strip(_SPACE):
                yield Piece(body, at, self._at + found + 1, "lines")
        self._scanned = len(self._held)

    def _values(self) -> Iterator[Piece]:
        for token in _TOKEN.finditer(self._held, self._scanned):
            sign = token[0]
            if sign[:1] == b'"':
                if not _is_whole(sign):
                    self._scanned = token.start()
                    return
                if self._depth == 1 and self._mode == "values" and sign == b'"features"':
                    if len(self._held) < token.end() + _AFTER_KEY_BYTES and not self._ended:
                        self._scanned = token.start()
                        return
                    self._awaits_list = _ARRAY.match(self._held, token.end()) is not None
                continue
            self._scanned = token.end()
            if sign in b"{[":
                self._open(sign, token.start(), token.end())
            elif (piece := self._close(token.end())) is not None:
                yield piece
        self._scanned = len(self._held)

    def _open(self, sign: bytes, start: int, end: int) -> None:
        if (self._awaits_list and self._depth == 1) or (sign == b"[" and self._depth == 0 and self._mode == "values"):
            self._awaits_list, self._mode, self._depth, self._from = False, "features", 0, end
            return
        if self._depth == 0:
            self._start = start
        self._depth += 1

    def _close(self, end: int) -> Piece | None:
        if self._depth == 0:
            # The list ends, and then its collection: what is between is no item's.
            self._mode = "rest" if self._mode == "features" else "values"
            self._from = end
            return None
        self._depth -= 1
        if self._depth or self._mode == "rest":
            return None
        self._from = end
        return Piece(self._held[self._start : end], self._at + self._start, self._at + end, self._mode)


def _is_whole(string: bytes) -> bool:
    """Return whether a token is a string with its closing quote, and that is no escaped one."""
    inner = string[1:-1]
    return len(string) > 1 and string[-1:] == b'"' and (len(inner) - len(inner.rstrip(b"\\"))) % 2 == 0
