"""When to ask again, and how long to wait first: the policy as a value, the backoff as a pure function.

Used by catalogs (pages, items), by the transfer stage (assets), and by transports for what a status means. Knows
no client and no host.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from msgspec import Struct

from stacmirror.errors import TransferError

RETRYABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that may be different next time. A 404 is not one: asking ten times for what is gone costs days."""

REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
GONE_STATUSES = frozenset({404, 410})
LINK_DEAD_STATUSES = frozenset({401, 403, 404, 410})
"""What an expired link answers, depending on the server."""

_PUT_OFF_MAX = 4
"""Doublings of the wait for a host that is to blame: when it is back nobody should sleep for a minute."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_USUAL_DATE = re.compile(
    rf"[A-Z][a-z]{{2}}, (\d\d) ({'|'.join(_MONTHS)}) ([12]\d{{3}}) (\d\d):(\d\d):(\d\d) GMT", re.ASCII
)

T = TypeVar("T")


class RetryPolicy(Struct, frozen=True):
    """How often, and how long: attempt n waits between 0 and `first_s * 2**n` seconds, at most `max_s`."""

    retries: int = 5
    first_s: float = 0.5
    max_s: float = 60.0
    retry_after_max_s: float = 600.0
    outage_max_s: float = 1800.0
    """For so long one who asks puts up with a host that is to blame, without its counting as an attempt."""

    def wait_s(self, attempt: int, error: TransferError, random: Callable[[], float]) -> float | None:
        """Return seconds to wait after failed attempt `attempt` (from 1), or None to give up.

        `random` returns a number in [0, 1). A wait the server asked for is kept in full (up to the cap) and
        jittered above, so that many clients do not come back at once.
        Source: "Exponential Backoff And Jitter" (full jitter); RFC 9110, section 10.2.3 for Retry-After.
        """
        if not error.retryable or attempt > self.retries:
            return None
        return self.backoff_s(attempt, error, random)

    def backoff_s(self, times: int, error: TransferError, random: Callable[[], float]) -> float:
        """Return seconds to wait after the `times`-th failure (from 1), whether it counts as an attempt or not."""
        jitter_s = random() * min(self.max_s, self.first_s * 2.0 ** min(times - 1, 64))
        if error.retry_after_s is None:
            return jitter_s
        return min(error.retry_after_s, self.retry_after_max_s) + jitter_s

    def put_off_s(self, times: int, error: TransferError, random: Callable[[], float]) -> float:
        """Return seconds to wait for a host that is to blame for `times` failures in a row, which are no attempts."""
        return self.backoff_s(min(times, _PUT_OFF_MAX), error, random)


def parse_retry_after(value: str | None, now_wall_s: float) -> float | None:
    """Return the seconds a Retry-After header asks for (a number or a date), or None. Never negative."""
    if not value:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    then_s = parse_date(value)
    return None if then_s is None else max(0.0, then_s - now_wall_s)


def parse_date(value: str) -> float | None:
    """Return the seconds since the epoch of an HTTP date, or None.

    The form that every server sends (`Sun, 06 Nov 1994 08:49:37 GMT`) is read here, all others by email.utils.
    Source: RFC 9110, section 5.6.7.
    """
    if found := _USUAL_DATE.fullmatch(value):
        day, month, year, hour, minute, second = found.groups()
        # What is no date (a leap second, the 31st of a month of 30 days) is left to email.utils as well.
        with contextlib.suppress(ValueError):
            at = datetime(
                int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC
            )
            return at.timestamp()
    import email.utils  # here: it is seldom needed, and takes 5 ms to load

    parsed = email.utils.parsedate_tz(value)
    if parsed is None:
        return None
    try:
        return float(email.utils.mktime_tz(parsed))
    except (OverflowError, ValueError):
        return None


def error_for_status(status: int, headers: Mapping[str, str], what: str, now_wall_s: float) -> TransferError:
    """Return the TransferError for an answer that is not the wanted one. `what` is redacted text."""
    if status in RETRYABLE_STATUSES:
        kind = "429" if status == 429 else "5xx" if status >= 500 else "timeout"
        asked_for = headers.get("retry-after", "")
        if asked_for and not asked_for.isdigit():  # a date: by the clock of who wrote it, not by ours
            now_wall_s = parse_date(headers.get("date", "")) or now_wall_s
        wait_s = parse_retry_after(asked_for, now_wall_s)
        return TransferError(kind, f"{status} from {what}", status=status, retry_after_s=wait_s)
    kind = "gone" if status in GONE_STATUSES else "refused" if status in (401, 403) else "status"
    # A 204, a 206 that nobody asked for or a 304 is somebody's mistake on the way, and may be none the next time.
    return TransferError(kind, f"{status} from {what}", status=status, retryable=status < 400)


async def with_retries(
    ask: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    random: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
    on_retry: Callable[[TransferError, float], None],
) -> T:
    """Return what `ask` returns, asking again after each retryable TransferError.

    What the host is to blame for is no attempt, until the waits amount to more than an outage may last.
    Raises: the last TransferError.
    Cancel: safe; between attempts nothing is held.
    """
    attempt, put_off, waited_s = 0, 0, 0.0
    while True:
        try:
            return await ask()
        except TransferError as error:
            if error.by_host and error.retryable and waited_s < policy.outage_max_s:
                put_off += 1
                wait_s: float | None = policy.put_off_s(put_off, error, random)
                waited_s += wait_s or 0.0
            else:
                attempt += 1
                wait_s = policy.wait_s(attempt, error, random)
            if wait_s is None:
                error.attempts = attempt
                raise
            on_retry(error, wait_s)
            await sleep(wait_s)
