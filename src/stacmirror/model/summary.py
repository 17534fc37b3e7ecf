"""What a run, or a mirror over all its runs, amounts to: counts, what is missing, the verdict."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field


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

    `host` is the origin that let it down, "" where nobody was asked; `status` its HTTP status, or 0. What was tried:
    `attempts`, the link `renewed` so often, and `put_off` requests that came to nothing because of the host.
    `again`: the sweeps of the run it failed in try it again; the next run does in any case.
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
    status: int = 0
    renewed: int = 0
    put_off: int = 0


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
    shard: str = ""
    """Which part of the collection the mirror is, `K/N`; empty: all of it."""
    predicted: int = 0
    """Files that were asked for where their links would have led: each a request less."""
    there_bytes: int = 0
    """Of the bytes of this run's large files: those that an earlier run had brought."""
    retried: Retried | None = None
    """Of a retry: what became of what it was to mend."""
    adopted: Adopted | None = None
    """Of an adoption: what was taken."""
