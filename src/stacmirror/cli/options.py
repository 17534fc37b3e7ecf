"""The flags that set a setting, once for all commands: a table, and the decorator that gives a command some of them.

A flag's name is its setting's key, its default is the setting's own. Every value stays as typed: stacmirror.typed
converts flags, environment and TOML alike, so that one mistake has one wording.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_origin

import typer
from msgspec import Struct

from stacmirror.errors import UsageError
from stacmirror.typed import Option, options
from stacmirror.units import typed_size


class Flag(Struct, frozen=True):
    """How one setting looks on the command line."""

    key: str
    help: str
    metavar: str = "TEXT"
    also: str = ""
    """Another spelling, such as `-c`."""
    negative_help: str = ""
    """For settings that are yes, no or not asked for: what the `--no-` flag says."""
    file_help: str = ""
    """For lists whose values a file may hold: what the flag `…-from` says, which names one."""


class Group(Struct, frozen=True):
    """A panel of the help page."""

    panel: str
    flags: tuple[Flag, ...]

    def only(self, *keys: str) -> Group:
        """Return the group with these of its flags."""
        return Group(self.panel, tuple(flag for flag in self.flags if flag.key in keys))


FILTERS = Group(
    "Filters (what is mirrored; fixed for a mirror, but for --change-filter)",
    (
        Flag("label_class", "Items with any of these labels; repeat.", "NAME"),
        Flag(
            "cloud_and_shadow",
            "Keep only items with cloud and shadow.",
            negative_help="Keep only items without (or unmarked).",
        ),
        Flag(
            "seasonal_snow",
            "Keep only items with seasonal snow.",
            negative_help="Keep only items without (or unmarked).",
        ),
        Flag("max_items", "Stop after N matches, over all runs.", "N"),
        Flag("asset", "Fetch only asset keys like B0*, or role:GLOB, type:GLOB; repeat.", "GLOB"),
        Flag("exclude_asset", "Leave out asset keys like this, or role:…, type:…; repeat.", "GLOB"),
        Flag(
            "item",
            "Keep only the item with this id (or the ids in @FILE); repeat.",
            "ID",
            also="--ids",
            file_help="Keep only the items with the ids in this file, one a line; repeat.",
        ),
        Flag("shard", "Only the items that fall to part K of N: a machine and a DEST for each.", "K/N"),
        Flag("collection", "Only this collection of an API or catalog; repeat.", "ID", also="-c"),
        Flag("bbox", "Items that meet this box, in degrees.", "W,S,E,N"),
        Flag("datetime", "Items of this time: 2020-06, or 2020-06-01/2020-09-30.", "TIME"),
        Flag("intersects", "Items that meet the geometry in this GeoJSON file.", "FILE"),
        Flag("query", "Items like 'eo:cloud_cover<10', or the query extension's JSON; repeat.", "WHAT"),
        Flag("filter", "Items that match this CQL2, text or JSON.", "CQL2"),
        Flag("sortby", "Order of the listing, such as -datetime; repeat.", "NAME"),
        Flag("sources", "Fetch labels' source items (default).", negative_help="Do not."),
        Flag("only_sources", "Of labels, fetch nothing but their sources."),
        Flag("change_filter", "Other filters than before: fetches what more they want; what is here stays."),
    ),
)
PLACE = Group(
    "Place",
    (
        Flag("layout", "Where files rest: item, notebook, bigearthnet, fanout or template.", "NAME"),
        Flag(
            "path_template",
            "Path with {collection} {item_id} {asset_key} {ext} {hash2}; implies --layout template.",
            "PATH",
        ),
        Flag("state_dir", "Keep the ledger in this folder (a local disk); DEST remembers it.", "DIR"),
        Flag("incomplete", "show or hide items that lack assets at the end.", "HOW"),
    ),
)
GOING_ON = Group(
    "Going on",
    (Flag("refresh", "Walk from the start again: new items wherever they are listed, and changed ones."),),
)
TUNING = Group(
    "Tuning",
    (
        Flag("workers", "Items in flight, at most.", "N"),
        Flag("per_host", "Requests in flight to one host, at most.", "N"),
        Flag("fixed_pace", "Ask for --per-host at once always, instead of finding out how many are of use."),
        Flag("queue_size", "Items read ahead of workers.", "N"),
        Flag("page_size", "Items asked for per page.", "N"),
        Flag("page_size_floor", "Items per page, at least.", "N"),
        Flag("page_prefetch", "Pages read ahead of the queue.", "N"),
        Flag("rate", "Requests to a host at most: 500/s, 5000/h.", "RATE"),
        Flag("bwlimit", "Bytes a second at most, of all hosts together: 20M, 500KiB.", "SIZE"),
        Flag("retries", "Further attempts a request.", "N"),
        Flag(
            "learn_redirects", "Ask where links lead at once, when it follows from item ids (never where it is signed)."
        ),
        Flag("pipeline", "Send an item's requests in one write (HTTP pipelining), where hosts take that."),
        Flag("stall_timeout", "Longest time without a byte.", "TIME"),
        Flag("lowest_speed", "Slowest, a second; 0: any.", "SIZE"),
        Flag("large_at_once", "Large files of an item at once.", "N"),
        Flag("max_file_size", "Largest file; 0: any.", "SIZE"),
        Flag("connect_timeout", "Time to connect.", "TIME"),
        Flag("http_client", "wire (our own, least CPU) or aiohttp.", "NAME"),
        Flag("sync_every", "Longest time or most bytes between commits: 2s, 64MiB, or 2s,64MiB.", "HOW"),
        Flag("keep_free", "Stop while so much is still free on DEST's disk.", "SIZE"),
        Flag(
            "preflight",
            "Refuse a mirror that cannot fit on the disk (default).",
            negative_help="Start it all the same, and fill what there is.",
        ),
        Flag("grace", "Time to finish after Ctrl-C.", "TIME"),
        Flag("max_outage", "How long a host may be down before the run ends.", "TIME"),
        Flag("max_failures", "Stop when more assets fail: 1000, or 5%.", "N"),
        Flag("max_transfer", "Stop after so many bytes of files.", "SIZE"),
        Flag("max_duration", "Stop after so long.", "TIME"),
        Flag("sweeps", "Passes at the end over failures.", "N"),
        Flag("missing_ok", "Asset keys that the source may lack; repeat.", "GLOB"),
    ),
)
ACCESS = Group(
    "Access (the key itself comes from MLHUB_API_KEY or ~/.mlhub/profiles)",
    (
        Flag("api_url", "Root of the API, such as https://host/mlhub/v1.", "URL"),
        Flag("key_file", "File whose first line is the API key.", "FILE"),
        Flag("key_command", "Command that prints the API key (no shell).", "COMMAND"),
        Flag("keyring", "Service of the system's keyring that holds the key.", "NAME"),
        Flag("key_as", "Give the key as query, bearer or x-api-key.", "HOW"),
        Flag("ca_file", "Certificates (PEM) to trust besides the system's.", "FILE"),
        Flag("allow_http", "Follow redirects from https to http, without the key."),
        Flag("allow_host", "Let links lead to this private host, address or network; repeat.", "HOST"),
        Flag("any_content", "Take an asset even if it is no file of its media type."),
        Flag(
            "file_info",
            "Check sizes and checksums that the catalog gives (default).",
            negative_help="Do not: it is wrong.",
        ),
        Flag("auth", "How to log in: HOST[:PORT]=SCHEME, see `stacmirror sources --auth`; repeat.", "HOW"),
        Flag("header", "Header for a host: HOST[:PORT]:NAME=VALUE; repeat. Never kept.", "HEADER"),
        Flag("alternate", "Alternate hrefs to prefer, by name, such as s3; repeat.", "NAME"),
        Flag("reroot", "Ask the root's host for pages that are said to be elsewhere."),
        Flag("retry_statuses", "Further statuses of pages that mean: later; repeat.", "N"),
        Flag("s3_endpoint", "S3 service other than AWS, for s3:// links.", "URL"),
        Flag("s3_unsigned", "Ask S3 without credentials."),
        Flag("s3_region", "Region, where no profile names one.", "NAME"),
        Flag("request_payer", "Accept the costs of requester-pays buckets."),
    ),
)
LOOK = Group(
    "Look",
    (
        Flag("progress", "auto, bar, plain or none.", "HOW"),
        Flag("log_file", "Append notes and settings here, with the time.", "FILE"),
        Flag("failures", "At the end, write each missing asset here, a line of JSON.", "FILE"),
    ),
)

Json = Annotated[
    bool, typer.Option("--json", help="One line of JSON on stdout.", metavar="", rich_help_panel=LOOK.panel)
]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", help="Say only errors and the verdict.", metavar="", rich_help_panel=LOOK.panel)
]
Verbose = Annotated[
    bool,
    typer.Option(
        "-v", "--verbose", help="Say which settings differ; show tracebacks.", metavar="", rich_help_panel=LOOK.panel
    ),
]
ConfigFile = Annotated[
    str,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Read this instead of ./stacmirror.toml.",
        rich_help_panel=LOOK.panel,
        show_default=False,
    ),
]


def takes(*groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the flags of `groups`; it gets those that were typed as `flags`, a mapping of keys to values.

    typer reads a command's signature, so the flags are written into the signature that it sees.
    Raises: UsageError when a flag and its `--no-` flag are both typed.
    """
    table = options()
    flags = [(flag, group) for group in groups for flag in group.flags]
    parameters = [parameter for flag, group in flags for parameter in _parameters(flag, group, table)]
    names = {parameter.name for parameter in parameters}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "flags"]
        plain = [p for p in own if p.default is inspect.Parameter.empty]
        optional = [p for p in own if p.default is not inspect.Parameter.empty]
        leading = [p for p in optional if _is_argument(p)]
        look = [p for p in optional if not _is_argument(p)]

        @functools.wraps(command)
        def with_flags(**typed: Any) -> None:
            given = _given({name: typed.pop(name) for name in names})
            command(**typed, flags=given)

        # No __wrapped__ and no annotations: typer must see this signature only.
        del with_flags.__wrapped__
        with_flags.__annotations__ = {}
        keyword_only = inspect.Parameter.KEYWORD_ONLY
        every = [*plain, *leading, *parameters, *look]
        with_flags.__signature__ = inspect.Signature([p.replace(kind=keyword_only) for p in every])  # type: ignore[attr-defined]
        return with_flags

    return decorate


