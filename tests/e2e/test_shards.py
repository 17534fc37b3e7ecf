"""Several mirrors of one collection, a shard each: together they are the mirror that one machine makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stacmirror.errors import TargetUnwritable, UsageError
from stacmirror.filters.shard import shard_of
from stacmirror.model import Summary
from stacmirror.settings import Settings
from stacmirror.simulator import Simulator
from stacmirror.sinks.directory import DirectorySink
from stacmirror.status import read_status
from tests.conftest import simulated, tree
from tests.e2e.test_mirror import adds_up, run
from tests.faults.mirrors import rows
from tests.unit.test_room import GB, Bench, disk

Make = Callable[..., Settings]


async def shard(make: Make, simulator: Simulator, number: int, **values: object) -> Summary:
    settings = make(simulator, f"shard-{number}", shard=f"{number}/3", page_size=7, **values)
    return await run(settings, simulator.key)


def walked(target: Path) -> set[str]:
    return {name for name in rows(target) if name.startswith("bigearthnet_v1_labels/")}


@pytest.mark.parametrize("traps", [(), ("shared-sources",)], ids=["own", "shared"])
async def test_three_shards_are_the_whole(quick_settings: Make, tmp_path: Path, traps: tuple[str, ...]) -> None:
    """Joined, their trees are the undisturbed one; no label is in two ledgers, and a shared source is the same file."""
    async with simulated(items=50, generation=2020, traps=traps) as simulator:
        whole = await run(quick_settings(simulator, "whole", page_size=7), simulator.key)
        assert whole.verdict == "complete"
        ends = [await shard(quick_settings, simulator, number) for number in (1, 2, 3)]
        expected = tree(tmp_path / "whole")
        trees = [tree(tmp_path / f"shard-{number}") for number in (1, 2, 3)]
        joined: dict[str, bytes] = {}
        for one in trees:
            assert all(joined.get(path, body) == body for path, body in one.items())
            joined.update(one)
        assert joined == expected
        assert (sum(map(len, trees)) == len(expected)) == (not traps)
        ledgers = [walked(tmp_path / f"shard-{number}") for number in (1, 2, 3)]
        assert sum(map(len, ledgers)) == len(set().union(*ledgers)) == 50
        for number, (end, ledger) in enumerate(zip(ends, ledgers, strict=True), 1):
            assert (end.verdict, end.exit_code, end.shard) == ("complete", 0, f"{number}/3")
            assert {shard_of(name.partition("/")[2], 3) for name in ledger} == {number}
            items = end.mirror.items
            assert adds_up(end)
            assert (items.listed, items.complete, items.filtered) == (50, len(ledger), 50 - len(ledger))
            status = read_status(str(tmp_path / f"shard-{number}"))
            assert (status.shard, status.counts.items.complete) == (f"{number}/3", len(ledger))


async def test_the_same_shard_goes_on_and_another_is_refused(quick_settings: Make, tmp_path: Path) -> None:
    """Again: no asset is asked for. Another shard, or none, in that DEST needs --change-filter, and adds to it."""
    async with simulated(items=30, generation=2020) as simulator:
        await shard(quick_settings, simulator, 1)
        before = tree(tmp_path / "shard-1")
        simulator.requests.clear()
        assert (await shard(quick_settings, simulator, 1)).verdict == "complete"
        assert not [record for record in simulator.requests if record.server != "api"]
        for other in ("2/3", "1/4", ""):
            with pytest.raises(UsageError, match=f'shard is "1/3", not "{other}"'):
                await run(quick_settings(simulator, "shard-1", shard=other), simulator.key)
        both = await run(quick_settings(simulator, "shard-1", shard="2/3", change_filter=True), simulator.key)
        assert both.verdict == "complete"
        assert before.items() < tree(tmp_path / "shard-1").items()
        assert {shard_of(name.partition("/")[2], 3) for name in walked(tmp_path / "shard-1")} == {1, 2}
        every = await run(quick_settings(simulator, "shard-1", shard="", change_filter=True), simulator.key)
        assert (every.mirror.items.complete, every.mirror.items.filtered) == (30, 0)


async def test_a_mirror_of_all_may_become_a_shard(quick_settings: Make) -> None:
    """Nothing more is wanted then: nothing is walked again, nothing goes."""
    async with simulated(items=30, generation=2020) as simulator:
        await run(quick_settings(simulator), simulator.key)
        simulator.requests.clear()
        end = await run(quick_settings(simulator, shard="1/3", change_filter=True), simulator.key)
        assert (end.verdict, end.mirror.items.complete) == ("complete", 30)
        assert not [record for record in simulator.requests if record.server != "api"]


async def test_ids_of_other_shards_are_not_missed(quick_settings: Make) -> None:
    """Of ids asked for by name, those of this shard are fetched; one of this shard that is not listed is named."""
    async with simulated(items=20, generation=2020) as simulator:
        ids = [simulator.item_id(number) for number in range(10)]
        ours = [id_ for id_ in ids if shard_of(id_, 3) == 1]
        assert 0 < len(ours) < 10
        end = await shard(quick_settings, simulator, 1, item=ids)
        assert (end.verdict, end.mirror.items.complete) == ("complete", len(ours))
        nobody = next(name for name in map("nobody-{}".format, range(100)) if shard_of(name, 3) == 2)
        end = await shard(quick_settings, simulator, 2, item=[*ids, nobody])
        assert (end.verdict, end.exit_code) == ("incomplete", 3)
        assert nobody in end.reason


def test_a_shard_needs_room_for_its_share() -> None:
    """A tenth of 11,000 items: what other shards take is not counted, and what is left is sure enough to refuse."""
    bench = Bench(disk(free_bytes=GB + 175 * 10**6), total=11_000)
    bench.progress.share, bench.progress.items_listed = 0.1, 1_000
    bench.progress.items_filtered = bench.progress.items_elsewhere = 900
    bench.room.check()
    assert any("162.7 MB" in line and "may not fit" in line for line in bench.notes.lines)
    bench = Bench(disk(free_bytes=GB + 100 * 10**6), total=11_000)
    bench.progress.share, bench.progress.items_listed = 0.1, 1_000
    bench.progress.items_filtered = bench.progress.items_elsewhere = 900
    with pytest.raises(Exception, match=r"does not fit into /mnt/data: .*162.7 MB more"):
        bench.room.check()


async def test_what_another_run_took_away_is_no_failing_disk(
    quick_settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose files vanish since another host has taken over says that (exit 9), and asks nobody any more."""
    lock = tmp_path / "mirror" / ".stacmirror" / "lock"

    def taken_over(self: DirectorySink) -> None:
        lock.write_text('{"pid": 7, "host": "elsewhere", "since": "now", "started": "x"}')
        raise TargetUnwritable("cannot write to staging: No such file or directory", hint="mend the target")

    monkeypatch.setattr(DirectorySink, "sync", taken_over)
    async with simulated(items=10) as simulator:
        summary = await run(quick_settings(simulator), simulator.key)
        assert (summary.verdict, summary.exit_code) == ("stopped", 9)
        assert "taken this mirror over: pid 7 on elsewhere" in summary.reason
        assert not [one for one in simulator.requests if one.path.endswith("/collections/bigearthnet_v1_source")]
    assert "elsewhere" in lock.read_text()
