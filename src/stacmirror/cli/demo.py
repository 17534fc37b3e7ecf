"""`stacmirror demo`: the retired API as a child process, and a mirror made from it. Offline, on a fresh machine."""

from __future__ import annotations

import json
import queue
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Annotated, Any

import typer

from stacmirror.cli import config
from stacmirror.cli.checks import check_settings
from stacmirror.cli.layers import Given
from stacmirror.cli.opening import open_run
from stacmirror.cli.options import FILTERS, LOOK, PLACE, TUNING, Json, Quiet, Verbose, takes
from stacmirror.cli.session import Look, session_of
from stacmirror.errors import SourceUnreachable, StacmirrorError, UsageError
from stacmirror.settings import Settings

SOURCE = "mlhub:bigearthnet_v1_labels"
READY_S = 30.0
"""A slow machine needs a while to import; a child that says nothing for longer never will."""
END_S = 5.0


@takes(FILTERS, PLACE, TUNING, LOOK)
def demo(
    ctx: typer.Context,
    flags: dict[str, object],
    dest: Annotated[str, typer.Argument(help="The mirror's folder.")] = "./demo-mirror",
    items: Annotated[int, typer.Option(help="Items that the simulator has.", metavar="N")] = 200,
    generation: Annotated[int, typer.Option(help="Which API: 2020, 2021 or 2022.", metavar="YEAR")] = 2021,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Try it: start the simulator (the retired MLHub API) on this machine and mirror BigEarthNet from it. No network.

    stacmirror demo
    stacmirror demo /tmp/ben --items 2000 --workers 32
    stacmirror demo --layout bigearthnet --label-class "Coniferous forest"
    """
    from stacmirror.cli.run import Job, run_mirror

    look = Look(json, quiet, verbose)
    # Only what was typed counts: a demo must do the same wherever it is started.
    resolved = config.only_flags(flags)
    wished = resolved.settings(SOURCE, dest)
    check_settings(wished)
    title = f"demo (offline): serving {items:,} simulated BigEarthNet items, mirroring them to {dest}"
    open_run(title, wished, resolved, look, [])
    with Simulator(items, generation) as simulator:
        settings = _aimed(resolved, dest, simulator.urls, generation)
        again = shlex.join(["stacmirror", "demo", dest, "--items", str(items), "--generation", str(generation)])
        job = Job(simulator.key, again, expected_items=items)
        code = run_mirror(session_of(ctx), settings, job, look)
    raise typer.Exit(code)


def _aimed(resolved: config.Resolved, dest: str, urls: Mapping[str, str], generation: int) -> Settings:
    """Return the settings with the simulator as source."""
    aim: dict[str, object] = {"api_url": urls["api"]}
    if generation == 2020:
        # That API redirects to s3://, so the simulator's S3 stands in for AWS.
        aim |= {"s3_endpoint": urls["s3"], "s3_unsigned": True}
    given = {key: Given(value, "the simulator") for key, value in aim.items()}
    return config.Resolved({**resolved.given, **given}).settings(SOURCE, dest)


@dataclass
class Simulator:
    """The simulator as a child process; use as `with`. It ends with the block, and with this process.

    Raises: UsageError or StacmirrorError when it does not start, with what it said.
    """

    items: int
    generation: int

    def __post_init__(self) -> None:
        self.urls: dict[str, str] = {}
        self.key = ""
        self._child: subprocess.Popen[str] | None = None
        self._said: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115

    def __enter__(self) -> Simulator:
        command = [sys.executable, "-m", "stacmirror", "simulate", "--until-stdin-ends", "--port", "0"]
        command += ["--items", str(self.items), "--generation", str(self.generation)]
        try:
            self._child = subprocess.Popen(  # noqa: S603 - our own program, by our own interpreter
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                text=True,
                # A session of its own: Ctrl-C is for the mirror, which still has items in hand to finish.
                start_new_session=True,
            )
            self._listen(self._child)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.terminate()
            try:
                child.wait(END_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()
        self._said.close()

    def _listen(self, child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        answer = self._decoded(_first_line(child.stdout))
        if "api" not in answer:
            raise self._failure(child)
        self.key = str(answer.get("key", ""))
        self.urls = {name: value for name, value in answer.items() if isinstance(value, str)}

    def _decoded(self, line: str) -> dict[str, Any]:
        try:
            answer = json.loads(line)
        except ValueError:
            return {}
        return answer if isinstance(answer, dict) else {}

    def _failure(self, child: subprocess.Popen[str]) -> StacmirrorError:
        """Return what the child said of its end: a usage error of it (bad --items) is one of ours."""
        try:
            code = child.wait(1.0)
        except subprocess.TimeoutExpired:
            return SourceUnreachable(
                f"the simulator did not start within {READY_S:.0f}s",
                hint="is the machine busy? `stacmirror simulate` alone",
            )
        self._said.seek(0)
        said = self._said.read().strip().splitlines()
        reason = said[0].removeprefix("stacmirror: error: ") if said else f"exit code {code}"
        failure = UsageError if code == UsageError.exit_code else StacmirrorError
        hint = said[1].removeprefix("  hint: ") if len(said) > 1 else "`stacmirror simulate` alone may say more"
        return failure(f"the simulator did not start: {reason}", hint=hint)


def _first_line(stream: IO[str]) -> str:
    """Return the first line, or "" after READY_S. A pipe has no time limit, so a thread waits for it."""
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: lines.put(stream.readline()), daemon=True).start()
    try:
        return lines.get(timeout=READY_S)
    except queue.Empty:
        return ""
