"""When to ask again: the policy, what Retry-After says, and the loop."""

import asyncio
import subprocess
import sys
from email.utils import formatdate, mktime_tz, parsedate_tz

import pytest

from stacmirror.errors import TransferError
from stacmirror.retry import RetryPolicy, error_for_status, parse_date, parse_retry_after, with_retries

NOW_S = 1_700_000_000.0


def failure(retry_after_s: float | None = None, *, retryable: bool = True) -> TransferError:
    return TransferError("5xx", "503", retryable=retryable, retry_after_s=retry_after_s)


@pytest.mark.parametrize(("attempt", "bound_s"), [(1, 0.5), (2, 1.0), (3, 2.0), (5, 8.0)])
def test_backoff_doubles_with_full_jitter(attempt: int, bound_s: float) -> None:
    """Attempt n waits between nothing and the first bound doubled n-1 times."""
    policy = RetryPolicy()
    assert policy.wait_s(attempt, failure(), lambda: 0.0) == 0.0
    assert policy.wait_s(attempt, failure(), lambda: 0.5) == bound_s / 2


def test_backoff_is_capped() -> None:
    """However many attempts, no wait of ours is over the cap; huge counts do not overflow."""
    assert RetryPolicy(retries=2000, max_s=60.0).wait_s(1000, failure(), lambda: 1.0) == 60.0


def test_policy_gives_up() -> None:
    """After the last retry, and at once for what cannot change."""
    policy = RetryPolicy(retries=2)
    assert policy.wait_s(2, failure(), lambda: 0.0) is not None
    assert policy.wait_s(3, failure(), lambda: 0.0) is None
    assert policy.wait_s(1, failure(retryable=False), lambda: 0.0) is None
    assert RetryPolicy(retries=0).wait_s(1, failure(), lambda: 0.0) is None


def test_the_servers_wait_is_kept_and_jittered_above() -> None:
    """Never sooner than asked, up to the cap."""
    policy = RetryPolicy(retry_after_max_s=100.0)
    assert policy.wait_s(1, failure(7.0), lambda: 0.0) == 7.0
    assert policy.wait_s(1, failure(7.0), lambda: 0.5) == 7.25
    assert policy.wait_s(1, failure(9999.0), lambda: 0.0) == 100.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("²", None),
        ("9" * 400, 999_999_999_999.0),
        (formatdate(NOW_S + 30, usegmt=True), 30.0),
        (formatdate(NOW_S - 30, usegmt=True), 0.0),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str | None, expected: float | None) -> None:
    """Both forms of RFC 9110; anything else is no wait."""
    assert parse_retry_after(value, NOW_S) == expected


@pytest.mark.parametrize(
    "value",
    [
        *(formatdate(second, usegmt=True) for second in range(0, 4_000_000_000, 98_765_432)),
        "Thu, 29 Feb 2024 23:59:59 GMT",
        "Sat, 31 Dec 2016 23:59:60 GMT",  # a leap second, which there was
        "Sun, 31 Nov 2021 08:49:37 GMT",
        "Sun, 30 Nov 2021 25:49:37 GMT",
        "Sun, 30 Nov 0050 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 +0100",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ],
)
def test_a_date_is_what_email_utils_takes_it_for(value: str) -> None:
    """The usual form of RFC 9110 is read by hand, and means what it meant; all others go to email.utils."""
    parsed = parsedate_tz(value)
    assert parsed is not None
    assert parse_date(value) == float(mktime_tz(parsed))


@pytest.mark.parametrize("value", ["", "soon", "Sun, 06 Nov", "1994-11-06T08:49:37Z"])
def test_what_is_no_date_is_none(value: str) -> None:
    """Nothing raises, whatever a server sends."""
    assert parse_date(value) is None


def test_the_usual_date_needs_no_email_package() -> None:
    """A run that meets ordinary `Date` headers does not load what reads the others: 5 ms."""
    script = (
        "import sys; from stacmirror.retry import parse_date; parse_date('Sun, 06 Nov 1994 08:49:37 GMT')\n"
        "sys.exit('email.utils' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (408, "timeout", True), (425, "timeout", True), (429, "429", True), (500, "5xx", True), (503, "5xx", True),
        (404, "gone", False), (410, "gone", False), (401, "refused", False), (403, "refused", False),
        (400, "status", False), (501, "status", False), (204, "status", True), (206, "status", True),
    ],
)  # fmt: skip
def test_statuses_are_sorted(status: int, kind: str, retryable: bool) -> None:
    """What may change is asked again; a 404 is not."""
    error = error_for_status(status, {"retry-after": "5"}, "h", NOW_S)
    assert (error.kind, error.status, error.retryable) == (kind, status, retryable)
    assert error.retry_after_s == (5.0 if retryable and status >= 400 else None)


async def test_loop_asks_until_it_works() -> None:
    """Each retryable failure is told and waited for; then the value is returned."""
    waits: list[float] = []
    told: list[float] = []
    left = [failure(1.0), failure(2.0)]

    async def ask() -> str:
        if left:
            raise left.pop(0)
        return "value"

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    policy = RetryPolicy(retries=5)
    assert await with_retries(ask, policy, lambda: 0.0, sleep, lambda _, wait_s: told.append(wait_s)) == "value"
    assert waits == told == [1.0, 2.0]


async def test_loop_raises_the_last_failure() -> None:
    """After `retries` further attempts the last error comes out; other errors at once."""
    asked = 0

    async def ask() -> None:
        nonlocal asked
        asked += 1
        raise TransferError("5xx", f"failure {asked}")

    async def sleep(_: float) -> None: ...

    with pytest.raises(TransferError, match="failure 3"):
        await with_retries(ask, RetryPolicy(retries=2), lambda: 0.0, sleep, lambda *_: None)

    async def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await with_retries(broken, RetryPolicy(), lambda: 0.0, sleep, lambda *_: None)


async def test_loop_can_be_cancelled_while_it_waits() -> None:
    """A cancellation during the wait ends it, and nothing more is asked."""
    asked = 0

    async def ask() -> None:
        nonlocal asked
        asked += 1
        raise failure(1.0)

    async def forever(_: float) -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(with_retries(ask, RetryPolicy(), lambda: 0.0, forever, lambda *_: None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asked == 1
