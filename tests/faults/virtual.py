"""A run in virtual time: ten minutes of outage pass in a second, and nothing but the network is pretended.

Workers, budgets, retries, ledger and sink are the real ones. `World` answers requests as its rule says, after a latency
that passes on the loop's own clock.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply
from stacmirror.limits import HostLimits
from stacmirror.transports.router import Router
from tests.unit.fakes import Notes, an_item, pages_of
from tests.unit.test_run_stop import Bench

HOST = "http://host"
THREADS_S = 60.0
"""In real time: so long a thread may work without a word, on the busiest of machines."""
LATE = TransferError("connect", "no connection in time: host:80")
"""A SYN that is dropped: seconds pass until that shows."""
ALL_WORKERS = (1, 16, 256) if os.environ.get("STACMIRROR_FAULTS") == "full" else (16,)
"""At how many workers each fault is tried: at one width with all other tests, at all three by `make faults`."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer whenever nothing is left to do, on it or in a thread of ours.

    While a thread works the clock stands: however busy the machine is, its work takes no time on this clock.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 1000.0
        self._in_threads = 0
        self.is_waited_for: Callable[[], bool] = lambda: False
        """Whether a thread works that is not the executor's, and that the loop will hear of."""
        select = self._selector.select  # type: ignore[attr-defined]

        def skip(timeout: float | None = None) -> object:
            if not timeout:
                self._now_s += 1e-9  # as a real clock does: a timer a rounding error away would be set again for ever
                return select(timeout)
            if self._in_threads or self.is_waited_for():
                found = select(THREADS_S)
                assert found, "a thread works, and says nothing"
                return found
            found = select(0)
            if not found:
                self._now_s += timeout
            return found

        self._selector.select = skip  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._now_s

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *values: Any) -> Any:
        future = super().run_in_executor(executor, func, *values)
        self._in_threads += 1

        def done(_: object) -> None:
            self._in_threads -= 1

        future.add_done_callback(done)
        return future


def wait_for_commits(bench: Bench) -> None:
    """Let the clock of the running loop stand while outcomes are made durable, which happens in a thread."""
    loop, committer = asyncio.get_running_loop(), bench.committer
    assert isinstance(loop, VirtualLoop)
    loop.is_waited_for = lambda: not committer._idle and not committer.failed.done()


class VirtualClock:
    """Implements `interfaces.Clock` on the running loop."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return 1.6e9 + self.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


Answer = int | TransferError | tuple[int, Mapping[str, str]]
"""A status, an error, or a status with headers."""
Rule = Callable[[float, str], Answer]
"""What a URL gets, so many seconds after the start."""


class World:
    """A transport. `asked` has the second of each request and its answer; `at_once_max` of requests were under way."""

    def __init__(self, rule: Rule, latency_s: float = 0.05, takes: int = 1_000_000) -> None:
        """Above `takes` requests at once all others get a 503 at once."""
        self.rule = rule
        self.takes = takes
        self.latency_s = latency_s
        self.asked: list[tuple[float, str, int]] = []
        self.began_s: float | None = None
        self.at_once = self.at_once_max = 0

    async def fetch(self, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
        now = asyncio.get_running_loop().time
        if self.began_s is None:
            self.began_s = now()
        asked_s = now() - self.began_s
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        try:
            found = self.rule(asked_s, url) if self.at_once <= self.takes else 503
            if found is LATE:
                found = await self._connect(asked_s, url)
            if isinstance(found, TransferError):
                self.asked.append((asked_s, url, 0))
                await asyncio.sleep(0.0 if found is LATE else self.latency_s)
                raise TransferError(found.kind, found.message)
            await asyncio.sleep(self.latency_s)
            status, more = found if isinstance(found, tuple) else (found, {})
            self.asked.append((asked_s, url, status))
            return Reply(url, status, more, b"bytes of " + url.encode() if status == 200 else b"", None)
        finally:
            self.at_once -= 1

    async def _connect(self, asked_s: float, url: str) -> Answer:
        """Wait for a connection as TCP does: the SYN is sent again after 1, 3 and 7 s, and given up after 10."""
        for at_s in (1.0, 3.0, 7.0):
            await asyncio.sleep(asked_s + at_s - (asyncio.get_running_loop().time() - (self.began_s or 0.0)))
            found = self.rule(asked_s + at_s, url)
            if found is not LATE:
                return found
        await asyncio.sleep(3.0)
        return LATE

    async def close(self) -> None:
        pass

    def between(self, since_s: float, until_s: float, status: int | None = None) -> list[float]:
        return [at for at, _, got in self.asked if since_s <= at < until_s and status in (None, got)]


class Ran:
    """What a run was: its parts, its notes, and what ended it."""

    def __init__(self, bench: Bench, world: World, notes: Notes, error: BaseException | None) -> None:
        self.bench, self.world, self.notes, self.error = bench, world, notes, error
        self.failures = bench.ledger.failures()
        self.counts = bench.counts()


def run(
    target: Path,
    rule: Rule,
    *,
    items: int = 400,
    workers: int = 16,
    retries: int = 5,
    sweeps: int = 0,
    outage_max_s: float = 1800.0,
    latency_s: float = 0.05,
    per_host: int = 256,
    fixed: bool = True,
    takes: int = 1_000_000,
    world: World | None = None,
    queue_size: int = 64,
) -> Ran:
    """Mirror `items` with one asset each from one host that follows `rule`; what ended the run early is in `error`.

    `world` is a host of another kind.
    """

    async def work() -> Ran:
        clock, notes, host = VirtualClock(), Notes(), world or World(rule, latency_s, takes)
        limits = HostLimits(
            per_host,
            None,
            clock.monotonic,
            clock.sleep,
            busy=None if fixed else lambda: 0.0,
            outage_max_s=outage_max_s,
            random=random.Random(1).random,
            on_change=lambda origin, change: notes.note(f"{origin} {'down' if change.down else 'up'} {change.reason}"),
        )
        router = Router({"http": host}, limits, redirects_max=5, small_max_bytes=1 << 20, wall=clock.wall)
        groups = [[an_item(f"i{n}") for n in range(start, min(start + 50, items))] for start in range(0, items, 50)]
        bench = Bench(
            target,
            pages_of(groups),
            workers=workers,
            queue_size=queue_size,
            pending_max=max(100, queue_size),
            retries=retries,
            backoff_s=0.5,
            sweeps=sweeps,
            opener=router,
            clock=clock,
            sync_every_s=0.0,
        )
        wait_for_commits(bench)
        error: BaseException | None = None
        try:
            await bench.run.execute(bench.start, bench.staged)
        except Exception as ended_by:
            error = ended_by
        return Ran(bench, host, notes, error)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        ran = runner.run(work())
    ran.bench.ledger.close()
    ran.bench.sink.close()
    return ran
