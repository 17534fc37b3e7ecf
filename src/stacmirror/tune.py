"""Find out how many requests at once a source rewards, on purpose: a ramp of steps, nothing written to disk.

A composition root beside `mirror`, called by the command line's `tune`. It reads pages, items and assets as a mirror
would and forgets the bytes; each step gives every host one fixed allowance. It ends at a refusal, where more brings no
more, where this machine is the limit, at a cap, or when its time is over. It knows no terminal.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from msgspec.structs import replace

from stacmirror.assembly import make_catalog, make_router
from stacmirror.catalogs import AnyCatalog, source_of
from stacmirror.clock import LoopLoad, SystemClock
from stacmirror.errors import SourceError, SourceUnreachable, StacmirrorError, TransferError, first_of
from stacmirror.filters import AssetChoice
from stacmirror.interfaces import Reply
from stacmirror.model import START, Cursor, Item, SourceLink
from stacmirror.open_files import fit_open_files
from stacmirror.pipeline.progress import Progress
from stacmirror.ramp import RAMP, Caps, Step, Tuning, recommended, why_last
from stacmirror.redact import Redactor
from stacmirror.retry import error_for_status
from stacmirror.settings import Settings
from stacmirror.transports.router import CAP, Router

HOSTS = 2
"""A file is asked for at the API and at the host that its redirect names: so many askers a place."""
_STEP_MIN_S = 1.0
_ENOUGH = 25
"""A step may end early when so many files a place came."""
_LATE_S = 3.0
"""So long after a step's end, what is still under way is given up."""


class _Gauge:
    """Every host's allowance, one for all of them. Implements `pace.Allowance`."""

    def __init__(self) -> None:
        self.limit = 1
        self.took_s: list[float] = []
        self.refused = 0

    def asked(self, place: int) -> None:
        """See `pace.Allowance.asked`."""

    def answered(self, place: int, seconds: float, refusal: int = 0) -> None:
        """See `pace.Allowance.answered`."""
        if refusal:
            self.refused += 1
        else:
            self.took_s.append(seconds)

    def outage(self) -> None:
        """See `pace.Allowance.outage`."""

    def too_many(self, place: int) -> None:
        """See `pace.Allowance.too_many`."""


class _Work(NamedTuple):
    """An asset's address, or an item that has to be read first."""

    href: str
    link: SourceLink | None = None


