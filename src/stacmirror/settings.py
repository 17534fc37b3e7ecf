"""All settings, resolved: one frozen value in sections, each object gets only its section.

As typed (flags, environment, TOML) a setting is a key with a value such as `"30s"`, `"1MiB"` or `"500/s"`;
`build` turns a flat mapping of keys into `Settings`. A key is the field's name without its unit. The table with
defaults and reasons is config.example.toml; a test holds the two together. Reads no file and no environment.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, get_args, get_origin

from stacmirror.errors import UsageError
from stacmirror.units import parse_duration, parse_rate, parse_size

MIB = 1 << 20


@dataclass(frozen=True)
class SourceSettings:
    """Where items come from and who asks."""

    api_url: str = ""
    """Root of the STAC API, such as `https://host/mlhub/v1`."""
    key_file: str = ""
    """File whose first line is the API key. The key itself is no setting: it is never written anywhere."""
    link_life_s: float = 6 * 3600.0
    """How long an asset link lives after it was issued."""
    redirects_max: int = 10
    """Hops from a link to its bytes."""


@dataclass(frozen=True)
class WalkSettings:
    """How the catalog's pages are read."""

    page_size: int = 100
    """Items asked for per page."""
    page_prefetch: int = 2
    """Pages read ahead of the queue."""
    page_max_bytes: int = 64 * MIB
    """Largest page accepted, decoded."""


@dataclass(frozen=True)
class FilterSettings:
    """Which items and assets are wanted. Part of what a mirror is: it cannot change between runs."""

    label_class: tuple[str, ...] = ()
    """Keep items whose `properties.labels` has any of these."""
    cloud_and_shadow: bool | None = None
    """Keep only items with (True) or without (False) cloud and shadow; a missing property is False."""
    seasonal_snow: bool | None = None
    """Keep only items with (True) or without (False) seasonal snow; a missing property is False."""
    item: tuple[str, ...] = ()
    """Keep only items with these ids."""
    asset: tuple[str, ...] = ()
    """Globs over asset keys: fetch only these."""
    exclude_asset: tuple[str, ...] = ()
    """Globs over asset keys: do not fetch these."""


@dataclass(frozen=True)
class LimitSettings:
    """How hard the source is asked."""

    workers: int = 64
    """Items in flight."""
    queue_size: int = 256
    """Items read from pages and waiting for a worker."""
    per_host: int = 64
    """Requests in flight to one host."""
    rate_per_s: float | None = None
    """Requests a second to one host, at most."""
    retries: int = 5
    """Further attempts for one asset or page after the first."""
    backoff_s: float = 0.5
    """Upper bound of the first wait; it doubles with each attempt, with full jitter."""
    backoff_max_s: float = 60.0
    """Upper bound of any wait that the server did not ask for."""
    retry_after_max_s: float = 600.0
    """Upper bound of a wait that the server asked for."""
    sweeps: int = 2
    """Passes at the end over what has not arrived."""
    connect_timeout_s: float = 10.0
    """For a connection to stand."""
    stall_timeout_s: float = 30.0
    """Without a byte, an answer is given up."""
    max_items: int | None = None
    """Stop after this many matching items of the mirror, over all its runs."""


@dataclass(frozen=True)
class MissingSettings:
    """Assets that every item lists and the origin does not have."""

    missing_ok: tuple[str, ...] = ()
    """Globs over asset keys that may be missing."""
    missing_after: int = 20
    """Items in a row without it, before a key counts as missing everywhere."""
    missing_sample: int = 100
    """From then on, every n-th item is asked all the same."""


@dataclass(frozen=True)
class PlaceSettings:
    """Where files rest. Part of what a mirror is: it cannot change between runs."""

    layout: str = "item"
    """`item`, `notebook`, `bigearthnet`, `fanout`, or `template`."""
    path_template: str = ""
    """Fields: {collection} {item_id} {asset_key} {ext} {hash2}."""


@dataclass(frozen=True)
class WriteSettings:
    """How bytes reach the disk."""

    incomplete: str = "show"
    """Items that lack assets at the end: `show` reveals what there is, `hide` keeps it staged."""
    small_file_max_bytes: int = MIB
    """Bodies up to this size are held in memory until their item is written."""
    memory_max_bytes: int = 128 * MIB
    """Held bodies of all workers together."""
    sync_every_s: float = 1.0
    """Longest time between two commits."""
    sync_every_bytes: int = 256 * MIB
    """Most bytes between two commits."""


@dataclass(frozen=True)
class S3Settings:
    """How `s3://` is opened. Credentials come from where the AWS tools look for them."""

    s3_endpoint: str = ""
    """URL of an S3 service other than AWS; addressed path-style."""
    s3_unsigned: bool = False
    """Send no credentials."""
    s3_region: str = ""
    """Region, where neither profile nor environment names one."""
    request_payer: bool = False
    """Accept that requester-pays buckets cost you money."""


@dataclass(frozen=True)
class RunSettings:
    """How a run ends."""

    grace_s: float = 5.0
    """After Ctrl-C, how long items in hand may take to finish."""


@dataclass(frozen=True)
class LookSettings:
    """What a person sees; used by the command line only."""

    progress: str = "auto"
    """`auto`, `bar`, `plain` or `none`."""
    log_file: str = ""
    """Where every note goes, with time."""


