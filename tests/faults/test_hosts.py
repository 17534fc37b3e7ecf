"""Hosts in trouble, in virtual time: storms, outages, pauses, at 1, 16 and 256 workers."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from stacmirror.errors import SourceLost, TransferError
from tests.conftest import tree
from tests.faults.invariants import holds_origins_bytes, holds_receipts, leaves_nothing, ledger_receipts
from tests.faults.virtual import ALL_WORKERS, HOST, LATE, Answer, Ran, Rule, run

WORKERS = pytest.mark.parametrize("workers", ALL_WORKERS)
REFUSED = TransferError("connect", "Connection refused: host:80")


def between(since_s: float, until_s: float, bad: int | TransferError) -> Rule:
    return lambda at_s, url: bad if since_s <= at_s < until_s else 200


def expected(items: int) -> dict[str, bytes]:
    return {f"labels/i{n}/A.tif": f"bytes of {HOST}/i{n}/A".encode() for n in range(items)}


def hold(ran: Ran, target: Path, items: int, *, cut: bool = False) -> None:
    """i1, i2, i4, and i6 as far as a run without a command line has it. No key is sent, so there is no i5."""
    files = tree(target)
    holds_origins_bytes(files, expected(items), set())
    holds_receipts(files, ledger_receipts(target))
    leaves_nothing(target, cut=cut)
    assert ran.counts.assets.stored == len(files)
    assert ran.counts.assets.failed == sum(failure.count for failure in ran.failures)


def is_whole(ran: Ran, target: Path, items: int) -> None:
    """Every file is there, the ledger says so, and i1 to i6 hold; nothing is left for i3 to mend."""
    assert ran.error is None
    assert ran.failures == []
    hold(ran, target, items)
    assert tree(target) == expected(items)
    assert ran.counts.items.complete == ran.counts.items.listed == items


def mends(target: Path, items: int) -> None:
    """i3: the next run, without faults, makes the tree whole, and asks for no file that was there."""
    there = {f"{HOST}/{path.split('/')[1]}/A" for path in tree(target)}
    ran = run(target, lambda at_s, url: 200, items=items, workers=16)
    is_whole(ran, target, items)
    assert not there & {url for _, url, _ in ran.world.asked}


@WORKERS
@pytest.mark.parametrize("status", [503, 429])
def test_row_16_storm(tmp_path: Path, workers: int, status: int) -> None:
    """60 s of nothing but 503: at most one new request a second once what was under way is answered; no file lost."""
    items = min(40 * workers, 3000)
    ran = run(tmp_path, between(1.0, 61.0, status), workers=workers, items=items, latency_s=0.2)
    is_whole(ran, tmp_path, items)
    under_way = ran.world.at_once_max
    assert under_way <= workers
    asked = ran.world.between(1.0, 61.0)
    assert len(asked) <= under_way + 60
    # What is under way has its answers by then; with one worker, those of the three assets that raise the doubt.
    probes = [at for at in asked if at > (8.0 if workers == 1 else 3.0)]
    assert all(later - sooner >= 1.0 for sooner, later in pairwise(probes))
    assert len(probes) >= 12  # and the host is looked after
    assert [note.split()[1] for note in ran.notes.lines] == ["down", "up"]


@WORKERS
def test_row_16_full_speed_after_a_storm(tmp_path: Path, workers: int) -> None:
    """Ten seconds after the end of a storm as much is asked at once as before it."""
    items = 60 * workers if workers > 1 else 400
    ran = run(tmp_path, between(2.0, 62.0, 503), workers=workers, items=min(items, 6000), latency_s=0.2, fixed=False)
    before = len(ran.world.between(1.0, 2.0, 200))
    after = max(len(ran.world.between(61.0 + n, 62.0 + n, 200)) for n in range(10))
    assert after >= 0.9 * before > 0
    assert ran.failures == []


@WORKERS
@pytest.mark.parametrize("error", [REFUSED, LATE, TransferError("dns", "host name not found: host")], ids=str)
def test_row_29_partition_of_ten_minutes(tmp_path: Path, workers: int, error: TransferError) -> None:
    """Ten minutes without the host cost no file and no attempt; ten seconds after its return all run at full speed."""
    items = min(40 * workers, 3000)
    ran = run(tmp_path, between(1.0, 601.0, error), workers=workers, items=items, retries=0, latency_s=0.2)
    is_whole(ran, tmp_path, items)
    before = len(ran.world.between(0.0, 1.0))
    after = max(len(ran.world.between(601.0 + n, 602.0 + n)) for n in range(10))
    assert after >= 0.9 * min(before, items - before)
    assert len(ran.world.between(60.0, 601.0)) <= 541


def test_row_29_an_outage_without_end(tmp_path: Path) -> None:
    """After `--max-outage` the run ends with exit 5, says for how long nothing came and why; what came is committed."""
    ran = run(tmp_path, between(1.0, 1e9, REFUSED), outage_max_s=120.0)
    assert isinstance(ran.error, SourceLost)
    assert ran.error.exit_code == 5
    assert ran.error.message.startswith("no answer for 2m")
    assert ran.error.message.endswith("Connection refused: host:80")
    assert "--max-outage" in ran.error.hint
    assert ran.failures == []
    assert ran.counts.items.complete == len(tree(tmp_path)) == len(ran.world.between(0.0, 1.0, 200))
    assert 110 < ran.world.asked[-1][0] < 130
    hold(ran, tmp_path, 400, cut=True)
    mends(tmp_path, 400)


def test_row_1_a_host_that_never_answered_is_given_up(tmp_path: Path) -> None:
    """A wrong address costs seconds, not `--max-outage`; its assets fail, each with the reason, and the run goes on."""
    ran = run(tmp_path, lambda at_s, url: REFUSED, items=100)
    assert ran.error is None
    assert [(f.kind, f.count) for f in ran.failures] == [("connect", 100)]
    assert ran.world.asked[-1][0] < 60
    assert len(ran.world.asked) < 40
    hold(ran, tmp_path, 100)
    mends(tmp_path, 100)


@WORKERS
def test_row_15_one_bad_object_is_no_outage(tmp_path: Path, workers: int) -> None:
    """Objects that always answer 500 or 503, or break the connection, use up their attempts and nobody else's time."""
    bad: dict[str, int | TransferError] = {
        f"{HOST}/i3/A": 500,
        f"{HOST}/i5/A": 503,
        f"{HOST}/i7/A": TransferError("reset", "the connection was reset"),
    }
    ran = run(tmp_path, lambda at_s, url: bad.get(url, 200), workers=workers, items=400, retries=3)
    assert ran.error is None
    assert sorted((f.kind, f.count) for f in ran.failures) == [("5xx", 2), ("reset", 1)]
    assert ran.counts.items.complete == 397
    assert sum(url == f"{HOST}/i3/A" for _, url, _ in ran.world.asked) == 4
    assert ran.world.asked[-1][0] < 120
    hold(ran, tmp_path, 400)
    mends(tmp_path, 400)


