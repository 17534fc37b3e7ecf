"""`stacmirror plan`: what a mirror takes, by a sample of its first pages, and whether DEST has the room."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from stacmirror.cli import access, config
from stacmirror.cli.checks import check_settings
from stacmirror.cli.mirror import Source, is_profile
from stacmirror.cli.options import ACCESS, FILTERS, PLACE, TUNING, ConfigFile, Json, takes
from stacmirror.cli.screen import safe
from stacmirror.cli.session import emit_json, say, session_of, warn
from stacmirror.errors import UsageError
from stacmirror.forecast import LINE_BYTES_PER_S, NEARLY, SURELY, forecast
from stacmirror.settings import Settings
from stacmirror.units import format_count, format_duration, format_size

if TYPE_CHECKING:
    from stacmirror.forecast import Forecast, Sample
    from stacmirror.model import Space

Dest = Annotated[
    str, typer.Argument(metavar="[DEST]", help="Where the mirror is to be: is there room?", show_default=False)
]
Items = Annotated[
    int,
    typer.Option("--sample", help="Ask for the assets of so many items.", metavar="N", min=1, max=10_000),
]
_BLOCK_BYTES = 4096
_FITS = {"yes": "it fits", "perhaps": "it may not fit", "no": "it does not fit", "unknown": ""}


@takes(
    FILTERS.only(
        "label_class", "cloud_and_shadow", "seasonal_snow", "max_items", "asset", "exclude_asset", "item", "shard",
        "collection", "bbox", "datetime", "intersects", "query", "filter", "sources", "only_sources",
    ),
    PLACE.only("layout", "path_template"),
    TUNING.only(
        "per_host", "page_size", "rate", "bwlimit", "retries", "stall_timeout", "connect_timeout", "http_client",
        "keep_free",
    ),
    ACCESS,
)  # fmt: skip
def plan(
    ctx: typer.Context,
    source: Source,
    flags: dict[str, object],
    dest: Dest = "",
    items: Items = 50,
    config_file: ConfigFile = "",
    json: Json = False,
) -> None:
    """Foretell items, files, bytes, inodes, requests and hours of a mirror. Writes nothing to disk.

    Reads the first pages, asks for the assets of some items (large ones are not
    read, only their length), and holds the server's total against what DEST has
    free. The rest of a collection may differ from its first pages.

    stacmirror plan mlhub:bigearthnet_v1_labels ben
    stacmirror plan mlhub:bigearthnet_v1_labels ben --asset 'B0*' --sample 200
    stacmirror plan earth-search:sentinel-2-l2a /data/s2 --datetime 2020-06 --json
    """
    from stacmirror.catalogs import absolute

    session = session_of(ctx)
    source = absolute(source)
    if source == "-":
        raise UsageError("`plan` would use up what comes on stdin", hint="keep it in a file, and name that as SOURCE")
    resolved = config.resolve(flags, os.environ, config.places(config_file), source=source)
    for warning in resolved.warnings:
        warn(warning)
    settings = resolved.settings(source, dest or ".")
    check_settings(settings)
    access.check_urls(settings)
    is_mlhub = source.startswith("mlhub:")
    if is_mlhub:
        session.secret = access.need_key(resolved, os.environ, warn)
    root = f" at {settings.catalog.api_url}" if is_mlhub or is_profile(settings) else ""
    say(f"planning {source}{root}: the first pages, and the assets of {format_count(items)} items; nothing is written")

    from stacmirror.cli.run import loop_factory
    from stacmirror.filters import make_shard
    from stacmirror.redact import Redactor
    from stacmirror.sampling import Sampler
    from stacmirror.sinks.space import nearest, space_of

    redactor = Redactor(())
    redactor.learn(session.secret)
    session.hides = redactor.text

    async def sample() -> Sample:
        sampler = Sampler(
            settings,
            items=items,
            api_key=session.secret,
            note=lambda line: say(session.hide(line)),
            secrets=os.environ,
            redactor=redactor,
        )
        return await sampler.run()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        found = runner.run(sample())
    space = space_of(nearest(dest), dest) if dest else None
    foretold = forecast(
        found,
        items_max=settings.limit.max_items,
        ids=len(set(make_shard(settings.filter).of(settings.filter.item))),
        missing_after=settings.missing.missing_after,
        rate_per_s=settings.limit.rate_per_s,
        block_bytes=space.block_bytes if space else _BLOCK_BYTES,
        line_bytes_per_s=settings.limit.bwlimit_bytes or LINE_BYTES_PER_S,
    )
    fits = fits_into(foretold, space, settings)
    if json:
        sampled = msgspec.to_builtins(found) | {"first_failure": session.hide(found.first_failure)}
        emit_json({
            "source": source,
            "sample": sampled,
            "forecast": msgspec.to_builtins(foretold),
            "free_bytes": space.free_bytes if space else None,
            "free_inodes": space.free_inodes if space else None,
            "fits": fits,
        })  # fmt: skip
        return
    _print_table(found, foretold)
    for line in (*notes_of(found), *ending(foretold, space, fits, settings)):
        sys.stdout.write(session.hide(safe(line)) + "\n")


def fits_into(foretold: Forecast, space: Space | None, settings: Settings) -> str:
    """Return `yes`, `perhaps`, `no` or `unknown`, by the bounds that a run refuses a mirror by."""
    if space is None or foretold.on_disk_bytes is None or foretold.inodes is None:
        return "unknown"
    shares = [foretold.on_disk_bytes / max(1, space.free_bytes - settings.write.keep_free_bytes)]
    if space.free_inodes is not None:
        shares.append(foretold.inodes / max(1, space.free_inodes - settings.write.keep_free_inodes))
    return "no" if max(shares) > SURELY else "perhaps" if max(shares) > NEARLY else "yes"


def notes_of(sample: Sample) -> list[str]:
    """Return what of the sample a person should know before trusting what rests on it."""
    lines = []
    if not sample.asked:
        lines.append(f"none of the first {format_count(sample.listed)} items matches the filters")
    if sample.phantoms:
        lines.append(f"no item of the sample has: {', '.join(sample.phantoms)}")
    if sample.failed:
        kinds = ", ".join(f"{kind} {format_count(count)}" for kind, count in sorted(sample.failed.items()))
        lines.append(f"did not come (a mirror asks again): {kinds}; first: {sample.first_failure}")
    if sample.shared:
        lines.append(f"items share sources, {format_count(sample.linked)} so far: the more items, the fewer files each")
    if sample.sized < sample.files:
        lines.append(f"of {format_count(sample.files - sample.sized)} files nobody says the size: counted as the rest")
    return lines


def ending(foretold: Forecast, space: Space | None, fits: str, settings: Settings) -> list[str]:
    """Return the last lines: how the time comes about, and the room."""
    lines = []
    if foretold.seconds is not None:
        bwlimit_bytes = settings.limit.bwlimit_bytes
        line = f"--bwlimit {format_size(bwlimit_bytes)}/s" if bwlimit_bytes else "100 Mbit/s"
        by = " or at --rate" if settings.limit.rate_per_s is not None else ""
        words = f"time: {format_duration(foretold.seconds)} or more for requests, at the sample's pace{by}"
        if foretold.line_seconds is not None:
            words += f"; {format_duration(foretold.line_seconds)} for bytes, at {line}"
        lines.append(words)
    elif foretold.one.inodes:
        lines.append("the server names no total: --max-items N reckons with N items")
    if space is not None and foretold.one.inodes:
        free = format_size(space.free_bytes)
        if space.free_inodes is not None:
            free += f" and {format_count(space.free_inodes)} inodes"
        room_for = max(0, space.free_bytes - settings.write.keep_free_bytes) / foretold.one.on_disk_bytes
        verdict = _FITS[fits] or f"room for about {format_count(int(room_for))} items like these"
        if foretold.one.files and not foretold.one.bytes:
            verdict = "nobody says how large the files are"
        lines.append(f"room: {free} are free in {settings.target}: {verdict}")
    return lines


def _print_table(sample: Sample, foretold: Forecast) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    def count(number: float | None) -> str:
        return "?" if number is None else f"{number:,.1f}".removesuffix(".0")

    def size(number: float | None) -> str:
        return "?" if number is None else format_size(number)

    one = foretold.one
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for title in ("in the sample", "an item", "in all"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_row("items", count(sample.asked), "", count(foretold.items))
    table.add_row("files", count(sample.files), count(one.files), count(foretold.files))
    table.add_row("bytes", size(sample.bytes), size(one.bytes), size(foretold.bytes))
    table.add_row("on disk", "", size(one.on_disk_bytes), size(foretold.on_disk_bytes))
    table.add_row("inodes", "", count(one.inodes), count(foretold.inodes))
    table.add_row("requests", count(sample.pages + sample.requests), "", count(foretold.requests))
    Console(file=sys.stdout, highlight=False, markup=False).print(table)
