"""Make outcomes last: sync, ledger, reveal - in that order, group after group, in one thread.

    sync     the staged bytes of group k, and the renames of group k-1
    ledger   one transaction: rows of k as staged, rows of k-1 as committed, pages settled
    reveal   rename group k into place
    report   group k-1 is committed: its rows and its names are durable

So a name that can be seen is whole, even after a power cut, and `committed` means that row and files are
durable. A group is what gathered while the one before was under way, capped by time and bytes. If any step fails,
the group is not done, the run stops, and nothing is tried again: a sync that failed once cannot be trusted.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from stacmirror.interfaces import Ledger, Sink
from stacmirror.model import ItemOutcome, LedgerEntry, Reveal, Unit

_IDLE_S = 3600.0


class Committer:
    """The only writer of the ledger. Made and called on the event loop; works in a thread of its own.

    `on_written` is called on the loop with the entries that now have rows. `failed` is a future that gets the
    exception that ended the thread.
    """

    def __init__(
        self,
        sink: Sink,
        ledger: Ledger,
        *,
        every_s: float,
        every_bytes: int,
        pending_max: int,
        on_written: Callable[[list[LedgerEntry]], None],
    ) -> None:
        self._sink = sink
        self._ledger = ledger
        self._every_s = every_s
        self._every_bytes = every_bytes
        self._pending_max = pending_max
        self._on_written = on_written
        self._loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self._wake = threading.Condition()
        # Guarded by `_wake`:
        self._entries: list[LedgerEntry] = []
        self._extra: list[Reveal] = []
        self._bytes = 0
        self._hurry = False
        self._closing = False
        # On the loop only:
        self._pending = 0
        self._pending_extra = 0
        self._unconfirmed = 0
        self._room = asyncio.Event()
        self._room.set()
        self._drained: list[asyncio.Future[None]] = []
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    # -- on the loop ---------------------------------------------------------------------------------------

    async def room(self) -> None:
        """Wait while too many entries are not yet written. Raises: what ended the thread. Cancel: safe."""
        while self._pending >= self._pending_max and not self.failed.done():
            self._room.clear()
            await self._room.wait()
        if self.failed.done():
            self.failed.result()

    def add(self, entry: LedgerEntry) -> None:
        """Hand over any entry, without waiting; entries are written in the order they come."""
        size_bytes = entry.fetched_bytes if isinstance(entry, ItemOutcome) else 0
        self._pending += 1
        with self._wake:
            first = not self._entries
            self._entries.append(entry)
            self._bytes += size_bytes
            if first or self._is_large:
                self._wake.notify()

    def reveal(self, reveals: list[Reveal]) -> None:
        """Reveal units whose rows and bytes are durable already (recovery, giving up on what is held)."""
        if reveals:
            self._pending_extra += len(reveals)
            with self._wake:
                self._extra += reveals
                self._wake.notify()

    @property
    def _is_large(self) -> bool:
        """Whether the group is worth a cycle by its size. Entries hold the items' JSON, so their number is memory."""
        return self._bytes >= self._every_bytes or len(self._entries) >= self._pending_max // 2

    async def drain(self) -> None:
        """Return when all that was handed over is committed. Raises: what ended the thread."""
        if self.failed.done():
            self.failed.result()
        if self._idle:
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._drained.append(waiter)
        with self._wake:
            self._hurry = True
            self._wake.notify()
        await waiter

    async def close(self) -> None:
        """Commit what was handed over (unless the thread has failed) and end the thread. May be called twice."""
        with self._wake:
            self._closing = True
            self._hurry = True
            self._wake.notify()
        if self._thread.ident is not None:
            # Also when it has ended: its last word is on its way to the loop, and comes before this join's.
            await asyncio.to_thread(self._thread.join)

    # -- in the thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._cycles()
        except BaseException as error:  # whatever it is, the loop must hear of it
            self._tell(self._report_failure, error)

    def _cycles(self) -> None:
        in_place: list[Unit] = []
        while True:
            entries, extra = self._gather(waiting=bool(in_place))
            if not entries and not extra and not in_place:
                return
            self._sink.sync()
            reveals = [*self._ledger.write(entries, in_place), *extra]
            self._tell(self._on_written, entries)  # now, as a reveal that fails takes no row back
            in_place = []
            for reveal in reveals:
                self._sink.reveal(reveal.unit, reveal.names)
                in_place.append(reveal.unit)
            self._tell(self._report, len(entries), len(extra), len(in_place))

    def _gather(self, *, waiting: bool) -> tuple[list[LedgerEntry], list[Reveal]]:
        """Wait for a group: until it is old or large enough, or someone is in a hurry. Empty at the end.

        `waiting`: units are revealed but not confirmed, so that even an empty group is worth a cycle.
        """
        with self._wake:
            while not (self._entries or self._extra or waiting or self._closing):
                self._wake.wait(_IDLE_S)
            due_s = time.monotonic() + self._every_s
            while not self._hurry and not self._closing and not self._is_large:
                left_s = due_s - time.monotonic()
                if left_s <= 0:
                    break
                self._wake.wait(left_s)
            entries, self._entries = self._entries, []
            extra, self._extra = self._extra, []
            self._bytes = 0
            return entries, extra

    def _tell(self, callback: Callable[..., None], *values: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *values)
        except RuntimeError:
            return  # the loop is closed: nobody is left to hear it

    # -- back on the loop ----------------------------------------------------------------------------------

    def _report(self, entries: int, extra: int, unconfirmed: int) -> None:
        self._pending -= entries
        self._pending_extra -= extra
        self._unconfirmed = unconfirmed
        self._room.set()
        if self._idle:
            with self._wake:
                self._hurry = False
            drained, self._drained = self._drained, []
            for waiter in drained:
                if not waiter.done():
                    waiter.set_result(None)

    @property
    def _idle(self) -> bool:
        return self._pending == 0 and self._pending_extra == 0 and self._unconfirmed == 0

    def _report_failure(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)
        self._room.set()
        for waiter in self._drained:
            if not waiter.done():
                waiter.set_exception(error)
        self._drained = []