@dataclass(frozen=True)
class Settings:
    """Everything one run needs to know. `source` and `target` are as typed."""

    source: str
    target: str
    catalog: SourceSettings = field(default_factory=SourceSettings)
    walk: WalkSettings = field(default_factory=WalkSettings)
    filter: FilterSettings = field(default_factory=FilterSettings)
    limit: LimitSettings = field(default_factory=LimitSettings)
    missing: MissingSettings = field(default_factory=MissingSettings)
    place: PlaceSettings = field(default_factory=PlaceSettings)
    write: WriteSettings = field(default_factory=WriteSettings)
    s3: S3Settings = field(default_factory=S3Settings)
    run: RunSettings = field(default_factory=RunSettings)
    look: LookSettings = field(default_factory=LookSettings)


@dataclass(frozen=True)
class Option:
    """One setting: its key as typed, its section, its field and type, and its default."""

    key: str
    section: str
    field_name: str
    type: Any
    default: object


_UNITS = ("_per_s", "_bytes", "_s")
_CHOICES = {
    "layout": ("item", "notebook", "bigearthnet", "fanout", "template"),
    "incomplete": ("show", "hide"),
    "progress": ("auto", "bar", "plain", "none"),
}
_NOT_SPLIT = {"label_class"}
"""Lists whose single text is one value: class names have commas in them ("Beaches, dunes, sands")."""
_AT_LEAST_ZERO = {"page_prefetch", "retries", "sweeps", "grace", "backoff", "sync_every"}


def options() -> dict[str, Option]:
    """Return every setting by its key, in the order of config.example.toml."""
    found: dict[str, Option] = {}
    for section in fields(Settings):
        if section.default_factory is MISSING:
            continue
        hints = typing.get_type_hints(section.default_factory)
        for setting in fields(section.default_factory):  # type: ignore[arg-type]
            key = _key(setting, found)
            found[key] = Option(key, section.name, setting.name, hints[setting.name], setting.default)
    return found


def _key(setting: Field[Any], taken: Mapping[str, Option]) -> str:
    for unit in _UNITS:
        if setting.name.endswith(unit):
            key = setting.name.removesuffix(unit)
            # `sync_every_s` and `sync_every_bytes` are two settings: the second keeps its unit in the key.
            return key if key not in taken else setting.name
    return setting.name


def build(source: str, target: str, values: Mapping[str, object]) -> Settings:
    """Return the settings for `values`, a mapping of keys to values as typed.

    Raises: UsageError naming the key, the value and what would be accepted.
    """
    table = options()
    sections: dict[str, dict[str, object]] = {}
    for key, value in values.items():
        option = table.get(key)
        if option is None:
            raise UsageError(unknown_key(key, table))
        sections.setdefault(option.section, {})[option.field_name] = _convert(option, value)
    built = {
        section.name: section.default_factory(**sections.get(section.name, {}))
        for section in fields(Settings)
        if section.default_factory is not MISSING
    }
    return Settings(source=source, target=target, **built)


def unknown_key(key: str, known: Mapping[str, object] | set[str]) -> str:
    """Return the line for a key that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(key, list(known), n=1)
    return f"unknown setting `{key}`" + (f"; did you mean `{near[0]}`?" if near else "")


def _convert(option: Option, value: object) -> object:
    try:
        converted = _to_type(option, value)
    except (ValueError, TypeError) as error:
        raise UsageError(f"setting `{option.key}` = {value!r}: {error}") from error
    if option.key in _CHOICES and converted not in _CHOICES[option.key]:
        raise UsageError(f"setting `{option.key}` = {value!r}: choose one of {', '.join(_CHOICES[option.key])}")
    if isinstance(converted, (int, float)) and not isinstance(converted, bool):
        floor_ok = converted >= 0 if option.key in _AT_LEAST_ZERO else converted > 0
        if not floor_ok:
            raise UsageError(f"setting `{option.key}` = {value!r}: must be above 0")
    return converted


def _to_type(option: Option, value: object) -> object:
    wanted, optional = _unwrap(option.type)
    if value is None and optional:
        return None
    if option.field_name.endswith("_per_s"):
        return parse_rate(value)
    if option.field_name.endswith("_bytes"):
        return parse_size(value)
    if option.field_name.endswith("_s"):
        return parse_duration(value)
    if get_origin(wanted) is tuple:
        return _strings(value, splits=option.key not in _NOT_SPLIT)
    if wanted is bool:
        return _boolean(value)
    if wanted is int:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise ValueError("must be a whole number")
        try:
            return int(value)
        except ValueError:
            raise ValueError("must be a whole number") from None
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value


def _unwrap(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (typing.Union, types.UnionType):
        inner = [arg for arg in get_args(hint) if arg is not type(None)]
        return inner[0], True
    return hint, False


def _strings(value: object, *, splits: bool) -> tuple[str, ...]:
    if isinstance(value, str):
        parts = value.split(",") if splits else [value]
        return tuple(part.strip() for part in parts if part.strip())
    if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        return tuple(value)
    raise ValueError("must be a list of texts")


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "yes", "1", "on"):
        return True
    if isinstance(value, str) and value.lower() in ("false", "no", "0", "off"):
        return False
    raise ValueError("must be true or false")
