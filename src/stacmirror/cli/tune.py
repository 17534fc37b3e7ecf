"""`stacmirror tune`: how many requests at once a source rewards, measured in a minute: a table, and flags to keep."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from stacmirror.cli import access, config
from stacmirror.cli.options import ACCESS, FILTERS, TUNING, ConfigFile, Json, takes
from stacmirror.cli.screen import safe
from stacmirror.cli.session import emit_json, say, session_of, warn
from stacmirror.errors import UsageError
from stacmirror.settings import Settings
from stacmirror.units import format_count, format_duration, format_size, parse_duration, parse_size

if TYPE_CHECKING:
    from stacmirror.ramp import Caps, Step, Tuning

Source = Annotated[str, typer.Argument(metavar="SOURCE", help="As of `mirror`.", show_default=False)]
_PANEL = "Caps (what it may cost)"
Requests = Annotated[
    int, typer.Option("--max-requests", help="Send no more than this.", metavar="N", rich_help_panel=_PANEL, min=1)
]
Bytes = Annotated[
    str,
    typer.Option("--max-bytes", help="Begin no asset after so many bytes.", metavar="SIZE", rich_help_panel=_PANEL),
]
Duration = Annotated[
    str, typer.Option("--duration", help="Time for the whole ramp.", metavar="TIME", rich_help_panel=_PANEL)
]
_BAR = 40


@takes(
    FILTERS.only("asset", "exclude_asset", "collection", "bbox", "datetime"),
    TUNING.only("per_host", "page_size", "rate", "retries", "stall_timeout", "connect_timeout", "http_client"),
    ACCESS,
)
def tune(
    ctx: typer.Context,
    source: Source,
    flags: dict[str, object],
    requests_max: Requests = 50_000,
    bytes_max: Bytes = "1GiB",
    duration: Duration = "1m",
    config_file: ConfigFile = "",
    json: Json = False,
) -> None:
    """Measure how many requests at once a source rewards, and print the flags to keep. Writes nothing to disk.

    Reads pages, items and assets, step by step more at once, and forgets the
    bytes; stops at the first refusal (429, 503), where more brings no more, or at
    a cap. A mirror finds its pace by itself: this is for knowing, or for a bound.

    stacmirror tune mlhub:bigearthnet_v1_labels --api-url https://host/mlhub/v1
    stacmirror tune mlhub:bigearthnet_v1_labels --max-requests 5000 --max-bytes 100MiB
    """
    from stacmirror.catalogs import source_of
    from stacmirror.ramp import Caps
    from stacmirror.redact import Redactor
    from stacmirror.tune import Tuner

    session = session_of(ctx)
    resolved = config.resolve(flags, os.environ, config.places(config_file), source=source)
    for warning in resolved.warnings:
        warn(warning)
    settings = resolved.settings(source, "")
    source_of(settings)
    access.check_urls(settings)
    caps = Caps(_seconds(duration), requests_max, _size(bytes_max))
    if source.startswith("mlhub:"):
        session.secret = access.need_key(resolved, os.environ, warn)
    say(announcement(settings, caps))

    redactor = Redactor(())
    redactor.learn(session.secret)
    session.hides = redactor.text

    async def ramp() -> Tuning:
        tuner = Tuner(
            settings,
            api_key=session.secret,
            caps=caps,
            on_step=lambda step: say(step_line(step)),
            note=lambda line: say(session.hide(line)),
            secrets=os.environ,
            redactor=redactor,
        )
        return await tuner.run()

    from stacmirror.cli.run import loop_factory

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        found = runner.run(ramp())
    if json:
        emit_json({**asdict(found), "flags": flags_to_keep(found)})
        return
    _print(found)


def _seconds(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--duration: {error}", hint="such as 30s or 2m") from error
    if not 0.1 <= seconds <= 3600:
        raise UsageError(f"--duration must be 100ms to 1h, not {text}", hint="such as 30s or 2m")
    return seconds


def _size(text: str) -> int:
    try:
        size_bytes = parse_size(text)
    except ValueError as error:
        raise UsageError(f"--max-bytes: {error}", hint="such as 100MiB") from error
    if size_bytes < 1:
        raise UsageError(f"--max-bytes must be 1 or more, not {text}", hint="such as 100MiB")
    return size_bytes


def announcement(settings: Settings, caps: Caps) -> str:
    """Return what the ramp will ask for, in one line, before it asks."""
    paid = "; requester-pays buckets bill them to you" if settings.s3.request_payer else ""
    root = f" at {settings.catalog.api_url}" if settings.catalog.api_url and "://" not in settings.source else ""
    return (
        f"tuning to {settings.source}{root}: pages, items and assets for at most "
        f"{format_duration(caps.seconds)}, {format_count(caps.requests_max)} requests and "
        f"{format_size(caps.bytes_max)}, 4 to {settings.limit.per_host} at once; nothing is written{paid}"
    )


def step_line(step: Step) -> str:
    """Return one step for a person who waits."""
    refused = f", {format_count(step.refused)} refused" if step.refused else ""
    return f"  {step.at_once:>4} at once: {step.files_per_s:,.0f} files/s, {1000 * step.p50_s:.0f} ms{refused}"


def flags_to_keep(found: Tuning) -> str:
    """Return the flags for `mirror`. A bound, not a fixed pace: the source may take less tomorrow."""
    return f"--per-host {found.per_host} --workers {found.workers}"


def bar(step: Step, best: float) -> str:
    """Return the step's rate as a bar; a refused step's in another character."""
    return ("x" if step.refused else "#") * max(1, round(_BAR * step.files_per_s / best)) if best else ""


def _print(found: Tuning) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(file=sys.stdout, highlight=False, markup=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("at once", "files/s", "p50 ms", "p95 ms", "refused", "failed", "requests", "size", "busy"):
        table.add_column(title, justify="right", no_wrap=True)
    for step in found.steps:
        table.add_row(
            str(step.at_once), f"{step.files_per_s:,.0f}", f"{1000 * step.p50_s:.0f}", f"{1000 * step.p95_s:.0f}",
            format_count(step.refused), format_count(step.failed), format_count(step.requests),
            format_size(step.bytes), f"{step.busy:.0%}",
        )  # fmt: skip
    console.print(table)
    best = max(step.files_per_s for step in found.steps)
    console.print("files/s against requests at once (x: refused)")
    for step in found.steps:
        console.print(f"{step.at_once:>6} {bar(step, best)} {step.files_per_s:,.0f}", soft_wrap=True)
    console.print(f"\nended: {safe(found.ended)}", soft_wrap=True)
    console.print(f"asked: {format_count(found.requests)} requests, {format_size(found.bytes)}", soft_wrap=True)
    console.print(f"flags: {flags_to_keep(found)}", soft_wrap=True)
    console.print(f"TOML:  [limit]\n       per_host = {found.per_host}\n       workers = {found.workers}")
