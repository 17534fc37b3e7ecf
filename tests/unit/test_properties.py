"""What holds of any retry schedule, any host, any listing and any link, by examples that hypothesis makes up."""

from __future__ import annotations

import asyncio
import base64
import math
import random
from datetime import UTC, datetime
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stacmirror.budget import HostBudget
from stacmirror.errors import SourceLost, TransferError
from stacmirror.health import Health
from stacmirror.links import expires_at_s, issued_at_s
from stacmirror.model import START, Cursor, Page
from stacmirror.pace import Fixed
from stacmirror.retry import RetryPolicy, parse_retry_after, with_retries
from tests.faults.virtual import VirtualLoop
from tests.unit.fakes import an_item
from tests.unit.test_walk import Bench as WalkBench

EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SECONDS = st.floats(0, 1e6, allow_nan=False)
SHARES = st.floats(0, 1, exclude_max=True)
POLICIES = st.builds(
    RetryPolicy,
    retries=st.integers(0, 20),
    first_s=st.floats(0.001, 10),
    max_s=st.floats(0.001, 100),
    retry_after_max_s=st.floats(0.001, 1000),
    outage_max_s=st.floats(0, 1000),
)

# -- retries -----------------------------------------------------------------------------------------------


@EXAMPLES
@given(POLICIES, st.integers(1, 200), st.booleans(), st.none() | SECONDS, SHARES)
def test_a_wait_is_never_longer_than_it_may_be(
    policy: RetryPolicy, attempt: int, retryable: bool, asked_s: float | None, share: float
) -> None:
    """At least what the server asked for (capped), at most that and the backoff's bound; none after the last one."""
    error = TransferError("5xx", "503", retryable=retryable, retry_after_s=asked_s)
    wait_s = policy.wait_s(attempt, error, lambda: share)
    assert (wait_s is None) == (not retryable or attempt > policy.retries)
    if wait_s is not None:
        least_s = min(asked_s or 0.0, policy.retry_after_max_s)
        assert least_s <= wait_s <= least_s + min(policy.max_s, policy.first_s * 2.0 ** min(attempt - 1, 64)) + 1e-9


@EXAMPLES
@given(POLICIES, st.lists(st.sampled_from(["own", "host", "final"]), max_size=60), SHARES)
def test_a_loop_asks_as_often_as_its_policy_says(policy: RetryPolicy, failures: list[str], share: float) -> None:
    """The first answer ends it, the last failure too; what is the host's own counts until its time is over."""
    left, asked, waits, attempts = list(failures), 0, [0.0], [0]

    async def ask() -> str:
        nonlocal asked
        asked += 1
        if not left:
            return "answer"
        what = left.pop(0)
        error = TransferError("5xx", what, retryable=what != "final")
        error.by_host = what == "host"
        raise error

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def loop() -> str:
        try:
            return await with_retries(ask, policy, lambda: share, sleep, lambda *_: None)
        except TransferError as error:
            attempts.append(error.attempts)
            return error.message

    found = asyncio.run(loop())
    assert max(attempts) <= policy.retries + 1
    if found == "answer":
        assert asked == len(failures) + 1
        assert "final" not in failures
    elif found == "final":
        assert asked == failures.index("final") + 1
    else:
        assert failures[:asked].count("own") <= policy.retries + 1
    host_s = sum(wait for wait, what in zip(waits[1:], failures, strict=False) if what == "host")
    most_s = min(policy.max_s, policy.first_s * 8)
    assert host_s <= policy.outage_max_s + most_s + (policy.retries + 1) * policy.max_s


@EXAMPLES
@given(st.text(max_size=40) | st.integers().map(str) | st.datetimes().map(lambda t: t.strftime("%a, %d %b %Y %T GMT")))
def test_any_retry_after_is_a_wait_or_nothing(value: str) -> None:
    """No header makes a negative wait, an infinite one, or an error."""
    found = parse_retry_after(value, 1.7e9)
    assert found is None or 0 <= found < math.inf


# -- a host ------------------------------------------------------------------------------------------------

ENDS = st.sampled_from(["good"] * 6 + ["503", "429", "429 for 3 s", "connect", "reset", "500", "cancel"])


@EXAMPLES
@given(st.lists(ENDS, min_size=1, max_size=120), st.integers(1, 40), st.integers(1, 12), st.integers(0, 9))
def test_a_host_is_never_asked_more_than_it_may_be(ends: list[str], askers: int, places: int, seed: int) -> None:
    """However requests end: never more under way than places, never two questions in a second to a host that is down,
    and in the end every asker has had its turn and every place is free."""
    chance = random.Random(seed)
    turns: list[str] = []
    asked_down: list[float] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        health = Health(loop.time, math.inf, chance.random, lambda change: None)
        budget = HostBudget(Fixed(places), None, loop.time, asyncio.sleep, health)
        left = list(enumerate(ends))

        async def asker() -> None:
            while left:
                number, end = left.pop()
                try:
                    place = budget.try_acquire() or await budget.acquire()
                except TransferError as error:
                    turns.append(error.kind)
                    continue
                assert budget.in_flight <= places
                if health.down:
                    asked_down.append(loop.time())
                asked_s = loop.time()
                try:
                    await asyncio.sleep(chance.choice((0.0, 0.01, 0.2)))
                    finish(budget, place, asked_s, number, end)
                except SourceLost:
                    raise AssertionError("lost without a limit") from None
                finally:
                    budget.release()
                turns.append(end)

        await asyncio.wait_for(asyncio.gather(*(asker() for _ in range(askers))), 100_000)
        assert budget.in_flight == 0

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work())
    assert len(turns) == len(ends)
    assert all(later - sooner >= 0.999 for sooner, later in pairwise(asked_down))


