"""The commands with a run that is made up: what they hand to it, what they print, how they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stacmirror.cli import app as program
from stacmirror.cli import demo
from stacmirror.errors import SourceUnreachable, UsageError
from stacmirror.model import AbsentKey, CollectionInfo, FailedAsset, FailureCount, Summary
from stacmirror.pipeline.progress import Progress
from stacmirror.pipeline.stop import Stop
from stacmirror.settings import Settings
from stacmirror.status import MirrorStatus

from .summaries import complete, counts

API = ["--api-url", "http://127.0.0.1:1/mlhub/v1"]


class FakeMirror:
    """Stands in for stacmirror.mirror.Mirror: remembers what it was given, and does what `work` says."""

    made: list[FakeMirror]
    work: Callable[[FakeMirror], Any]

    def __init__(self, settings: Settings, *, api_key: str = "", observer: Any = None, **more: Any) -> None:
        self.settings, self.api_key, self.observer, self.task = settings, api_key, observer, more.get("task")
        self.progress, self.stop = Progress(), Stop()
        self.citation = ["CDLA-Permissive-1.0", "Sumbul et al. 2019, BigEarthNet"]
        type(self).made.append(self)

    def hide(self, text: str) -> str:
        return text

    async def run(self) -> Summary:
        await asyncio.sleep(0)
        result = type(self).work(self)
        return await result if asyncio.iscoroutine(result) else result


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeMirror]:
    """A module stacmirror.mirror with a run that completes at once, and a key in the environment."""
    module: Any = types.ModuleType("stacmirror.mirror")

    class Fresh(FakeMirror):
        made: list[FakeMirror] = []  # noqa: RUF012
        work = staticmethod(lambda mirror: complete())

    async def list_collections(settings: Settings, api_key: str, secrets: Any, redactor: Any) -> list[CollectionInfo]:
        return [
            CollectionInfo("labels", license="CDLA-Permissive-1.0", citation="Sümbul [2019]\x1b[2J"),
            CollectionInfo("source", license="CDLA-Permissive-1.0", title="A \t title"),
        ]

    async def list_classes(settings: Settings, api_key: str, secrets: Any, redactor: Any) -> dict[str, list[str]]:
        return {"labels": ["Beaches, dunes, sands", "Airports\x07"]}

    module.Mirror = Fresh
    listings: Any = types.ModuleType("stacmirror.listings")
    listings.list_collections, listings.list_classes = list_collections, list_classes
    monkeypatch.setitem(sys.modules, "stacmirror.mirror", module)
    monkeypatch.setitem(sys.modules, "stacmirror.listings", listings)
    monkeypatch.setenv("MLHUB_API_KEY", "s3cr3t")
    return Fresh


def test_mirror_hands_over_settings_and_key_and_prints_the_verdict(
    fake: type[FakeMirror], capsys: pytest.CaptureFixture[str]
) -> None:
    """`mirror` gives flags and key to the run, says the verdict on stderr and leaves stdout to data."""
    words = ["mirror", "mlhub:x", "ben", *API, "--workers", "3", "--label-class", "Airports", "--label-class", "Bogs"]
    assert program.run([*words, "--no-seasonal-snow", "--rate", "5000/h", "--s3-unsigned"]) == 0
    (made,) = fake.made
    assert made.api_key == "s3cr3t"
    assert (made.settings.source, made.settings.target) == ("mlhub:x", "ben")
    assert made.settings.limit.workers == 3
    assert made.settings.filter.label_class == ("Airports", "Bogs")
    assert made.settings.filter.seasonal_snow is False
    assert made.settings.filter.cloud_and_shadow is None
    assert made.settings.s3.s3_unsigned is True
    said = capsys.readouterr()
    assert said.out == ""
    assert "complete: 200 of 200 items" in said.err
    assert "Sumbul et al. 2019" in said.err
    assert "s3cr3t" not in said.err


def test_ids_are_typed_or_stand_in_files(fake: type[FakeMirror], tmp_path: Path) -> None:
    """`--ids-from` takes files of ids, beside those that are typed, in either spelling."""
    for name, ids in (("train", "a\nb"), ("val", "b\nc")):
        (tmp_path / name).write_text(ids)
    files = [word for name in ("train", "val") for word in ("--ids-from", str(tmp_path / name))]
    assert program.run(["mirror", "mlhub:x", "ben", *API, *files, "--item", "z"]) == 0
    assert program.run(["mirror", "mlhub:x", "ben", *API, "--item", f"@{tmp_path / 'train'}"]) == 0
    assert [made.settings.filter.item for made in fake.made] == [("z", "a", "b", "c"), ("a", "b")]


def test_json_is_one_line_on_stdout(fake: type[FakeMirror], capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints one line on stdout, with the verdict; the words stay on stderr."""
    assert program.run(["mirror", "mlhub:x", "ben", *API, "--json", "-q"]) == 0
    said = capsys.readouterr()
    (line,) = said.out.splitlines()
    assert json.loads(line)["verdict"] == "complete"
    assert said.err.startswith("complete: ")


