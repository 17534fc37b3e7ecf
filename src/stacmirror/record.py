"""What a mirror remembers of how it was made: `TARGET/.stacmirror/settings.toml`, so that `resume` needs no flags.

Written by the composition root at the start of a run, read by the command line. Holds no secret.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import xxhash
from msgspec import Struct

from stacmirror.errors import TargetInUse, TargetUnwritable, UsageError
from stacmirror.redact import redact_url
from stacmirror.settings import Settings
from stacmirror.typed import SECRETS, options

STATE_FOLDER = ".stacmirror"
_FILE = "settings.toml"
_FIXED = ("filter", "place")
"""Sections that say what a mirror is: other values make another mirror."""
_ONCE = ("refresh", "change_filter", "state_dir", "key_command", *SECRETS)
"""Settings of one run: the next one does not go on with them, or (`state_dir`) finds them elsewhere. What a mirror
remembers is read by whoever resumes it, so it names nothing to be run (`key_command`, `command:` in `auth`)."""
_SENT = ("item", "collection", "bbox", "datetime", "intersects", "query", "filter", "sortby")
"""Filters that a source may judge itself: cursors that it gave are of the listing as it was asked for then."""

_IDS_IN_PLACE = 100
"""More ids of items than these have a file of their own: a TOML parser takes seconds for a hundred thousand."""
_IDS_FILE = re.compile(r"@items-[0-9a-f]{16}\.json")
_SHOWN = 5


class FilterChange(Struct, frozen=True):
    """How a mirror's filters differ from those of the runs before: in words, and whether they want more."""

    words: str = ""
    more_items: bool = False
    more_assets: bool = False


def write_record(settings: Settings) -> None:
    """Keep `settings` in the target. Raises: TargetUnwritable."""
    folder = os.path.join(settings.target, STATE_FOLDER)
    path = os.path.join(folder, _FILE)
    tables = _tables(settings)
    try:
        os.makedirs(folder, exist_ok=True)
        name = ""
        if len(settings.filter.item) > _IDS_IN_PLACE:
            ids = json.dumps(settings.filter.item, ensure_ascii=True)
            name = f"items-{xxhash.xxh3_64_hexdigest(ids.encode())}.json"
            _put(os.path.join(folder, name), ids)
            tables["filter"]["item"] = [f"@{name}"]
        _put(path, _to_toml(settings.source, tables))
        for other in os.listdir(folder):
            if other != name and _IDS_FILE.fullmatch(f"@{other}"):
                os.unlink(os.path.join(folder, other))  # a list of other filters, before
    except OSError as error:
        raise TargetUnwritable(f"cannot write to {path}: {error.strerror}", hint="choose another target") from error


def _put(path: str, text: str) -> None:
    """Write a file whole, or not at all. Raises: OSError."""
    with open(path + ".part", "w", encoding="utf-8", opener=_unfollowed) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".part", path)


def _unfollowed(path: str, flags: int) -> int:
    """Open without following a link that someone has put there."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def has_record(target: str) -> bool:
    """Return whether a mirror's settings are kept in the target."""
    return os.path.exists(os.path.join(target, STATE_FOLDER, _FILE))


def forget_record(target: str) -> None:
    """Take back what `write_record` kept, of a run that listed nothing for a mistake in its settings."""
    with suppress(OSError):
        os.unlink(os.path.join(target, STATE_FOLDER, _FILE))


def read_record(target: str) -> dict[str, Any]:
    """Return what `write_record` kept: `source`, and a table a section.

    Raises: UsageError when there is no mirror; TargetInUse when its record cannot be read.
    """
    import tomllib  # here: a new mirror has no record, and it takes 4 ms to load

    path = os.path.join(target, STATE_FOLDER, _FILE)
    try:
        with open(path, "rb") as file:
            found = tomllib.load(file)
    except FileNotFoundError:
        raise UsageError(
            f"{target} is no mirror: {path} does not exist", hint="start one with `stacmirror mirror SOURCE DEST`"
        ) from None
    except (OSError, ValueError) as error:  # no TOML, or no UTF-8
        raise _unreadable(path, error) from error
    bring_ids(found, os.path.dirname(path))
    return found


