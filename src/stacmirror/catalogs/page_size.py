"""How many items to ask for per page: as many as were asked for, until the server proves unable to give that many.

Used by the dialects, for one walk. A page that is refused as too large (413, or above our own cap), or twice in a row
not given in time (502, 504, timeouts), is asked for at half its size, and so are the pages after it. After a long
run of good pages a larger size is tried once more, and never again where that fails: pages of one item are 590,326
requests. Pure: it hears of answers and says a number.
"""

from __future__ import annotations

from stacmirror.errors import TransferError

GROWS_AFTER = 100
"""Good pages in a row, after which twice the size is tried."""
_TOO_LARGE = 413
_TOO_SLOW = (502, 504)


class PageSize:
    """`now` is what to ask for."""

    def __init__(self, wanted: int) -> None:
        self.now = wanted
        self._most = wanted
        """The largest size that has not failed since a smaller one was good."""
        self._good = 0
        self._bad = 0
        self._grown = False

    def failed(self, error: TransferError) -> bool:
        """Hear that a page was not given; return whether the next attempt asks for fewer items."""
        if error.status == _TOO_LARGE or error.kind == "too-large":
            return self._halve()
        if error.status not in _TOO_SLOW and error.kind not in ("timeout", "slow"):
            return False
        self._bad += 1
        return self._bad >= 2 and self._halve()

    def succeeded(self, *, may_grow: bool) -> None:
        """Hear that a page was given. `may_grow`: its cursor means the same at any size."""
        self._bad = 0
        self._good += 1
        if self._good >= GROWS_AFTER:
            self._good = 0
            if self._grown:
                self._grown = False  # the larger size has held
            if may_grow and self.now < self._most:
                self.now = min(self._most, 2 * self.now)
                self._grown = True

    def _halve(self) -> bool:
        if self.now == 1:
            return False
        half = max(1, self.now // 2)
        if self._grown:
            self._most = half
        self.now, self._good, self._bad, self._grown = half, 0, 0, False
        return True