def _is_argument(parameter: inspect.Parameter) -> bool:
    return any(type(note) is type(typer.Argument()) for note in getattr(parameter.annotation, "__metadata__", ()))


def _parameters(flag: Flag, group: Group, table: Mapping[str, Option]) -> list[inspect.Parameter]:
    option = table[flag.key]
    typed, name = str, "--" + flag.key.replace("_", "-")
    metavar = flag.metavar
    if get_origin(option.type) is tuple:
        typed = list[str]  # type: ignore[assignment]
    elif isinstance(option.default, bool) or flag.negative_help:
        typed, metavar = bool, ""  # type: ignore[assignment]
    rows = [(flag.key, (name, *filter(None, [flag.also])), flag.help + _default(option))]
    if flag.negative_help:
        rows.append((f"no_{flag.key}", ("--no-" + flag.key.replace("_", "-"),), flag.negative_help))
    if flag.file_help:
        rows.append((f"{flag.key}_from", (f"{flag.also or name}-from",), flag.file_help))
    return [
        inspect.Parameter(
            key,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                typed | None,
                typer.Option(
                    *words,
                    help=help_text,
                    metavar="FILE" if key.endswith("_from") else metavar,
                    rich_help_panel=group.panel,
                ),
            ],
        )
        for key, words, help_text in rows
    ]


def _default(option: Option) -> str:
    if isinstance(option.default, bool) or option.default in (None, "", ()):
        return ""
    value = f"{option.default:g}s" if isinstance(option.default, float) else str(option.default)
    if option.field_name.endswith("_bytes") and isinstance(option.default, int):
        value = typed_size(option.default)
    # In typer's markup, where a backslash makes a bracket a bracket: rich.markup.escape, which takes 20 ms to load.
    return rf" [dim]\[default: {value}][/dim]"


def _given(typed: Mapping[str, Any]) -> dict[str, object]:
    # typer gives None (or an empty list) for what was not typed.
    given = {key: value for key, value in typed.items() if value not in (None, [])}
    for key in [key for key in given if key.startswith("no_")]:
        positive = key.removeprefix("no_")
        name = positive.replace("_", "-")
        if positive in given:
            raise UsageError(f"--{name} and --no-{name} contradict each other", hint="give one of the two, or neither")
        del given[key]
        given[positive] = False
    for key in [key for key in given if key.endswith("_from")]:
        files = [f"@{path}" for path in given.pop(key)]
        listed = key.removesuffix("_from")
        given[listed] = [*given.get(listed, []), *files]
    return given
