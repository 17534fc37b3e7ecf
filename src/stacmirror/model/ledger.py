"""What the ledger is told, and what it says of single items and of where the walk goes on."""

from __future__ import annotations

from msgspec import Struct, field

from stacmirror.model.stac import Cursor, ItemKey
from stacmirror.model.transfer import Absent, Failed, Receipt, Unit


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
    """Not all of this page was taken (`--max-items`) or could be read, or it may be amid a circle: it never settles."""


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

    def ordinal(self, number: int) -> int:
        """Return a page's number as people count: from 1, within this walk over the listing."""
        return number - self.first + 1


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