@WORKERS
def test_row_15_bad_objects_at_the_end_are_no_outage(tmp_path: Path, workers: int) -> None:
    """When only objects are left that always answer 503, the host is asked for what it had before, and is well."""
    bad = {f"{HOST}/i{n}/A" for n in range(295, 300)}
    ran = run(tmp_path, lambda at_s, url: 503 if url in bad else 200, workers=workers, items=300, retries=2)
    assert ran.error is None
    assert [(f.kind, f.count) for f in ran.failures] == [("5xx", 5)]
    assert ran.world.asked[-1][0] < 120
    hold(ran, tmp_path, 300)
    mends(tmp_path, 300)


def redirected(at_s: float, url: str, until_s: float, to: str = "http://storage") -> Answer:
    """Links lead to storage that is away from second 1 until `until_s`."""
    if url.startswith(HOST):
        return 302, {"location": url.replace(HOST, to)}
    return REFUSED if url.startswith("http://storage") and 1.0 <= at_s < until_s else 200


@WORKERS
@pytest.mark.parametrize("minutes", [1, 10])
def test_row_29_nobody_asks_the_way_to_a_host_that_is_down(tmp_path: Path, workers: int, minutes: int) -> None:
    """Links that redirect to storage that is away: the API is asked once a second in all, no attempt is used up, and
    ten seconds after its return all run at full speed."""
    until_s, items = 1.0 + 60.0 * minutes, min(60 * workers, 3000)
    rule = partial(redirected, until_s=until_s)
    ran = run(tmp_path, rule, workers=workers, items=items, retries=0, latency_s=0.2)
    assert (ran.error, ran.failures) == (None, [])
    assert ran.counts.items.complete == items

    def of_storage(since_s: float, until_s: float) -> int:
        return sum(not url.startswith(HOST) and since_s <= at < until_s for at, url, _ in ran.world.asked)

    asked = [at for at, url, _ in ran.world.asked if url.startswith(HOST) and 5.0 <= at < until_s]
    assert 10 <= len(asked) <= until_s - 4.0  # 821 at 16 workers in 90 s without a guard
    assert all(sum(at <= later < at + 1.0 for later in asked) <= 2 for at in asked)
    assert of_storage(until_s + 1.0, until_s + 10.0) > 0
    before = of_storage(0.2, 1.0) / 0.8
    after = max(of_storage(until_s + n, until_s + n + 1.0) for n in range(10))
    share = 0.8 if workers < 256 else 0.6  # see the partition of ten minutes
    assert after >= share * min(before, items - before)


