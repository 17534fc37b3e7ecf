"""One run of a mirror as the command line does it: display, signals, log, verdict."""

from __future__ import annotations

import asyncio
import gc
import os
import shlex
from collections.abc import Callable
from contextlib import suppress

import typer
from msgspec import Struct

from stacmirror.cli.display import Display, choose_mode, stderr_screen
from stacmirror.cli.failures import failure_file
from stacmirror.cli.log import Log
from stacmirror.cli.report import Ending, summary_json, verdict_lines
from stacmirror.cli.session import Look, Session, emit_json, say
from stacmirror.cli.signals import stopping
from stacmirror.model import Summary
from stacmirror.pipeline.task import Task
from stacmirror.settings import Settings
from stacmirror.units import format_count


class Job(Struct, frozen=True):
    """What one run is, apart from its settings. `expected_items` is for a server that names no total."""

    api_key: str
    resume_command: str = ""
    expected_items: int | None = None
    task: Task | None = None


def run_mirror(session: Session, settings: Settings, job: Job, look: Look) -> int:
    """Mirror, say how it went and return the exit code. Raises: StacmirrorError."""
    session.secret = job.api_key
    if settings.look.log_file:
        with Log(settings.look.log_file) as log:
            session.log_path = settings.look.log_file
            return _run(session, settings, job, look, log)
    return _run(session, settings, job, look, None)


def _run(session: Session, settings: Settings, job: Job, look: Look, log: Log | None) -> int:
    screen = stderr_screen(settings.look.progress)
    display = Display(
        screen,
        choose_mode(settings.look.progress, screen),
        title=f"{settings.source} to {settings.target}",
        expected_items=job.expected_items,
        quiet=look.quiet,
        log=log,
        hide=session.hide,
    )
    with failure_file(settings.look.failures, settings.target) as write_failures:
        runner = asyncio.Runner(loop_factory=loop_factory())
        try:
            summary, citation = runner.run(_drive(session, settings, job, display))
        finally:
            with suppress(
                OSError, RuntimeError
            ):  # it takes files, and there may be none to be had: the verdict is known
                runner.close()
        failures = write_failures()
    target = shlex.quote(settings.target)
    ending = Ending(
        summary=summary,
        folder=os.path.abspath(settings.target),
        resume_command=job.resume_command or f"stacmirror resume {target}",
        status_command=f"stacmirror status {target}",
        citation=citation,
        failures=f"{format_count(failures)} lines in {settings.look.failures}" if failures else "",
    )
    for line in verdict_lines(ending, screen.width):
        say(line)
        if log is not None:
            log.write(line)
    if look.json:
        with suppress(typer.Exit):  # the exit code is about the mirror
            emit_json(summary_json(ending.summary))
    return ending.summary.exit_code


async def _drive(session: Session, settings: Settings, job: Job, display: Display) -> tuple[Summary, list[str]]:
    from stacmirror.mirror import Mirror

    gc.freeze()  # what is there by now stays: neither a run's collections nor the process's end need look at it
    mirror = Mirror(settings, api_key=job.api_key, observer=display, task=job.task, secrets=os.environ)
    session.hides = mirror.hide
    mirror.progress.items_expected = job.expected_items
    with stopping(mirror.stop, display.note), display.showing(mirror.progress):
        summary = await mirror.run()
    return summary, list(mirror.citation)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's loop where it is installed, else None for asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
