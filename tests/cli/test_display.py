"""What a person sees of a running mirror: on a terminal, in a log, and not at all."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest
from rich.console import Console

from stacmirror.cli import display as display_module
from stacmirror.cli.display import Display, Lines, choose_mode, stderr_screen
from stacmirror.cli.drawing import Drawing, panel
from stacmirror.cli.gauge import Meter, plain_line
from stacmirror.cli.log import Log
from stacmirror.pipeline.progress import Progress
from tests.unit.fakes import until


def _progress() -> Progress:
    progress = Progress()
    progress.phase = "fetching"
    progress.items_total = 200
    progress.items_listed = 100
    progress.items_done = 50
    progress.files_stored = 650
    progress.bytes_stored = 8_200_000
    progress.watch(lambda: (128, 0))
    progress.retries = 3
    return progress


def _terminal(width: int = 80) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=24, color_system=None)


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _drawn(progress: Progress, width: int = 80, title: str = "mlhub:x to d") -> str:
    console = _terminal(width)
    meter = Meter(0.0)
    meter.read(Progress(), 0.0)
    console.print(panel(meter.read(progress, 5.0), title))
    return _text(console)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_panel_shows_counts_rates_and_what_is_left(width: int) -> None:
    """The panel has items, percent, files, bytes, rates, time left, queue and retries, and fits the width."""
    progress = _progress()
    progress.begin("S2A_MSIL2A_20180526T100031_65_62", "B02", 1.0)
    drawn = _drawn(progress, width)
    assert all(len(line) <= width for line in drawn.splitlines())
    assert len(drawn.splitlines()) == 5
    if width >= 80:
        for part in ("50 of 200 items", "25%", "650 files", "8.2 MB", "130 files/s", "15.0s left", "1 in flight"):
            assert part in drawn
        for part in ("128 queued", "3 retries", "slowest 4.0s: S2A_MSIL2A_20180526T100031_65_62 B02"):
            assert part in drawn


def test_ids_cannot_steer_the_terminal_nor_the_markup() -> None:
    """An escape sequence or rich markup in an id is shown as text, replaced where it is not printable."""
    progress = _progress()
    progress.begin("evil\x1b]0;pwned\x07[red]id[/red]\u202e\r", "key", 0.0)
    drawn = _drawn(progress, 120, title="mlhub:[bold]x[/bold]\x1b[2J to d")
    for char in ("\x1b", "\x07", "\u202e", "\r"):
        assert char not in drawn
    assert "[red]id[/red]" in drawn
    assert "[bold]x[/bold]" in drawn


def test_the_plain_line_is_one_line_with_the_same_counts() -> None:
    """Where no terminal is, one line says items, files, bytes, rate, troubles and time left."""
    meter = Meter(0.0)
    meter.read(Progress(), 0.0)
    progress = _progress()
    progress.failures = 2
    assert plain_line(meter.read(progress, 10.0)) == (
        "[10.0s] fetching: 50 of 200 items, 650 files, 8.2 MB, 65 files/s, 0 in flight, 3 retries, 2 failed, 30.0s left"
    )


def test_what_is_waited_for_is_named() -> None:
    """As long as hosts are down or paused: in the line and, in place of the slowest file, in the picture."""
    progress = _progress()
    hosts = ["https://blobs.example", "s3://bucket"]
    progress.watch_hosts(lambda: hosts)
    progress.begin("S2A_MSIL2A_20180526T100031_65_62", "B02", 0.0)
    assert plain_line(Meter(0.0).read(progress, 9.0)).endswith("waiting for https://blobs.example and 1 more")
    assert "waiting for https://blobs.example and 1 more" in _drawn(progress, 80)
    hosts.clear()
    assert "waiting for" not in plain_line(Meter(0.0).read(progress, 9.0))
    assert "waiting for" not in _drawn(progress, 80)


def test_without_a_total_nothing_is_guessed() -> None:
    """A server that names no total gives no percent and no time left."""
    progress = _progress()
    progress.items_total = None
    meter = Meter(0.0)
    meter.read(Progress(), 0.0)
    snapshot = meter.read(progress, 10.0)
    assert snapshot.total is None
    assert snapshot.eta_s is None
    assert "50 items of 100 listed so far" in plain_line(snapshot)
    assert Meter(0.0, expected_items=60).read(progress, 0.0).total == 60


def test_max_items_is_the_total_and_filtered_items_count_towards_the_listing() -> None:
    """With --max-items, matching items count towards it; without, filtered items are progress through the listing."""
    progress = _progress()
    progress.items_filtered = 30
    assert Meter(0.0).read(progress, 0.0).settled == 80
    progress.items_wanted = 60
    snapshot = Meter(0.0).read(progress, 0.0)
    assert (snapshot.settled, snapshot.total) == (50, 60)


def test_rates_are_of_the_last_seconds() -> None:
    """A run that stood still for ten seconds shows no rate, however fast it was before."""
    meter = Meter(0.0)
    progress = Progress()
    meter.read(progress, 0.0)
    progress.files_stored = 1_000
    assert meter.read(progress, 1.0).files_per_s == pytest.approx(1_000)
    for second in range(2, 13):
        snapshot = meter.read(progress, float(second))
    assert snapshot.files_per_s == 0


def test_items_from_earlier_runs_are_not_speed() -> None:
    """Items that were there before count as done, not towards the time left."""
    meter = Meter(0.0)
    progress = Progress()
    progress.items_total = 100
    meter.read(progress, 0.0)
    progress.items_there = 50
    progress.items_done = 60
    assert meter.read(progress, 10.0).eta_s == pytest.approx(40.0)


def test_auto_is_a_bar_on_a_terminal_and_plain_elsewhere() -> None:
    """`auto` looks at where the words go; the other choices are taken as they are."""
    assert choose_mode("auto", Drawing(_terminal())) == "bar"
    assert choose_mode("auto", Drawing(Console(file=io.StringIO()))) == "plain"
    dumb = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    assert choose_mode("auto", Drawing(dumb)) == "plain"
    assert choose_mode("auto", Lines()) == "plain"
    assert choose_mode("none", Drawing(_terminal())) == "none"


async def test_the_bar_is_redrawn_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the panel is drawn, a note comes above it, and at the end the panel is erased."""
    monkeypatch.setattr(display_module, "TICK_S", 0.01)
    console = _terminal()
    display = Display(Drawing(console), "bar", title="mlhub:x to d")
    with display.showing(_progress()):
        display.note("B10 is absent [everywhere]")
        await until(lambda: _text(console).count("50 of 200 items") > 1)
    text = _text(console)
    assert "B10 is absent [everywhere]" in text
    assert text.count("50 of 200 items") > 1
    assert text.endswith("\x1b[2K"), "the last line of the panel is erased"


