"""All settings, resolved: one frozen value in sections, each object gets only its section.

The table with defaults, units and reasons is config.example.toml; a test holds the two together. How they are
typed is `typed`'s business, and so is holding values to the ranges that stand here beside the defaults.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct, field

MIB = 1 << 20


class Range(Struct, frozen=True):
    """The least and the most that a setting may be, as people type it: both are accepted.

    The upper ends are far above what pays, and below what takes a machine's memory, sockets or patience.
    """

    least: int | str
    most: int | str

    def __str__(self) -> str:
        return f"{self.least} to {self.most}"


class SourceSettings(Struct, frozen=True):
    """Where items come from and who asks."""

    api_url: str = ""
    """Root of the STAC API, such as `https://host/mlhub/v1`."""
    profile: str = ""
    """Name of the `[source.NAME]` table that SOURCE names, so that a mirror knows it again."""
    key_file: str = ""
    """File whose first line is the API key. The key itself is no setting: it is never written anywhere."""
    key_command: str = ""
    """Command, asked without a shell, whose first line on stdout is the API key."""
    keyring: str = ""
    """Service of the system's keyring that holds the API key, under the host's name."""
    key_as: str = "query"
    """How the API is given the key: `query` (as MLHub was), `bearer` or `x-api-key`."""
    link_life_s: Annotated[float, Range("1s", "365d")] = 6 * 3600.0
    """How long an asset link lives after it was issued."""
    redirects_max: Annotated[int, Range(1, 50)] = 10
    """Hops from a link to its bytes."""
    ca_file: str = ""
    """File with certificates (PEM) to trust besides the system's."""
    allow_http: bool = False
    """Follow a redirect from https to http, where anyone on the way can read and change what comes."""
    allow_host: tuple[str, ...] = ()
    """Hosts, addresses and networks that links may lead to, though they are private and the source is not there."""
    any_content: bool = False
    """Take an asset whatever it begins with, also where its media type says otherwise."""
    file_info: bool = True
    """Hold assets against the sizes and checksums that the catalog gives of them."""
    auth: tuple[str, ...] = ()
    """How hosts are logged in to, `HOST=SCHEME`; the secrets themselves are never in it."""
    header: tuple[str, ...] = ()
    """Headers for hosts, `HOST:NAME=VALUE`; secret, so never kept in a mirror."""
    alternate: tuple[str, ...] = ()
    """Names of alternate hrefs to take in place of an asset's own, the first that it has."""
    reroot: bool = False
    """Ask the root's own host for a next page that the server says is elsewhere."""
    retry_statuses: tuple[str, ...] = ()
    """Statuses of pages, besides 429 and 5xx, that mean: ask again."""


class WalkSettings(Struct, frozen=True):
    """How the catalog's pages are read."""

    page_size: Annotated[int, Range(1, 10_000)] = 100
    """Items asked for per page."""
    page_size_floor: Annotated[int, Range(1, 10_000)] = 1
    """Items a page at least, where pages prove too much for the server and are halved."""
    page_prefetch: Annotated[int, Range(0, 100)] = 2
    """Pages read ahead of the queue."""
    page_max_bytes: Annotated[int, Range(1, "4GiB")] = 64 * MIB
    """Largest page accepted, decoded."""
    json_depth_max: Annotated[int, Range(10, 500)] = 100
    """Deepest nesting of a page's or an item's JSON."""
    assets_max: Annotated[int, Range(1, 1_000_000)] = 10_000
    """Assets an item may have."""


