"""The program from outside: one line for every mistake, its exit code, and nothing imported that is not needed."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from stacmirror.cli import app as program
from stacmirror.cli.commands import COMMANDS, Commands
from stacmirror.cli.exit_codes import EXIT_CODES
from stacmirror.errors import LoginRefused, StacmirrorError, TargetUnwritable, UsageError
from stacmirror.simulator.faults import FAULTS, TARGETS, TRAPS
from tests.conftest import simulated


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "stacmirror", *words], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("words", "exit_code", "expected"),
    [
        (["mirror"], 2, "SOURCE"),
        (["mirro"], 2, "mirror"),
        (["mirror", "mlhub:x", "d", "--wrkers", "3"], 2, "--wrkers"),
        (
            ["mirror", "mlhub:x", "d", "--workers", "0", "--api-url", "http://h/"],
            2,
            "must be 1 to 4096 (from --workers)",
        ),
        (["mirror", "mlhub:x", "d", "--workers", "100000000"], 2, "'100000000': must be 1 to 4096 (from --workers)"),
        (["mirror", "mlhub:x", "d", "--retries", "-1"], 2, "'-1': must be 0 to 100 (from --retries)"),
        (["mirror", "mlhub:x", "d"], 2, "MLHub is gone"),
        (["mirror", "mlhub:x", "d", "--api-url", "http://127.0.0.1:1/"], 4, "no API key"),
        (["mirror", "ftp:x", "d", "--api-url", "http://127.0.0.1:1/"], 2, "ftp:x"),
        (["mirror", "mlhub:x", "file", "--api-url", "http://127.0.0.1:1/"], 2, "not a folder"),
        (["mirror", "mlhub:x", "file/below", "--api-url", "http://127.0.0.1:1/"], 2, "not a folder"),
        (["mirror", "mlhub:x", "d", "--layout", "tree"], 2, "choose one of item, notebook"),
        (["mirror", "mlhub:x", "d", "--layout", "template", "--api-url", "http://127.0.0.1:1/"], 2, "--path-template"),
        (["mirror", "mlhub:x", "d", "--layout", "item", "--path-template", "{item_id}/{asset_key}"], 2, "contradict"),
        (["mirror", "mlhub:x", "d", "--layout", "fanout", "--path-template", "{item_id}/{asset_key}"], 2, "contradict"),
        (["mirror", "mlhub:x", "d", "--path-template", "{nope}", "--api-url", "http://127.0.0.1:1/"], 2, "nope"),
        (["mirror", "mlhub:x", "d", "--cloud-and-shadow", "--no-cloud-and-shadow"], 2, "contradict"),
        (["mirror", "mlhub:x", "d", "-q", "-v"], 2, "--quiet and --verbose contradict each other"),
        (["demo", "d", "-qv"], 2, "--quiet and --verbose contradict each other"),
        (["resume", "d", "--verbose", "--quiet"], 2, "--quiet and --verbose contradict each other"),
        (["mirror", "mlhub:x", "d", "--asset", "B02", "--exclude-asset", "B02", "--api-url", "http://h/"], 2, "B02"),
        (["mirror", "mlhub:x", "d", "--config", "none.toml"], 2, "none.toml"),
        (["resume", "nowhere"], 2, "no mirror to resume"),
        (["simulate", "--items", "0"], 2, "items must be 1"),
        (["simulate", "--fault", "503"], 2, "NAME:RATE"),
        (["simulate", "--trap", "nul-next"], 2, "null-next"),
        (["demo", "--rate", "fast"], 2, "from --rate"),
    ],
)
def test_a_mistake_is_one_line_and_its_exit_code(
    words: list[str], exit_code: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be done is told in one line on stderr (a hint may follow), nothing on stdout, nothing on disk."""
    Path("file").touch()
    assert program.run(words) == exit_code
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert said.out == ""
    assert lines[0].startswith("stacmirror: error: ")
    assert expected in said.err
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("  hint: "))
    assert [path.name for path in Path().iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["mirror", "mlhub:x", "d"], "MLHub is gone"),
        (["mirror"], "SOURCE"),
        (["nope"], "nope"),
        (["resume", "nowhere"], "no mirror"),
        (["status", "nowhere"], "no mirror"),
        (["collections", "x"], "no known source"),
        (["classes", "mlhub:"], "no collection"),
        (["demo", "--rate", "fast"], "from --rate"),
        (["simulate", "--items", "0"], "items must be 1"),
        (["config", "show", "--nope"], "--nope"),
    ],
)
def test_an_error_is_json_too_when_json_was_asked_for(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --json, every command tells an error on stdout in one line of one shape: message, hint, exit code."""
    assert program.run([*words, "--json"]) == 2
    said = capsys.readouterr()
    (line,) = said.out.splitlines()
    value = json.loads(line)
    assert value == {"error": {"message": value["error"]["message"], "hint": value["error"]["hint"]}, "exit_code": 2}
    assert expected in value["error"]["message"]
    assert said.err.splitlines()[0] == f"stacmirror: error: {value['error']['message']}"


def test_a_mistyped_flag_leads_to_the_help_of_its_own_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The hint of a usage error names the command whose help has the flags."""
    program.run(["config", "show", "--nope"])
    assert capsys.readouterr().err.splitlines()[1] == "  hint: see `stacmirror config show --help`"


def test_a_name_with_a_line_break_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters in what was typed (or what a server said) do not reach the terminal."""
    program.run(["mirro\x1b[2J\nr"])
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert len(said.splitlines()) == 2


def _failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(program, "app", fail)


@pytest.mark.parametrize(
    "error", [UsageError("m", hint="h"), LoginRefused("m", hint="h"), TargetUnwritable("m", hint="h")]
)
def test_each_error_class_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: StacmirrorError
) -> None:
    """A failure on purpose ends with its class's exit code, message and hint."""
    _failing(monkeypatch, error)
    assert program.run([]) == error.exit_code
    assert capsys.readouterr().err == "stacmirror: error: m\n  hint: h\n"


def test_an_unexpected_error_shows_no_traceback_unless_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bug of ours is one line and exit 1; -v shows the traceback; a key in a URL is shown in neither."""
    _failing(monkeypatch, RuntimeError("bad https://h/?limit=3&key=s3cr3t&x=1"))
    assert program.run(["x"]) == 1
    said = capsys.readouterr().err
    assert said.splitlines()[0] == "stacmirror: error: unexpected RuntimeError: bad https://h/?limit=3&key=REDACTED&x=1"
    assert "-v" in said.splitlines()[1]
    assert "Traceback" not in said
    assert program.run(["x", "-v"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "s3cr3t" not in said


def test_ctrl_c_outside_a_run_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A Ctrl-C while nothing is mirrored yet ends with 130 and one line."""
    _failing(monkeypatch, KeyboardInterrupt())
    assert program.run([]) == 130
    assert capsys.readouterr().err == "stacmirror: error: interrupted\n"


def test_help_leads_with_examples_and_names_the_exit_codes() -> None:
    """`mirror --help` shows a command to copy before the first flag, and every exit code at the end."""
    done = _run("mirror", "--help")
    assert done.returncode == 0
    assert done.stdout.index("stacmirror mirror mlhub:bigearthnet_v1_labels ben") < done.stdout.index("--label-class")
    for code, meaning in EXIT_CODES.items():
        assert f"{code}  {meaning}" in done.stdout
    assert _run("--version").stdout.startswith("stacmirror 0.")


@pytest.mark.parametrize("command", ["resume", "demo", "status", "collections", "classes", "simulate", "config show"])
def test_every_help_page_ends_with_exit_codes(command: str) -> None:
    """Each command's help names the exit codes that it can end with; those of a run are all of them."""
    said = _run(*command.split(), "--help").stdout
    codes = said[said.index("Exit codes:") :]
    assert "2  usage or settings" in codes
    assert ("3  finished, but some assets failed" in codes) is (command in ("resume", "demo"))


def test_brackets_of_help_are_brackets() -> None:
    """What looks like markup in a help text is shown as it is typed, on the page of all commands, too."""
    for words in (["--help"], ["sources", "--help"]):
        assert "`[source.NAME]`" in _run(*words).stdout


@pytest.mark.parametrize("columns", [80, 120])
def test_the_simulators_help_names_every_fault_target_and_trap(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`simulate --help` lists what --fault and --trap take, each with its line, no line wider than the screen."""
    monkeypatch.setenv("COLUMNS", str(columns))
    said = _run("simulate", "--help").stdout
    for name, text in (*FAULTS.items(), *TRAPS.items()):
        assert f"{name} {text}" in " ".join(said.split())
    assert f"Targets: {', '.join(TARGETS)};" in said
    assert max(map(len, said.splitlines())) <= columns


@pytest.mark.parametrize("command", ["mirror", "resume", "demo", "collections", "simulate", "config show"])
def test_help_reads_well_on_a_narrow_screen(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 80 columns no default is cut from its value, none is written as nobody types it, no line is too wide."""
    monkeypatch.setenv("COLUMNS", "80")
    said = _run(*command.split(), "--help").stdout
    assert "[default:  " not in said
    assert ".0s]" not in said
    assert max(map(len, said.splitlines())) <= 80


LOADED = (
    "import sys\n"
    "from stacmirror.cli.app import run\n"
    "code = run(sys.argv[2:])\n"
    "loaded = sorted(set(sys.argv[1].split()) & set(sys.modules))\n"
    "sys.exit(f'code {code}, loaded {loaded}')\n"
)
"""A program that runs a command line, and says its exit code and which of some modules it has loaded."""
NETWORK = ["aiohttp", "botocore", "aiobotocore", "aiofiles", "uvloop", "httptools"]
DRAWS = ["rich", "stacmirror.cli.bar", "stacmirror.cli.drawing", "stacmirror.cli.drawing_checks"]


def _others(*own: str) -> list[str]:
    return [f"stacmirror.cli.{entry.module}" for entry in COMMANDS.values() if entry.module not in own]


@pytest.mark.parametrize(
    ("words", "exit_code", "unwanted"),
    [
        (["--help"], 0, NETWORK),
        (["mirror", "--help"], 0, [*NETWORK, *_others("mirror")]),
        (["--version"], 0, [*NETWORK, *DRAWS, *_others()]),
        (["status", "nowhere"], 2, [*NETWORK, *DRAWS, *_others("status", "mirror")]),
        (["verify", "nowhere", "--progress", "none"], 2, [*NETWORK, *DRAWS, *_others("verify", "mirror")]),
        (["config", "show"], 0, [*NETWORK, *DRAWS, *_others("config_show")]),
    ],
)
def test_what_is_not_needed_is_not_loaded(words: list[str], exit_code: int, unwanted: list[str]) -> None:
    """`--help`, `status` and `config` load no network; what draws nothing loads no rich, nor another command."""
    command = [sys.executable, "-c", LOADED, " ".join(unwanted), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1] == f"code {exit_code}, loaded []"


async def test_a_run_into_a_pipe_loads_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """`mirror --progress none` into a pipe has all items, its notes and its verdict, without rich or another command.

    Nor does it load what only other runs need: aiohttp, AWS, what writes large files, reads TOML or odd dates.
    """
    unwanted = ["aiohttp", "aiobotocore", "aiofiles", "tomllib", "configparser", "email.utils", "statistics"]
    async with simulated(items=3, generation=2022) as simulator:
        monkeypatch.setenv("MLHUB_API_KEY", simulator.key)
        words = ["mirror", "mlhub:bigearthnet_v1_labels", "ben", "--api-url", simulator.api_url, "--progress", "none"]
        command = [sys.executable, "-c", LOADED, " ".join([*DRAWS, *_others("mirror"), *unwanted]), *words]
        child = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = await asyncio.wait_for(child.communicate(), 60)
    said = err.decode().splitlines()
    assert out == b""
    assert said[-1] == "code 0, loaded []"
    assert said[0].startswith("mirroring mlhub:bigearthnet_v1_labels from ")
    assert any(line.startswith("B10 of bigearthnet_v1_source: missing on 3 of 3 items asked") for line in said)
    assert any(line.startswith("complete: 3 of 3 items") for line in said)


def test_a_command_is_built_when_it_is_typed() -> None:
    """The program's table has every command in the order of its help; one that is asked for is built alone."""
    group = get_command(program.app)
    assert isinstance(group, Commands)
    context = group.make_context("stacmirror", ["status"])
    assert group.get_command(context, "status").name == "status"
    assert list(group.commands) == ["status"]
    assert group.get_command(context, "statu") is None
    assert {name: group.commands[name].name for name in group.list_commands(context)} == {n: n for n in COMMANDS}


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("stacmirror m", ["mirror", "manifest"]), ("stacmirror config ", ["show", "path"])],
)
def test_a_shell_completes_commands(typed: str, offered: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Completion knows commands that are not loaded, and those of a group."""
    monkeypatch.setenv("_STACMIRROR_COMPLETE", "complete_zsh")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", typed)
    said = _run().stdout
    assert re.findall(r'"([a-z]+)":', said) == offered


def test_config_show_says_where_a_value_comes_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`config show --origin` names the variable; `--json` gives key, value and origin as one line."""
    monkeypatch.setenv("STACMIRROR_WORKERS", "7")
    assert program.run(["config", "show", "--origin"]) == 0
    shown = {line.split(" = ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert shown["workers"].split() == ["workers", "=", "7", "#", "STACMIRROR_WORKERS"]
    assert shown["retries"].endswith("# default")
    assert program.run(["config", "show", "--origin", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["workers"] == {"value": 7, "origin": "STACMIRROR_WORKERS"}


def test_config_path_names_both_files(capsys: pytest.CaptureFixture[str]) -> None:
    """`config path` says which files are read and whether they exist."""
    Path("stacmirror.toml").touch()
    assert program.run(["config", "path", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["project"] == {"path": str(Path("stacmirror.toml").absolute()), "exists": True}
    assert value["user"]["exists"] is False
