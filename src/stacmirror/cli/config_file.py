"""Files of settings in TOML: a layer of the tables in one, its profiles, and what is wrong with a line.

Called by `config`, the only reader of such files. It knows neither where they are nor which of them count.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_origin

from stacmirror.cli.layers import Given, Layer
from stacmirror.errors import UsageError
from stacmirror.typed import ALL_SETTINGS, Option, options, unknown_key

_SOURCE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]+")


def read_settings(path: Path) -> Layer:
    """Return the layer of a file that need not exist. Raises: UsageError, as `read_toml` and `settings_in`."""
    try:
        document = read_toml(path)
    except FileNotFoundError:
        return {}
    document.pop("source", None)  # profiles: see `read_sources`
    return settings_in(document, path)


def read_sources(path: Path) -> Mapping[str, Layer]:
    """Return the `[source.NAME]` tables of a file, by name. Raises: UsageError, as for other tables."""
    try:
        found = read_toml(path).get("source", {})
    except FileNotFoundError:
        return {}
    if not isinstance(found, dict) or not all(isinstance(content, dict) for content in found.values()):
        raise UsageError(f"{path}: `source` is a table of tables", hint="write [source.NAME], and its settings below")
    table = options()
    layers: dict[str, Layer] = {}
    for name, content in found.items():
        if not _SOURCE_NAME.fullmatch(name) or name in ("mlhub", "http", "https", "s3", "file"):
            raise UsageError(f"{path}: [source.{name}] is no name for a source", hint="letters, digits, - and _")
        where = f"{path}: [source.{name}]"
        layer: dict[str, Given] = {}
        for key, value in content.items():
            if key not in table or table[key].section in ("place", "look", "run") or key == "profile":
                raise UsageError(f"{where} {unknown_key(key, table)}", hint=ALL_SETTINGS)
            layer[key] = Given(_from_toml(table[key], value), f"[source.{name}] of {path}")
        layers[name] = layer
    return layers


def read_toml(path: Path) -> dict[str, Any]:
    """Return what stands in a file. Raises: FileNotFoundError; UsageError where it cannot be read, or is no TOML."""
    try:
        text = path.read_text(encoding="utf-8")
        import tomllib  # here: mostly there is no file, and it takes 4 ms to load

        return tomllib.loads(text)
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:
        raise FileNotFoundError(path) from error
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", hint="mend its rights, or name another file with --config"
        ) from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise UsageError(
            f"{path} is no valid TOML: {error}",
            hint="`stacmirror config show` prints settings as a file should have them",
        ) from error


def settings_in(document: Mapping[str, Any], path: Path) -> Layer:
    """Return the layer of a document's tables. Raises: UsageError with the place of what does not belong there."""
    table = options()
    sections = list(dict.fromkeys(option.section for option in table.values()))
    layer: dict[str, Given] = {}
    for section, content in document.items():
        if not isinstance(content, dict):
            raise _outside(section, path, table)
        if section not in sections:
            raise _unknown_table(section, path, table)
        for key, value in content.items():
            if key not in table:
                raise UsageError(f"{path}: [{section}] {unknown_key(key, table)}", hint=ALL_SETTINGS)
            if table[key].section != section:
                right = table[key].section
                raise UsageError(
                    f"{path}: `{key}` belongs in [{right}], not in [{section}]", hint=f"move the line below [{right}]"
                )
            layer[key] = Given(_from_toml(table[key], value), str(path))
    return layer


def _outside(key: str, path: Path, table: Mapping[str, Option]) -> UsageError:
    """Return what is wrong with a key above all tables: a setting in the wrong place, or none."""
    if key in table:
        right = table[key].section
        return UsageError(f"{path}: `{key}` stands outside its table", hint=f"put it below [{right}]")
    if key in {option.section for option in table.values()}:
        return UsageError(f"{path}: `{key}` is a table, not a value", hint=f"write [{key}], and its settings below")
    return UsageError(f"{path}: {unknown_key(key, table)}", hint=ALL_SETTINGS)


def _unknown_table(name: str, path: Path, table: Mapping[str, Option]) -> UsageError:
    """Return what is wrong with a table that does not exist, with the nearest name: a table, or a setting in one."""
    sections = list(dict.fromkeys(option.section for option in table.values()))
    near = difflib.get_close_matches(name.lower(), [*sections, *table], n=1)
    said = f"{path}: unknown table [{name}]"
    if near and near[0] in sections:
        said += f"; did you mean [{near[0]}]?"
    elif near:
        said += f"; did you mean `{near[0]}` below [{table[near[0]].section}]?"
    return UsageError(said, hint=f"there are {', '.join(f'[{section}]' for section in sections)}")


def _from_toml(option: Option, value: object) -> object:
    """TOML has no null: an empty text says "not set" where that is possible. A text alone is a list of one."""
    if option.default is None and value == "":
        return None
    if get_origin(option.type) is tuple and isinstance(value, str):
        return [value] if value else []
    return value
