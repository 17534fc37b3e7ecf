"""`stacmirror tune`: what it says before it asks, what it prints, what it refuses."""

from __future__ import annotations

import json

import pytest

from stacmirror.cli import app as program
from stacmirror.cli import tune as command
from stacmirror.errors import SourceUnreachable
from stacmirror.ramp import Step, Tuning
from stacmirror.tune import Tuner

WORDS = ["tune", "mlhub:bigearthnet_v1_labels", "--api-url", "http://127.0.0.1:1/mlhub/v1"]
STEPS = (
    Step(64, 2.0, 1600, 800.0, 16_000_000, 3200, 0.080, 0.090, 0, 0, 0.3),
    Step(128, 2.0, 2400, 1200.0, 24_000_000, 4800, 0.081, 0.095, 17, 2, 0.5),
)
FOUND = Tuning(STEPS, "the source refused 17 requests (429, 503) at 128 at once", 64, 128, 8000, 40_000_000)


@pytest.fixture
def ramp(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key, and a ramp that was measured elsewhere."""

    async def run(self: Tuner) -> Tuning:
        return FOUND

    monkeypatch.setenv("MLHUB_API_KEY", "k")
    monkeypatch.setattr(Tuner, "run", run)


@pytest.mark.usefixtures("ramp")
def test_it_says_what_it_will_ask_for(capsys: pytest.CaptureFixture[str]) -> None:
    """The first line has source, time, requests, bytes and the bounds, and who pays."""
    assert program.run([*WORDS, "--max-requests", "500", "--max-bytes", "10MB", "--request-payer"]) == 0
    first = capsys.readouterr().err.splitlines()[0]
    for part in ("mlhub:bigearthnet_v1_labels", "500 requests", "10.0 MB", "4 to 256 at once", "bill them to you"):
        assert part in first


@pytest.mark.usefixtures("ramp")
def test_table_plot_and_flags(capsys: pytest.CaptureFixture[str]) -> None:
    """On stdout: a row and a bar a step, why it ended, and the lines to keep; no wider than a screen."""
    assert program.run(WORDS) == 0
    out = capsys.readouterr().out
    assert "flags: --per-host 64 --workers 128" in out
    assert "per_host = 64" in out
    assert "#" * 27 + " 800" in out
    assert "x" * 40 + " 1,200" in out
    assert "ended: the source refused 17" in out
    assert "24.0 MB" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.usefixtures("ramp")
def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """`--json`: one line with all steps and the flags, and nothing else on stdout."""
    assert program.run([*WORDS, "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert found["flags"] == "--per-host 64 --workers 128"
    assert [step["refused"] for step in found["steps"]] == [0, 17]


@pytest.mark.parametrize(
    "wrong", [["--duration", "0s"], ["--duration", "x"], ["--max-bytes", "0"], ["--max-bytes", "?"]]
)
@pytest.mark.usefixtures("ramp")
def test_caps_that_cannot_be_are_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error that names the flag, before anything is asked."""
    assert program.run([*WORDS, *wrong]) == 2
    assert wrong[0] in capsys.readouterr().err


def test_no_key_and_no_source(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a key 4, without a collection 2; a source that is not there is 5."""
    assert program.run(WORDS) == 4
    monkeypatch.setenv("MLHUB_API_KEY", "k")
    assert program.run([WORDS[0], "mlhub:", *WORDS[2:]]) == 2

    async def run(self: Tuner) -> Tuning:
        raise SourceUnreachable("no", hint="yes")

    monkeypatch.setattr(Tuner, "run", run)
    assert program.run(WORDS) == 5
    assert "hint: yes" in capsys.readouterr().err


def test_a_step_as_it_comes() -> None:
    """While it runs, a line a step on stderr."""
    assert command.step_line(STEPS[1]) == "   128 at once: 1,200 files/s, 81 ms, 17 refused"
