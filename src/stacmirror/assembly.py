"""Build the parts that more than one command needs: the way to open URLs, and the catalog.

Part of the composition root, beside `mirror`: it knows the adapters.
"""

from __future__ import annotations

import os
import random
import ssl
import sys
from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import urlsplit

from stacmirror import __version__
from stacmirror.catalogs import DIALECTS, MlhubCatalog, parse_source
from stacmirror.catalogs.parse import Caps, label_classes
from stacmirror.clock import LoopLoad, SystemClock
from stacmirror.errors import UsageError
from stacmirror.health import Change
from stacmirror.interfaces import Clock, SeveralTransport, Transport
from stacmirror.layout import PRESETS, make_layout
from stacmirror.limits import HostLimits
from stacmirror.model import START, CollectionInfo
from stacmirror.pace import Allowance
from stacmirror.pipeline.adopt import Adopter
from stacmirror.pipeline.progress import Progress
from stacmirror.pipeline.task import Adopt
from stacmirror.pipeline.transfer import Fetcher
from stacmirror.redact import redact_url
from stacmirror.retry import RetryPolicy
from stacmirror.settings import Settings
from stacmirror.sinks.directory import DirectorySink
from stacmirror.sinks.shelf import FolderShelf
from stacmirror.transports.guard import Guard
from stacmirror.transports.in_turn import InTurn
from stacmirror.transports.pipelining import Pipelining
from stacmirror.transports.router import Router
from stacmirror.transports.s3 import S3Transport
from stacmirror.transports.wire import WireTransport
from stacmirror.units import format_duration


class _Client(Transport, Protocol):
    """An HTTP client: a transport that can let go of the connections that nobody uses."""

    def close_idle(self) -> None: ...


USER_AGENT = f"stacmirror/{__version__}"


def retry_policy(settings: Settings) -> RetryPolicy:
    """Return the policy that the settings ask for."""
    limit = settings.limit
    return RetryPolicy(limit.retries, limit.backoff_s, limit.backoff_max_s, limit.retry_after_max_s, limit.max_outage_s)


