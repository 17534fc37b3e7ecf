"""Whole runs from an S3 that refuses, moves, slows down, lies and forgets who we are (rows 26 and 27)."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from stacmirror.status import read_failed
from tests.contract.test_s3 import refusal
from tests.contract.wire_server import KEEP, Step, head
from tests.faults.invariants import Before, hold, mends
from tests.faults.world import Bench, always, truth

SECRET = "wJalrXUtnFEMI/K7MDENG/aSecretForTests"
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "AKIDFIRST", "AWS_SECRET_ACCESS_KEY": SECRET}


@pytest.fixture(autouse=True)
def only_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take away what this machine knows of AWS, and give one pair of keys."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def behind_s3(bench: Bench) -> dict[str, object]:
    """Make every asset an object `s3://bucket/files/ITEM/ASSET` of the world; return the settings for that."""
    world = bench.world

    def lead(nth: int, body: bytes) -> Sequence[Step]:
        path = world.heard[-1].split(" ")[1]
        return head(302, f"Location: s3://bucket{path.replace('/go/', '/files/')}", "Content-Length: 0"), KEEP

    def serve(nth: int, body: bytes) -> Sequence[Step] | None:
        _, _, item, asset = world.heard[-1].split(" ")[1].strip("/").split("/")
        found = truth(item, asset)
        md5 = base64.b64encode(hashlib.md5(found).digest()).decode()
        return head(200, f"Content-Length: {len(found)}", f"Content-MD5: {md5}") + found, KEEP

    world.lasting |= {"^/go/": lead, "^/bucket/files/": serve}
    return {"s3_endpoint": world.url, "s3_region": "us-east-1"}


def kinds(bench: Bench) -> dict[tuple[str, str], tuple[str, int]]:
    """Return kind and status of every failure."""
    return {(f.item, f.asset): (f.kind, f.status) for f in read_failed(str(bench.target))}


async def test_row_26_each_refusal_ends_as_it_should(bench: Bench) -> None:
    """No such key, bucket or right: failures of their objects alone; SlowDown, an error, wrong bytes once: all good."""
    settings, faults = behind_s3(bench), bench.world.faults
    once = {"i0": refusal(503, "SlowDown"), "i1": refusal(500, "InternalError")}
    faults["/bucket/files/i0/B01"] = always(refusal(404, "NoSuchKey"), KEEP)
    faults["/bucket/files/i1/B01"] = always(refusal(403, "AccessDenied"), KEEP)
    faults["/bucket/files/i2/B01"] = always(refusal(404, "NoSuchBucket"), KEEP)
    faults["/bucket/files/i3/B01"] = always(refusal(301, "PermanentRedirect"), KEEP)  # without a region, or Location
    for item, answer in once.items():
        faults[f"/bucket/files/{item}/B02"] = lambda nth, body, answer=answer: (answer, KEEP) if nth == 1 else None
    wrong = head(200, "Content-Length: 500", "Content-MD5: 1B2M2Y8AsgTpgAmY7PhCfg==") + b"x" * 500
    faults["/bucket/files/i4/raw"] = lambda nth, body: (wrong, KEEP) if nth == 1 else None
    faults["/bucket/files/i5/raw"] = always(wrong, KEEP)
    before = Before()
    run = await bench.run(**settings)
    hold(bench, run, before)
    assert run.summary.exit_code == 3
    assert kinds(bench) == {
        ("i0", "B01"): ("gone", 404),
        ("i1", "B01"): ("refused", 403),
        ("i2", "B01"): ("gone", 404),
        ("i3", "B01"): ("redirect", 301),
        ("i5", "raw"): ("digest", 0),
    }
    for item in ("i0", "i2"):
        assert bench.world.asked[f"/bucket/files/{item}/B01"] == 1  # what is gone is asked for once in a run
    assert not [line for line in bench.world.heard if SECRET in line]
    await mends(bench, **settings)


async def test_row_26_a_bucket_in_another_region(bench: Bench) -> None:
    """A 301 without a Location that names the region costs what every worker has in hand, once, and no file."""
    settings = behind_s3(bench)
    serve = bench.world.lasting["^/bucket/files/"]

    def elsewhere(nth: int, body: bytes) -> Sequence[Step] | None:
        if "/eu-west-3/s3/aws4_request" in bench.world.heard[-1]:
            return serve(nth, body)
        return refusal(301, "PermanentRedirect", "x-amz-bucket-region: eu-west-3"), KEEP

    bench.world.lasting["^/bucket/files/"] = elsewhere
    before = Before()
    run = await bench.run(**settings)
    hold(bench, run, before)
    assert run.summary.exit_code == 0
    wrong = [asked for asked in bench.world.heard if "/us-east-1/s3/aws4_request" in asked]
    assert 1 <= len(wrong) <= bench.way[1] * 2
    await mends(bench, **settings)


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch"])
async def test_row_26_credentials_that_are_good_for_nothing(bench: Bench, code: str) -> None:
    """Refused before they were good for anything: exit 4 with the code, and one request a worker at most."""
    settings = behind_s3(bench)
    bench.world.faults["^/bucket/files/"] = always(refusal(403, code), KEEP)
    before = Before()
    run = await bench.run(**settings)
    hold(bench, run, before, cut=True)
    assert run.summary.exit_code == 4
    assert code in run.summary.reason
    assert SECRET not in run.summary.reason
    assert sum(" /bucket/" in asked for asked in bench.world.heard) <= bench.way[1]
    await mends(bench, **settings)


def a_login(folder: Path, lives_s: float) -> Path:
    """Write a profile whose credentials come from a program and expire: each call gives the next session."""
    calls = folder / "calls"
    program = folder / "login.py"
    expires = f"time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(time.time() + {lives_s}))"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, pathlib, time\n"
        f"calls = pathlib.Path({str(calls)!r})\n"
        "number = len(calls.read_text()) + 1 if calls.exists() else 1\n"
        "calls.write_text('x' * number)\n"
        f"print(json.dumps({{'Version': 1, 'AccessKeyId': f'AKIDNUMBER{{number}}', 'SecretAccessKey': {SECRET!r},"
        f" 'SessionToken': f'session-{{number}}', 'Expiration': {expires}}}))\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (folder / "config").write_text(f"[default]\ncredential_process = {program}\n")
    return calls


async def test_row_27_credentials_that_expire_are_refreshed(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that ends midway is followed by the next one, without a refusal that costs a file."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name)
    calls = a_login(tmp_path, 2.0)  # the SDK refreshes what has less than ten minutes to live at every question
    monkeypatch.setattr("stacmirror.transports.aws._FRESH_S", 0.0)
    settings = behind_s3(bench)
    before = Before()
    run = await bench.run(**settings)
    hold(bench, run, before)
    assert run.summary.exit_code == 0
    assert len(calls.read_text()) > 1
    used = {asked.partition("Credential=")[2].partition("/")[0] for asked in bench.world.heard if " /bucket/" in asked}
    assert len(used) > 1
    assert not [line for line in run.said if SECRET in line]
    await mends(bench, **settings)


async def test_row_27_a_session_that_ends_for_good(bench: Bench) -> None:
    """`ExpiredToken` midway, and nothing that refreshes: exit 4, what came is kept, a new login goes on.

    It is believed at the first word: one request a worker.
    """
    settings = behind_s3(bench)
    bench.world.faults["^/bucket/files/i[345]"] = always(refusal(400, "ExpiredToken"), KEEP)
    before = Before()
    run = await bench.run(**settings)
    hold(bench, run, before, cut=True)
    assert run.summary.exit_code == 4
    assert "ExpiredToken" in run.summary.reason
    assert (
        sum(asked.startswith(tuple(f"GET /bucket/files/i{n}" for n in (3, 4, 5))) for asked in bench.world.heard)
        <= (bench.way[1])
    )
    assert "log in again" in run.summary.hint
    await mends(bench, **settings)


async def test_row_27_a_login_that_fails_midway(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the program that gives credentials breaks, the run stops with exit 4 and says so without their text."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name)
    a_login(tmp_path, 2.0)
    monkeypatch.setattr("stacmirror.transports.aws._FRESH_S", 0.0)
    settings = behind_s3(bench)
    before = Before()
    text = (tmp_path / "login.py").read_text()
    (tmp_path / "login.py").write_text(text.replace("print(", "assert number < 3, 'the secret text'\nprint("))
    run = await bench.run(**settings)
    hold(bench, run, before, cut=True)
    assert run.summary.exit_code == 4
    assert "secret text" not in json.dumps([run.summary.reason, run.summary.hint])
    (tmp_path / "login.py").write_text(text)
    await mends(bench, **settings)
