"""One HTTP/1.1 answer as it is parsed: its head, judged; its small body, held.

What `wire_answer` (one answer to one GET), `wire_turns` and `wire_series` (several) share. httptools (llhttp) parses;
what it does not judge is judged here: how much a head may hold, which codings were asked for, which body ends with the
close.
Source: RFC 9112, sections 6.3 (message body length), 9.3 (persistence).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply

HEADERS_MAX = 128
_NAMES = {
    form.encode(): name.lower()
    for name in (
        "Accept-Ranges", "Cache-Control", "Connection", "Content-Length", "Content-Type", "Content-MD5", "Date", "ETag",
        "Last-Modified", "Location", "Retry-After", "Server", "Transfer-Encoding", "Vary",
    )
    for form in (name, name.lower())
}  # fmt: skip
"""Header names that most answers have, as most servers spell them."""
_BODILESS = frozenset({204, 304})


class Message(ABC):
    """What the parser's callbacks make of one answer. `complete` once its last byte has come."""

    __slots__ = (
        "_body", "_chunked", "_head_left", "_head_max", "_headers", "_headers_left", "_keep", "_length", "_parser",
        "_size", "_small_max", "_status", "_url", "complete",
    )  # fmt: skip

    def __init__(self, url: str, small_max_bytes: int, head_max_bytes: int, parser: Any) -> None:
        """`head_max_bytes` of header lines, and of anything else that is no body.

        `parser` is the httptools parser that feeds it, asked for the status and the connection's fate.
        """
        self.complete = False
        self._small_max = small_max_bytes
        self._head_max = head_max_bytes
        self._parser = parser
        self._keep = False
        self._begin_anew(url)

    def _begin_anew(self, url: str) -> None:
        """Expect an answer of which nothing has come."""
        self._url = url
        self._status = 0
        self._headers: dict[str, str] = {}
        self._headers_left = HEADERS_MAX
        self._head_left = self._head_max
        self._body: list[bytes] = []
        self._size = 0
        self._length: int | None = None
        self._chunked = False

    @property
    def until_close(self) -> bool:
        """Whether its head has come, and its body has no end but the connection's."""
        return bool(self._status) and self._length is None and not self._chunked

    @property
    def size_bytes(self) -> int:
        """Bytes of the body so far."""
        return self._size

    @property
    def keeps(self) -> bool:
        """Whether the connection can go on once it is complete."""
        return self._keep

    def reply(self) -> Reply:
        """Return it as a Reply with its whole body."""
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        framed = self._chunked or "content-length" in self._headers
        return Reply(self._url, self._status, self._headers, body, None, framed=framed)

    @abstractmethod
    def too_large(self) -> None:
        """Hear that its body is over the limit, or will be."""

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.complete:
            return
        self._head_left -= len(name) + len(value) + 4
        self._headers_left -= 1
        if self._head_left < 0 or self._headers_left < 0:
            raise too_long(self._head_max)
        if not self._status:  # a trailer says nothing of the body that we would believe
            key, text = _NAMES.get(name) or name.decode("latin-1").lower(), value.decode("latin-1")
            # The first of two counts, but of codings all, so that none is hidden.
            if self._headers.setdefault(key, text) is not text and key == "content-encoding":
                self._headers[key] += f", {text}"

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200 or self.complete:
            return  # an interim answer: its end is not the end
        headers = self._headers
        self._status = status
        length = headers.get("content-length")
        self._length = 0 if status in _BODILESS else int(length) if length is not None else None
        coding = headers.get("transfer-encoding")
        if coding is not None:
            if coding.strip().lower() != "chunked":
                raise TransferError("protocol", "a transfer coding nobody asked for")
            self._chunked = True
        elif self._length is not None and self._length > self._small_max:
            self.too_large()

    def on_body(self, chunk: bytes) -> None:
        self._size += len(chunk)
        self._body.append(chunk)
        if self._size > self._small_max:
            self.too_large()

    def on_message_complete(self) -> None:
        if self._status:
            self.complete = True
            self._keep = bool(self._parser.should_keep_alive())  # asked now: the parser forgets it
        else:
            self._headers = {}  # an interim answer's


def too_long(head_max_bytes: int) -> TransferError:
    """Return the error for a head without end."""
    return TransferError("protocol", f"more than {HEADERS_MAX} headers, or {head_max_bytes} bytes of them")
