"""The plain values that travel through a run: what is wanted, what is on its way, how it ended.

Everyone may import this; it imports nothing of ours. All values are plain data (they can cross a process
border), and none holds a secret that is not already in an asset's href.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct, field

CursorKind = Literal["keyset", "position"]
"""A `keyset` cursor names data and can be used days later; a `position` (offset, page number) shifts."""


class ItemKey(Struct, frozen=True, order=True):
    """The identity of an item: never its href, which is per user and short-lived."""

    collection: str
    id: str

    def __str__(self) -> str:
        return f"{self.collection}/{self.id}"


class Asset(Struct, frozen=True):
    """One asset as the catalog lists it. `href` is absolute, and may carry a short-lived token."""

    key: str
    href: str
    media_type: str = ""
    title: str = ""
    roles: tuple[str, ...] = ()
    size_bytes: int | None = None
    """What the catalog says of its size (`file:size`)."""
    checksum: str = ""
    """What the catalog says of its digest (`file:checksum`): a multihash in lower-case hex."""


class SourceLink(Struct, frozen=True):
    """A label item's `rel=source` link: the linked item's key and where to ask for it."""

    key: ItemKey
    href: str


class Item(Struct, frozen=True):
    """One item as read from a page.

    `document` is the item's JSON as the server sent it (bytes, with its tokens: redact before keeping).
    `read_at_s` is the wall clock, in seconds, when the answer came: the age of its links counts from there.
    """

    key: ItemKey
    assets: tuple[Asset, ...]
    sources: tuple[SourceLink, ...]
    properties: Mapping[str, Any]
    document: bytes
    read_at_s: float


class Cursor(Struct, frozen=True):
    """Where a page starts: a canonical request without credentials, relative to the catalog's root."""

    value: str
    kind: CursorKind = "keyset"


START = Cursor("")
"""The cursor of the first page."""


class Page(Struct, frozen=True):
    """One page: its items in server order, the next cursor (None at the end), the server's total if it says one."""

    items: tuple[Item, ...]
    next: Cursor | None
    total: int | None = None
    lost: tuple[str, ...] = ()
    """What belongs on it and could not be read, in words: such a page never settles, so a later run reads it again."""


class CollectionInfo(Struct, frozen=True):
    """What a collection says of itself. `document` is its JSON, redacted."""

    id: str
    title: str = ""
    license: str = ""
    citation: str = ""
    doi: str = ""
    providers: tuple[str, ...] = ()
    license_href: str = ""
    document: bytes = b"{}"


class Transfer(Struct):
    """One asset on its way: what to ask for and the name (relative to the item's folder) it will have.

    `name` is "" until the redirect's target is known, in layouts that name files by it. `attempts` counts
    requests for this asset in this run; `not_before_s` is the monotonic time before which it must wait.
    """

    asset: Asset
    name: str
    attempts: int = 0
    not_before_s: float = 0.0
    put_off: int = 0
    """Requests that brought nothing because of the host, since `put_off_since_s`: these are no attempts."""
    put_off_since_s: float = 0.0
    refused_age_s: float = 0.0
    """How old the link was that was refused before its time, and that the one in `asset` stands for; 0.0: none was."""


class Receipt(Struct, frozen=True):
    """What the sink has of one asset: its size in bytes and a 16-byte digest of the bytes written.

    `name` is the path relative to the item's folder. `digest_kind` is `md5` where the server gave one (and it
    matched), else `xxh3`. A derived file (written by us, not fetched) has a key that starts with `@`.
    `verified` is False where nothing showed that the bytes are whole: no length, no chunks, no digest.
    """

    key: str
    name: str
    size_bytes: int
    digest_kind: Literal["md5", "xxh3"]
    digest: bytes
    verified: bool = True


class AssetKey(Struct, frozen=True):
    """The identity of one asset: never its href."""

    item: ItemKey
    key: str


class Version(Struct, frozen=True):
    """Which bytes an address had: validators that are strong, and what is known of the bytes. Empty: not said.

    `md5` is hex, of the whole body. `length` is None where the server did not say it.
    """

    etag: str = ""
    last_modified: str = ""
    md5: str = ""
    length: int | None = None


class PartState(Struct):
    """What there is of a large file: the first `offset` bytes of `version`. No address and no secret.

    `name` is the file's, relative to its item's folder. `kind` is the digest that its receipt will have, `digest` the
    value once the file is whole and checked. `redirected`: its link led elsewhere. `unit` is the unit that it was put
    into, or "". `verified` as in its receipt.
    """

    asset: AssetKey
    version: Version
    name: str
    kind: Literal["md5", "xxh3"]
    redirected: bool = False
    offset: int = 0
    digest: bytes = b""
    unit: str = ""
    verified: bool = True


