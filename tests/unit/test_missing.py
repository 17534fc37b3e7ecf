"""The breaker for keys that exist nowhere: it trips on enough evidence, samples on, and takes it back when wrong."""

from __future__ import annotations

from collections.abc import Sequence

from stacmirror.model import Absent, Doubted, Failed, Forgiven, LedgerEntry, MissingKey
from stacmirror.pipeline.missing import MissingKeys
from stacmirror.pipeline.progress import Progress
from tests.unit.fakes import Notes

GONE = Failed("B10", "gone", "404", 1, permanent=True)


class Bench:
    def __init__(self, missing_ok: Sequence[str] = (), before: Sequence[MissingKey] = (), after: int = 5) -> None:
        self.entries: list[LedgerEntry] = []
        """What was decided."""
        self.evidence: dict[str, MissingKey] = {}
        """What a later run would know."""
        self.notes = Notes()
        self.progress = Progress()
        self.keys = MissingKeys(missing_ok, after, 4, before, self._record, self.notes.note, self.progress)

    def _record(self, entry: LedgerEntry) -> None:
        if isinstance(entry, MissingKey):
            self.evidence[entry.key] = entry
        else:
            self.entries.append(entry)

    def item(self, *, has_others: bool = True) -> bool:
        """Ask an item for B01 and B10 and hand it over; return whether the lack of B10 was an absence."""
        if has_others:
            self.keys.found("s", "B01")
        self.keys.gone("s", "B10")
        failed, absent = self.keys.judge("s", [GONE], [])
        assert len(failed) + len(absent) == 1
        self.progress.failures += len(failed)
        self.progress.absent += len(absent)
        return bool(absent)


def test_a_key_missing_often_enough_trips_once() -> None:
    """At the fifth item the key is an absence: told once, earlier failures forgiven, and the rest is assumed."""
    bench = Bench()
    assert [bench.item() for _ in range(6)] == [False, False, False, False, True, True]
    assert (bench.progress.failures, bench.progress.absent) == (0, 6)
    assert bench.entries == [Forgiven("s", "B10")]
    assert bench.evidence["B10"] == MissingKey("s", "B10", 5, 5, True)
    assert len(bench.notes.lines) == 1


def test_every_nth_item_is_still_asked() -> None:
    """After the trip three of four items are assumed, the fourth is a sample."""
    bench = Bench()
    for _ in range(5):
        bench.item()
    assert [bench.keys.assumes("s", "B10") for _ in range(8)] == [True, True, True, False] * 2
    assert not bench.keys.assumes("s", "B01")
    assert not bench.keys.assumes("other", "B10")


def test_a_key_that_was_seen_never_trips() -> None:
    """Missing on a thousand items, there on one: each lack is a failure."""
    bench = Bench()
    bench.keys.found("s", "B10")
    assert not any(bench.item() for _ in range(1000))
    bench.keys.listing_ended()
    assert bench.entries == []


def test_where_nothing_is_found_nothing_is_assumed() -> None:
    """When all keys are missing, the source has another trouble than a phantom key."""
    bench = Bench()
    assert not any(bench.item(has_others=False) for _ in range(20))
    bench.keys.listing_ended()
    assert bench.entries == []


def test_a_small_listing_decides_at_its_end() -> None:
    """Three items are too few for the breaker, and enough at the end of the listing; two are not."""
    bench = Bench()
    for _ in range(2):
        bench.item()
    bench.keys.listing_ended()
    assert bench.entries == []
    bench.item()
    bench.keys.listing_ended()
    assert Forgiven("s", "B10") in bench.entries


def test_keys_said_to_be_missing_are_absent_at_once() -> None:
    """`--missing-ok B1*` needs no evidence."""
    assert Bench(missing_ok=["B1*"]).item()


def test_what_failed_before_the_trip_is_judged_at_hand_over() -> None:
    """An item in hand while the breaker trips hands over an absence, and no failure that nobody forgives."""
    bench = Bench()
    early = [bench.item()]
    timeout = Failed("B10", "timeout", "", 5)
    assert bench.keys.judge("s", [GONE, timeout], []) == ([GONE, timeout], [])
    for _ in range(4):
        bench.item()
    assert bench.keys.judge("s", [GONE, timeout], []) == ([timeout], [Absent("B10")])
    assert early == [False]


