"""Settings that may name a file with what they want: --intersects FILE, --ids-from FILE. Called by `config`.

What such a file holds becomes the setting: a mirror remembers what was asked for, not where that once was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from stacmirror.cli.layers import Given
from stacmirror.errors import UsageError

_IDS_HINT = "name a text file (UTF-8) with an item's id a line"


def with_geometry(merged: Mapping[str, Given]) -> dict[str, Given]:
    """Read the file that `intersects` names. Raises: UsageError."""
    given = merged.get("intersects")
    if given is None or not isinstance(given.value, str) or not given.value.strip() or "{" in given.value:
        return dict(merged)
    path = Path(given.value)
    try:
        text = path.read_text(encoding="utf-8")
        compact = json.dumps(json.loads(text), separators=(",", ":"))
    except OSError as error:
        raise UsageError(f"--intersects {path}: {error.strerror}", hint="name a file with GeoJSON") from error
    except ValueError:
        raise UsageError(f"--intersects {path} is no JSON", hint="name a file with GeoJSON") from None
    return {**merged, "intersects": Given(compact, given.origin)}


def with_ids(merged: Mapping[str, Given]) -> dict[str, Given]:
    """Read the files that `item` names as `@FILE`, each id once, in their order. Raises: UsageError."""
    given = merged.get("item")
    if given is None or not isinstance(given.value, str | list | tuple):
        return dict(merged)
    named = cast("Sequence[str]", [given.value] if isinstance(given.value, str) else given.value)
    if not any(one.startswith("@") for one in named):
        return dict(merged)
    ids: dict[str, None] = {}
    for one in named:
        ids.update(dict.fromkeys(_ids_in(one[1:]) if one.startswith("@") else [one]))
    return {**merged, "item": Given(list(ids), given.origin)}


def _ids_in(path: str) -> Iterator[str]:
    found = False
    try:
        with open(path, encoding="utf-8-sig") as lines:
            for line in lines:
                if id_ := line.strip():
                    found = True
                    yield id_
    except OSError as error:
        raise UsageError(f"--ids-from {path}: {error.strerror}", hint=_IDS_HINT) from error
    except ValueError:
        raise UsageError(f"--ids-from {path} is no text", hint=_IDS_HINT) from None
    if not found:
        raise UsageError(f"--ids-from {path} holds no id", hint=_IDS_HINT)
