"""How many items to ask for per page: as many as were asked for, until the server proves unable to give that many.

Used by the dialects, for one walk. A page that is refused as too large (413, or above our own cap), or twice in a row
not given in time (502, 504, timeouts), is asked for at half its size, and so are the pages after it. After a long
run of good pages twice the size is tried, and where that fails only after a run twice as long: pages of one item would
be 590,326 requests. Pure: it hears of answers and says a number.
"""

from __future__ import annotations

from collections.abc import Collection

from stacmirror.errors import TransferError

GROWS_AFTER = 100
"""Good pages in a row, after which twice the size is tried."""
_TOO_LARGE = 413
_TOO_SLOW = (502, 504)


class PageSize:
    """`now` is what to ask for."""

    def __init__(self, wanted: int, least: int = 1, slow_statuses: Collection[int] = _TOO_SLOW) -> None:
        """`least` is where halving ends; `slow_statuses` say that a page was not given in time."""
        self.now = wanted
        self._least = min(least, wanted)
        self._slow_statuses = slow_statuses
        self._wanted = wanted
        self._good = 0
        self._bad = 0
        self._patience = GROWS_AFTER
        self._grown = False
        """Whether this size is on trial."""

    def failed(self, error: TransferError) -> bool:
        """Hear that a page was not given; return whether the next attempt asks for fewer items."""
        if error.status == _TOO_LARGE or error.kind == "too-large":
            return self._halve()
        if error.status not in self._slow_statuses and error.kind not in ("timeout", "slow"):
            return False
        self._bad += 1
        return self._bad >= 2 and self._halve()

    def succeeded(self, *, may_grow: bool) -> None:
        """Hear that a page was given. `may_grow`: its cursor means the same at any size."""
        self._bad = 0
        self._good += 1
        if self._grown and self._good >= GROWS_AFTER:
            self._grown, self._patience = False, GROWS_AFTER  # the larger size has held
        if may_grow and not self._grown and self._good >= self._patience and self.now < self._wanted:
            self.now, self._good, self._grown = min(self._wanted, 2 * self.now), 0, True

    def _halve(self) -> bool:
        if self.now <= self._least:
            return False
        if self._grown:
            self._patience *= 2
        self.now, self._good, self._bad, self._grown = max(self._least, self.now // 2), 0, 0, False
        return True