def test_the_exit_code_is_the_summarys(fake: type[FakeMirror]) -> None:
    """A run that ends incomplete ends the process with the summary's code."""
    fake.work = staticmethod(lambda mirror: msgspec.structs.replace(complete(), verdict="incomplete", exit_code=3))
    assert program.run(["mirror", "mlhub:x", "ben", *API]) == 3


def test_what_stops_a_run_is_told_in_one_line_and_in_json(
    fake: type[FakeMirror], capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that raises ends with that error's line and code, on stdout too when --json asks for it."""

    def work(mirror: FakeMirror) -> Summary:
        raise SourceUnreachable("no answer from 127.0.0.1", hint="is it up?")

    fake.work = staticmethod(work)
    assert program.run(["mirror", "mlhub:x", "ben", *API, "--json"]) == 5
    said = capsys.readouterr()
    assert said.err.endswith("stacmirror: error: no answer from 127.0.0.1\n  hint: is it up?\n")
    assert json.loads(said.out) == {
        "error": {"message": "no answer from 127.0.0.1", "hint": "is it up?"},
        "exit_code": 5,
    }


def test_a_bug_in_a_run_goes_to_the_log_file(fake: type[FakeMirror], capsys: pytest.CaptureFixture[str]) -> None:
    """With --log-file the traceback of a bug is there, without the key, and the line says so."""

    def work(mirror: FakeMirror) -> Summary:
        mirror.observer.note("half way")
        raise ZeroDivisionError("with s3cr3t inside")

    fake.work = staticmethod(work)
    assert program.run(["mirror", "mlhub:x", "ben", *API, "--log-file", "run.log"]) == 1
    said = capsys.readouterr().err
    assert "unexpected ZeroDivisionError: with REDACTED inside" in said
    assert "run.log" in said.splitlines()[-1]
    log = Path("run.log").read_text()
    assert "half way" in log
    assert "Traceback" in log
    assert "s3cr3t" not in log


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_asks_once_and_again_means_now(
    fake: type[FakeMirror], capsys: pytest.CaptureFixture[str], number: signal.Signals, exit_code: int
) -> None:
    """The first signal asks the run to stop, the second means now; the exit code says which signal it was."""

    async def work(mirror: FakeMirror) -> Summary:
        os.kill(os.getpid(), number)
        await asyncio.wait_for(mirror.stop.asked.wait(), 5)
        assert not mirror.stop.now.is_set()
        os.kill(os.getpid(), number)
        await asyncio.wait_for(mirror.stop.now.wait(), 5)
        return msgspec.structs.replace(
            complete(), verdict="stopped", exit_code=mirror.stop.exit_code, reason=mirror.stop.reason
        )

    fake.work = staticmethod(work)
    before = signal.getsignal(number)
    assert program.run(["mirror", "mlhub:x", "ben", *API]) == exit_code
    assert signal.getsignal(number) == before
    said = capsys.readouterr().err
    assert "interrupt once more to stop now" in said
    assert "stopping now" in said
    assert said.splitlines()[-1].split() == ["next", "stacmirror", "resume", "ben"]


def test_resume_needs_no_flags(fake: type[FakeMirror]) -> None:
    """`resume DEST` runs with the source and the settings that the mirror saved, and with the flags typed now."""
    saved = Path("ben/.stacmirror/settings.toml")
    saved.parent.mkdir(parents=True)
    saved.write_text(
        'source = "mlhub:y"\n[catalog]\napi_url = "http://127.0.0.1:1/"\n[limit]\nworkers = 5\nretries = 9\n'
        '[filter]\nlabel_class = ["Beaches, dunes, sands"]\n'
    )
    assert program.run(["resume", "ben", "--workers", "8"]) == 0
    settings = fake.made[0].settings
    assert (settings.source, settings.target) == ("mlhub:y", "ben")
    assert (settings.limit.workers, settings.limit.retries) == (8, 9)
    assert settings.filter.label_class == ("Beaches, dunes, sands",)


def test_an_unknown_variable_is_warned_about(
    fake: type[FakeMirror], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt variable is told on stderr, and the run goes on."""
    monkeypatch.setenv("STACMIRROR_WORKRS", "3")
    assert program.run(["mirror", "mlhub:x", "ben", *API]) == 0
    assert "warning: environment variable STACMIRROR_WORKRS" in capsys.readouterr().err


def test_verbose_says_what_differs_and_why(fake: type[FakeMirror], capsys: pytest.CaptureFixture[str]) -> None:
    """-v names each setting that is not its default, with its origin."""
    Path("stacmirror.toml").write_text("[limit]\nretries = 9\n")
    assert program.run(["mirror", "mlhub:x", "ben", *API, "-v"]) == 0
    said = capsys.readouterr().err
    assert "retries = 9 (stacmirror.toml)" in said
    assert "workers" not in said


@pytest.mark.parametrize("loudness", [[], ["-v"], ["-q"]])
def test_the_log_has_what_verbose_says(fake: type[FakeMirror], loudness: list[str]) -> None:
    """--log-file has source and target, warnings, and each setting that is no default, however little is said."""
    Path("stacmirror.toml").write_text("[limit]\nretries = 9\n")
    Path("key").write_text("s3cr3t\n")
    Path("key").chmod(0o644)
    words = ["mirror", "mlhub:x", "ben", *API, "--log-file", "run.log", "--key-file", "key", *loudness]
    assert program.run(words) == 0
    log = Path("run.log").read_text()
    assert "mirroring mlhub:x from http://127.0.0.1:1/mlhub/v1 to ben" in log
    assert "retries = 9 (stacmirror.toml)" in log
    assert "warning: key file key can be read by others" in log
    assert "s3cr3t" not in log
    assert log.splitlines()[-1].split()[1:] == ["next", "stacmirror", "status", "ben"]


def test_a_demo_says_what_differs_too(fake: type[FakeMirror], capsys: pytest.CaptureFixture[str]) -> None:
    """`demo -v` names each setting that was typed."""
    assert program.run(["demo", "out", "--items", "1", "--workers", "3", "-v"]) == 0
    assert "workers = 3 (--workers)" in capsys.readouterr().err


def test_listings_are_data(fake: type[FakeMirror], capsys: pytest.CaptureFixture[str]) -> None:
    """`collections` and `classes` print data on stdout, safe to look at, and as one JSON line when asked."""
    assert program.run(["classes", "mlhub:x", *API]) == 0
    assert capsys.readouterr().out == "Beaches, dunes, sands\nAirports\ufffd\n"
    assert program.run(["classes", "mlhub:x", *API, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"]["labels"][0] == "Beaches, dunes, sands"
    assert program.run(["collections", "mlhub:", *API]) == 0
    assert capsys.readouterr().out == (
        "labels\tCDLA-Permissive-1.0\tSümbul [2019]\ufffd[2J\nsource\tCDLA-Permissive-1.0\tA \ufffd title\n"
    )
    assert program.run(["collections", "mlhub:", *API, "--json"]) == 0
    assert [found["id"] for found in json.loads(capsys.readouterr().out)["collections"]] == ["labels", "source"]


def test_on_a_terminal_collections_are_a_table(
    fake: type[FakeMirror], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person gets headings and columns; control characters do not reach the screen there either."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    assert program.run(["collections", "mlhub:", *API]) == 0
    table = capsys.readouterr().out
    assert table.split()[:3] == ["id", "license", "citation"]
    assert "Sümbul [2019]" in table
    assert "\t" not in table
    assert "\x1b" not in table


def test_a_named_collection_is_listed_alone(fake: type[FakeMirror], capsys: pytest.CaptureFixture[str]) -> None:
    """`collections mlhub:COLLECTION` lists that one; one that is not there is a usage error with the nearest name."""
    assert program.run(["collections", "mlhub:source", *API]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("source\t")
    assert program.run(["collections", "mlhub:lables", *API]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "no collection `lables` at http://127.0.0.1:1/mlhub/v1; did you mean `mlhub:labels`?" in said.err
    assert program.run(["collections", "mlhub:xyz", *API]) == 2
    assert "lists the 2 that are there" in capsys.readouterr().err


def test_a_collection_without_classes_is_said_to_have_none(
    fake: type[FakeMirror], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No heading without classes: stdout stays empty, stderr says that there are none, and that is no error."""

    async def none(settings: Settings, api_key: str, secrets: Any, redactor: Any) -> dict[str, list[str]]:
        return {"labels": []}

    monkeypatch.setattr(sys.modules["stacmirror.listings"], "list_classes", none)
    assert program.run(["classes", "mlhub:source", *API]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("mlhub:source has no label classes")
    assert program.run(["classes", "mlhub:source", *API, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"classes": {}}


def test_status_says_what_is_there_and_what_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`status` prints counts, failures and the next command, as text and as JSON, on stdout."""
    found = MirrorStatus(
        source="mlhub:x",
        target="ben",
        counts=counts(190, incomplete=10),
        running="",
        failures=[FailureCount("B02", "5xx", 10)],
        absences=[AbsentKey("s", "B10", 20, 180)],
        layout="item",
        ended_at="2026-11-22",
    )
    monkeypatch.setattr("stacmirror.status.read_status", lambda target: found)
    assert program.run(["status", "ben"]) == 0
    said = capsys.readouterr()
    assert "200 listed = 190 complete + 10 incomplete" in said.out
    assert "failed   5xx: 10 (B02)" in said.out
    assert "stacmirror resume ben" in said.out
    assert program.run(["status", "ben", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["failures"] == [{"asset": "B02", "kind": "5xx", "count": 10}]
    assert value["items"]["incomplete"] == 10
    assert value["absences"] == [{"collection": "s", "asset": "B10", "asked": 20, "assumed": 180}]


def test_status_lists_what_failed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`status --failed` has a line an asset, with tabs; with `--json` a value a line."""
    failed = [FailedAsset("s", "a", "B02", "5xx", "503 from host", 6, 1.0, status=503)]
    monkeypatch.setattr("stacmirror.status.owner", lambda folder: "pid 7")
    monkeypatch.setattr("stacmirror.status.read_failed", lambda target: iter(failed))
    assert program.run(["status", "ben", "--failed"]) == 0
    assert capsys.readouterr().out == "s\ta\tB02\t5xx\t503 from host\n"
    assert program.run(["status", "ben", "--failed", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["message"], told["status"], told["again"]) == ("503 from host", 503, "this run")
    failed.clear()
    assert program.run(["status", "ben", "--failed"]) == 0
    assert capsys.readouterr() == ("", "ben: no asset has failed\n")


def test_demo_mirrors_from_a_simulator_that_it_ends(fake: type[FakeMirror], capsys: pytest.CaptureFixture[str]) -> None:
    """`demo` starts the simulator, aims the run at it with its key, and ends it also when the run fails."""
    seen: list[subprocess.Popen[str]] = []
    start = subprocess.Popen

    def remember(*args: Any, **kwargs: Any) -> subprocess.Popen[str]:
        seen.append(start(*args, **kwargs))
        return seen[-1]

    def work(mirror: FakeMirror) -> Summary:
        assert seen[0].poll() is None
        raise SourceUnreachable("made up")

    fake.work = staticmethod(work)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo.subprocess, "Popen", remember)
        assert program.run(["demo", "out", "--items", "2", "--generation", "2020", "--workers", "3"]) == 5
    (made,) = fake.made
    assert made.settings.catalog.api_url.startswith("http://127.0.0.1:")
    assert made.settings.s3.s3_endpoint.startswith("http://127.0.0.1:")
    assert made.settings.s3.s3_unsigned is True
    assert made.settings.limit.workers == 3
    assert made.api_key not in ("", "s3cr3t")
    assert seen[0].poll() is not None, "the simulator still runs"
    assert capsys.readouterr().err.startswith("demo (offline): serving 2 simulated BigEarthNet items")


def test_a_simulator_that_cannot_start_is_told_in_its_own_words() -> None:
    """What the child refuses (here: too many items) is the demo's line and exit code, and nothing is left running."""
    with pytest.raises(UsageError, match="items must be 1 to"), demo.Simulator(10**7, 2021):
        raise AssertionError("it started")


def test_a_simulator_ends_with_its_parent() -> None:
    """A simulator that is told so ends when its stdin does, however its parent ended."""
    words = ["simulate", "--items", "1", "--port", "0", "--until-stdin-ends"]
    child = subprocess.Popen(
        [sys.executable, "-m", "stacmirror", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert "api" in json.loads(child.stdout.readline())
        child.stdin.close()
        child.wait(10)


def test_a_simulator_serves_its_log_where_its_line_says() -> None:
    """With --log-requests the line's `log` is a URL that answers with a record a request; without, it is not there."""
    import urllib.request

    for words in (["--log-requests"], []):
        child = subprocess.Popen(
            [sys.executable, "-m", "stacmirror", "simulate", "--items", "1", "--until-stdin-ends", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with child:
            assert child.stdout is not None
            line = json.loads(child.stdout.readline())
            assert ("log" in line) is bool(words)
            for url in filter(None, (line["api"], line["counts"], line.get("log"))):
                with urllib.request.urlopen(url) as answer:
                    said = answer.read()
            if words:
                (record,) = map(json.loads, said.splitlines())
                assert (record["server"], record["path"]) == ("api", "/mlhub/v1")
            else:
                assert json.loads(said)["total"] == 1
            child.communicate()


def test_a_busy_port_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """`simulate` on a port that is taken says so and ends with 2."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert program.run(["simulate", "--items", "1", "--port", str(taken.getsockname()[1])]) == 2
    assert "cannot listen on 127.0.0.1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ben", "mlhub:x", "--layout", "item"], "--from DIR is missing"),
        (["ben", "mlhub:x", "--from", "nowhere", "--layout", "item"], "--from nowhere: no such folder"),
        (["ben", "mlhub:x", "--from", "empty", "--layout", "item"], "--from empty: it is empty"),
        (["ben", "mlhub:x", "--from", "full"], "--layout NAME is missing"),
        (["ben", "mlhub:x", "--from", "full", "--layout", "nitebook"], "no layout 'nitebook'"),
        (
            ["ben", "mlhub:x", "--from", "full", "--layout", "item", "--check", "some"],
            "choose one of sample, all, none",
        ),
        (["ben", "--from", "full", "--layout", "item"], "SOURCE is needed"),
    ],
)
def test_what_adopt_refuses(
    fake: type[FakeMirror], capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    """Each mistake is one line, before anyone is asked."""
    Path("empty").mkdir()
    Path("full").mkdir()
    Path("full", "a").touch()
    assert program.run(["adopt", *words, *API]) == 2
    assert said in capsys.readouterr().err
    assert fake.made == []


def test_adopt_hands_over_where_the_files_are(fake: type[FakeMirror]) -> None:
    """A new mirror gets the layout of the folder, or the one that is asked for; a mirror keeps its own."""
    Path("full").mkdir()
    Path("full", "a").touch()
    words = ["adopt", "ben", "mlhub:x", *API, "--from", "full", "--layout", "bigearthnet"]
    assert program.run([*words, "--link"]) == 0
    assert program.run([*words, "--dest-layout", "item", "--check", "all"]) == 0
    first, second = fake.made
    assert (first.settings.place.layout, first.task.layout, first.task.link) == ("bigearthnet", "bigearthnet", True)
    assert (second.settings.place.layout, second.task.layout, second.task.check) == ("item", "bigearthnet", "all")
    template = "{collection}/{item_id}/{asset_key}{ext}"
    assert program.run(["adopt", "ben", "mlhub:x", *API, "--from", "full", "--path-template", template]) == 0
    assert (fake.made[2].settings.place.path_template, fake.made[2].task.template) == (template, template)


@pytest.mark.parametrize("typed", ["0/3", "4/3", "a/b", "3"])
def test_what_is_no_shard_is_refused_in_a_line(
    fake: type[FakeMirror], capsys: pytest.CaptureFixture[str], typed: str
) -> None:
    """`--shard` takes K/N: all else is one line with a hint, exit code 2, and no run."""
    assert program.run(["mirror", "mlhub:x", "ben", *API, "--shard", typed]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(f"stacmirror: error: setting `shard` = '{typed}': must be K/N")
    assert len(said) == 2
    assert not fake.made


def test_a_shard_is_said(
    fake: type[FakeMirror], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the verdict, which speaks of this shard's items, and by `status`; by both as JSON, too."""
    fake.work = staticmethod(lambda mirror: msgspec.structs.replace(complete(), shard=mirror.settings.filter.shard))
    words = ["mirror", "mlhub:x", "ben", *API, "--shard", "02/3"]
    assert program.run(words) == 0
    said = capsys.readouterr().err
    assert "complete: 200 of 200 items of shard 2/3, " in said
    assert "shard    2/3; the listing is of all shards, and items of others count as filtered" in said
    assert program.run([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shard"] == "2/3"
    found = MirrorStatus(
        source="mlhub:x", target="ben", counts=counts(9), running="", failures=[], absences=[], layout="item",
        ended_at="", shard="2/3",
    )  # fmt: skip
    monkeypatch.setattr("stacmirror.status.read_status", lambda target: found)
    assert program.run(["status", "ben"]) == 0
    assert "shard    2/3; " in capsys.readouterr().out
    assert program.run(["status", "ben", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shard"] == "2/3"
