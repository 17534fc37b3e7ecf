"""Assets that every item lists and the origin does not have (BigEarthNet's B10): a breaker per asset key.

A 404 on one item is a failure. The same key missing on every item asked, while other keys of those items are
there, is a fact about the collection: said once, recorded as absent, and from then on only sampled. A key that is
found later was missing for a while only: all its absences are failures again, for the sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from stacmirror.model import Absent, Doubted, Failed, Forgiven, LedgerEntry, MissingKey
from stacmirror.pipeline.progress import Progress

ABSENT_KINDS = frozenset({"gone", "refused"})
"""Failures that can mean absence: S3 answers 403 for a missing key to those who may not list the bucket."""

_SMALL_RUN_MIN = 3
"""At the end of a listing, so many items without the key are enough."""


@dataclass(slots=True)
class _Key:
    seen: int = 0
    missing: int = 0
    tripped: bool = False
    doubted: bool = False
    """It was taken to be missing, and was found in this run."""
    absent_before: bool = False
    """Earlier runs may have left absences of it, by the breaker or by a `--missing-ok` that is gone."""
    since_sample: int = 0
    failed: int = 0
    """Items whose lack of the key this run handed over as a failure."""
    absent: int = 0
    assumed: int = 0
    """Items whose lack of the key this run handed over as an absence."""
    unadmitted: int = 0
    """Items whose host wants a login for it (401), in this run."""


class MissingKeys:
    """Asked before and told after every transfer. `record` takes ledger entries, `note` lines for a person."""

    def __init__(
        self,
        missing_ok: Sequence[str],
        after: int,
        sample: int,
        before: Sequence[MissingKey],
        record: Callable[[LedgerEntry], None],
        note: Callable[[str], None],
        progress: Progress,
    ) -> None:
        self._missing_ok = missing_ok
        self._after = after
        self._sample = sample
        self._record = record
        self._note = note
        self._progress = progress
        self._keys = {
            (k.collection, k.key): _Key(k.seen, k.missing, k.tripped, absent_before=k.missing > 0) for k in before
        }
        self.wants_login = ""
        """What is to be said, once a key is refused (401) for whichever item it is asked, and was never found."""
        self._found: set[str] = {k.collection for k in before if k.tripped or k.seen > k.missing}

    def assumes(self, collection: str, key: str) -> bool:
        """Return True when `key` need not be asked for: it is missing everywhere, and this is no sample."""
        state = self._keys.get((collection, key))
        if state is None or not state.tripped:
            return False
        state.since_sample += 1
        if state.since_sample < self._sample:
            return True
        state.since_sample = 0
        return False

    def tripped(self, collection: str, key: str) -> bool:
        """Return whether `key` is taken to be missing everywhere, so that `assumes` decides who asks for it."""
        state = self._keys.get((collection, key))
        return state is not None and state.tripped

    def found(self, collection: str, key: str) -> None:
        """Hear that an item has the key."""
        self._found.add(collection)
        state = self._keys.get((collection, key))
        if state is None:
            state = self._keys[(collection, key)] = _Key()
        first = state.seen == state.missing
        state.seen += 1
        if first and not state.tripped:
            # Before the item's row: a later run, with few items left to ask, must not take the key for a phantom.
            self._record(self._entry(collection, key, state))
        if state.tripped or (state.absent_before and not state.doubted and not self._may_miss(key)):
            self._doubt(collection, key, state)

    def gone(self, collection: str, key: str) -> None:
        """Hear that an item does not have the key."""
        state = self._keys.setdefault((collection, key), _Key())
        state.seen += 1
        state.missing += 1
        if state.tripped:
            return
        if state.missing == state.seen:
            self._record(self._entry(collection, key, state))
        if state.missing >= self._after:
            self._trip(collection, key, state)

    def unadmitted(self, collection: str, key: str, host: str) -> None:
        """Hear that `host` wants a login for the key of an item (401): that shows nothing of what is there."""
        state = self._keys.setdefault((collection, key), _Key())
        state.unadmitted += 1
        if state.unadmitted >= self._after and state.seen == state.missing and not self.wants_login:
            name = host.partition("://")[2]
            self.wants_login = (
                f"{host} refuses {key} of {collection} for all of {state.unadmitted} items asked (401): it wants a"
                f" login, or another one (--auth {name}=SCHEME); --exclude-asset '{key}' does without"
            )

    def judge(self, collection: str, failed: list[Failed], absent: list[Absent]) -> tuple[list[Failed], list[Absent]]:
        """Return the failures of an item that are failures, and what has turned out to be an absence.

        Called when the item is handed to commit, with nothing in between: what the breaker learned while the item
        was in hand counts for it, and what it learns later finds the item's row.
        """
        failures: list[Failed] = []
        absences: list[Absent] = []
        for failure in failed:
            state = self._keys.get((collection, failure.key))
            if failure.kind not in ABSENT_KINDS or state is None:
                failures.append(failure)
            elif state.tripped or self._may_miss(failure.key):
                absences.append(Absent(failure.key))
                state.absent += 1
            else:
                failures.append(failure)
                state.failed += 1
        for absence in absent:
            state = self._keys.get((collection, absence.key))
            if state is not None and state.doubted and (absence.assumed or not self._may_miss(absence.key)):
                failures.append(Failed(absence.key, "gone", "assumed missing, but found elsewhere", 0))
                continue
            absences.append(absence)
            if state is not None:
                state.assumed += absence.assumed
                state.absent += not absence.assumed
        return failures, absences

    def undecided(self) -> int:
        """Return how many failures are of keys that may yet turn out to be missing everywhere."""
        return sum(
            state.failed
            for (collection, _), state in self._keys.items()
            if state.missing == state.seen and not state.tripped and not state.unadmitted and collection in self._found
        )

    def listing_ended(self) -> None:
        """Decide on keys of collections too small for the breaker: missing on all of at least three items."""
        for (collection, key), state in self._keys.items():
            if not state.tripped and state.missing >= _SMALL_RUN_MIN:
                self._trip(collection, key, state)

    def absent_keys(self) -> list[tuple[str, str]]:
        """Return collection and key of what counts as missing: worth a question at a run's end."""
        return [
            (collection, key)
            for (collection, key), state in self._keys.items()
            if state.tripped or (state.absent_before and not state.doubted)
        ]

    def _may_miss(self, key: str) -> bool:
        return any(fnmatchcase(key, glob) for glob in self._missing_ok)

    def _trip(self, collection: str, key: str, state: _Key) -> None:
        # A source where nothing at all is found has another trouble than a phantom key.
        if state.missing != state.seen or state.unadmitted or collection not in self._found:
            return
        state.tripped = True
        self._progress.failures -= state.failed
        self._progress.absent += state.failed
        state.absent += state.failed
        state.failed = 0
        self._note(
            f"{key} of {collection}: missing on {state.missing} of {state.seen} items asked;"
            f" recorded as absent, every {self._sample}th item is still asked"
        )
        self._record(Forgiven(collection, key))
        self._record(self._entry(collection, key, state))

    def _doubt(self, collection: str, key: str, state: _Key) -> None:
        said = state.tripped
        state.tripped, state.doubted = False, True
        progress = self._progress
        progress.absent -= state.absent
        progress.assumed_absent -= state.assumed
        progress.failures += state.absent + state.assumed
        state.failed, state.absent, state.assumed = state.failed + state.absent + state.assumed, 0, 0
        if said:
            self._note(
                f"{key} of {collection} does exist after all: where it was missing it is asked for again at the end"
            )
        self._record(Doubted(collection, key))
        self._record(self._entry(collection, key, state))

    def _entry(self, collection: str, key: str, state: _Key) -> MissingKey:
        return MissingKey(collection, key, state.seen, state.missing, state.tripped)
