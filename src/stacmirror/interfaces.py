"""The contracts between the pipeline and its adapters. The pipeline knows these and nothing concrete.

Each protocol's docstring is its contract: what may be called again, which errors it raises, what a
cancellation does. The suites in tests/contract hold every adapter against them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from stacmirror.model import (
    AssetKey,
    CollectionInfo,
    Counts,
    Cursor,
    Item,
    ItemKey,
    KnownItem,
    LackingItem,
    LedgerEntry,
    Page,
    PartState,
    Reveal,
    SourceLink,
    Space,
    Unit,
)


class Clock(Protocol):
    """Time and sleep, passed in so that no test waits."""

    def monotonic(self) -> float:
        """Return seconds that never jump; for waits and durations."""
        ...

    def wall(self) -> float:
        """Return seconds since the epoch; for the age of links."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait `seconds`. Cancel: safe."""
        ...


class Body(Protocol):
    """A body above the small-file limit, to be read once and closed, always."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body's bytes in order.

        Raises: TransferError when the body ends early, stalls or breaks.
        Cancel: safe; the connection is dropped by `close`.
        """
        ...

    def close(self) -> None:
        """Give the connection back (or drop it when the body was not read to its end). May be called twice."""
        ...


class Reply:
    """One answer. Exactly one of `body` (read whole) and `stream` (above the limit) is not None.

    `url` is the address that answered (after redirects, when it comes from an Opener); it may carry a token.
    `headers` has lower-case names. `length_bytes` is the declared Content-Length, or None. `framed`: the body has
    an end of its own (a length, chunks); otherwise it ends with the connection, and a short one looks like a whole one.
    """

    __slots__ = ("body", "framed", "headers", "length_bytes", "status", "stream", "url")

    def __init__(
        self,
        url: str,
        status: int,
        headers: Mapping[str, str],
        body: bytes | None,
        stream: Body | None,
        *,
        framed: bool | None = None,
    ) -> None:
        """`framed` is read from the headers where it is not given."""
        self.url = url
        self.status = status
        self.headers = headers
        self.body = body
        self.stream = stream
        length = headers.get("content-length", "")
        self.length_bytes = int(length) if length.isdigit() else None
        self.framed = self.length_bytes is not None or "transfer-encoding" in headers if framed is None else framed


