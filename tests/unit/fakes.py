"""Stand-ins for catalog, ledger, sink, opener and clock: small, in memory, and they remember what was done to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from stacmirror.interfaces import Body, Hasher, Reply
from stacmirror.model import (
    START,
    Asset,
    AssetKey,
    CollectionInfo,
    Counts,
    Cursor,
    Item,
    ItemKey,
    ItemOutcome,
    KnownItem,
    LackingItem,
    LedgerEntry,
    Page,
    PageRecord,
    PartState,
    Reveal,
    SourceLink,
    Space,
    Unit,
)


async def until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    """Wait until `condition` holds: on a busy machine, or one that stands still for a while, that is later."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.002)


async def turns(count: int = 100) -> None:
    """Let everything go on that waits for nothing but its turn."""
    for _ in range(count):
        await asyncio.sleep(0)


class FakeClock:
    """Time that passes only in `sleep`, at once."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)


def key(item_id: str, collection: str = "labels") -> ItemKey:
    return ItemKey(collection, item_id)


def an_item(
    item_id: str, *, sources: Iterable[str] = (), collection: str = "labels", assets: Iterable[str] = ("A",)
) -> Item:
    return Item(
        key=key(item_id, collection),
        assets=tuple(Asset(name, f"http://host/{item_id}/{name}", "image/tiff") for name in assets),
        sources=tuple(SourceLink(key(source, "source"), f"http://host/items/{source}") for source in sources),
        properties={},
        document=b"{}",
        read_at_s=1000.0,
    )


class FakeCatalog:
    """Pages by cursor value; an exception in their place is raised. Linked items are made when asked for."""

    collection = "labels"

    def __init__(
        self, pages: Mapping[str, Page | BaseException], items: Mapping[str, Item | BaseException] = {}
    ) -> None:
        self.pages = pages
        self.items = items
        self.asked: list[str] = []

    async def page(self, cursor: Cursor) -> Page:
        self.asked.append(cursor.value)
        await asyncio.sleep(0)
        found = self.pages[cursor.value]
        if isinstance(found, BaseException):
            raise found
        return found

    async def item(self, key: ItemKey, href: str = "") -> Item | None:
        await asyncio.sleep(0)
        found = self.items.get(key.id)
        if isinstance(found, BaseException):
            raise found
        return found or an_item(key.id, collection=key.collection)

    async def describe(self, collection: str) -> CollectionInfo:
        return CollectionInfo(collection)

    async def collections(self) -> list[CollectionInfo]:
        return []


def pages_of(groups: Sequence[Sequence[Item]], *, total: int | None = None) -> dict[str, Page | BaseException]:
    """Return a listing: one page a group, each naming the next."""
    pages: dict[str, Page | BaseException] = {}
    for number, group in enumerate(groups):
        following = Cursor(f"next={number + 1}") if number + 1 < len(groups) else None
        pages[START.value if number == 0 else f"next={number}"] = Page(tuple(group), following, total)
    return pages


class FakeLedger:
    """Rows in a dict. `fail_write` is raised by the write with that number (from 1)."""

    def __init__(self, log: list[str] | None = None) -> None:
        self.there: dict[ItemKey, KnownItem] = {}
        self.log = log if log is not None else []
        self.entries: list[LedgerEntry] = []
        self.confirmed: list[str] = []
        self.writes = 0
        self.fail_write: tuple[int, BaseException] | None = None
        self.lacks: list[LackingItem] = []

    def write(self, entries: Sequence[LedgerEntry], in_place: Sequence[Unit]) -> list[Reveal]:
        self.writes += 1
        if self.fail_write is not None and self.writes == self.fail_write[0]:
            raise self.fail_write[1]
        self.confirmed += [unit.id for unit in in_place]
        self.entries += entries
        reveals = []
        for entry in entries:
            if isinstance(entry, ItemOutcome):
                for record in entry.records:
                    listed = record.page is not None
                    self.there[record.key] = KnownItem(False, listed, len(record.stored), len(record.failed))
                    reveals.append(Reveal(record.unit, {receipt.name: receipt.name for receipt in record.stored}))
        ids = [entry.records[0].key.id for entry in entries if isinstance(entry, ItemOutcome)]
        self.log.append(" ".join(["write", *ids, *(["confirm"] if in_place else []), *(unit.id for unit in in_place)]))
        return reveals

    def release_held(self) -> list[Reveal]:
        self.log.append("release held")
        return []

    def known(self, keys: Sequence[ItemKey]) -> dict[ItemKey, KnownItem]:
        return {key: self.there[key] for key in keys if key in self.there}

    def rows(self, keys: Sequence[ItemKey]) -> dict[ItemKey, LackingItem]:
        return {}

    def lacking(self, after_row: int, rows_max: int) -> list[LackingItem]:
        return [item for item in self.lacks if item.row > after_row][:rows_max]

    def counts(self) -> Counts:
        return Counts()

    def run_counts(self) -> Counts:
        return Counts()

    @property
    def pages(self) -> list[PageRecord]:
        return [entry for entry in self.entries if isinstance(entry, PageRecord)]


class FakeSink:
    """Files in dicts. `failures` maps a step (`stage`, `sync`, `reveal`) to what it raises, and at which call."""

    def __init__(self, log: list[str] | None = None) -> None:
        self.log = log if log is not None else []
        self.staged: dict[str, dict[str, bytes]] = {}
        self.visible: dict[str, bytes] = {}
        self.failures: dict[str, tuple[int, BaseException]] = {}
        self.calls: dict[str, int] = {}
        self.waiting: dict[AssetKey, PartState] = {}
        self.bytes: dict[AssetKey, bytes] = {}
        """Of what waits."""
        self.free: Space | None = None

    def _step(self, name: str, what: str = "") -> None:
        self.calls[name] = self.calls.get(name, 0) + 1
        if name in self.failures and self.failures[name][0] == self.calls[name]:
            raise self.failures[name][1]
        self.log.append(f"{name} {what}".strip())

    def stage(self, unit: Unit, files: Sequence[tuple[str, bytes]]) -> None:
        self._step("stage", unit.id)
        self.staged.setdefault(unit.id, {}).update(files)

    def part(self, asset: AssetKey) -> FakePart:
        return FakePart(self, asset)

    def drop_parts(self, assets: Iterable[AssetKey]) -> None:
        for asset in list(assets):
            del self.waiting[asset]

    def sync(self) -> None:
        self._step("sync")

    def reveal(self, unit: Unit, names: Mapping[str, str]) -> None:
        self._step("reveal", unit.id)
        for name, final in names.items():
            content = self.staged.get(unit.id, {}).get(name)
            if content is not None:
                self.visible[f"{unit.folder}/{final}"] = content

    def holds(self, unit: Unit, names: Mapping[str, str]) -> bool:
        return all(name in self.staged.get(unit.id, {}) for name in names)

    def read(self, unit: Unit, name: str) -> bytes | None:
        return self.staged.get(unit.id, {}).get(name) or self.visible.get(f"{unit.folder}/{name}")

    def retain(self, units: Mapping[str, Iterable[str]]) -> None:
        self.log.append("retain")

    def put_document(self, path: str, content: bytes) -> None:
        self.visible[path] = content

    def space(self) -> Space | None:
        return self.free

    def close(self) -> None:
        pass


class FakePart:
    """A large file in memory; what there is of it waits in the sink when it is left early."""

    def __init__(self, sink: FakeSink, asset: AssetKey) -> None:
        self._sink, self._asset = sink, asset
        self.state = sink.waiting.get(asset)
        self._content = sink.bytes.get(asset, b"")
        self._hasher: Hasher | None = None
        self._kept = self._dropped = False

    async def begin(self, state: PartState, hasher: Hasher) -> None:
        self.state, self._content, self._hasher = state, b"", hasher
        self._sink.waiting.pop(self._asset, None)

    async def go_on(self, hasher: Hasher) -> None:
        hasher.update(self._content)
        self._hasher = hasher

    async def write(self, chunk: bytes) -> None:
        assert self.state is not None
        assert self._hasher is not None
        self._content += chunk
        self._hasher.update(chunk)
        self.state.offset += len(chunk)

    async def finish(self) -> tuple[int, bytes]:
        assert self._hasher is not None
        return len(self._content), self._hasher.digest()

    async def keep(self, unit: Unit, name: str, digest: bytes) -> None:
        self._sink.stage(unit, [(name, self._content)])
        self._sink.waiting.pop(self._asset, None)
        self._kept = True

    def drop(self) -> None:
        self._dropped = True

    async def __aenter__(self) -> FakePart:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._sink.waiting.pop(self._asset, None)
        if self.state is not None and self._content and not self._kept and not self._dropped:
            self._sink.waiting[self._asset] = self.state
            self._sink.bytes[self._asset] = self._content


class FakeBody:
    """A stream of chunks; an exception among them is raised."""

    def __init__(self, chunks: Sequence[bytes | BaseException]) -> None:
        self._chunks = chunks
        self.closed = 0

    async def chunks(self):  # type: ignore[no-untyped-def]
        for chunk in self._chunks:
            if isinstance(chunk, BaseException):
                raise chunk
            yield chunk

    def close(self) -> None:
        self.closed += 1


class FakeOpener:
    """Answers each href with its bytes (200), or raises; `hold` keeps answers back until it is set: all, or `held`."""

    def __init__(self, answers: Mapping[str, bytes | Reply | BaseException] | None = None) -> None:
        self.answers = answers or {}
        self.asked: list[str] = []
        self.hold: asyncio.Event | None = None
        self.held: set[str] = set()
        self.requests = 0
        self.rests: list[tuple[str, dict[str, str], bool]] = []

    async def open(self, href: str) -> Reply:
        self.asked.append(href)
        self.requests += 1
        if self.hold is not None and (not self.held or href in self.held):
            await self.hold.wait()
        await asyncio.sleep(0)
        found = self.answers.get(href, b"bytes of " + href.encode())
        if isinstance(found, BaseException):
            raise found
        if isinstance(found, Reply):
            return found
        return a_reply(href, body=found)

    async def follow(self, reply: Reply, href: str) -> Reply:
        return await self.open(reply.headers["location"])

    async def open_rest(self, href: str, headers: Mapping[str, str], *, redirected: bool) -> Reply:
        self.rests.append((href, dict(headers), redirected))
        return await self.open(f"{href} from {headers['Range'].partition('=')[2]}")

    def useful_at_once(self) -> int:
        return 1_000

    def wait_s(self, href: str) -> float:
        return 0.0

    def is_down(self, href: str) -> bool:
        return False


def a_reply(
    url: str,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = b"",
    stream: Body | None = None,
) -> Reply:
    return Reply(url, status, headers or {}, body, stream, framed=True)


class Notes:
    """An observer that keeps what it hears."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)
