"""Settings as typed - flags, environment, TOML - and how they become `settings.Settings`.

A setting is a key with a value such as `"30s"`, `"1MiB"` or `"500/s"`; `build` turns a flat mapping of keys into
`Settings`. A key is the field's name without its unit. Reads no file and no environment: the command line does.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, get_args, get_origin

from stacmirror.errors import UsageError
from stacmirror.settings import Settings
from stacmirror.units import parse_duration, parse_rate, parse_size


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
    "http_client": ("wire", "aiohttp"),
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