class Tuner:
    """One ramp. `steps` grows while `run` is under way; `on_step` hears of each."""

    def __init__(
        self,
        settings: Settings,
        *,
        api_key: str = "",
        caps: Caps | None = None,
        on_step: Callable[[Step], None] = lambda step: None,
        note: Callable[[str], None] = lambda message: None,
        secrets: Mapping[str, str] | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        """`secrets` as for `Mirror`; `redactor` as for `make_router`.

        Raises: UsageError for a source that names no collection.
        """
        source_of(settings)
        settings = fit_open_files(settings, note)
        # An answer that says "later" is a measurement here, not a reason to wait for it.
        self._settings = replace(settings, limit=replace(settings.limit, retry_after_max_s=1.0))
        self._caps = caps or Caps()
        self._on_step = on_step
        self._gauge = _Gauge()
        self._clock = SystemClock()
        self._router: Router = make_router(
            self._settings, self._clock, lambda: self._gauge, secrets=secrets, redactor=redactor
        )
        self._router.requests_max = self._caps.requests_max
        self._catalog: AnyCatalog = make_catalog(self._settings, api_key, self._router, self._clock, Progress())
        self._choice = AssetChoice(settings.filter.asset, settings.filter.exclude_asset)
        self._work: deque[_Work] = deque()
        self._reading = asyncio.Lock()
        self._cursor: Cursor | None = START
        self._empty_walks = 0
        self._bytes = self._files = 0
        self._failed: Counter[str] = Counter()
        self._first_failure = ""
        self._ended = ""
        self.steps: list[Step] = []

    async def run(self) -> Tuning:
        """Run the ramp and return what it found.

        Raises: SourceError when the listing or all assets cannot be had, LoginRefused.
        Cancel: safe; all connections are closed.
        """
        until_s = self._clock.monotonic() + self._caps.seconds
        ceiling = self._settings.limit.per_host
        ramp = [at_once for at_once in RAMP if at_once < ceiling] + [ceiling]
        try:
            for number, at_once in enumerate(ramp):
                left_s = until_s - self._clock.monotonic()
                if left_s <= 0:
                    self._ended = "time is over"
                if self._ended:
                    break
                step = await self._step(at_once, left_s / (len(ramp) - number))
                self.steps.append(step)
                self._on_step(step)
                self._ended = why_last(self.steps, self._ended)
        finally:
            await self._router.close()
        if not self._files:
            raise self._nothing_came()
        per_host = recommended(self.steps)
        return Tuning(
            steps=tuple(self.steps),
            ended=self._ended or f"{ceiling} at once, the most that --per-host allows",
            per_host=per_host,
            workers=min(4096, HOSTS * per_host),
            requests=self._router.requests,
            bytes=self._bytes,
        )

    def _nothing_came(self) -> SourceError:
        refused = "refused" in self._failed
        hint = "see `stacmirror status` of a small mirror (--max-items 1) for each asset's reason"
        if refused and not self._settings.s3.request_payer:
            hint = "is it a requester-pays bucket? --request-payer accepts its costs"
        return SourceUnreachable(f"no asset came: {self._first_failure or self._ended}", hint=hint)

    # -- one step ------------------------------------------------------------------------------------------

    async def _step(self, at_once: int, seconds: float) -> Step:
        gauge, clock = self._gauge, self._clock
        gauge.limit, gauge.took_s, gauge.refused = at_once, [], 0
        files, bytes_before, requests = self._files, self._bytes, self._router.requests
        failed = self._failed.total()
        load, started_s = LoopLoad(), clock.monotonic()
        over_s = started_s + seconds
        early_s, enough = started_s + min(seconds, _STEP_MIN_S), files + _ENOUGH * at_once

        def over() -> bool:
            now_s = clock.monotonic()
            return bool(self._ended or gauge.refused or now_s >= over_s or (now_s >= early_s and self._files >= enough))

        with suppress(TimeoutError):
            async with asyncio.timeout(seconds + _LATE_S):
                await self._ask_side_by_side(HOSTS * at_once, over)
        took_s = clock.monotonic() - started_s
        came = self._files - files
        ordered = sorted(gauge.took_s)
        return Step(
            at_once=at_once,
            seconds=took_s,
            files=came,
            files_per_s=came / took_s,
            bytes=self._bytes - bytes_before,
            requests=self._router.requests - requests,
            p50_s=_share(ordered, 0.5),
            p95_s=_share(ordered, 0.95),
            refused=gauge.refused,
            failed=self._failed.total() - failed,
            busy=load(),
        )

    async def _ask_side_by_side(self, askers: int, over: Callable[[], bool]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(askers):
                    group.create_task(self._ask_on(over))
        except* StacmirrorError as errors:
            raise first_of(errors) from None

    async def _ask_on(self, over: Callable[[], bool]) -> None:
        while not over():
            try:
                work = await self._next()
                if work is None:
                    return
                if work.link is not None:
                    self._line_up(await self._catalog.item(work.link.key, work.link.href))
                else:
                    await self._fetch(work.href)
            except TransferError as error:
                self._heard(error)
            except SourceError:
                if self._router.requests < self._caps.requests_max:
                    if not self._gauge.refused:
                        raise
                    return
                self._ended = self._capped()

    def _heard(self, error: TransferError) -> None:
        """Count a failure; a cap is none, and a refusal is counted by the gauge."""
        if error.kind == CAP:
            self._ended = self._capped()
        elif error.status not in (429, 503):
            self._failed[error.kind] += 1
            self._first_failure = self._first_failure or str(error)

    def _capped(self) -> str:
        return f"the cap of {self._caps.requests_max:,} requests was reached"

    async def _fetch(self, href: str) -> None:
        reply = await self._router.open(href)
        try:
            if reply.status != 200:
                raise error_for_status(reply.status, reply.headers, "an asset's address", self._clock.wall())
            await self._count(reply)
        finally:
            if reply.stream is not None:
                reply.stream.close()

    async def _count(self, reply: Reply) -> None:
        if reply.body is not None:
            self._bytes += len(reply.body)
        elif reply.stream is not None:
            async for chunk in reply.stream.chunks():
                self._bytes += len(chunk)
                if self._bytes >= self._caps.bytes_max:
                    break
        self._files += 1
        if self._bytes >= self._caps.bytes_max:
            self._ended = "the cap of bytes was reached"

    # -- what to ask for -----------------------------------------------------------------------------------

    async def _next(self) -> _Work | None:
        """Return what to ask for next, reading pages as needed: from the start again when the listing ends."""
        while not self._work:
            async with self._reading:
                if not self._work and not self._ended:
                    await self._read_page()
            if self._ended:
                return None
        return self._work.popleft()

    async def _read_page(self) -> None:
        page = await self._catalog.page(self._cursor or START)
        self._cursor = page.next
        for item in page.items:
            self._line_up(item)
        if self._work:
            self._empty_walks = 0
        elif page.next is None:
            self._empty_walks += 1
            if self._empty_walks > 1:
                self._ended = "the listing has no assets to ask for"

    def _line_up(self, item: Item | None) -> None:
        if item is None:
            return
        self._work.extend(_Work(link.href, link) for link in item.sources)
        self._work.extend(_Work(asset.href) for asset in item.assets if asset.href and self._choice.takes(asset))


def _share(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, math.floor(share * len(ordered)))] if ordered else 0.0
