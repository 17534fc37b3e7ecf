"""One layer of settings: what one place gives, each value with where it was typed. Flags and the environment are such.

Called by `config`, which lays layers over each other. The only reader of `STACMIRROR_*`; files: `config_file`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import get_origin

from msgspec import Struct

from stacmirror.errors import UsageError
from stacmirror.typed import Option, build, options, unknown_key

ENV_PREFIX = "STACMIRROR_"


class Given(Struct, frozen=True):
    """A value as typed, and where it was typed, in words."""

    value: object
    origin: str


Layer = Mapping[str, Given]


def of_flags(flags: Mapping[str, object]) -> dict[str, Given]:
    """Return the layer of what was typed."""
    return {key: Given(value, "--" + key.replace("_", "-")) for key, value in flags.items()}


def of_environment(environ: Mapping[str, str]) -> tuple[Layer, tuple[str, ...]]:
    """Return the layer of `STACMIRROR_<KEY>`, and a warning for each that is no setting. Raises: UsageError."""
    table = options()
    layer: dict[str, Given] = {}
    warnings: list[str] = []
    for name in sorted(environ):
        if not name.startswith(ENV_PREFIX) or not environ[name]:
            continue
        key = name.removeprefix(ENV_PREFIX).lower()
        if key in table:
            layer[key] = Given(_from_text(table[key], environ[name], name), name)
        else:
            # Not an error: the environment is shared with others, a file of ours is not.
            warnings.append(f"environment variable {name}: {unknown_key(key, table)}")
    return layer, tuple(warnings)


def of_official_client(environ: Mapping[str, str]) -> Layer:
    """Return the layer of what MLHub's own client reads."""
    root = environ.get("MLHUB_ROOT_URL", "")
    return {"api_url": Given(root, "MLHUB_ROOT_URL")} if root else {}


def check_value(key: str, given: Given) -> None:
    """Refuse a value that cannot be. Raises: UsageError, which names where it was typed."""
    try:
        build("", "", {key: given.value})
    except UsageError as error:
        raise UsageError(f"{error.message} (from {given.origin})", hint=error.hint) from error


def _from_text(option: Option, text: str, name: str) -> object:
    """Return a list for a JSON array; label names have commas in them, so commas alone cannot always separate."""
    if get_origin(option.type) is tuple and text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except ValueError as error:
            raise UsageError(
                f"{name} is not a JSON list: {error}", hint=f"""such as {name}='["B02", "B03"]'"""
            ) from error
    return text
