"""Where a page starts and ends, and how its cursor is written, per generation.

Called by `api`. Both kinds of cursor name data, not a session: they outlive the server and start anywhere at
once. 2021: keyset on a serial of insertion, and a last, empty page. 2022: the last item's id, newest first.
How 2020 paged was not recorded: here it pages as 2021 does, with `numberMatched` beside it. It must not know
items or HTTP.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from .catalog import LABELS_ID
from .settings import SimulatorSettings
from .world import World

LIMIT_MAX = 10_000
_FIRST_SERIAL = {True: 7_000_000, False: 6_077_000}  # labels, sources
_INSERTED = datetime(2020, 12, 2, 5, 11, 23, 455819, tzinfo=UTC)
_GAP = 1_000  # serials that a trap leaves out: a page of "deleted" items
_TOKEN = re.compile(r"(next|previous):(gap-)?(\w+)", re.ASCII)


class BadCursor(ValueError):
    """The request's cursor or limit is not one that this server gives."""


@dataclass(frozen=True, slots=True)
class Window:
    """Items `start`..`end` of the listing's order.

    `next` and `previous` are parameters for a link (name, value), None where there is no link; `null_next`
    asks for a link without href.
    """

    start: int
    end: int
    limit: int
    next: tuple[str, str] | None = None
    previous: tuple[str, str] | None = None
    null_next: bool = False


class Paging:
    """Pages of one collection."""

    def __init__(self, settings: SimulatorSettings, world: World, collection: str) -> None:
        self._world = world
        self._late = settings.generation >= 2022
        self._default = 10 if self._late else 30
        self._collection = collection
        self._first_serial = _FIRST_SERIAL[collection == LABELS_ID]
        self._null_next = "null-next" in settings.traps
        # Position before which the trap's empty page stands; beyond the end where there is no trap.
        has_gap = "empty-page-with-next" in settings.traps
        self._gap_at = max(1, world.items // 2) if has_gap else world.items + 1

    def number_at(self, position: int) -> int:
        """Return the number of the item at this position of the listing."""
        return self._world.newest(position) if self._late else position

    def window(self, parameters: dict[str, str]) -> Window:
        """Return which items a request asks for, and what its links say.

        Raises:  BadCursor.
        """
        limit = self._limit(parameters.get("limit"))
        total = self._world.items
        cursor = parameters.get("token" if self._late else "next")
        start, past_gap, most = (0, False, total) if cursor is None else self._read(cursor, limit)
        if start == self._gap_at and start < total + (not self._late) and not past_gap:
            return Window(start, start, limit, next=self._write(start, past_gap=True))
        end = min(start + limit, total, most)
        if start < self._gap_at:
            end = min(end, self._gap_at)
        previous = None
        if self._late and 0 < start < end:
            previous = ("token", f"previous:{self._id(start)}")
        # 2021 says that the listing is over by an empty page, 2022 by a page without next.
        over = end >= total if self._late or self._null_next else start >= total
        if over:
            return Window(start, end, limit, previous=previous, null_next=self._null_next)
        return Window(start, end, limit, next=self._write(end), previous=previous)

    def _limit(self, text: str | None) -> int:
        if text is None:
            return self._default
        if not re.fullmatch(r"\d{1,5}", text, re.ASCII) or not 1 <= int(text) <= LIMIT_MAX:
            raise BadCursor(f"limit must be 1 to {LIMIT_MAX}")
        return int(text)

    def _id(self, position: int) -> str:
        return f"{self._collection}_{self._world.patch(self.number_at(position)).name}"

    def _write(self, position: int, *, past_gap: bool = False) -> tuple[str, str]:
        """Return the parameter that asks for what follows the items before `position`."""
        if self._late:
            return "token", f"next:{'gap-' if past_gap else ''}{self._id(position - 1)}"
        serial = self._first_serial + position - 1
        if past_gap:
            serial += _GAP // 2
        elif position > self._gap_at:
            serial += _GAP
        inserted = _INSERTED + timedelta(milliseconds=37 * position)
        token = {"timestampAtLeast": f"{inserted:%Y-%m-%dT%H:%M:%S.%fZ}", "serialIdGreaterThan": serial}
        text = json.dumps(token, separators=(",", ":")).encode()
        return "next", base64.urlsafe_b64encode(text).decode().rstrip("=")

    def _read(self, cursor: str, limit: int) -> tuple[int, bool, int]:
        """Return (position, whether the trap's empty page is behind, where the page ends at the latest)."""
        return self._read_late(cursor, limit) if self._late else self._read_early(cursor)

    def _read_late(self, cursor: str, limit: int) -> tuple[int, bool, int]:
        found = _TOKEN.fullmatch(cursor)
        prefix = f"{self._collection}_"
        if found is None or not found.group(3).startswith(prefix):
            raise BadCursor("token is not one of this collection")
        index = self._world.index_of(found.group(3).removeprefix(prefix))
        if index is None:
            raise BadCursor("token names no item")
        position = self._world.newest_position(index)
        if found.group(1) == "previous":
            return max(0, position - limit), True, position
        return position + 1, found.group(2) is not None, self._world.items

    def _read_early(self, cursor: str) -> tuple[int, bool, int]:
        try:
            token = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
            serial = token["serialIdGreaterThan"]
        except (binascii.Error, ValueError, TypeError, KeyError):
            raise BadCursor("next is not a cursor") from None
        if type(serial) is not int:
            raise BadCursor("next has no serial")
        position = max(0, serial - self._first_serial + 1)
        past_gap = position > self._gap_at
        if past_gap:
            position = max(self._gap_at, position - _GAP)
        return min(position, self._world.items), past_gap, self._world.items


def next_query(window: Window, *, late: bool, received: str, echo: bool) -> str | None:
    """Return the query of the next link; None if the page has none.

    2021 repeats the limit, 2022 forgets it. `echo` is the trap of September 2021: what came is sent back,
    keys and all, so that a client which appends its key to each link sends one more every page.
    """
    if window.next is None:
        return None
    name, value = window.next
    if echo:
        kept = [part for part in received.split("&") if part and not part.startswith(("next=", "token="))]
        return "&".join([*kept, f"{name}={value}"])
    if late:
        return f"{name}={quote(value, safe='')}"
    return f"{name}={value}&limit={window.limit}"


def previous_query(window: Window) -> str | None:
    """Return the query of the previous link; None if the page has none."""
    if window.previous is None:
        return None
    name, value = window.previous
    return f"{name}={quote(value, safe='')}"