@WORKERS
def test_row_29_links_that_lead_elsewhere_meanwhile_are_found(tmp_path: Path, workers: int) -> None:
    """Storage that is away for good, and links that lead to another one from second 30 on: found within seconds."""

    def rule(at_s: float, url: str) -> Answer:
        return redirected(at_s, url, 1e9, "http://storage" if at_s < 30.0 else "http://elsewhere")

    items = min(60 * workers, 3000)
    ran = run(tmp_path, rule, workers=workers, items=items, retries=0, latency_s=0.2)
    assert (ran.error, ran.failures) == (None, [])
    assert ran.counts.items.complete == items
    elsewhere = [at for at, url, _ in ran.world.asked if url.startswith("http://elsewhere")]
    assert elsewhere[0] < 33.0
    left = len(elsewhere)
    assert elsewhere[-1] < 45.0 + left * 0.4 / workers


@WORKERS
def test_row_15_many_bad_objects_are_no_outage(tmp_path: Path, workers: int) -> None:
    """A quarter of all objects answers 503 for good: they fail after their attempts, and do not pass for an outage of
    their host over and over, with a second of waiting for each three of them."""

    def rule(at_s: float, url: str) -> int:
        return 503 if int(url.split("/i")[1].split("/")[0]) % 4 == 0 else 200

    ran = run(tmp_path, rule, workers=workers)
    assert ran.error is None
    assert [(f.kind, f.count) for f in ran.failures] == [("5xx", 100)]
    assert ran.counts.items.complete == 300
    assert len(ran.notes.lines) <= 2 * 16
    # 100 objects, six attempts each: with one worker they wait one after another.
    assert ran.world.asked[-1][0] < (1_200 if workers == 1 else 120)


@WORKERS
def test_row_17_a_stray_429_waits_alone(tmp_path: Path, workers: int) -> None:
    """0.2 % of 429 with Retry-After: 20 hold up the assets that they are for, and nothing else."""
    refused: set[str] = set()

    def rule(at_s: float, url: str) -> int | tuple[int, dict[str, str]]:
        number = int(url.split("/i")[1].split("/")[0])
        if number % 500 == 250 and url not in refused:
            refused.add(url)
            return 429, {"retry-after": "20"}
        return 200

    ran = run(tmp_path, rule, workers=workers, items=1500)
    is_whole(ran, tmp_path, 1500)
    took_s = ran.world.asked[-1][0]
    undisturbed_s = 1500 * 0.05 / workers
    assert took_s < undisturbed_s + 25
    # Between a refusal and the end of its pause the others were served.
    assert len(ran.world.between(0.0, undisturbed_s + 3, 200)) >= 1490


@WORKERS
@pytest.mark.parametrize(
    ("said", "least_s", "most_s"), [("7", 7, 12), ("", 1, 6), ("1000000000", 600, 606), ("nonsense", 1, 6)]
)
def test_row_17_retry_after_holds_for_the_whole_host(
    tmp_path: Path, workers: int, said: str, least_s: float, most_s: float
) -> None:
    """When a host says 429 to all, all wait as long as it says, capped at ten minutes, and come back step by step."""
    headers = {"retry-after": said} if said else {}

    def rule(at_s: float, url: str) -> int | tuple[int, dict[str, str]]:
        return (429, headers) if 1.0 <= at_s < 1.5 else 200

    items = min(60 * workers, 3000)
    ran = run(tmp_path, rule, workers=workers, items=items, retries=1, latency_s=0.2)
    is_whole(ran, tmp_path, items)
    refused = ran.world.between(1.0, 1.5)
    assert len(refused) <= 2 * workers + 3
    back = [at for at, *_ in ran.world.asked if at > refused[-1]]
    assert least_s - 0.1 <= back[0] - refused[-1] <= most_s
    assert sum(at <= back[0] + 0.001 for at in back) <= 8


def test_a_fixed_pace_above_the_hosts_limit_loses_nothing(tmp_path: Path) -> None:
    """256 at once to a host that takes 100 and answers the others 503: attempts do not run out."""
    ran = run(tmp_path, lambda at_s, url: 200, workers=256, items=3000, retries=2, takes=100)
    is_whole(ran, tmp_path, 3000)
    assert len([1 for *_, status in ran.world.asked if status == 503]) > 100
