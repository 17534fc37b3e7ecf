"""What servers and foreign files are called never reaches a terminal raw: not on screen, in JSON, nor in a log."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stacmirror.cli import app
from stacmirror.cli.display import Display
from stacmirror.cli.drawing import Drawing, panel
from stacmirror.cli.gauge import Meter
from stacmirror.cli.screen import json_line, safe
from stacmirror.pipeline.progress import Progress
from tests.contract.wire_server import KEEP, head, ok, wire_server
from tests.faults.world import COLLECTION, KEY, World, always

TITLE = "\x1b]0;owned\x07"
NASTY = f"i\x1b[2J{TITLE}\x9b31m\r\u202e\u2066gpj\u200e\x7f\n[bold red]x[/bold red]"
"""Clears a screen, sets a title, a C1 escape, turns text around, breaks a line; and rich's markup."""


def raw(text: str) -> set[str]:
    """Return the characters of `text` that a terminal would obey, or that turn text around."""
    return {char for char in text if unicodedata.category(char)[0] == "C" and char not in "\n\t"}


async def said(*words: str, cwd: Path) -> str:
    """Return what the program says of `words` on stdout and stderr."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("STACMIRROR_", "MLHUB_"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "stacmirror", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=cwd,
        env={**environ, "MLHUB_API_KEY": KEY, "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    return out.decode("utf-8")


async def test_no_command_says_names_as_they_are(tmp_path: Path) -> None:
    """A mirror whose ids, keys, kinds, citations and errors steer terminals, and every command that tells of it."""
    async with wire_server(None, World([NASTY, "i1", "i2"])) as world:
        world.faults["/bad"] = always(
            f"HTTP/1.1 418 {TITLE}\u202e\r\nContent-Length: 0\r\nX: \x1b[31m\r\n\r\n".encode(), KEEP
        )
        world.faults["/html"] = always(ok(f"<html>{NASTY}".encode(), f"Content-Type: {TITLE}"), KEEP)
        world.faults["/away"] = always(head(302, f"Location: weird://{TITLE}[red]", "Content-Length: 0"), KEEP)
        described = {"id": COLLECTION, "title": NASTY, "license": f"x{NASTY}", "sci:citation": NASTY}
        world.faults[f"/mlhub/v1/collections/{COLLECTION}"] = always(ok(json.dumps(described).encode()), KEEP)
        world.faults["/mlhub/v1/collections"] = always(ok(json.dumps({"collections": [described]}).encode()), KEEP)

        def edit(item: dict[str, Any]) -> None:
            item["properties"] = {"label:classes": [{"name": NASTY, "classes": [NASTY, "b"]}, {"classes": [NASTY]}]}
            for name in ("/bad", "/html", "/away"):
                item["assets"][NASTY + name] = {"href": world.url + name, "type": "image/tiff"}
            item["assets"]["scheme" + NASTY] = {"href": f"{NASTY}://host/x"}

        world.edit_item = edit
        access = ["--api-url", world.root, "--retries", "0", "--sweeps", "0", "--log-file", "run.log"]
        source = f"mlhub:{COLLECTION}"
        first = await said("mirror", source, "ben", *access, "-v", "--json", cwd=tmp_path)
        assert "incomplete" in first
        foreign = tmp_path / "ben" / COLLECTION / "i1"
        for name in (NASTY.replace("/", ""), "bytes"):
            (foreign / name).write_bytes(b"x")
        os.rename(os.fsencode(foreign / "bytes"), os.fsencode(foreign) + b"/\xff\x9b\xfe")
        (foreign / "B01.tif").write_bytes(b"cut")
        lines = [
            ("status", "ben"), ("status", "ben", "--json"), ("status", "ben", "--failed"),
            ("status", "ben", "--failed", "--json"), ("explain", "ben", NASTY), ("explain", "ben", NASTY, "--json"),
            ("explain", "ben", f"no{NASTY}"), ("verify", "ben", "--report", "report"), ("verify", "ben", "--json"),
            ("manifest", "ben", "--format", "ndjson"), ("manifest", "ben", "--format", "sha256sums"),
            ("collections", "mlhub:", "--api-url", world.root),
            ("collections", "mlhub:", "--api-url", world.root, "--json"),
            ("classes", source, "--api-url", world.root),
            ("retry", "ben", *access), ("resume", "ben", *access, "--progress", "plain"), ("mirror", NASTY, "x"),
            ("status", NASTY), ("resume", "ben", f"--no{NASTY}"),
        ]  # fmt: skip
        told = {}
        for at in range(0, len(lines), 4):
            answers = await asyncio.gather(*(said(*words, cwd=tmp_path) for words in lines[at : at + 4]))
            told |= dict(zip(lines[at : at + 4], answers, strict=True))
    told["mirror", source] = first
    told["log",] = (tmp_path / "run.log").read_text()
    told["report",] = (tmp_path / "report").read_text()
    for words, text in told.items():
        assert text.strip(), words
        assert raw(text) == set(), (words, text)
    named = "".join(told.values())
    assert "[bold red]x[/bold red]" in named  # markup is text
    explained = [line for line in told["explain", "ben", NASTY, "--json"].splitlines() if line.startswith("{")]
    assert json.loads(explained[0])["items"][0]["item"] == NASTY
    failed = [json.loads(line) for line in told["status", "ben", "--failed", "--json"].splitlines()]
    assert {one["item"] for one in failed} == {NASTY, "i1", "i2"}
    assert {one["asset"].removeprefix(NASTY) for one in failed} >= {"/bad", "/html", "/away"}


def test_json_is_the_same_value_without_what_steers() -> None:
    """What JSON lets pass raw is escaped, and read back it is what it was."""
    value = {NASTY: [NASTY, "plain \u00e9 \U0001f30d", "\U000e0001"]}
    assert raw(json_line(value)) == set()
    assert json.loads(json_line(value)) == value
    assert "\u00e9" in json_line(value)


def test_a_traceback_is_safe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An unexpected error's traceback keeps its lines and loses what steers, and the key."""
    session = app.Session(verbose=True, secret="s3cr3t-k3y-0123")
    try:
        raise ValueError(f"{NASTY} with s3cr3t-k3y-0123 and s3cr3t-k3y-0123".replace("\n", ""))
    except ValueError as error:
        app._tell_unexpected(session, error)
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert told.count("\n") > 3
    assert raw(told) == set()
    assert "s3cr3t" not in told


@pytest.mark.parametrize("mode", ["bar", "plain"])
async def test_the_display_shows_names_as_text(mode: Any) -> None:
    """Notes, title and the slowest asset: rich's own sequences are on the terminal, a name's are not."""
    console = Console(file=io.StringIO(), force_terminal=True, width=200, height=30, color_system=None)
    display, progress = Display(Drawing(console), mode, title=NASTY), Progress()
    progress.phase = "fetching"
    async with asyncio.timeout(5):
        with display.showing(progress):
            display.note(NASTY)
            await asyncio.sleep(0)
    assert isinstance(console.file, io.StringIO)
    assert mode == "bar" or "[bold red]x[/bold red]" in console.file.getvalue()
    meter = Meter(0.0)
    console.print(panel(meter.read(progress, 1.0), NASTY))
    shown = console.file.getvalue()
    assert "[bold red]x[/bold red]" in shown
    for part in (TITLE, "\x1b[2J\x1b]", "\x9b", "\u202e", "\u2066", "\x7f", "\x07"):
        assert part not in shown
    assert safe(NASTY) in shown.replace("\r", "")