class Stored(Struct, frozen=True):
    """The asset's bytes are in the sink, whole."""

    receipt: Receipt
    at: Literal["fetched", "kept"] = "fetched"


class Absent(Struct, frozen=True):
    """The origin does not have it: asked for (`assumed` False), or concluded from all items before it."""

    key: str
    assumed: bool = False


class Failed(Struct, frozen=True):
    """It did not arrive. `permanent` means that asking again in this run is pointless.

    `host` is the origin that answered (or did not), "" where nobody was asked. `run` and `at_s` (the wall clock) say
    when it failed, where that is not now.
    """

    key: str
    kind: str
    message: str
    attempts: int
    permanent: bool = False
    host: str = ""
    run: int = 0
    at_s: float = 0.0


Outcome = Stored | Absent | Failed
"""How one transfer ended."""


class Unit(Struct, frozen=True):
    """What is staged and revealed as one: `folder` is its place below the target.

    `exclusive` means that nothing but this unit's files belongs in `folder`, so it can be renamed there at once.
    """

    id: str
    folder: str
    exclusive: bool = True


class ItemRecord(Struct):
    """One item for the ledger: what is there, what is not, and which sources a label names."""

    key: ItemKey
    unit: Unit
    stored: list[Receipt] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    sources: tuple[ItemKey, ...] = ()
    page: int | None = None
    """The page that listed it; None for a linked item, which no page listed."""
    document: bytes = b""
    """The item's redacted JSON; empty when it is already kept."""


class PageRecord(Struct):
    """One walked page for the ledger. Counts are of items: `listed = filtered + duplicate + known + queued`."""

    number: int
    cursor: Cursor
    listed: int
    filtered: int
    duplicate: int
    queued: int
    known: tuple[ItemKey, ...] = ()
    """Items of this page that the ledger already has from an earlier walk over it."""
    known_linked: tuple[ItemKey, ...] = ()
    """Linked items of those."""
    again: tuple[ItemKey, ...] = ()
    """Queued items that the ledger has, to be fetched again: they have changed, or more of them is wanted."""
    next: Cursor | None = None
    total: int | None = None
    partial: bool = False
    """The walk stopped inside this page (`--max-items`), so it never settles."""


class ItemOutcome(Struct):
    """What a worker hands to commit: all records of one bundle, their bytes staged."""

    page: int | None
    records: list[ItemRecord]
    settles: bool = True
    """Whether this outcome counts off one queued item of `page`."""
    fetched: int = 0
    """Files of it that this run brought, and their bytes; the others were there before."""
    fetched_bytes: int = 0
    shows: bool = False
    """Reveal its items now, although they may lack assets; a later run adds to what is visible."""


class Forgiven(Struct, frozen=True):
    """An entry for the ledger: `key` is missing everywhere, so its failures in `collection` are absences."""

    collection: str
    key: str


class Doubted(Struct, frozen=True):
    """An entry for the ledger: `key` does exist, so its absences in `collection` are failures, to be asked again."""

    collection: str
    key: str


class MissingKey(Struct, frozen=True):
    """What is known of an asset key that may exist nowhere: of `seen` items asked, `missing` had none of it."""

    collection: str
    key: str
    seen: int
    missing: int
    tripped: bool


class WalkAgain(Struct, frozen=True):
    """An entry for the ledger: the walk begins at the start again, with its pages numbered from `first` on."""

    first: int


LedgerEntry = PageRecord | ItemOutcome | Forgiven | Doubted | MissingKey | WalkAgain
"""What commit writes, in the order it came."""


class Reveal(Struct):
    """A unit to put in place now: each staged name and the name it will have below `unit.folder`."""

    unit: Unit
    names: dict[str, str]


class KnownItem(Struct, frozen=True):
    """What the ledger says of an item. `unmet`: its page must be walked again, so meeting it is no duplicate."""

    unmet: bool
    listed: bool
    assets: int
    lacking: int
    page: int = 0
    """The page that listed it, where it is listed."""
    run: int = 0
    """The run that met or wrote it last."""


class Space(Struct, frozen=True):
    """What a target has free, or what a mirror takes. `free_inodes` is None where the file system counts none."""

    place: str
    free_bytes: int
    free_inodes: int | None
    block_bytes: int


class ResumePoint(Struct, frozen=True):
    """Where the walk goes on: a page's number, its cursor, and the matching items of this walk's pages before it."""

    number: int
    cursor: Cursor
    matched: int
    first: int = 0
    """The number of this walk's first page: an item of an older page has not been met by this walk."""
    listed: int = 0
    """Items that the page held when it was walked before."""
    again: bool = False
    """This walk begins at the start again, over pages that were walked before."""
    refresh: bool = False
    """Items that are there are held against what the catalog lists now."""
    widen: bool = False
    """Items that are there may lack assets that are wanted since."""
    began: int = 0
    """The run that began this walk."""