class FilterSettings(Struct, frozen=True):
    """Which items and assets are wanted. Part of what a mirror is: only `change_filter` changes it."""

    label_class: tuple[str, ...] = ()
    """Keep items whose `properties.labels` has any of these."""
    cloud_and_shadow: bool | None = None
    """Keep only items with (True) or without (False) cloud and shadow; a missing property is False."""
    seasonal_snow: bool | None = None
    """Keep only items with (True) or without (False) seasonal snow; a missing property is False."""
    item: tuple[str, ...] = ()
    """Keep only items with these ids."""
    shard: str = ""
    """`K/N`: keep only the items whose ids fall to part K of N."""
    collection: tuple[str, ...] = ()
    """Keep only items of these collections."""
    bbox: str = ""
    """Keep items that meet this box: west, south, east, north in degrees."""
    datetime: str = ""
    """Keep items of this time: an instant, a date, or an interval with `/`."""
    intersects: str = ""
    """Keep items that meet this geometry: GeoJSON, or a file with it."""
    query: tuple[str, ...] = ()
    """Keep items whose properties are so: `name<value`, or the query extension's JSON."""
    filter: str = ""
    """Keep items that match this CQL2, as text or JSON."""
    sortby: tuple[str, ...] = ()
    """The order of the listing, where the server can sort: `-datetime`."""
    asset: tuple[str, ...] = ()
    """Globs over asset keys, or `role:GLOB`, `type:GLOB`: fetch only these."""
    exclude_asset: tuple[str, ...] = ()
    """The same: do not fetch these."""
    sources: bool = True
    """Fetch the items that labels name as their sources."""
    only_sources: bool = False
    """Fetch no assets of labels themselves."""


class LimitSettings(Struct, frozen=True):
    """How hard the source is asked."""

    workers: Annotated[int, Range(1, 4096)] = 256
    """Items in flight, at most."""
    queue_size: Annotated[int, Range(1, 50_000)] = 512
    """Items read from pages and waiting for a worker."""
    per_host: Annotated[int, Range(1, 4096)] = 256
    """Requests in flight to one host, at most."""
    fixed_pace: bool = False
    """Ask for `per_host` at once always, where else it is found out how many are of use."""
    rate_per_s: Annotated[float | None, Range("1/d", "100000/s")] = None
    """Requests a second to one host, at most."""
    bwlimit_bytes: Annotated[int | None, Range("64KiB", "1TiB")] = None
    """Bytes a second of all hosts together, at most."""
    retries: Annotated[int, Range(0, 100)] = 5
    """Further attempts for one asset or page after the first."""
    backoff_s: Annotated[float, Range(0, "1h")] = 0.5
    """Upper bound of the first wait; it doubles with each attempt, with full jitter."""
    backoff_max_s: Annotated[float, Range("1ms", "1d")] = 60.0
    """Upper bound of any wait that the server did not ask for."""
    retry_after_max_s: Annotated[float, Range("1ms", "7d")] = 600.0
    """Upper bound of a wait that the server asked for."""
    max_outage_s: Annotated[float, Range("1s", "365d")] = 1800.0
    """How long a host that has answered before may be down, before the run ends."""
    max_failures: str = ""
    """Assets that may fail in a run, as a number (`1000`) or as a share (`5%`)."""
    max_transfer_bytes: Annotated[int | None, Range(1, "1000TiB")] = None
    """Bytes of files that a run may bring."""
    max_duration_s: Annotated[float | None, Range("1s", "365d")] = None
    """How long a run may take."""
    sweeps: Annotated[int, Range(0, 100)] = 2
    """Passes at the end over what has not arrived."""
    connect_timeout_s: Annotated[float, Range("1ms", "1h")] = 10.0
    """For a connection to stand."""
    stall_timeout_s: Annotated[float, Range("1ms", "1d")] = 30.0
    """Without a byte, an answer is given up."""
    lowest_speed_bytes: Annotated[int, Range(0, "1GiB")] = 1024
    """Bytes a second, over half a minute: a slower answer is given up. 0: none is."""
    large_at_once: Annotated[int, Range(1, 64)] = 4
    """Large files of one item fetched at once."""
    learn_redirects: bool = False
    """Once it is known where an asset's links lead, ask there, without the request for the redirect."""
    pipeline: bool = False
    """Send the requests for an item's small assets in one write (HTTP pipelining), where hosts take that."""
    header_max_bytes: Annotated[int, Range("1KiB", "1MiB")] = 64 << 10
    """Largest head of an answer: its status line and headers."""
    http_client: str = "wire"
    """`wire` (our own, less CPU) or `aiohttp`; where the environment names a proxy it is always aiohttp."""
    max_items: Annotated[int | None, Range(1, 1_000_000_000)] = None
    """Stop after this many matching items of the mirror, over all its runs."""


