"""`stacmirror simulate`: the retired MLHub API as a local server."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from stacmirror.cli.options import Json
from stacmirror.cli.session import warn
from stacmirror.errors import UsageError
from stacmirror.units import parse_duration, parse_size

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def simulate(
    items: Annotated[int, typer.Option(help="Label items, and as many source items: 1 to 590326.", metavar="N")] = 200,
    generation: Annotated[int, typer.Option(help="Which API: 2020, 2021 or 2022.", metavar="YEAR")] = 2021,
    key: Annotated[
        str, typer.Option(help="The API key; without it, one is made from the seed.", metavar="KEY", show_default=False)
    ] = "",
    link_life: Annotated[str, typer.Option(help="How long a download link lives.", metavar="TIME")] = "6h",
    seed: Annotated[int, typer.Option(help="Another seed, another world.", metavar="S")] = 1,
    host: Annotated[str, typer.Option(help="Address to listen on.", metavar="HOST")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port of the API; blobs, S3 and log take the next three; 0: free ones.", metavar="P")
    ] = 0,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="NAME:RATE or TARGET:NAME:RATE (0 to 1): so many requests meet it; repeat.", metavar="FAULT"),
    ] = None,
    trap: Annotated[list[str] | None, typer.Option(help="A standing oddity; repeat.", metavar="NAME")] = None,
    large: Annotated[
        list[str] | None,
        typer.Option(
            help="ASSET=SIZE: so large is that asset (B02; * for every band) of every item; repeat.", metavar="LARGE"
        ),
    ] = None,
    latency: Annotated[str, typer.Option(help="How long every answer takes at least.", metavar="TIME")] = "0s",
    at_once: Annotated[
        int | None, typer.Option(help="A host answers 429 above so many requests at once.", metavar="N")
    ] = None,
    log_requests: Annotated[
        bool,
        typer.Option(
            "--log-requests",
            help="Record each request, keys masked; `log` is the URL to read them, with ?since=N from number N.",
            metavar="",
        ),
    ] = False,
    json: Json = False,
    until_stdin_ends: Annotated[bool, typer.Option("--until-stdin-ends", hidden=True)] = False,
) -> None:
    """Serve BigEarthNet as MLHub did, on this machine, from a seed, until Ctrl-C.

    Prints one line of JSON: the URLs `api` (for --api-url), `blobs`, `s3`,
    `counts` and, with --log-requests, `log`; and `key`, unless --key gave it.

    stacmirror simulate --items 5000
    stacmirror simulate --generation 2020 --log-requests
    stacmirror simulate --fault blobs:503:0.01 --trap null-next
    stacmirror simulate --latency 80ms --at-once 128
    stacmirror simulate --items 5 --large B02=1GiB --fault blobs:reset:0.2
    """
    from stacmirror.cli.run import loop_factory
    from stacmirror.simulator import SimulatorSettings, main, parse_fault

    try:
        settings = SimulatorSettings(
            items=items,
            generation=generation,
            key=key or None,
            link_life_s=parse_duration(link_life),
            seed=seed,
            host=host,
            port=port,
            faults=dict(parse_fault(one) for one in fault or ()),
            traps=tuple(trap or ()),
            log_requests=log_requests,
            latency_s=parse_duration(latency),
            at_once=at_once,
            large=dict(map(_parse_large, large or ())),
        )
    except ValueError as error:
        raise UsageError(str(error), hint="see `stacmirror simulate --help`") from error
    if host not in _LOOPBACK:
        warn(f"listening on {host}: whoever reaches this machine reaches the simulator, and its key is no secret")
    if until_stdin_ends:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        main(settings, loop_factory=loop_factory())
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
            raise UsageError(
                f"cannot listen on {host} port {port}: {os.strerror(error.errno)}", hint="--port 0 takes free ports"
            ) from error
        raise


def _parse_large(text: str) -> tuple[str, int]:
    """Return asset key and bytes of `ASSET=SIZE`. Raises: ValueError."""
    asset, _, size = text.partition("=")
    try:
        return asset, parse_size(size)
    except ValueError as error:
        raise ValueError(f"large asset {text!r} is not ASSET=SIZE: {error}") from None


class SimulateCommand(TyperCommand):
    """Adds faults, targets and traps to the help page, from the simulator's own tables.

    They are read when the page is asked for: importing the simulator loads an HTTP server, and other commands must not.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page."""
        from stacmirror.simulator.faults import FAULTS, TARGETS, TRAPS

        width = shutil.get_terminal_size().columns - 2
        blocks = [_table("Faults:", FAULTS, width), _table("Traps:", TRAPS, width)]
        blocks.insert(1, textwrap.fill(f"Targets: {', '.join(TARGETS)}; without one, all of them.", width))
        codes, self.epilog = self.epilog or "", "\n\n".join([*blocks, self.epilog or ""])
        try:
            super().format_help(ctx, formatter)
        finally:
            self.epilog = codes


def _table(title: str, rows: Mapping[str, str], width: int) -> str:
    column = max(map(len, rows)) + 4
    lines = [
        textwrap.fill(text, width, initial_indent=f"  {name}".ljust(column), subsequent_indent=" " * column)
        for name, text in rows.items()
    ]
    return "\n".join([title, *lines])


def _end_with_stdin() -> None:
    """End this process when its parent is gone, however the parent ended: the pipe closes with it."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
