"""The simulator itself: four listening ports on one world.

Used by tests, benchmarks and `demo` (`async with Simulator(settings)`), and by the command line's `simulate`
(`main`).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs

from aiohttp import web

from .answers import Answer, Ask, Host
from .api import PREFIX, Api
from .bent import bent_answer, bent_ask, weakened
from .blobs import Blobs
from .delivery import Delivery
from .faults import FAULTS, Faults, refuse_unknown
from .files import Files
from .log import Counts, RequestLog, RequestRecord, credential_of, mask_keys
from .s3 import S3
from .settings import SimulatorSettings
from .world import BANDS, LABELS, World

LINE_BYTES_MAX = 8_190  # of a request line, as common servers have it: the trap growing-key ends here
SHUTDOWN_S = 0.2
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Simulator:
    """The retired API, its blob host, its S3 and a log, on four ports.

    Knobs while it runs: `set_fault`, the request header `X-Simulate: <fault>`, and `on_request`, which is
    shown each request before it is answered and may return a fault's name. `clock` gives the seconds since
    1970 that links live by.
    """

    def __init__(self, settings: SimulatorSettings, *, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.clock = clock
        self.key = settings.key or hashlib.blake2b(f"{settings.seed}/key".encode(), digest_size=32).hexdigest()
        self.on_request: Callable[[RequestRecord], str | None] | None = None
        self.requests = RequestLog(settings.log_records_max)
        self.api_url = self.blobs_url = self.s3_url = self.log_url = ""
        self._counts = Counts()
        self._faults = Faults(settings.seed, settings.faults)
        self._is_weak = "weak-validators" in settings.traps
        self._ignores_conditions = "if-range-ignored" in settings.traps
        self._keeps_records = settings.log_requests is not False
        self._world = World(
            settings.seed,
            settings.items,
            labels_a_source=settings.labels_a_source(),
            sources_a_label=settings.sources_a_label(),
            moved="moved-objects" in settings.traps,
        )
        self._files = Files(self._world, settings.large_assets())
        self._listeners: list[tuple[asyncio.Server, web.Server]] = []

    @property
    def faults(self) -> Mapping[str, float]:
        """The fault rates in force."""
        return self._faults.rates

    @property
    def counts(self) -> dict[str, object]:
        """Counters of all requests: total, statuses and kinds by server, faults."""
        return self._counts.plain()

    def set_fault(self, name: str, rate: float) -> None:
        """Let this share of the requests meet the fault from now on; 0 ends it. Raises ValueError."""
        self._faults.set(name, rate)

    def patch_name(self, index: int) -> str:
        """Return the patch name of item `index` (order of insertion)."""
        return self._world.patch(index).name

    def item_id(self, index: int, collection: str = "bigearthnet_v1_labels") -> str:
        """Return the id of item `index` in a collection."""
        return f"{collection}_{self.patch_name(index)}"

    def sources_of(self, index: int) -> tuple[int, ...]:
        """Return the numbers of the source items that label item `index` links to."""
        return self._world.sources_of(index)

    def expected_files(self, index: int) -> dict[str, bytes]:
        """Return the true bytes of label and source item `index`, by asset key: `labels` and 12 bands."""
        found = {}
        for asset in (LABELS, *BANDS):
            large = self._files.large(index, asset)
            found[asset] = self._files.get(index, asset).body if large is None else large.body()
        return found

    def change(self, index: int, asset: str) -> None:
        """Put another version in the place of a large object."""
        self._files.change(index, asset)

    async def __aenter__(self) -> Self:
        """Listen. Raises OSError if a port is taken."""
        # Ports come first: the hosts write their addresses into documents.
        sockets: list[socket.socket] = []
        try:
            # Extended one by one: those that were bound before one failed are closed below.
            first = self.settings.port
            sockets.extend(self._bind(first + offset if first else 0) for offset in range(4))
            await self._serve(sockets)
        except BaseException:
            for bound in sockets:
                bound.close()
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    def _bind(self, port: int) -> socket.socket:
        host = self.settings.host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)

    async def _serve(self, sockets: list[socket.socket]) -> None:
        self.api_url, self.blobs_url, self.s3_url, self.log_url = map(_url, sockets)
        self.api_url += PREFIX
        missing = 403 if "missing-403" in self.settings.traps else 404
        blobs = Blobs(self._world, self._files, missing_status=missing)
        api = Api(
            self.settings,
            self._world,
            self.key,
            blobs,
            api_url=self.api_url,
            blobs_url=self.blobs_url,
            clock=self._now,
        )
        s3 = S3(self.settings, self._world, self._files, missing_status=missing)
        hosts: tuple[Host, ...] = (api, blobs, s3)
        handlers = [*map(self._handler, hosts), self._log_handler]
        for bound, handler in zip(sockets, handlers, strict=True):
            server = web.Server(handler, access_log=None, max_line_size=LINE_BYTES_MAX, max_field_size=65_536)
            listener = await asyncio.get_running_loop().create_server(server, sock=bound, backlog=1024)
            self._listeners.append((listener, server))

    def _now(self) -> float:
        # Asked anew each time, so that a test may put another clock in place while we run.
        return self.clock()

    async def _close(self) -> None:
        listeners, self._listeners = self._listeners, []
        for listener, _ in listeners:
            listener.close()
        for _, server in listeners:
            await server.shutdown(SHUTDOWN_S)

    def _handler(self, host: Host) -> Handler:
        latency_s, at_once_max = self.settings.latency_s, self.settings.at_once
        at_once = 0

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            nonlocal at_once
            answer = respond(request)
            at_once += 1
            try:
                if latency_s:
                    await asyncio.sleep(latency_s)
            finally:
                at_once -= 1
            return answer

        def respond(request: web.BaseRequest) -> Delivery:
            path, _, query = request.raw_path.partition("?")
            headers, method = request.headers, request.method
            kind = host.kind(path)
            record = None
            if self._keeps_records or self.on_request is not None:
                credential = credential_of(query, headers, self.key)
                wanted = headers.get("Range", "")
                record = RequestRecord(
                    self.clock(), host.name, method, path, mask_keys(query), 0, credential, range=wanted
                )
                if self._keeps_records:
                    self.requests.add(record)
            fault = self._fault(host, kind, headers, record)
            if at_once_max is not None and at_once >= at_once_max:
                fault = fault or "429"
            if fault.isdigit():
                answer = host.failure(int(fault))
                if fault == "429":
                    answer = Answer(429, answer.headers + b"Retry-After: 1\r\n", answer.body)
            else:
                ask = Ask(method, path, query, headers)
                if fault == "changed" and (found := self._world.find_key(path.removeprefix("/radiant-mlhub")[1:])):
                    self._files.change(*found)
                if host.name != "api" and (fault or self._ignores_conditions):
                    ask = bent_ask(ask, fault, ignores_conditions=self._ignores_conditions)
                answer = host.answer(ask, kind)
                if fault and host.name != "api":
                    answer = bent_answer(answer, fault)
                if self._is_weak and host.name != "api":
                    answer = weakened(answer)
            if record is not None:
                record.status, record.fault = answer.status, fault
            self._counts.statuses[host.name, answer.status] += 1
            self._counts.kinds[host.name, kind or "other"] += 1
            if fault:
                self._counts.faults[fault] += 1
            head_only = method == "HEAD"
            return Delivery(answer, head_only=head_only, fault=fault, stall_s=self.settings.stall_s)

        return handle

    def _fault(self, host: Host, kind: str, headers: Mapping[str, str], record: RequestRecord | None) -> str:
        """Return this request's fault: what the test says, else the client's header, else chance."""
        if self.on_request is not None and record is not None:
            wanted = self.on_request(record)
            if wanted:
                if wanted not in FAULTS:
                    raise refuse_unknown("fault", wanted, FAULTS)
                return wanted
        asked = headers.get("X-Simulate", "")
        if asked in FAULTS:
            return asked
        return (self._faults.draw(host.name, kind) or "") if kind else ""

    async def _log_handler(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        since = parse_qs(query).get("since", ["0"])[0]
        head_only = request.method == "HEAD"
        if path == "/__counts":
            answer = Answer(200, b"Content-Type: application/json\r\n", json.dumps(self.counts).encode())
        elif path != "/__log" or not since.isascii() or not since.isdigit():
            answer = Answer(404, b"Content-Type: text/plain\r\n", b"/__log?since=N or /__counts\n")
        elif not self._keeps_records:
            answer = Answer(404, b"Content-Type: text/plain\r\n", b"this simulator keeps no records (log_requests)\n")
        else:
            first = b"X-Log-First: %d\r\n" % self.requests.first
            answer = Answer(200, b"Content-Type: application/x-ndjson\r\n" + first, self.requests.since(int(since)))
        return Delivery(answer, head_only=head_only)


def _url(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def main(settings: SimulatorSettings, *, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
    """Run until SIGINT or SIGTERM; print one line of JSON with the addresses when it listens.

    The line has the key only if it was made here, and `log` only if records are kept: only where the settings say so
    in so many words.
    Raises:  OSError if a port is taken.
    """
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_serve(replace(settings, log_requests=bool(settings.log_requests))))


async def _serve(settings: SimulatorSettings) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with Simulator(settings) as simulator:
        line = {
            "api": simulator.api_url,
            "blobs": simulator.blobs_url,
            "s3": simulator.s3_url,
            "counts": f"{simulator.log_url}/__counts",
        }
        if settings.log_requests:
            line["log"] = f"{simulator.log_url}/__log"
        if settings.key is None:
            line["key"] = simulator.key
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        await stop.wait()