def make_router(
    settings: Settings,
    clock: SystemClock,
    make_allowance: Callable[[], Allowance] | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> Router:
    """Return the way to open any href, with every host's budget; `make_allowance` takes the place of the pace.

    `note` hears of hosts that go down and come back.
    """
    limit, s3 = settings.limit, settings.s3
    guard = Guard(urlsplit(settings.catalog.api_url).hostname or "", settings.catalog.allow_host)
    http = _make_http(settings, guard)
    several = http if isinstance(http, WireTransport) else None
    objects = S3Transport(
        http,
        several=several,
        endpoint=s3.s3_endpoint,
        unsigned=s3.s3_unsigned,
        region=s3.s3_region,
        request_payer=s3.request_payer,
        monotonic=clock.monotonic,
        wall=clock.wall,
        vouch=guard.vouch,
    )
    transports: dict[str, Transport] = {"https": http, "http": http, "s3": objects}
    can_several: dict[str, SeveralTransport] = (
        {} if several is None else {"https": several, "http": several, "s3": objects}
    )
    return Router(
        transports,
        HostLimits(
            limit.per_host,
            limit.rate_per_s,
            clock.monotonic,
            clock.sleep,
            busy=None if limit.fixed_pace else LoopLoad(),
            make_allowance=make_allowance,
            outage_max_s=limit.max_outage_s,
            retry_after_max_s=limit.retry_after_max_s,
            on_change=lambda origin, change: note(_outage_words(origin, change)),
            on_shortage=_shortage_hearer(http, note),
        ),
        redirects_max=settings.catalog.redirects_max,
        small_max_bytes=_small_max_bytes(settings),
        wall=clock.wall,
        several=can_several,
        allow_http=settings.catalog.allow_http,
    )


def _shortage_hearer(client: _Client, note: Callable[[str], None]) -> Callable[[], None]:
    """Return what is called when no more files may be open: it says so once, and closes what is open and idle."""
    said = False

    def hear() -> None:
        nonlocal said
        if not said:
            said = True
            note("too many open files and connections (ulimit -n): holding fewer, and waiting for those that end")
        client.close_idle()

    return hear


def _outage_words(origin: str, change: Change) -> str:
    host = redact_url(origin)
    if change.down:
        return f"{host} is down ({change.reason}): waiting for it, {format_duration(change.at_most_s)} at most"
    return f"{host} answers again, after {format_duration(change.seconds)}"


def held_max_bytes(settings: Settings) -> int:
    """Return how much of small bodies one worker may hold."""
    return max(1, settings.write.memory_max_bytes // settings.limit.workers)


def _small_max_bytes(settings: Settings) -> int:
    write, held_bytes = settings.write, held_max_bytes(settings)
    return min(write.small_file_max_bytes, held_bytes, write.max_file_size_bytes or held_bytes)


def make_several(settings: Settings, router: Router, note: Callable[[str], None]) -> InTurn | None:
    """Return the way to ask for an item's assets on one connection, where it can be had; `--pipeline`: in one write."""
    limit, small_max_bytes, redirects_max = settings.limit, _small_max_bytes(settings), settings.catalog.redirects_max
    if not router.several or limit.rate_per_s is not None:
        if limit.pipeline:
            reason = (
                "`--rate` spaces every request" if router.several else "it takes `--http-client wire`, and no proxy"
            )
            note(f"--pipeline is not used: {reason}")
        return None
    if limit.pipeline:
        return Pipelining(router, small_max_bytes, redirects_max, note)
    return InTurn(router, small_max_bytes, redirects_max)


def _make_http(settings: Settings, guard: Guard) -> _Client:
    limit, proxies, tls = settings.limit, _proxies(), _tls_maker(settings.catalog.ca_file)
    if limit.http_client == "wire" and not {"http", "https", "all"} & proxies.keys():
        return WireTransport(
            user_agent=USER_AGENT,
            connect_timeout_s=limit.connect_timeout_s,
            stall_timeout_s=limit.stall_timeout_s,
            kept_max=limit.per_host,
            tls=tls,
            slowest_bytes_per_s=limit.lowest_speed_bytes,
            head_max_bytes=limit.header_max_bytes,
            guard=guard,
        )
    for proxy in proxies.values():
        guard.vouch(proxy)
    from stacmirror.transports.http import AiohttpTransport  # here: aiohttp takes 150 ms to load

    return AiohttpTransport(
        user_agent=USER_AGENT,
        connect_timeout_s=limit.connect_timeout_s,
        stall_timeout_s=limit.stall_timeout_s,
        proxies=proxies,
        tls=tls,
        slowest_bytes_per_s=limit.lowest_speed_bytes,
        head_max_bytes=limit.header_max_bytes,
        guard=guard,
    )


def _tls_maker(ca_file: str) -> Callable[[], ssl.SSLContext]:
    """Return what makes a TLS context that trusts `ca_file` besides the system's CAs. Raises: UsageError."""
    if not ca_file:
        return ssl.create_default_context  # not made before it is needed: it reads 150 certificates
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:  # an SSLError is an OSError, whose words are no help
        reason = "no certificates in PEM in it" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageError(f"--ca-file {ca_file}: {reason}", hint="name a PEM file with the CA's certificate") from error
    return lambda: context


def _proxies() -> Mapping[str, str]:
    """Return the proxies that the environment (on macOS: the system) names, by scheme."""
    if sys.platform != "darwin" and not any(name.lower().endswith("_proxy") for name in os.environ):
        return {}
    from urllib.request import getproxies  # here: it takes 50 ms to load

    return getproxies()


def make_catalog(settings: Settings, api_key: str, router: Router, clock: Clock, progress: Progress) -> MlhubCatalog:
    """Return the catalog that `settings.source` names. Raises: UsageError for a source of no known form."""
    dialect, collection = parse_source(settings.source, needs_collection=False)

    def on_retry(error: Exception, wait_s: float) -> None:
        progress.retries += 1

    return DIALECTS[dialect](
        collection,
        settings.catalog.api_url,
        api_key,
        settings.walk.page_size,
        router,
        retry_policy(settings),
        clock,
        random.random,
        on_retry,
        settings.walk.page_max_bytes,
        allow_http=settings.catalog.allow_http,
        key_as=settings.catalog.key_as,
        redirects_max=settings.catalog.redirects_max,
        caps=Caps(settings.walk.json_depth_max, settings.walk.assets_max),
    )


async def list_collections(settings: Settings, api_key: str) -> list[CollectionInfo]:
    """Return what every collection of the source says of itself. Raises: SourceError, LoginRefused."""
    clock = SystemClock()
    router = make_router(settings, clock)
    try:
        return await make_catalog(settings, api_key, router, clock, Progress()).collections()
    finally:
        await router.close()


async def list_classes(settings: Settings, api_key: str) -> dict[str, list[str]]:
    """Return the label classes of the source's first item, by property. Raises: SourceError, LoginRefused."""
    clock = SystemClock()
    router = make_router(settings, clock)
    try:
        page = await make_catalog(settings, api_key, router, clock, Progress()).page(START)
        found: dict[str, list[str]] = {}
        for item in page.items[:1]:
            found.update(label_classes(item))
        return found
    finally:
        await router.close()


def make_adopter(
    settings: Settings, task: Adopt, sink: DirectorySink, fetcher: Fetcher, note: Callable[[str], None]
) -> Adopter:
    """Return who takes the files that `task` names. Raises: UsageError for a layout that cannot be."""
    layout = make_layout(task.layout, task.template)
    root = os.path.abspath(task.folder)
    top = PRESETS[layout.name].partition("/")[0] if layout.name in PRESETS else ""
    if os.path.basename(root) == top and not os.path.isdir(os.path.join(root, top)):
        root = os.path.dirname(root)  # the folder that the layout begins with was named itself
    if os.path.realpath(root) == os.path.realpath(settings.target):
        task = task._replace(link=True)  # in place: a second copy of all would be of no use
    small_max_bytes = min(settings.write.small_file_max_bytes, held_max_bytes(settings))
    return Adopter(task, layout, FolderShelf(root), sink, fetcher, note, small_max_bytes)