def finish(budget: HostBudget, place: int, asked_s: float, number: int, end: str) -> None:
    if end == "good":
        budget.answered(place, asked_s)
    elif end in ("connect", "reset"):
        budget.broke(asked_s, f"u{number}", TransferError(end, end))
    elif end != "cancel":
        after_s = 3.0 if end.endswith("3 s") else None
        kind, status = ("429", 429) if end.startswith("429") else ("5xx", int(end))
        error = TransferError(kind, end, status=status, retry_after_s=after_s)
        budget.refused(place, asked_s, f"u{number}", error)


# -- a listing ---------------------------------------------------------------------------------------------

PAGES = st.lists(
    st.tuples(st.lists(st.integers(0, 30), max_size=6), st.none() | st.integers(0, 9)), min_size=1, max_size=10
)


@EXAMPLES
@given(PAGES, st.none() | st.integers(1, 12), st.integers(1, 4))
def test_any_listing_ends(listed: list[tuple[list[int], int | None]], items_max: int | None, prefetch: int) -> None:
    """Pages that lead anywhere, in circles too, with items that repeat: each is lined up once, and the sums agree."""
    pages: dict[str, Page | BaseException] = {}
    for number, (names, following) in enumerate(listed):
        cursor = None if following is None or following >= len(listed) else Cursor(f"next={following}")
        cursor = START if cursor == Cursor("next=0") else cursor
        items = tuple(an_item(f"i{name}") for name in names)
        pages[START.value if number == 0 else f"next={number}"] = Page(items, cursor, None)

    async def walk() -> tuple[WalkBench, list[str]]:
        bench = WalkBench(pages, items_max=items_max, prefetch=prefetch)
        return bench, await bench.run()

    bench, lined_up = asyncio.run(walk())
    bench.totals()
    assert len(set(lined_up)) == len(lined_up)
    assert items_max is None or len(lined_up) <= items_max
    on_the_way, at = [0], listed[0][1]
    while at is not None and at < len(listed) and at not in on_the_way:
        on_the_way.append(at)
        at = listed[at][1]
    in_circles = at is not None and at < len(listed)
    reachable = {f"i{name}" for number in on_the_way for name in listed[number][0]}
    assert set(lined_up) <= reachable
    if bench.walk.ended:
        assert not in_circles
        assert items_max is not None or set(lined_up) == reachable
    elif items_max is None and not in_circles:  # given up: page after page of items that are known
        known, stale = set[int](), 0
        for number in on_the_way:
            stale = stale + 1 if listed[number][0] and known.issuperset(listed[number][0]) else 0
            known.update(listed[number][0])
            if stale >= 3:
                break
        assert stale >= 3, "an end was taken for a circle"


# -- links -------------------------------------------------------------------------------------------------

TIMES = st.integers(1_483_228_800, 4_102_444_799)


@EXAMPLES
@given(TIMES, st.integers(1, 10**9), st.binary(min_size=30, max_size=60))
def test_a_links_end_is_read_from_it(at_s: int, life_s: int, rest: bytes) -> None:
    """Of every kind of link that says when it was made or dies, at any time of the century."""
    token = base64.urlsafe_b64encode(b"\x80" + at_s.to_bytes(8, "big") + rest).decode()
    stamp = datetime.fromtimestamp(at_s, UTC)
    life_short = life_s % 1_000_000
    day = stamp.strftime("%Y%m%dT%H%M%SZ")
    assert issued_at_s(f"https://h/download/{token}") == at_s
    assert expires_at_s(f"https://h/download/{token}", life_s, 5.0) == at_s + life_s
    for vendor in ("X-Amz", "x-amz", "X-Goog"):
        signed = f"https://b/k?a=1&{vendor}-Date={day}&{vendor}-Expires={life_short}&{vendor}-Signature=0"
        assert expires_at_s(signed, life_s, 5.0) == at_s + life_short
    assert expires_at_s(f"https://b/k?Expires={at_s}&Signature=s", life_s, 5.0) == at_s
    assert expires_at_s(f"https://b/k?se={stamp.strftime('%Y-%m-%dT%H%%3A%M%%3A%SZ')}&sig=s", life_s, 5.0) == at_s


@EXAMPLES
@given(
    st.text(max_size=80), st.sampled_from(["", "/download/", "/download/gAAAA", "?Expires=", "?se=", "?X-Amz-Date="])
)
def test_any_text_has_an_end_or_none(text: str, middle: str) -> None:
    """No href makes an error or a time that is no number."""
    assert not math.isnan(expires_at_s(f"https://h{middle}{text}", 3600.0, 1.7e9))