def test_what_was_absent_before_the_doubt_is_judged_at_hand_over() -> None:
    """An item in hand while the key is found hands over a failure: nobody would ask for it again else."""
    bench = Bench(before=[MissingKey("s", "B10", 5, 5, True)])
    others = [Absent("B11"), Absent("B12", assumed=True)]
    in_hand = [Absent("B10", assumed=True), Absent("B10"), *others]
    assert bench.keys.judge("s", [], in_hand) == ([], in_hand)
    bench.keys.found("s", "B10")
    failed, absent = bench.keys.judge("s", [], in_hand)
    assert [(f.key, f.permanent) for f in failed] == [("B10", False)] * 2
    assert absent == others


def test_what_may_be_missing_stays_absent_unless_nobody_asked() -> None:
    """`--missing-ok B10` and B10 is there now and then: what was asked for is settled, what was assumed is not."""
    bench = Bench(missing_ok=["B10"], before=[MissingKey("s", "B10", 5, 5, True)])
    bench.keys.found("s", "B10")
    failed, absent = bench.keys.judge("s", [], [Absent("B10", assumed=True), Absent("B10")])
    assert ([f.key for f in failed], absent) == (["B10"], [Absent("B10")])
    assert bench.item()


def test_the_end_asks_for_what_counts_as_missing() -> None:
    """What is missing everywhere, and what an earlier `--missing-ok` may have let pass; not what was found since."""
    phantom = MissingKey("s", "B10", 20, 20, True)
    before = [phantom, MissingKey("s", "B09", 2, 2, False), MissingKey("s", "B01", 9, 0, False)]
    bench = Bench(before=before)
    assert bench.keys.absent_keys() == [("s", "B10"), ("s", "B09")]
    bench.keys.found("s", "B09")
    assert bench.entries == [Doubted("s", "B09")]
    assert bench.keys.absent_keys() == [("s", "B10")]


def test_what_may_be_missing_still_is_not_doubted() -> None:
    """`--missing-ok B09`, now as before: that some items have it takes no absence back."""
    bench = Bench(missing_ok=["B09"], before=[MissingKey("s", "B09", 2, 2, False)])
    bench.keys.found("s", "B09")
    assert bench.entries == []


def test_the_failures_shown_rise_when_a_key_is_found() -> None:
    """Absences handed over by this run become failures on the display, too."""
    bench = Bench()
    for _ in range(6):
        bench.item()
    bench.keys.found("s", "B10")
    assert (bench.progress.failures, bench.progress.absent) == (6, 0)


def test_a_sample_that_is_there_takes_it_back() -> None:
    """One item that has the key: it is asked for again everywhere, and never assumed again."""
    bench = Bench(before=[MissingKey("s", "B10", 5, 5, True)])
    assert bench.keys.assumes("s", "B10")
    bench.keys.found("s", "B10")
    assert bench.entries == [Doubted("s", "B10")]
    assert bench.evidence["B10"] == MissingKey("s", "B10", 6, 5, False)
    assert not bench.keys.assumes("s", "B10")
    assert not any(bench.item() for _ in range(20))
    assert len(bench.notes.lines) == 1


def test_an_earlier_run_is_remembered() -> None:
    """What tripped in an earlier run is assumed from the first item on."""
    bench = Bench(before=[MissingKey("s", "B10", 20, 20, True), MissingKey("s", "B09", 20, 2, False)])
    assert bench.keys.assumes("s", "B10")
    assert not bench.keys.assumes("s", "B09")
    assert bench.item()


def test_a_key_found_by_an_earlier_run_is_no_phantom() -> None:
    """Three items lack what an earlier run has of others: they are failures, however few this run asks."""
    first = Bench()
    first.keys.found("s", "B10")
    later = Bench(before=list(first.evidence.values()))
    assert not any(later.item() for _ in range(9))
    later.keys.listing_ended()
    assert later.entries == []


def test_evidence_of_an_interrupted_run_counts() -> None:
    """Two items lacked the key before the interruption, one after it: enough at the end of the listing."""
    first = Bench()
    for _ in range(2):
        first.item()
    later = Bench(before=list(first.evidence.values()))
    later.keys.gone("s", "B10")
    later.keys.listing_ended()
    assert later.entries == [Forgiven("s", "B10")]


def test_evidence_is_kept_sparingly() -> None:
    """A key that is there is recorded once, not for each item."""
    entries: list[LedgerEntry] = []
    keys = MissingKeys((), 5, 4, [], entries.append, lambda note: None, Progress())
    for _ in range(1000):
        keys.found("s", "B01")
        keys.gone("s", "B01")
    assert len(entries) == 1
