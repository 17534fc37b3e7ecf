"""Build the parts that more than one command needs: the way to open URLs, and the catalog.

Part of the composition root, beside `mirror`: it knows the adapters.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from stacmirror.catalogs import DIALECTS, AnyCatalog, FoundCatalog, source_of
from stacmirror.catalogs.parse import Caps
from stacmirror.clients import Client, make_aiohttp, make_guard, make_http
from stacmirror.clock import LoopLoad, SystemClock
from stacmirror.errors import UsageError
from stacmirror.gate import Gate
from stacmirror.health import Change
from stacmirror.interfaces import Clock, SeveralTransport, Transport
from stacmirror.limits import HostLimits
from stacmirror.pace import Allowance
from stacmirror.pipeline.progress import Progress
from stacmirror.redact import Redactor, redact_url
from stacmirror.retry import RetryPolicy
from stacmirror.search import make_search
from stacmirror.settings import Settings
from stacmirror.transports.bandwidth import Bandwidth, LimitedTransport
from stacmirror.transports.in_turn import InTurn
from stacmirror.transports.pipelining import Pipelining
from stacmirror.transports.posting import LazyPosts, PostTransport
from stacmirror.transports.router import Router
from stacmirror.transports.s3 import S3Transport
from stacmirror.transports.wire import WireTransport
from stacmirror.units import format_duration

if TYPE_CHECKING:
    from stacmirror.transports.authorized import Logins


def retry_policy(settings: Settings) -> RetryPolicy:
    """Return the policy that the settings ask for."""
    limit = settings.limit
    return RetryPolicy(limit.retries, limit.backoff_s, limit.backoff_max_s, limit.retry_after_max_s, limit.max_outage_s)


def make_router(
    settings: Settings,
    clock: SystemClock,
    make_allowance: Callable[[], Allowance] | None = None,
    note: Callable[[str], None] = lambda line: None,
    secrets: Mapping[str, str] | None = None,
    redactor: Redactor | None = None,
) -> Router:
    """Return the way to open any href, with every host's budget; `make_allowance` takes the place of the pace.

    `note` hears of hosts that go down and come back. `secrets` are the variables that logins may read; `redactor`
    learns of every secret that they send.
    """
    limit, s3 = settings.limit, settings.s3
    guard, gate = make_guard(settings), Gate()
    http = make_http(settings, guard, gate)
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
        gate=gate,
    )
    posts = LazyPosts(lambda: make_aiohttp(settings, guard, gate))
    sends_posts: PostTransport = posts
    dressed = None
    if settings.catalog.auth or settings.catalog.header:
        from stacmirror.transports.authorized import AuthorizedPosts, AuthorizedTransport  # here: few runs log in by it

        logins = _make_logins(settings, clock, secrets or {}, http, posts, redactor or Redactor(()), gate)
        dressed, sends_posts = AuthorizedTransport(http, several, logins), AuthorizedPosts(posts, logins)
    web = dressed or http
    transports: dict[str, Transport] = {"https": web, "http": web, "s3": objects}
    if limit.bwlimit_bytes is not None:
        transports = _limited(transports, Bandwidth(limit.bwlimit_bytes, clock.monotonic, clock.sleep))
    if source_of(settings, needs_collection=False).dialect in ("path", "stdin"):
        from stacmirror.transports.file import FileTransport

        transports["file"] = FileTransport()  # a catalog from the net must not have files of this machine copied
    can_several: dict[str, SeveralTransport] = (
        {} if several is None else {"https": dressed or several, "http": dressed or several, "s3": objects}
    )
    router = Router(
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
            on_pause=lambda host, seconds: note(f"{host} asks for a pause: left alone for {format_duration(seconds)}"),
            name=redact_url,
        ),
        redirects_max=settings.catalog.redirects_max,
        small_max_bytes=_small_max_bytes(settings),
        wall=clock.wall,
        several=can_several,
        allow_http=settings.catalog.allow_http,
        gate=gate,
    )
    router.posts = sends_posts
    return router


def _limited(transports: Mapping[str, Transport], line: Bandwidth) -> dict[str, Transport]:
    """Return transports that share the line; one that stands under two schemes stays one, and is closed once."""
    made = {transport: LimitedTransport(transport, line) for transport in set(transports.values())}
    return {scheme: made[transport] for scheme, transport in transports.items()}


def check_logins(settings: Settings) -> None:
    """Refuse logins that cannot be. Raises: UsageError, which shows no secret."""
    if settings.catalog.auth or settings.catalog.header:
        from stacmirror.transports.logins import check_rules  # here: few runs log in by it

        check_rules(settings.catalog.auth, settings.catalog.header)


def _make_logins(
    settings: Settings,
    clock: SystemClock,
    secrets: Mapping[str, str],
    http: Transport,
    posts: LazyPosts,
    redactor: Redactor,
    gate: Gate,
) -> Logins:
    from stacmirror.transports.authorized import Logins
    from stacmirror.transports.logins import make_rules

    catalog = settings.catalog
    learns = redactor.learn
    rules = make_rules(catalog.auth, catalog.header, lambda name: secrets.get(name, ""), http, posts, clock, learns)
    return Logins(rules, allow_http=catalog.allow_http, home=home_of(settings), learns=learns, gate=gate)


def home_of(settings: Settings) -> str:
    """Return the address at which the source is, "" for files of this machine."""
    dialect, place = source_of(settings, needs_collection=False)
    if dialect in ("path", "stdin"):
        return ""
    return place if dialect == "web" else settings.catalog.api_url


def _shortage_hearer(client: Client, note: Callable[[str], None]) -> Callable[[], None]:
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
    reason = ""
    if not router.several:
        reason = "it takes `--http-client wire`, and no proxy"
    elif limit.rate_per_s is not None or limit.bwlimit_bytes is not None:
        reason = f"`{'--bwlimit' if limit.rate_per_s is None else '--rate'}` spaces every request"
    if reason:
        if limit.pipeline:
            note(f"--pipeline is not used: {reason}")
        return None
    if limit.pipeline:
        return Pipelining(router, small_max_bytes, redirects_max, note)
    return InTurn(router, small_max_bytes, redirects_max)


def make_catalog(settings: Settings, api_key: str, router: Router, clock: Clock, progress: Progress) -> AnyCatalog:
    """Return the catalog that `settings.source` names. Raises: UsageError for a source of no known form."""
    dialect, collection = source_of(settings, needs_collection=False)

    def on_retry(error: Exception, wait_s: float) -> None:
        progress.retries += 1

    if dialect not in DIALECTS:
        return _find_catalog(settings, router, clock, on_retry)
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
        gate=router.gate,
    )


def _find_catalog(
    settings: Settings, router: Router, clock: Clock, on_retry: Callable[[Exception, float], None]
) -> FoundCatalog:
    from stacmirror.catalogs.asking import Means  # here: a mirror of MLHub needs none of it
    from stacmirror.catalogs.looking import Looking, Wanted

    dialect, place = source_of(settings, needs_collection=False)
    walk, catalog, search = settings.walk, settings.catalog, make_search(settings.filter)
    if dialect == "api" and place:
        search = replace(search, collections=(place, *(name for name in search.collections if name != place)))
    means = Means(
        router,
        retry_policy(settings),
        clock,
        random.random,
        on_retry,
        walk.page_max_bytes,
        catalog.allow_http,
        _statuses(catalog.retry_statuses),
        Caps(walk.json_depth_max, walk.assets_max),
        catalog.redirects_max,
        home_of(settings),
    )
    wanted = Wanted(search, walk.page_size, walk.page_size_floor, catalog.alternate, catalog.reroot)
    looking = Looking(means, router, wanted)
    if dialect == "api":
        return FoundCatalog(lambda: looking.api(catalog.api_url), place)
    if dialect == "web":
        return FoundCatalog(lambda: looking.web(place))
    if dialect == "path":
        return FoundCatalog(lambda: looking.path(place))
    return FoundCatalog(looking.stdin)


def _statuses(texts: Sequence[str]) -> frozenset[int]:
    for text in texts:
        if not (text.isdigit() and 400 <= int(text) < 600):
            raise UsageError(f"--retry-statuses {text!r} is no status", hint="such as 403")
    return frozenset(map(int, texts))