def bring_ids(found: dict[str, Any], folder: str) -> None:
    """Put the many ids of items where a record names their file. Raises: TargetInUse."""
    match found.get("filter"):
        case {"item": [str(name)]} if _IDS_FILE.fullmatch(name):
            path = os.path.join(folder, name[1:])
            try:
                with open(path, encoding="utf-8") as file:
                    text = file.read()
                if xxhash.xxh3_64_hexdigest(text.encode()) not in name:
                    raise ValueError("it is not what was written")
                found["filter"]["item"] = json.loads(text)
            except (OSError, ValueError) as error:
                raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> TargetInUse:
    return TargetInUse(f"{path} cannot be read: {error}", hint="restore it, or start anew elsewhere")


def refuse_other_mirror(settings: Settings) -> FilterChange:
    """Refuse to mix two mirrors in one target: another source, layout, or filter unless it is to change.

    Raises: UsageError with each difference.
    """
    if not has_record(settings.target):
        return FilterChange()
    before = read_record(settings.target)
    differences = []
    filters: list[str] = []
    changes: list[str] = []
    wider: set[str] = set()
    if before.get("source") != settings.source:
        differences.append(f"source is {before.get('source')}, not {settings.source}")
    now = _tables(settings)
    for section in _FIXED:
        for key, value in now[section].items():
            was = before.get(section, {}).get(key, _default(key))
            if was != value:
                (filters if section == "filter" else differences).append(f"{key} is {_shown(was)}, not {_shown(value)}")
                if section == "filter":
                    changes.append(f"{key} was {_said(was)}, is {_said(value)}")
                    if not _is_narrower(key, was, value):
                        wider.add(key)
    if differences or (filters and not settings.run.change_filter):
        change = "" if differences else "--change-filter lets it have other filters from now on; "
        raise UsageError(
            f"{settings.target} is a mirror made otherwise: {'; '.join(differences + filters)}",
            hint=f"{change}`stacmirror resume {settings.target}` goes on as it was; or choose another target",
        )
    assets = {"asset", "exclude_asset", "sources", "only_sources"}
    return FilterChange("; ".join(changes), bool(wider - assets), bool(wider & assets))


def _said(value: object) -> str:
    return "not set" if value in (None, []) else _shown(value, ascii_only=False)


def _shown(value: object, *, ascii_only: bool = True) -> str:
    if isinstance(value, list) and len(value) > _SHOWN:
        return f"{len(value):,}, {json.dumps(value[:_SHOWN], ensure_ascii=ascii_only)[:-1]} ...]"
    return json.dumps(value, ensure_ascii=ascii_only)


def _is_narrower(key: str, was: object, now: object) -> bool:
    """Return whether nothing passes a filter now that did not pass before. When in doubt, something does."""
    if key in _SENT:
        return False
    if key == "shard":
        return was == ""
    if not isinstance(was, list) or not isinstance(now, list):
        return was is None
    if key.startswith("exclude_"):
        return set(now) >= set(was)
    return not was or (bool(now) and set(now) <= set(was))


def _default(key: str) -> object:
    default = options()[key].default
    return list(default) if isinstance(default, tuple) else default


def _tables(settings: Settings) -> dict[str, dict[str, object]]:
    """Return every setting that is not None, as TOML has it, by section and key."""
    tables: dict[str, dict[str, object]] = {}
    for key, option in options().items():
        if key in _ONCE:
            continue
        value = getattr(getattr(settings, option.section), option.field_name)
        if key == "api_url":
            value = redact_url(value)
        if key == "auth":
            value = tuple(one for one in value if "=command:" not in one)
        tables.setdefault(option.section, {})[key] = list(value) if isinstance(value, tuple) else value
    return tables


def _to_toml(source: str, tables: Mapping[str, Mapping[str, object]]) -> str:
    lines = [
        "# How this mirror was made; `stacmirror resume` reads it. No key and no password is ever written here.",
        f"source = {_toml_value(source)}",
    ]
    for section, table in tables.items():
        lines += ["", f"[{section}]"]
        lines += [f"{key} = {_toml_value(value)}" for key, value in table.items() if value is not None]
    return "\n".join(lines) + "\n"


def _toml_value(value: object) -> str:
    """JSON's texts, numbers, booleans and lists are TOML's - but for pairs of surrogates, and DEL as it is."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
