"""`stacmirror plan`: what it says and prints, whether it fits, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from stacmirror.cli import app as program
from stacmirror.cli.plan import fits_into
from stacmirror.forecast import Sample, forecast
from stacmirror.model import Space
from stacmirror.sampling import Sampler
from stacmirror.settings import Settings

WORDS = ["plan", "mlhub:bigearthnet_v1_labels", "--api-url", "http://127.0.0.1:1/mlhub/v1"]
SAMPLE = Sample(
    pages=1, listed=100, matched=100, ended=False, total=590_326, asked=50, linked=50, files=650, bytes=8_270_000,
    sized=640, requests=1450, seconds=0.5, folders=100, absent={"B10": 50}, phantoms=("B10",), failed={"5xx": 3},
    first_failure="503 from https://files.example/a?sig=hush",
)  # fmt: skip


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key, and a sample that was taken elsewhere."""

    async def run(self: Sampler) -> Sample:
        return SAMPLE

    monkeypatch.setenv("MLHUB_API_KEY", "hushhush")
    monkeypatch.setattr(Sampler, "run", run)


@pytest.mark.usefixtures("sample")
def test_the_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Items, files, requests and hours in all; what the sample lacks; the room; no folder is made."""
    dest = tmp_path / "far" / "below"
    assert program.run([*WORDS, str(dest)]) == 0
    out, err = capsys.readouterr()
    for part in (
        "590,326",
        "7,709,658",
        "no item of the sample has: B10",
        "5xx 3",
        "10 files nobody",
        "100 Mbit/s",
        "free in",
    ):
        assert part in out
    assert "nothing is written" in err
    assert not dest.parent.exists()
    assert max(map(len, out.splitlines())) <= 160


@pytest.mark.usefixtures("sample")
def test_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One line; without DEST nothing is said of room."""
    assert program.run([*WORDS, "--json", str(tmp_path)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert found["forecast"]["items"] == 590_326
    assert found["fits"] in ("yes", "no", "perhaps")
    assert found["free_bytes"] > 0
    assert program.run([*WORDS, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fits"] == "unknown"


@pytest.mark.usefixtures("sample")
def test_no_total(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Where nobody says how many there are, it says what to do, and for how many there is room."""

    async def run(self: Sampler) -> Sample:
        return replace(SAMPLE, total=None)

    monkeypatch.setattr(Sampler, "run", run)
    assert program.run([*WORDS, str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "--max-items N reckons with N" in out
    assert "items like these" in out
    assert program.run([*WORDS, str(tmp_path), "--max-items", "1000"]) == 0
    assert "13,060" in capsys.readouterr().out


@pytest.mark.usefixtures("sample")
def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that says so, and 130: typer's own is an empty one."""

    async def run(self: Sampler) -> Sample:
        raise KeyboardInterrupt

    monkeypatch.setattr(Sampler, "run", run)
    assert program.run(WORDS) == 130
    assert capsys.readouterr().err.splitlines()[1:] == ["stacmirror: error: interrupted"]


def test_no_sizes_and_shared_sources(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, sample: None
) -> None:
    """A host that is down must not read as files of no bytes, which fit; what items share is said."""

    async def run(self: Sampler) -> Sample:
        return replace(SAMPLE, files=0, sized=0, bytes=0, failed={"5xx": 650}, linked=30, shared=20)

    monkeypatch.setattr(Sampler, "run", run)
    assert program.run([*WORDS, str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "nobody says how large the files are" in out
    assert "it fits" not in out
    assert "share sources, 30 so far" in out
    assert program.run([*WORDS, str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fits"] == "unknown"


@pytest.mark.parametrize(
    ("free_bytes", "free_inodes", "verdict"),
    [
        (10**15, None, "yes"),
        (10**15, 10**9, "yes"),
        (10**15, 10_000, "no"),
        (10**9, None, "no"),
        (132 * 10**9, None, "perhaps"),
    ],
)
def test_fits(free_bytes: int, free_inodes: int | None, verdict: str) -> None:
    """By bytes and by inodes, beside --keep-free."""
    found = forecast(SAMPLE, items_max=None, ids=0, missing_after=20, rate_per_s=None, block_bytes=4096)
    assert found.on_disk_bytes is not None
    assert 115 * 10**9 < found.on_disk_bytes < 125 * 10**9
    assert fits_into(found, Space("x", free_bytes, free_inodes, 4096), Settings("s", "t")) == verdict


@pytest.mark.parametrize("wrong", [["--sample", "0"], ["--layout", "none"], ["--rate", "x"], ["--asset", ""]])
@pytest.mark.usefixtures("sample")
def test_what_cannot_be_is_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error, before anything is asked."""
    assert program.run([*WORDS, *wrong]) == 2
    assert "nothing is written" not in capsys.readouterr().err


def test_no_key_stdin_and_no_source(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a key 4; stdin cannot be read twice, so 2; a source that is not there is 5."""
    assert program.run(WORDS) == 4
    assert program.run(["plan", "-"]) == 2
    assert "stdin" in capsys.readouterr().err
    monkeypatch.setenv("MLHUB_API_KEY", "k")
    assert program.run([*WORDS, "--retries", "0"]) == 5