class Transport(Protocol):
    """Ask one URL once. Follows no redirect, retries nothing, knows no credentials but its own scheme's.

    Raises: TransferError for everything that goes wrong, with the foreign exception as its cause.
            A status of any kind is a Reply, not an error.
    Cancel: safe at any await; the connection is dropped.
    """

    async def fetch(self, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
        """GET `url`; bodies up to `small_max_bytes` come whole in `Reply.body`, others as `Reply.stream`."""
        ...

    async def close(self) -> None:
        """Close all connections. May be called twice."""
        ...


class SeveralTransport(Transport, Protocol):
    """A transport that can also send several requests in one go (HTTP pipelining)."""

    async def fetch_several(
        self, requests: Sequence[tuple[str, Mapping[str, str]]], small_max_bytes: int
    ) -> Sequence[Reply | None]:
        """GET URLs of one origin, each with its headers; return the first so many answers, their bodies whole.

        Answers end early where the server ends them, or their bodies exceed `small_max_bytes` together. What is
        missing, or None, is to be asked for by `fetch`. Raises and Cancel: as `fetch`.
        """
        ...


class Opener(Protocol):
    """Open an href wherever it leads: redirects by hand, hosts' budgets kept, schemes dispatched."""

    async def open(self, href: str) -> Reply:
        """Return the first answer that is no redirect.

        Raises: TransferError (kinds `connect`, `timeout`, `redirect`, `scheme` ...), also for statuses that say
                "later" (408, 425, 429, 5xx), after the host's budget has heard of it. Kind `paused`: a host on the
                way is paused for `retry_after_s`, and was not asked.
        """
        ...

    async def open_rest(self, href: str, headers: Mapping[str, str], *, redirected: bool) -> Reply:
        """As `open`, with `headers` that ask for a range. They go to the address that has the bytes.

        `redirected`: `href` itself is known to lead elsewhere, so they do not go there.
        """
        ...

    def wait_s(self, href: str) -> float:
        """Return for how many seconds the host of `href` is paused (0.0: ask now)."""
        ...

    def useful_at_once(self) -> int:
        """Return how many callers of `open` at once can be of use now; more would only wait for their hosts."""
        ...

    @property
    def requests(self) -> int:
        """Requests sent so far, redirects included."""
        ...


class SeveralOpener(Protocol):
    """Opens several hrefs at once, where their hosts take that."""

    async def open_several(self, hrefs: Sequence[str]) -> list[Reply | None]:
        """Return, for each href, the first answer that is no redirect, its body whole; or None, to ask by `Opener`.

        Raises: LoginRefused from a transport; no TransferError: what goes wrong is a None.
        Cancel: safe; connections are dropped.
        """
        ...


class Catalog(Protocol):
    """A source of pages and items; one dialect each. Retries by itself; its requests carry the credentials.

    Raises: LoginRefused on 401 or 403 of the catalog's own origin; SourceUnreachable and SourceUnreadable after
            the last attempt; never a foreign exception.
    Cancel: safe at any await; the page in hand is dropped, the cursor unchanged.
    """

    @property
    def collection(self) -> str:
        """The id of the collection that is walked."""
        ...

    async def page(self, cursor: Cursor) -> Page:
        """Return the page that starts at `cursor` (START for the first). The same cursor may be asked again."""
        ...

    async def item(self, key: ItemKey, href: str = "") -> Item | None:
        """Return one item with fresh links, by `href` where it is given; None when the catalog has none."""
        ...

    async def describe(self, collection: str) -> CollectionInfo:
        """Return what `collection` says of itself."""
        ...

    async def collections(self) -> list[CollectionInfo]:
        """Return all collections of the catalog."""
        ...


class Joining(Protocol):
    """A catalog that gives several items at once. Raises and Cancel: as `Catalog`."""

    async def several(self, links: Sequence[SourceLink]) -> dict[ItemKey, Item] | None:
        """Return those of the linked items that came in one request; None where it cannot ask so."""
        ...


class Filter(Protocol):
    """Say whether an item is wanted. Pure and cheap: it runs on every walked item."""

    def keeps(self, item: Item) -> bool:
        """Return True when the item is wanted. Never raises: a property it cannot read is a missing one."""
        ...

    def describe(self) -> Mapping[str, str]:
        """Return what it asks for, in words, for the mirror's record of itself."""
        ...


class Hasher(Protocol):
    """A running digest. A sink updates it in a thread."""

    def update(self, data: Any, /) -> None: ...

    def digest(self) -> bytes: ...


class Part(Protocol):
    """A large file on its way, unseen. Use as `async with`; begin it or go on with it, write, finish, keep.

    Left early, what there is waits for another attempt, in this run or the next, where `ranges.is_resumable`; else,
    and after `drop`, nothing is left. Raises: TargetUnwritable from all but `state` and `drop`.
    Cancel: safe at any await; as left early.
    """

    @property
    def state(self) -> PartState | None:
        """What there is of it, or None."""
        ...

    async def begin(self, state: PartState, hasher: Hasher) -> None:
        """Start with nothing: what there was is gone, its record first."""
        ...

    async def go_on(self, hasher: Hasher) -> None:
        """Run what there is through `hasher`, and write behind it from now on."""
        ...

    async def write(self, chunk: bytes) -> None:
        """Append."""
        ...

    async def finish(self) -> tuple[int, bytes]:
        """Write what is held back; return the size in bytes and the digest, for its check before `keep`."""
        ...

    async def keep(self, unit: Unit, name: str, digest: bytes) -> None:
        """Put the file into `unit`: whole, and from now on not asked for again even if this process is killed."""
        ...

    def drop(self) -> None:
        """Have all of it removed at the end of the block."""
        ...

    async def __aenter__(self) -> Part: ...

    async def __aexit__(self, *exc: object) -> None: ...


class Shelf(Protocol):
    """Files that someone already has. All methods block; paths are relative, with `/`."""

    def path(self, path: str) -> str:
        """Return where a file is, for people and for links."""
        ...

    def has_folder(self, folder: str) -> bool:
        """Return whether there is such a folder."""
        ...

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted; none where there is no such folder."""
        ...

    def size_bytes(self, path: str) -> int | None:
        """Return a file's size, or None where there is no such file."""
        ...

    def read(self, path: str) -> Iterator[bytes]:
        """Give a file's bytes. Raises: OSError."""
        ...


class Sink(Protocol):
    """Where bytes go. Staged bytes are unseen; `reveal` puts them under their final names.

    All methods but `part` block, and raise TargetUnwritable. Names are relative, with `/`, and safe.
    """

    def stage(self, unit: Unit, files: Sequence[tuple[str, bytes]]) -> None:
        """Write small files of `unit`, in one burst. A name staged before is replaced."""
        ...

    def part(self, asset: AssetKey) -> Part:
        """Return the large file of `asset`: new, or what an earlier attempt left. One at a time for an asset."""
        ...

    @property
    def waiting(self) -> Mapping[AssetKey, PartState]:
        """Large files that are there in part, or whole but in no unit."""
        ...

    def drop_parts(self, assets: Iterable[AssetKey]) -> None:
        """Remove what waits of `assets`: nobody will ask for it."""
        ...

    def link(self, unit: Unit, name: str, path: str) -> bool:
        """Stage the file at `path` without copying its bytes; False where that cannot be, and nothing was done."""
        ...

    def sync(self) -> None:
        """Make all that was staged and all renames up to now durable. A failure is final: never call again."""
        ...

    def reveal(self, unit: Unit, names: Mapping[str, str]) -> None:
        """Put the unit's staged files (keys) under their final names. May be called again: what is there stays."""
        ...

    def holds(self, unit: Unit, names: Mapping[str, str]) -> bool:
        """Return whether each of `names` is still staged (keys), or in place under its final name since earlier."""
        ...

    def read(self, unit: Unit, name: str) -> bytes | None:
        """Return a file of `unit`, staged or in place under that name since earlier; None when there is none."""
        ...

    def retain(self, units: Mapping[str, Iterable[str]]) -> None:
        """Remove what a kill left: all that is staged but the `units` (by id) and their names. What is there of large
        files stays, and those that were whole wait again."""
        ...

    def put_document(self, path: str, content: bytes) -> None:
        """Write one small file of the mirror itself (collection.json ...) in place, durably, whole or not at all."""
        ...

    def space(self) -> Space | None:
        """Return what is free where bytes go, or None where that has no end or cannot be told."""
        ...

    def close(self) -> None:
        """Release the target. May be called twice."""
        ...


class Ledger(Protocol):
    """The run's memory. One thread writes (commit); the reading methods may be called from any thread.

    Raises: TargetUnwritable when the disk takes no more; TargetInUse when it is foreign or unreadable.
    """

    @property
    def run(self) -> int:
        """The number of this run."""
        ...

    def write(self, entries: Sequence[LedgerEntry], in_place: Sequence[Unit]) -> list[Reveal]:
        """Record one group in one durable transaction; return what is to be revealed now.

        Rows of complete items become `staged`; rows with failures are `held`. The rows of `in_place` (units
        revealed after the write before, their renames synced since) become `committed`.
        """
        ...

    def release_held(self) -> list[Reveal]:
        """Give up on what has not arrived: return the held units, to be revealed as incomplete."""
        ...

    def known(self, keys: Sequence[ItemKey]) -> dict[ItemKey, KnownItem]:
        """Return those of `keys` that have a row."""
        ...

    def rows(self, keys: Sequence[ItemKey]) -> dict[ItemKey, LackingItem]:
        """Return what is there of those of `keys` that have a row, and what each lacks."""
        ...

    def documents(self, keys: Sequence[ItemKey]) -> dict[ItemKey, bytes]:
        """Return the JSON that is kept of those of `keys` that have one."""
        ...

    def lacking(self, after_row: int, rows_max: int) -> list[LackingItem]:
        """Return items that lack assets, in the order of their rows, `rows_max` at most."""
        ...

    def samples(self, collection: str, key: str) -> list[LackingItem]:
        """Return a few items that lack nothing but have `key` absent, to ask for it once more."""
        ...

    def lacking_assets(self) -> int:
        """Return how many assets the mirror lacks now."""
        ...

    def counts(self) -> Counts:
        """Return the mirror's counts over all runs."""
        ...

    def run_counts(self) -> Counts:
        """Return the item counts of rows written by this run."""
        ...


class Observer(Protocol):
    """Hears what a person should know, as it happens. Never raises, never blocks."""

    def note(self, message: str) -> None:
        """Say one line (already free of secrets)."""
        ...