@pytest.mark.parametrize("by_rich", [True, False])
async def test_plain_lines_come_every_ten_seconds(
    by_rich: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Elsewhere, ten seconds pass between two lines, notes are printed at once and whole, and nothing is redrawn.

    It is the same whether rich writes (somebody set FORCE_COLOR to nothing) or is not even loaded.
    """
    monkeypatch.setattr(display_module, "TICK_S", 0.005)
    now_s = 100.0
    screen = Drawing(Console(stderr=True, width=80)) if by_rich else Lines()
    display = Display(screen, "plain", clock=lambda: now_s)
    note = f"[bold]hello[/bold] :smile: {'x' * 90} end\x1b"
    heard = ""

    def said() -> str:
        nonlocal heard
        heard += capsys.readouterr().err
        return heard

    with display.showing(_progress()):
        display.note(note)
        await until(lambda: said().endswith("\n"))
        assert said() == note.replace("\x1b", "\ufffd") + "\n"
        now_s = 110.1
        await until(lambda: said().count("\n") == 2)
        now_s = 119.9
        await asyncio.sleep(0.05)
    _, line = said().splitlines()
    assert line.startswith("[10.1s] fetching: 50 of 200 items, 650 files")


@pytest.mark.parametrize(
    ("wanted", "environ", "by_rich"),
    [("auto", {}, False), ("none", {}, False), ("bar", {}, True), ("auto", {"FORCE_COLOR": "1"}, True)],
)
def test_rich_writes_only_where_a_terminal_may_be(
    wanted: str, environ: dict[str, str], by_rich: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pipe words are plain lines, unless a bar or colour was asked for; a pipe that says so is a terminal."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    screen = stderr_screen(wanted)
    assert isinstance(screen, Drawing if by_rich else Lines)
    assert screen.can_redraw == by_rich


async def test_quiet_silences_notes_and_progress_but_not_the_log(tmp_path: Path) -> None:
    """-q shows nothing of a run; --log-file has every note all the same, one a line, with its time."""
    path = tmp_path / "log"
    console = _terminal()
    with Log(str(path)) as log:
        display = Display(Drawing(console), "bar", quiet=True, log=log)
        with display.showing(_progress()):
            display.note("first\nstill first")
            await asyncio.sleep(0.02)
        display.note("second")
    assert _text(console) == ""
    written = path.read_text().splitlines()
    assert len(written) == 2
    assert written[0].startswith("20")
    assert written[0].endswith("first\ufffdstill first")


async def test_a_terminal_that_stands_still_does_not_hold_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-S blocks the drawing thread only: the loop goes on meanwhile."""
    import threading

    monkeypatch.setattr(display_module, "TICK_S", 0.005)
    gate, reached = threading.Event(), threading.Event()

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            reached.set()
            assert gate.wait(60)
            return super().write(text)

    display = Display(Drawing(Console(file=Stuck(), force_terminal=True, width=80)), "bar")
    with display.showing(_progress()):
        turns = 0
        for _ in range(20):
            await asyncio.sleep(0.005)
            display.note("a note never blocks")
            turns += 1
        assert turns == 20
        await until(reached.is_set)
        gate.set()


async def test_a_terminal_that_is_gone_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words that nobody can read any more (closed window) are dropped."""
    monkeypatch.setattr(display_module, "TICK_S", 0.005)

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    display = Display(Drawing(Console(file=Gone(), force_terminal=True, width=80)), "bar")
    with display.showing(_progress()):
        display.note("hello")
        await asyncio.sleep(0.05)