class LackingItem(Struct):
    """An item of the ledger that lacks assets, for a sweep. `row` orders sweeps; `held`: its unit is unrevealed.

    `earlier`: something of it failed in an earlier run, and was not asked for in this one. `documented`: its JSON is
    kept. `probe`: it lacks nothing but an absent asset, which is asked for once more. `widen`: whatever is wanted of it
    and has no outcome is to be fetched.
    """

    row: int
    key: ItemKey
    unit: Unit
    held: bool
    page: int | None
    stored: list[Receipt]
    absent: list[Absent]
    failed: list[Failed]
    sources: tuple[ItemKey, ...]
    earlier: bool = False
    documented: bool = False
    probe: bool = False
    widen: bool = False


class ItemCounts(Struct):
    """Counts of walked items; `listed = complete + incomplete + filtered + duplicate + pending`."""

    listed: int = 0
    complete: int = 0
    incomplete: int = 0
    filtered: int = 0
    duplicate: int = 0
    pending: int = 0


class AssetCounts(Struct):
    """Counts of assets by outcome. `skipped` were there already; `assumed_absent` were not asked for.

    Of those `stored`, `unverified` came without anything that shows that they are whole.
    """

    stored: int = 0
    skipped: int = 0
    absent: int = 0
    assumed_absent: int = 0
    failed: int = 0
    unverified: int = 0


class ListingState(Struct):
    """The listing's own proof: was its last page seen, and how many items does the server say there are.

    `gone` items of the mirror are no longer listed; they are kept, and counted as listed.
    """

    ended: bool = False
    server_total: int | None = None
    gone: int = 0


class Counts(Struct):
    """What a run, or a mirror over all its runs, amounts to."""

    items: ItemCounts = field(default_factory=ItemCounts)
    listing: ListingState = field(default_factory=ListingState)
    assets: AssetCounts = field(default_factory=AssetCounts)
    bytes: int = 0


class FailureCount(Struct, frozen=True):
    """How many assets with one key the mirror lacks for one kind of reason."""

    asset: str
    kind: str
    count: int


class AbsentKey(Struct, frozen=True):
    """An asset key that items list and the source does not have: `asked` items have none, `assumed` were not asked."""

    collection: str
    asset: str
    asked: int
    assumed: int


class FailedAsset(Struct, frozen=True):
    """One asset that the mirror lacks, and why. `at_s` is the wall clock of the last of the `attempts` of that pass.

    `host` is the origin that let it down, "" where nobody was asked. `again`: this run's sweeps would try it again; the
    next run does in any case.
    """

    collection: str
    item: str
    asset: str
    kind: str
    message: str
    attempts: int
    at_s: float
    host: str = ""
    again: bool = True


class Adopted(Struct):
    """What became of files that were already there.

    `files` were taken, `linked` of them without a copy. `compared` of them were held against the source byte for
    byte, the others were judged by their form. `differ` were not what the source has and `unfit` did not look whole:
    not taken.
    """

    files: int = 0
    size_bytes: int = 0
    linked: int = 0
    compared: int = 0
    differ: int = 0
    unfit: int = 0


class Retried(Struct, frozen=True):
    """What became of the failures that a retry was to mend.

    `asked` were meant; `failed` failed in this run, `unreached` not tried before it ended; the rest is mended. `others`
    were not meant.
    """

    kinds: tuple[str, ...]
    asked: int
    failed: int
    unreached: int
    others: int


Verdict = Literal["complete", "incomplete", "stopped"]


class Summary(Struct):
    """The truth about a run: its own counts, the mirror's, and what it cost."""

    verdict: Verdict
    run: Counts
    mirror: Counts
    requests: int
    seconds: float
    cpu_s: float
    peak_rss_mib: float
    exit_code: int
    reason: str = ""
    """Why it stopped or is incomplete, in one line; empty when complete."""
    hint: str = ""
    """What to do about the reason, where the error that ended the run knows."""
    failures: list[FailureCount] = field(default_factory=list)
    """What the mirror lacks now, most first."""
    absences: list[AbsentKey] = field(default_factory=list)
    """What items list and the source does not have."""
    predicted: int = 0
    """Files that were asked for where their links would have led: each a request less."""
    there_bytes: int = 0
    """Of the bytes of this run's large files: those that an earlier run had brought."""
    retried: Retried | None = None
    """Of a retry: what became of what it was to mend."""
    adopted: Adopted | None = None
    """Of an adoption: what was taken."""
