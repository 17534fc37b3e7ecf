"""How bytes are asked for: a URL once (`Transport`), or an href wherever it leads (`Opener`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol
from urllib.parse import quote

from stacmirror.errors import TransferError

_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


class Body(Protocol):
    """A body above the small-file limit, to be read once and closed, always."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body's bytes in order.

        Raises: TransferError when the body ends early, stalls or breaks.
        Cancel: safe; the connection is dropped by `close`.
        """
        ...

    def close(self) -> None:
        """Give the connection back (or drop it when the body was not read to its end). May be called twice."""
        ...


class Reply:
    """One answer. Exactly one of `body` (read whole) and `stream` (above the limit) is not None.

    `url` is the address that answered (after redirects, when it comes from an Opener); it may carry a token.
    `headers` has lower-case names, and a character for each byte of a value (latin-1). `length_bytes` is the declared
    Content-Length, or None. `framed`: the body has an end of its own (a length, chunks); otherwise it ends with the
    connection, and a short one looks like a whole one.
    """

    __slots__ = ("body", "framed", "headers", "hops", "led_s", "length_bytes", "status", "stream", "url")

    led_s: float
    """Of a redirect that is still to be followed: the loop's time when it was asked for."""
    hops: int
    """Of the same: how many redirects it is behind the link."""

    def __init__(
        self,
        url: str,
        status: int,
        headers: Mapping[str, str],
        body: bytes | None,
        stream: Body | None,
        *,
        framed: bool | None = None,
    ) -> None:
        """`framed` is read from the headers where it is not given."""
        self.url = url
        self.status = status
        self.headers = headers
        self.body = body
        self.stream = stream
        length = headers.get("content-length", "")
        self.length_bytes = int(length) if length.isdigit() else None
        self.framed = self.length_bytes is not None or "transfer-encoding" in headers if framed is None else framed

    @property
    def location(self) -> str:
        """Where a redirect leads; "" where it does not say.

        Bytes beyond ASCII go back as they came, percent-encoded: only the server knows whose alphabet they are of.
        """
        location = self.headers.get("location", "")
        return location if location.isascii() else quote(location.encode("latin-1", "replace"), safe=_PRINTABLE)


class Transport(Protocol):
    """Ask one URL once. Follows no redirect, retries nothing, knows no credentials but its own scheme's.

    Raises: TransferError for everything that goes wrong, with the foreign exception as its cause.
            A status of any kind is a Reply, not an error.
    Cancel: safe at any await; the connection is dropped.
    """

    async def fetch(self, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
        """GET `url`; bodies up to `small_max_bytes` come whole in `Reply.body`, others as `Reply.stream`."""
        ...

    async def close(self) -> None:
        """Close all connections. May be called twice."""
        ...


class SeveralTransport(Transport, Protocol):
    """A transport that can also send several requests on one connection."""

    async def fetch_several(
        self,
        requests: Sequence[tuple[str, Mapping[str, str]]],
        small_max_bytes: int,
        heard: Callable[[Reply], bool] | None = None,
    ) -> Sequence[Reply | TransferError | None]:
        """GET URLs of one origin, each with its headers; return the first so many answers, their bodies whole.

        With `heard` each goes out once it has been told of the answer to the one before, and has returned True; a body
        over `small_max_bytes` is the last, a stream, of which it is not told. Without it all go out in one write (HTTP
        pipelining), and such a body is missing. Answers end early where the server ends them, or their bodies exceed
        `small_max_bytes` together. What is missing, or None, is to be asked for by `fetch`; the last may be the error
        that took the place of an answer. Raises and Cancel: as `fetch`, for the first of them.
        """
        ...


class Opener(Protocol):
    """Open an href wherever it leads: redirects by hand, hosts' budgets kept, schemes dispatched."""

    async def open(self, href: str) -> Reply:
        """Return the first answer that is no redirect.

        Raises: TransferError (kinds `connect`, `timeout`, `redirect`, `scheme` ...), also for statuses that say
                "later" (408, 425, 429, 5xx), after the host's budget has heard of it. Kind `paused`: a host on the
                way is paused for `retry_after_s`, and was not asked.
        """
        ...

    async def follow(self, reply: Reply, href: str) -> Reply:
        """As `open`, where `reply` has said already, at `led_s`, where `href` leads.

        Asks `href` again if that is refused and may have died meanwhile.
        """
        ...

    async def open_rest(self, href: str, headers: Mapping[str, str], *, redirected: bool) -> Reply:
        """As `open`, with `headers` that ask for a range. They go to the address that has the bytes.

        `redirected`: `href` itself is known to lead elsewhere, so they do not go there.
        """
        ...

    def wait_s(self, href: str) -> float:
        """Return for how many seconds the host of `href` is paused (0.0: ask now)."""
        ...

    def is_down(self, href: str) -> bool:
        """Return whether the host of `href` is down: it is asked once in a while, whatever `wait_s` says."""
        ...

    def useful_at_once(self) -> int:
        """Return how many callers of `open` at once can be of use now; more would only wait for their hosts."""
        ...

    @property
    def requests(self) -> int:
        """Requests sent so far, redirects included."""
        ...


class SeveralOpener(Protocol):
    """Opens several hrefs, in turn or at once."""

    async def open_several(self, hrefs: Sequence[str]) -> list[Reply | TransferError | None]:
        """Return, for each href, the first answer that is no redirect, its body whole; or None, to ask by `Opener`.

        A redirect is returned where what it leads to has no answer: it is to be asked by `Opener.follow`.
        A TransferError in an answer's place is what `Opener.open` would have raised: one attempt.
        Raises: LoginRefused from a transport, SourceLost; no TransferError.
        Cancel: safe; connections are dropped.
        """
        ...