class MissingSettings(Struct, frozen=True):
    """Assets that every item lists and the origin does not have."""

    missing_ok: tuple[str, ...] = ()
    """Globs over asset keys that may be missing."""
    missing_after: Annotated[int, Range(1, 1_000_000)] = 20
    """Items in a row without it, before a key counts as missing everywhere."""
    missing_sample: Annotated[int, Range(1, 1_000_000)] = 100
    """From then on, every n-th item is asked all the same."""


class PlaceSettings(Struct, frozen=True):
    """Where files rest. Part of what a mirror is: it cannot change between runs."""

    layout: str = "item"
    """`item`, `notebook`, `bigearthnet`, `fanout`, or `template`."""
    path_template: str = ""
    """Fields: {collection} {item_id} {asset_key} {ext} {hash2}."""


class WriteSettings(Struct, frozen=True):
    """How bytes reach the disk."""

    state_dir: str = ""
    """Folder for the ledger and the lock, where DEST's file system is no place for them; DEST remembers it."""
    incomplete: str = "show"
    """Items that lack assets at the end: `show` reveals what there is, `hide` keeps it staged."""
    small_file_max_bytes: Annotated[int, Range(1, "1GiB")] = MIB
    """Bodies up to this size are held in memory until their item is written."""
    memory_max_bytes: Annotated[int, Range(1, "1TiB")] = 128 * MIB
    """Held bodies of all workers together."""
    max_file_size_bytes: Annotated[int, Range(0, "100TiB")] = 100 << 30
    """Larger files are refused. 0: none is."""
    sync_every_s: Annotated[float, Range(0, "1h")] = 1.0
    """Longest time between two commits."""
    sync_every_bytes: Annotated[int, Range(1, "1TiB")] = 256 * MIB
    """Most bytes between two commits."""
    preflight: bool = True
    """Refuse a mirror that cannot fit into the target, once the first items tell."""
    keep_free_bytes: Annotated[int, Range(0, "1000TiB")] = 256 * MIB
    """With less than this free on the target's file system, a run stops."""
    keep_free_inodes: Annotated[int, Range(0, 1_000_000_000)] = 5_000
    """The same for files and folders that the file system has room for."""


class S3Settings(Struct, frozen=True):
    """How `s3://` is opened. Credentials come from where the AWS tools look for them."""

    s3_endpoint: str = ""
    """URL of an S3 service other than AWS; addressed path-style."""
    s3_unsigned: bool = False
    """Send no credentials."""
    s3_region: str = ""
    """Region, where neither profile nor environment names one."""
    request_payer: bool = False
    """Accept that requester-pays buckets cost you money."""


class RunSettings(Struct, frozen=True):
    """How a run goes on, and how it ends."""

    grace_s: Annotated[float, Range(0, "1d")] = 5.0
    """After Ctrl-C, how long items in hand may take to finish."""
    refresh: bool = False
    """Walk from the start again: find new items wherever they stand, and fetch changed ones again."""
    change_filter: bool = False
    """Let this run have other filters than the mirror had."""


class LookSettings(Struct, frozen=True):
    """What a person sees; used by the command line only."""

    progress: str = "auto"
    """`auto`, `bar`, `plain` or `none`."""
    log_file: str = ""
    """Where every note goes, with time."""
    failures: str = ""
    """Where every asset that is missing at the end of a run is told, a line of JSON each."""


class Settings(Struct, frozen=True):
    """Everything one run needs to know. `source` and `target` are as typed."""

    source: str
    target: str
    catalog: SourceSettings = field(default_factory=SourceSettings)
    walk: WalkSettings = field(default_factory=WalkSettings)
    filter: FilterSettings = field(default_factory=FilterSettings)
    limit: LimitSettings = field(default_factory=LimitSettings)
    missing: MissingSettings = field(default_factory=MissingSettings)
    place: PlaceSettings = field(default_factory=PlaceSettings)
    write: WriteSettings = field(default_factory=WriteSettings)
    s3: S3Settings = field(default_factory=S3Settings)
    run: RunSettings = field(default_factory=RunSettings)
    look: LookSettings = field(default_factory=LookSettings)
