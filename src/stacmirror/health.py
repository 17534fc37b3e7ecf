"""Whether one host is well, doubted or down, and when to look again: an outage costs one question now and then.

Made by `limits`, one a host, told of every answer and error. Three bad answers in a row, of different addresses, and no
good one between them, raise a doubt: nothing new is asked until what is under way has its answers. If none of them is
good the host is down, and is asked once in a while until it answers. Then it is let in again step by step.
Knows no clock of its own and asks nobody. Sources: "Circuit Breaker" (M. Nygard, Release It!); slow start, RFC 5681.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

NO_LIMIT = sys.maxsize
_DOUBT_AFTER = 3
"""Bad answers in a row. Of 5 % stray ones three in a row come once in 8,000, and with others under way never."""
_DOUBT_AFTER_MAX = 256
"""Each time that the first question finds the host well, it takes twice as many: then it is the objects that are bad,
as where an asset key answers 503 on every item. They must not cost a second for each three of them."""
_PROBE_FIRST_S, _PROBE_MAX_S = 1.0, 3.0
"""Never more than one question a second; and so often that the end of an outage is seen within a few seconds."""
_PROBE_LIFE_S = 15.0
"""A question whose end nobody told is taken to be lost after that."""
_LOOK_AGAIN_S = 2.0
"""For so long others are told to wait at most: they must be back soon after a good answer."""
_EASE_PROBED, _EASE_PAUSED = 4, 8
"""Requests at once after an outage and after a pause; each good answer allows one more."""
_FIRST_CONTACT_S = 15.0
"""A host that never answered in this run is given up after that: more likely a wrong address than an outage."""
_GIVEN_UP_S = 60.0

HOST_KINDS = frozenset({"connect", "dns", "proxy"})
"""Errors that speak of the host, whatever was asked."""
MAYBE_KINDS = frozenset({"timeout", "reset", "tls"})
"""Errors that one bad object can cause as well."""
LATER_STATUSES = frozenset({429, 503})
"""Statuses by which a host says that it cannot now."""
STORM_STATUSES = LATER_STATUSES | {500, 502, 504}
"""Statuses that, where nothing else comes, are the host's and not the object's."""


class Change(NamedTuple):
    """What became of a host: `down` or not, for how long it was, what it said last, and for how long it may be down."""

    down: bool
    seconds: float
    reason: str
    at_most_s: float


class Health:
    """One host's. `most` is how many requests at once may be under way: NO_LIMIT while it is well, 0 in doubt and down.

    `quiet`: nothing bad was heard since the last good answer, so that good answers need not be told.
    """

    __slots__ = (
        "_doubt_after", "_down_s", "_ease", "_now", "_on_change", "_outage_max_s", "_probe_s", "_probing", "_random",
        "_since_s", "_tries", "_urls", "answered", "bad_in_a_row", "doubted", "down", "given_up", "kind", "lost",
        "most", "quiet", "reason",
    )  # fmt: skip

    def __init__(
        self,
        now: Callable[[], float],
        outage_max_s: float,
        random: Callable[[], float],
        on_change: Callable[[Change], None],
    ) -> None:
        self._now = now
        self._outage_max_s = outage_max_s
        self._random = random
        self._on_change = on_change
        self.most = NO_LIMIT
        self.quiet = False
        self.answered = False
        """Whether it ever answered in this run."""
        self.doubted = self.down = False
        self.given_up = False
        """It never answered, and is taken for a wrong address."""
        self.lost = False
        """It was down for longer than an outage may last."""
        self.bad_in_a_row = 0
        """Bad answers since the last good one, or since it went down."""
        self._urls: set[int] = set()
        self._since_s = self._down_s = self._probe_s = 0.0
        self._probing = False
        self._tries = 0
        self._doubt_after = _DOUBT_AFTER
        self._ease = 0
        self.kind = self.reason = ""
        """What went wrong last: a word, and words."""

    @property
    def seconds(self) -> float:
        """For how long nothing good has come."""
        return self._now() - self._since_s

    def good(self, limit: int) -> None:
        """Hear of an answer that says nothing bad of the host, which could have `limit` requests at once."""
        self.answered = True
        if self.down:
            seconds = self.seconds
            alarmed_in_vain = self._tries == 1 and self.kind not in HOST_KINDS
            self._doubt_after = min(_DOUBT_AFTER_MAX, 2 * self._doubt_after) if alarmed_in_vain else _DOUBT_AFTER
            self.down, self.most = False, _EASE_PROBED
            self._on_change(Change(False, seconds, self.reason, self._patience_s))
        elif self.doubted:
            self.most = self._ease or NO_LIMIT
        elif self.most != NO_LIMIT:
            self.most += 1
        self.doubted = self.given_up = self.lost = False
        self._ease = self.most if self.most < limit else 0
        self.most = self._ease or NO_LIMIT
        self.bad_in_a_row = 0
        self._urls.clear()
        self.quiet = self.most == NO_LIMIT

    def ease_in(self) -> None:
        """Begin again step by step after a pause, so that not all come back in one instant."""
        if self.most > _EASE_PAUSED:
            self.most = self._ease = _EASE_PAUSED
            self.quiet = False

    def bad(self, kind: str, status: int, url: str, asked_s: float, reason: str, retry_after_s: float | None) -> bool:
        """Hear of a request that brought nothing; return whether the host is to blame for it and not the object."""
        by_host = kind in HOST_KINDS or status in LATER_STATUSES
        if self.down:
            self.kind, self.reason = kind, reason
            if asked_s < self._down_s:
                return self.answered
            self._probed(retry_after_s)
            return self.answered and by_host
        if not by_host and kind not in MAYBE_KINDS and status not in STORM_STATUSES:
            return False
        self.quiet = False
        self.kind, self.reason = kind, reason
        if self.doubted:
            return self.answered and by_host
        if not self.bad_in_a_row:
            self._since_s = self._now()
        self.bad_in_a_row += 1
        self._urls.add(hash(url))
        after = _DOUBT_AFTER if kind in HOST_KINDS else self._doubt_after
        if self.bad_in_a_row >= after and (kind in HOST_KINDS or len(self._urls) >= _DOUBT_AFTER):
            self.doubted, self.most = True, 0
        return self.answered and kind in HOST_KINDS

    def nothing_under_way(self) -> bool:
        """Hear that all that was asked has its answer; return whether the doubt has come true just now."""
        if not self.doubted or self.down:
            return False
        self.down, self.doubted, self._tries = True, False, 0
        self._down_s = self._now()
        self._probing = False
        self._probe_s = self._down_s + self._interval_s()
        self._on_change(Change(True, self.seconds, self.reason, self._patience_s))
        return True

    def may_probe(self) -> bool:
        """Return whether the host, which is down, may be asked now; the caller then asks."""
        now_s = self._now()
        if now_s < self._probe_s:
            return False
        self._probing = True
        self._probe_s = now_s + _PROBE_LIFE_S
        return True

    def wait_s(self) -> float:
        """Return for how long to leave the host alone before looking again."""
        if not self.down or self.given_up:
            return 0.0
        if self._probing:
            return _LOOK_AGAIN_S
        return max(0.0, self._probe_s - self._now())

    def _probed(self, retry_after_s: float | None) -> None:
        self._probing = False
        now_s = self._now()
        self._probe_s = now_s + max(self._interval_s(), retry_after_s or 0.0)
        if now_s - self._since_s <= self._patience_s:
            return
        if self.answered:
            self.lost = True
        else:
            self.given_up = True
            self._probe_s = now_s + _GIVEN_UP_S

    @property
    def _patience_s(self) -> float:
        return self._outage_max_s if self.answered else min(_FIRST_CONTACT_S, self._outage_max_s)

    def _interval_s(self) -> float:
        interval_s = min(_PROBE_MAX_S, _PROBE_FIRST_S * 2.0**self._tries)
        self._tries = min(self._tries + 1, 8)
        # Not before its time, so that it is never more than one a second; many mirrors do not look in one instant.
        return interval_s * (1 + 0.1 * self._random())
