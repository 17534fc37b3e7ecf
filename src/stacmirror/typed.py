"""Settings as typed - flags, environment, TOML - and how they become `settings.Settings`.

A setting is a key with a value such as `"30s"`, `"1MiB"` or `"500/s"`; `build` turns a flat mapping of keys into
`Settings`. A key is the field's name without its unit. Reads no file and no environment: the command line does.
"""

from __future__ import annotations

import difflib
import functools
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, get_args, get_origin

import msgspec

from stacmirror.errors import UsageError
from stacmirror.profiles import profile_settings
from stacmirror.settings import Range, Settings
from stacmirror.units import parse_allowed, parse_duration, parse_rate, parse_shard, parse_size, typed_size


class Option(msgspec.Struct, frozen=True):
    """One setting: its key as typed, its section, its field and type, its default, and its range if it is a number."""

    key: str
    section: str
    field_name: str
    type: Any
    default: object
    range: Range | None = None


_RUN = ("source", "target")
"""What `Settings` has besides sections."""
_UNITS = ("_per_s", "_bytes", "_s")
_CHOICES = {
    "layout": ("item", "notebook", "bigearthnet", "fanout", "template"),
    "incomplete": ("show", "hide"),
    "http_client": ("wire", "aiohttp"),
    "key_as": ("query", "bearer", "x-api-key"),
    "progress": ("auto", "bar", "plain", "none"),
}
ALL_SETTINGS = "`stacmirror config show` lists all settings"
SECRETS = frozenset({"header"})
"""Settings whose values are never shown, nor kept in a mirror."""
_NOT_SPLIT = {"label_class", "query", "header", "auth"}
"""Lists whose single text is one value: class names have commas in them ("Beaches, dunes, sands")."""


@functools.cache  # asked for by every layer of settings, and it takes a millisecond
def options() -> Mapping[str, Option]:
    """Return every setting by its key, in the order of config.example.toml."""
    found: dict[str, Option] = {}
    for name, section in _sections().items():
        for setting in msgspec.structs.fields(section):
            key = _key(setting.name, found)
            hint, allowed = _taken_apart(setting.type)
            found[key] = Option(key, name, setting.name, hint, setting.default, allowed)
    return found


@functools.cache
def _sections() -> Mapping[str, Any]:
    """Return the class of each section by its name."""
    return {field.name: field.type for field in msgspec.structs.fields(Settings) if field.name not in _RUN}


def _taken_apart(hint: Any) -> tuple[Any, Range | None]:
    """Return a field's type, and the range that is annotated to it."""
    if get_origin(hint) is not Annotated:
        return hint, None
    wanted, *notes = get_args(hint)
    return wanted, next((note for note in notes if isinstance(note, Range)), None)


def _key(field_name: str, taken: Mapping[str, Option]) -> str:
    for unit in _UNITS:
        if field_name.endswith(unit):
            key = field_name.removesuffix(unit)
            # `sync_every_s` and `sync_every_bytes` are two settings: the second keeps its unit in the key.
            return key if key not in taken else field_name
    return field_name


def build(source: str, target: str, values: Mapping[str, object]) -> Settings:
    """Return the settings for `values`, a mapping of keys to values as typed. A path template implies its layout.

    Where `source` names a profile, its settings stand for what `values` leaves out.

    Raises: UsageError naming the key, the value and what would be accepted.
    """
    table = options()
    sections: dict[str, dict[str, object]] = {}
    for key, value in _sync_every_apart({**profile_settings(source), **values}).items():
        option = table.get(key)
        if option is None:
            raise UsageError(unknown_key(key, table), hint=ALL_SETTINGS)
        sections.setdefault(option.section, {})[option.field_name] = _convert(option, value)
    place = sections.get("place", {})
    if place.get("path_template"):
        place.setdefault("layout", "template")
    built = {name: section(**sections.get(name, {})) for name, section in _sections().items()}
    return Settings(source=source, target=target, **built)


def _sync_every_apart(values: Mapping[str, object]) -> Mapping[str, object]:
    """Return `values` with a size in `sync_every` ("64MiB", "2s,64MiB") where it belongs. What is a time is a time."""
    typed = values.get("sync_every")
    if not isinstance(typed, str):
        return values
    apart = {key: value for key, value in values.items() if key != "sync_every"}
    for part in typed.split(","):
        key = "sync_every_bytes" if _is_size(part) else "sync_every"
        apart[key] = part.strip()
    return apart


def _is_size(text: str) -> bool:
    try:
        parse_duration(text)
    except ValueError:
        try:
            parse_size(text)
        except ValueError:
            return False
        return True
    return False


def unknown_key(key: str, known: Mapping[str, object] | set[str]) -> str:
    """Return the line for a key that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(key, list(known), n=1)
    return f"unknown setting `{key}`" + (f"; did you mean `{near[0]}`?" if near else "")


def _convert(option: Option, value: object) -> object:
    if option.key in SECRETS and not isinstance(value, (str, list, tuple)):
        raise UsageError(f"setting `{option.key}`: must be a list of texts", hint=_default_hint(option))
    try:
        converted = _to_type(option, value)
    except (ValueError, TypeError) as error:
        raise UsageError(f"setting `{option.key}` = {value!r}: {error}", hint=_default_hint(option)) from error
    if option.key in _CHOICES and converted not in _CHOICES[option.key]:
        choices = ", ".join(_CHOICES[option.key])
        raise UsageError(f"setting `{option.key}` = {value!r}: choose one of {choices}", hint=_default_hint(option))
    if option.range is not None and converted is not None and not _is_within(option, converted):
        raise UsageError(f"setting `{option.key}` = {value!r}: must be {option.range}", hint=_default_hint(option))
    return converted


def _default_hint(option: Option) -> str:
    """Return what is always right: the default, as people type it."""
    default = option.default
    if default in (None, "", ()):
        return f"leave `{option.key}` out: by default it is not set"
    shown = f"{default:g}s" if option.field_name.endswith("_s") and isinstance(default, float) else str(default)
    if option.field_name.endswith("_bytes") and isinstance(default, int):
        shown = typed_size(default)
    return f"leave `{option.key}` out for its default, {shown}"


def _is_within(option: Option, converted: Any) -> bool:
    assert option.range is not None
    least: Any = _to_type(option, option.range.least)
    most: Any = _to_type(option, option.range.most)
    return bool(least <= converted <= most)  # also False for NaN, which TOML has


def _to_type(option: Option, value: object) -> object:
    wanted, optional = _unwrap(option.type)
    if value is None and optional:
        return None
    if option.field_name.endswith("_per_s"):
        return parse_rate(value)
    if option.field_name.endswith("_bytes"):
        return parse_size(value)
    if option.key == "sync_every":
        try:
            return parse_duration(value)
        except ValueError:
            raise ValueError("must be a duration such as 2s, a size such as 64MiB, or both: 2s,64MiB") from None
    if option.field_name.endswith("_s"):
        return parse_duration(value)
    if get_origin(wanted) is tuple:
        return _strings(value, splits=option.key not in _NOT_SPLIT)
    if option.key == "max_failures":
        allowed = parse_allowed(value)
        return allowed.text if allowed is not None else ""
    if option.key == "shard":
        shard = parse_shard(value)
        return f"{shard[0]}/{shard[1]}" if shard is not None else ""
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
