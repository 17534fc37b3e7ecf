"""Every error that stacmirror raises on purpose, and the exit code each one ends a run with.

    StacmirrorError                     1
    ├── UsageError                      2   settings, flags, filters, templates
    │   └── NotOffered                          what the source does not have, or does not take
    ├── LoginRefused                    4   the credential's own origin said no
    ├── SourceError                     5
    │   ├── SourceUnreachable               no answer, after all attempts
    │   │   └── CursorRefused                   a page's cursor is not taken (any more)
    │   ├── SourceUnreadable                an answer that is no page, item or collection
    │   │   └── NothingThere                    what SOURCE names is not there, or is nothing that can be mirrored
    │   └── ListingLoop                     pages without end
    ├── SourceLost                      5   a host that answered does so no more, for longer than an outage may last
    ├── TargetUnwritable                6   space, inodes, quota, EIO, read-only
    │   └── NoOpenFile                      no more files may be open; waited for, where that can be done
    ├── TargetInUse                     9   another run, or a foreign or unreadable ledger
    └── TransferError                   -   one asset's; becomes an Outcome, never ends the run

One asset's failure is data (an Outcome); the run's failure is one of the others. The message is one
line that names what and where; `hint` says what to do next. Imports nothing of ours.
"""

from __future__ import annotations

from typing import ClassVar, Self

_MESSAGE_MAX = 1000


class StacmirrorError(Exception):
    """A failure with one line for the user, a hint, and an exit code."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(StacmirrorError):
    """What the user typed or configured cannot be done."""

    exit_code = 2


class NotOffered(UsageError):
    """What was asked for is not what the source has or takes: a collection, an asset's name, an order, a search."""


class LoginRefused(StacmirrorError):
    """The catalog refused the key, or there is none. `ends_run`: nothing more is asked, whoever catches it."""

    exit_code = 4
    ends_run = False


class SourceError(StacmirrorError):
    """The catalog cannot be listed to its end, or does not give an item.

    `host` is the origin that was asked, `status` its last HTTP status, after `attempts`; "" and 0 where that is not it.
    """

    exit_code = 5
    host = ""
    status = 0
    attempts = 1

    def after(self, error: TransferError, host: str) -> Self:
        """Take over what the last attempt, at `host`, came to; return this error."""
        self.host, self.status, self.attempts = error.host or host, error.status, error.attempts
        return self


class SourceUnreachable(SourceError):
    """No usable answer after all attempts."""


class CursorRefused(SourceUnreachable):
    """The source does not take the cursor of a page: it may have expired since it was given."""


class SourceUnreadable(SourceError):
    """An answer came, but it is not what the catalog promises."""


class NothingThere(SourceUnreadable):
    """SOURCE names what is not there, or is no STAC: a mistake in what was typed, more likely than not."""


class ListingLoop(SourceError):
    """The pages repeat, or go on without new items."""


class SourceLost(StacmirrorError):
    """A host that answered in this run is down for longer than `--max-outage`: no item's failure, but the run's end."""

    exit_code = 5


class TargetUnwritable(StacmirrorError):
    """The target took no more: space, inodes, quota, I/O error, read-only."""

    exit_code = 6


class NoOpenFile(TargetUnwritable):
    """The target may be well, but this process (or the machine) may open no more files now."""


class TargetInUse(StacmirrorError):
    """Another run owns the target, or its ledger is foreign or unreadable."""

    exit_code = 9


KINDS = {
    "timeout": "no byte in time, or the server gave up (408)",
    "5xx": "the server failed (500 to 504)",
    "429": "the server wanted fewer requests",
    "gone": "not there (404, 410)",
    "refused": "not allowed (401, 403)",
    "expired": "the link had died, and the catalog gave no new one",
    "status": "another status that is no answer",
    "connect": "no connection",
    "dns": "no such host",
    "files": "no more files and connections may be open here (ulimit -n)",
    "proxy": "no connection to the proxy that the environment names",
    "tls": "no trust in the server's certificate, or no TLS",
    "reset": "the connection broke before an answer",
    "short": "fewer bytes than promised",
    "long": "more bytes than promised",
    "slow": "too few bytes a second",
    "digest": "other bytes than promised",
    "listed": "another size, or other bytes, than the catalog says (--no-file-info takes them)",
    "encoding": "damaged compression",
    "bomb": "compressed bytes that swell beyond measure",
    "content": "no file of the asset's media type (--any-content takes it)",
    "too-large": "above the limit",
    "protocol": "no HTTP answer",
    "client": "the HTTP client failed",
    "redirect": "redirects without an end or an address",
    "scheme": "an address of an unknown kind",
    "url": "not an address",
    "host": "an address inside a network that the source is not in",
    "no-href": "the catalog gives no address",
    "source": "the catalog did not give the item",
    "unlisted": "the catalog no longer lists the asset",
    "unadopted": "no such file was there to adopt; the source was not asked",
    "unfit": "the file that was there does not look whole; the source was not asked",
    "lost": "staged bytes are gone from the disk",
    "damaged": "verify found the file, or the ledger's row of it, damaged",
}
"""The words that failures are grouped by, and what they mean."""
UNASKED_KINDS = frozenset({"unadopted", "unfit"})
"""Failures for which nobody asked the source."""


class TransferError(StacmirrorError):
    """One request or body went wrong.

    `kind` is a short word for tables and `retry --only` (`connect`, `timeout`, `short`, `5xx`, `gone` ...).
    `status` is the HTTP status, or 0. `retryable` says whether asking again can help. `retry_after_s` is what
    the server asked for, in seconds, or None. `host` is the origin that was asked, or "". `by_host`: the host is to
    blame, as in an outage or a storm of 503, so that it counts as no attempt of the one who asked. `attempts` were made
    until it was raised by who asks again by itself.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        status: int = 0,
        retryable: bool = True,
        retry_after_s: float | None = None,
    ) -> None:
        # An address of a server's can be as long as it likes, and this is kept for every asset.
        super().__init__(message if len(message) <= _MESSAGE_MAX else f"{message[:_MESSAGE_MAX]}...")
        self.kind = kind
        self.status = status
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.host = ""
        self.by_host = False
        self.attempts = 1


def first_of(errors: BaseExceptionGroup[StacmirrorError]) -> StacmirrorError:
    """Return the first error of a group: what broke first is what a person should read."""
    for error in errors.exceptions:
        return first_of(error) if isinstance(error, BaseExceptionGroup) else error
    raise errors
