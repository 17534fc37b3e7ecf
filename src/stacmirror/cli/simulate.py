"""`stacmirror simulate`: the retired MLHub API as a local server."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from typing import Annotated

import typer

from stacmirror.cli.options import Json
from stacmirror.errors import UsageError
from stacmirror.units import parse_duration


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
        typer.Option(help="A fault and its share of requests, such as 503:0.01; repeat.", metavar="NAME:RATE"),
    ] = None,
    trap: Annotated[
        list[str] | None, typer.Option(help="A standing oddity, such as null-next; repeat.", metavar="NAME")
    ] = None,
    log_requests: Annotated[
        bool,
        typer.Option(
            "--log-requests",
            help="Keep a record of each request, keys masked; the URL `log` serves them, `?since=N` from number N on.",
            metavar="",
        ),
    ] = False,
    json: Json = False,
    until_stdin_ends: Annotated[bool, typer.Option("--until-stdin-ends", hidden=True)] = False,
) -> None:
    """Serve BigEarthNet as MLHub did, on this machine, from a seed, until Ctrl-C.

    Prints one line of JSON: the URLs `api` (for --api-url), `blobs`, `s3`, `counts`, `log` (with --log-requests), and
    `key`, unless --key gave it.

    stacmirror simulate --items 5000
    stacmirror simulate --generation 2020 --log-requests
    stacmirror simulate --fault blobs:503:0.01 --trap null-next
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
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
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


def _end_with_stdin() -> None:
    """End this process when its parent is gone, however the parent ended: the pipe closes with it."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
