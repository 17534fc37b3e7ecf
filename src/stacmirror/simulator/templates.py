"""JSON templates: written once by `json`, filled many times by joining strings.

Called by `items`, whose pages hold up to 10,000 items with 13 links each; encoding each anew costs ten times
as much.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

_FIELD = re.compile(r'"=(\w+)="|<<(\w+)>>')


class Template:
    """A JSON text with fields: `<<name>>` inside a string takes text, a whole string `=name=` takes JSON.

    Values go in as they are: text must need no escaping. `indent` and `depth` lay it out as part of a larger
    document.
    """

    def __init__(self, document: object, *, indent: int | None, depth: int = 0) -> None:
        if indent is None:
            text = json.dumps(document, separators=(",", ":"))
        else:
            text = json.dumps(document, indent=indent, sort_keys=True).replace("\n", "\n" + " " * indent * depth)
        self._parts: list[str] = []
        self._fields: list[tuple[int, str]] = []
        end = 0
        for found in _FIELD.finditer(text):
            self._parts.append(text[end : found.start()])
            self._fields.append((len(self._parts), found.group(1) or found.group(2)))
            self._parts.append("")
            end = found.end()
        self._parts.append(text[end:])

    def fill(self, values: Mapping[str, str]) -> str:
        """Return the text with these values."""
        parts = self._parts.copy()
        for place, name in self._fields:
            parts[place] = values[name]
        return "".join(parts)
