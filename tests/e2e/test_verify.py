"""What is damaged is found, whatever the layout; and a repair brings exactly that again, in the place of the damage."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from stacmirror.errors import TargetInUse
from stacmirror.findings import Finding, Verification
from stacmirror.ledger.lock import RunLock
from stacmirror.ledger.repair import RepairStore
from stacmirror.manifest import entries
from stacmirror.mirror import Mirror
from stacmirror.model import Summary
from stacmirror.settings import Settings
from stacmirror.simulator import Simulator
from stacmirror.status import read_failed
from stacmirror.verify import verify
from tests.conftest import simulated, tree

Make = Callable[..., Settings]
LAYOUTS: dict[str, dict[str, object]] = {
    "item": {},
    "notebook": {"layout": "notebook"},
    "bigearthnet": {"layout": "bigearthnet"},
    "fanout": {"layout": "fanout"},
    "template, folders": {"path_template": "{collection}/{item_id}/{asset_key}/data{ext}"},
    "template, shared": {"path_template": "all/{collection}_{item_id}_{asset_key}{ext}"},
}


async def run(settings: Settings, simulator: Simulator) -> Summary:
    return await Mirror(settings, api_key=simulator.key).run()


def check(root: Path, **wanted: Any) -> tuple[Verification, dict[str, str]]:
    """Verify; return the result and the kind of each finding by its path."""
    found: list[Finding] = []
    result = verify(str(root), on_finding=found.append, **wanted)
    assert len({finding.path for finding in found}) == len(found)
    return result, {finding.path: finding.kind for finding in found}


@contextmanager
def repairing(root: Path) -> Iterator[RepairStore]:
    store = RepairStore(str(root / ".stacmirror" / "ledger.sqlite"))
    try:
        yield store
    finally:
        store.close()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def asked(simulator: Simulator, before: int) -> list[str]:
    """Return the names of the assets that were fetched since."""
    records = list(simulator.requests)[before:]
    return sorted(record.path.rpartition("/")[2] for record in records if record.server in ("blobs", "s3"))


def ledger(root: Path, *statements: str) -> None:
    with sqlite3.connect(root / ".stacmirror" / "ledger.sqlite") as db:
        for statement in statements:
            db.execute(statement)
    db.close()


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_damage_is_found_and_repaired(quick_settings: Make, tmp_path: Path, layout: str) -> None:
    """A cut, a grown, a flipped and a missing file: found by name; fetched again, they alone; the tree as before."""
    root = tmp_path / "mirror"
    async with simulated(items=6, generation=2020) as simulator:
        settings = quick_settings(simulator, **LAYOUTS[layout])
        await run(settings, simulator)
        whole = tree(root)
        assert check(root, deep=True)[0].exit_code == 0
        fetched = {name for name in whole if not name.endswith("_labels_metadata.json")}
        cut, grown, flipped, missing = sorted(fetched)[5:41:11]
        (root / cut).write_bytes(whole[cut][:-1])
        (root / grown).write_bytes(whole[grown] + b"x")
        flip(root / flipped)
        (root / missing).unlink()

        result, found = check(root)
        assert (result.exit_code, result.files) == (7, len(whole))
        assert found == {cut: "cut", grown: "grown", missing: "missing"}
        result, found = check(root, deep=True, repair=True)
        assert found == {cut: "cut", grown: "grown", missing: "missing", flipped: "flipped"}
        assert (result.marked, result.exit_code) == (4, 7)
        assert {failed.kind for failed in read_failed(str(root))} == {"damaged"}
        result, found = check(root, deep=True, strict=True)
        assert (found, result.damage, result.lacking, result.exit_code) == ({}, {"marked": 4}, 0, 7)
        before = len(simulator.requests)
        summary = await run(settings, simulator)
        assert len(asked(simulator, before)) == 4
    assert (summary.verdict, summary.mirror.assets.stored) == ("complete", len(whole))
    assert tree(root) == whole
    assert check(root, deep=True, strict=True)[0].exit_code == 0


async def test_derived_files_are_made_again_without_their_assets(quick_settings: Make, tmp_path: Path) -> None:
    """The labels_metadata.json of `bigearthnet` comes from the label on disk, byte for byte; nobody is asked for it."""
    root = tmp_path / "mirror"
    async with simulated(items=4, generation=2020) as simulator:
        settings = quick_settings(simulator, layout="bigearthnet")
        await run(settings, simulator)
        whole = tree(root)
        derived = [name for name in whole if name.endswith("_labels_metadata.json")]
        flip(root / derived[0])
        (root / derived[1]).unlink()
        _, found = check(root, deep=True, repair=True)
        assert found == {derived[0]: "flipped", derived[1]: "missing"}
        before = len(simulator.requests)
        assert (await run(settings, simulator)).verdict == "complete"
        assert asked(simulator, before) == []
    assert tree(root) == whole
    assert check(root, deep=True)[0].exit_code == 0


async def test_a_derived_file_is_not_made_of_damaged_bytes(quick_settings: Make, tmp_path: Path) -> None:
    """The label that a derived file is made of turns out flipped: it is fetched again first."""
    root = tmp_path / "mirror"
    async with simulated(items=4, generation=2020) as simulator:
        settings = quick_settings(simulator, layout="bigearthnet")
        await run(settings, simulator)
        whole = tree(root)
        derived = next(name for name in whole if name.endswith("_labels_metadata.json"))
        (label,) = (root / derived).parent.glob("*.geojson")
        (root / derived).unlink()
        flip(label)
        assert check(root, repair=True)[1] == {derived: "missing"}  # the flip is not seen by size
        before = len(simulator.requests)
        assert (await run(settings, simulator)).verdict == "complete"
        assert len(asked(simulator, before)) == 1
    assert tree(root) == whole


@pytest.mark.parametrize("layout", ["item", "bigearthnet", "notebook"])
async def test_a_missing_folder_comes_back(quick_settings: Make, tmp_path: Path, layout: str) -> None:
    """A whole item's folder is gone, or a whole collection's: what was in it is fetched again, and nothing else."""
    root = tmp_path / "mirror"
    async with simulated(items=4, generation=2020) as simulator:
        settings = quick_settings(simulator, layout=layout)
        await run(settings, simulator)
        whole = tree(root)
        folder = str(Path(max(whole)).parent)
        shutil.rmtree(root / folder)
        lost = {name: "missing" for name in whole if name.startswith(f"{folder}/")}
        result, found = check(root, repair=True)
        assert (result.exit_code, found) == (7, lost)
        before = len(simulator.requests)
        assert (await run(settings, simulator)).verdict == "complete"
        fetched = [name for name in lost if not name.endswith("_labels_metadata.json")]
        assert len(asked(simulator, before)) == len(fetched)
    assert tree(root) == whole
    assert check(root, deep=True, strict=True)[0].exit_code == 0


@pytest.mark.parametrize("layout", ["item", "bigearthnet", "template, shared"])
@pytest.mark.parametrize("collection", ["bigearthnet_v1_labels", "bigearthnet_v1_source"])
@pytest.mark.parametrize("broken", ["receipts", "crc", "id"])
async def test_a_damaged_row_brings_its_item_again(
    quick_settings: Make, tmp_path: Path, layout: str, collection: str, broken: str
) -> None:
    """A flipped byte of a row is found, and its item alone is fetched again: label or source, blob, sum or name."""
    root = tmp_path / "mirror"
    async with simulated(items=5, generation=2020) as simulator:
        settings = quick_settings(simulator, **LAYOUTS[layout])
        first = await run(settings, simulator)
        whole = tree(root)
        change = {
            "receipts": "receipts = substr(receipts, 1, 20) || x'00' || substr(receipts, 22)",
            "crc": "crc = crc + 1",
            "id": "id = 'X' || substr(id, 2)",
        }[broken]
        ledger(
            root,
            f"UPDATE item SET {change} WHERE n = (SELECT max(i.n) FROM item i JOIN collection c"
            f" ON c.n = i.collection WHERE c.id = '{collection}')",
        )
        result, _ = check(root, repair=True)
        assert (result.exit_code, result.damage["row"], result.marked) == (7, 1, 1)
        before = len(simulator.requests)
        summary = await run(settings, simulator)
        fetched = len(asked(simulator, before))
    if collection.endswith("labels"):
        # Where the two share a folder, a label whose very name is lost takes its source with it.
        assert fetched == (13 if layout == "bigearthnet" and broken == "id" else 1)
    else:
        assert fetched == 12
    assert (summary.verdict, summary.mirror) == ("complete", first.mirror)
    assert tree(root) == whole
    assert check(root, deep=True, strict=True)[0].exit_code == 0


async def test_a_run_that_meets_a_damaged_row_fetches_the_item_again(quick_settings: Make, tmp_path: Path) -> None:
    """Nobody verified: the row's page is walked again, its item fetched again and said once, and the ledger mended."""
    root = tmp_path / "mirror"
    lines: list[str] = []

    class Hears:
        def note(self, message: str) -> None:
            lines.append(message)

    async with simulated(items=5, generation=2020) as simulator:
        settings = quick_settings(simulator)
        first = await run(settings, simulator)
        ledger(
            root,
            "UPDATE item SET crc = crc + 1 WHERE n IN (SELECT min(n) FROM item GROUP BY collection)",
            "UPDATE page SET settled = 0",
        )
        before = len(simulator.requests)
        summary = await Mirror(settings, api_key=simulator.key, observer=Hears()).run()
        assert len(asked(simulator, before)) == 13
    assert (summary.verdict, summary.mirror) == ("complete", first.mirror)
    assert sorted(line.partition(" is damaged")[0].split("/")[0] for line in lines if "damaged" in line) == [
        "the ledger's row of bigearthnet_v1_labels",
        "the ledger's row of bigearthnet_v1_source",
    ]
    assert check(root)[0].exit_code == 0


async def test_staged_and_held_rows_that_are_damaged(quick_settings: Make, tmp_path: Path) -> None:
    """What was staged under a row that is damaged is not trusted: dropped, and fetched again."""
    root = tmp_path / "mirror"
    async with simulated(items=5, generation=2020) as simulator:
        settings = quick_settings(simulator, incomplete="hide", sweeps=0, retries=0)
        simulator.on_request = lambda record: "503" if "_B04.tif" in record.path else None
        await run(settings, simulator)
        simulator.on_request = None
        result, found = check(root)
        assert (result.exit_code, set(found.values()), result.lacking) == (0, {"unrevealed"}, 5)
        assert check(root, strict=True)[0].exit_code == 7
        ledger(root, "UPDATE item SET receipts = x'00' WHERE n = (SELECT min(n) FROM item WHERE unit IS NOT NULL)")
        summary = await run(settings, simulator)
    assert (summary.verdict, len(tree(root))) == ("complete", 5 * 13)
    assert check(root, deep=True, strict=True)[0].exit_code == 0


async def test_lost_staged_files_are_found_and_fetched_again(quick_settings: Make, tmp_path: Path) -> None:
    """A staged file that is cut, and one that is gone, before a run could reveal them."""
    root = tmp_path / "mirror"
    async with simulated(items=3, generation=2020) as simulator:
        settings = quick_settings(simulator, incomplete="hide", sweeps=0, retries=0)
        simulator.on_request = lambda record: "503" if "_B04.tif" in record.path else None
        await run(settings, simulator)
        simulator.on_request = None
        staged = sorted((root / ".stacmirror" / "staging").rglob("*.tif"))
        staged[0].write_bytes(b"cut")
        staged[1].unlink()
        result, _ = check(root, repair=True)
        assert result.damage == {"cut": 1, "missing": 1}
        before = len(simulator.requests)
        summary = await run(settings, simulator)
        assert len(asked(simulator, before)) == 3 + 2
        undisturbed = await run(quick_settings(simulator, target="other"), simulator)
    assert summary.verdict == undisturbed.verdict == "complete"
    assert tree(root) == tree(tmp_path / "other")


@pytest.mark.parametrize("all_of_it", [True, False])
async def test_what_was_staged_and_is_gone_is_fetched_again(
    quick_settings: Make, tmp_path: Path, all_of_it: bool
) -> None:
    """Killed between ledger and reveal, and someone tidied `staging` up, all or a part: not `complete` without it."""
    root = tmp_path / "mirror"
    async with simulated(items=4, generation=2020) as simulator:
        settings = quick_settings(simulator)
        await run(settings, simulator)
        expected = tree(root)
        folder = next((root / "bigearthnet_v1_source").glob("*/B02.tif")).parent
        where = f"WHERE id = '{folder.name}'"
        place = f"bigearthnet_v1_source/{folder.name}"
        ledger(root, f"UPDATE item SET state = 1, unit = '9-9', folder = '{place}' {where}")
        staged = root / ".stacmirror" / "staging" / "9-9"
        folder.rename(staged)
        if all_of_it:
            shutil.rmtree(staged)
        else:
            (staged / "B02.tif").unlink()
        before = len(simulator.requests)
        summary = await run(settings, simulator)
        assert len({path.rpartition("/")[2] for path in asked(simulator, before)} - {"B10.tif"}) >= 12
    assert summary.verdict == "complete"
    assert tree(root) == expected
    assert check(root, deep=True, strict=True)[0].exit_code == 0


async def test_foreign_files_are_said_and_left_alone(quick_settings: Make, tmp_path: Path) -> None:
    """Beside items, in an item's folder, at the top: found in every kind of layout; damage only where asked for."""
    async with simulated(items=3, generation=2020) as simulator:
        for name, values in LAYOUTS.items():
            root = tmp_path / name
            await run(quick_settings(simulator, target=name, **values), simulator)
            inside = str(Path(min(tree(root))).parent / "notes.txt")
            foreign = [inside, "mine/deep/er/x", "readme", f"{inside.partition('/')[0]}/collection.xml"]
            for path in foreign:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(b"mine")
            (root / "SHA256SUMS").write_text("ours")
            result, found = check(root)
            assert found == dict.fromkeys(foreign, "foreign"), name
            assert result.exit_code == 0
            assert check(root, strict=True, repair=True)[0].exit_code == 7
            assert all((root / path).read_bytes() == b"mine" for path in foreign)


async def test_leftovers_of_a_kill_are_unrevealed_not_damage(quick_settings: Make, tmp_path: Path) -> None:
    """Staged bytes without a row, and parts: named, no damage."""
    root = tmp_path / "mirror"
    async with simulated(items=2, generation=2020) as simulator:
        await run(quick_settings(simulator), simulator)
    (root / ".stacmirror" / "staging" / "9-9").mkdir()
    (root / ".stacmirror" / "parts" / "9-9-1").touch()
    result, found = check(root)
    assert found == {".stacmirror/staging/9-9": "unrevealed", ".stacmirror/parts/9-9-1": "unrevealed"}
    assert result.exit_code == 0


@pytest.mark.parametrize("layout", ["item", "bigearthnet", "template, shared"])
async def test_verify_beside_a_running_mirror(quick_settings: Make, tmp_path: Path, layout: str) -> None:
    """Verified again and again while a mirror and then a repair's resume run: what is under way is no finding."""
    root = tmp_path / "mirror"
    results: list[Verification] = []

    async def verify_until(running: asyncio.Task[Summary]) -> None:
        while not running.done():
            result, found = await asyncio.to_thread(check, root, deep=len(results) % 2 == 0)
            assert found == {}
            results.append(result)

    async with simulated(items=80, generation=2020) as simulator:
        # Some 2,200 requests: it is on for two seconds at least, on any machine.
        settings = quick_settings(simulator, rate="1000/s", **LAYOUTS[layout])
        running = asyncio.create_task(run(settings, simulator))
        while not (root / ".stacmirror" / "ledger.sqlite-wal").exists() and not running.done():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        await verify_until(running)
        assert (await running).verdict == "complete"
        assert any(result.running and 0 < result.files < 80 * 13 for result in results)
        with repairing(root) as store:
            store.mark_files({n: {"B02": "cut", "labels": "cut"} for n in range(1, 161)})
        running = asyncio.create_task(run(settings, simulator))
        await asyncio.sleep(0.02)
        await verify_until(running)
        assert (await running).verdict == "complete"
    assert check(root, deep=True, strict=True)[0].exit_code == 0


async def test_repair_needs_the_mirror_for_itself(quick_settings: Make, tmp_path: Path) -> None:
    """While a run has the lock, verify works and takes staged work for no damage; --repair is refused."""
    root = tmp_path / "mirror"
    async with simulated(items=2, generation=2020) as simulator:
        await run(quick_settings(simulator), simulator)
    (root / ".stacmirror" / "staging" / "9-9").mkdir()
    lock = RunLock(str(root / ".stacmirror"))
    lock.take()
    try:
        result, found = check(root)
        assert (result.exit_code, found, "pid" in result.running) == (0, {}, True)
        with pytest.raises(TargetInUse, match="pid"):
            check(root, repair=True)
    finally:
        lock.release()


async def test_repair_ends_when_its_lock_is_taken_over(
    quick_settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run has taken the mirror over meanwhile (this one was asleep): nothing more is marked, exit code 9."""
    root = tmp_path / "mirror"
    async with simulated(items=2, generation=2020) as simulator:
        await run(quick_settings(simulator), simulator)
    next(root.rglob("B02.tif")).unlink()
    mark = RepairStore.mark_files

    def taken_over(*values: Any) -> None:
        (root / ".stacmirror" / "lock").write_text('{"pid": 1, "host": "elsewhere", "since": "now"}')
        mark(*values)

    monkeypatch.setattr(RepairStore, "mark_files", taken_over)
    with pytest.raises(TargetInUse, match="pid 1 on elsewhere"):
        check(root, repair=True)
    assert list(read_failed(str(root))) == []


async def test_a_ledger_that_is_gone_is_not_made_by_a_repair(quick_settings: Make, tmp_path: Path) -> None:
    """Refused as every reader refuses it: an empty one would make all that is there foreign, and the mirror `whole`."""
    root = tmp_path / "mirror"
    async with simulated(items=1, generation=2020) as simulator:
        await run(quick_settings(simulator), simulator)
    (root / ".stacmirror" / "ledger.sqlite").unlink()
    for repair in (False, True):
        with pytest.raises(TargetInUse, match="there is no ledger"):
            check(root, repair=repair)
    assert not (root / ".stacmirror" / "ledger.sqlite").exists()


async def test_a_part_that_is_wanted_is_called_so(quick_settings: Make, tmp_path: Path) -> None:
    """A large file that is there in part: one finding, of its item and asset, which says how far it is."""
    root = tmp_path / "mirror"
    async with simulated(items=1, generation=2020, large={"B02": 3 << 20}) as simulator:
        simulator.on_request = lambda record: "short" if "_B02.tif" in record.path else None
        await run(quick_settings(simulator, retries=0, sweeps=0), simulator)
        found: list[Finding] = []
        result = verify(str(root), on_finding=found.append)
        parts = [finding for finding in found if finding.path.startswith(".stacmirror/parts/")]
        assert result.exit_code == 0
        assert [(finding.kind, finding.asset) for finding in parts] == [("unrevealed", "B02")]
        assert parts[0].item.startswith("bigearthnet_v1_source_")
        assert "of 3.1 MB are there; `resume` asks for the rest" in parts[0].detail


async def test_a_ledger_kept_elsewhere_is_found(quick_settings: Make, tmp_path: Path) -> None:
    """With `--state-dir`, verify, repair, resume and manifest go to where the ledger is."""
    root = tmp_path / "mirror"
    async with simulated(items=2, generation=2020) as simulator:
        settings = quick_settings(simulator, state_dir=str(tmp_path / "state"))
        await run(settings, simulator)
        assert not (root / ".stacmirror" / "ledger.sqlite").exists()
        whole = tree(root)
        assert len(list(entries(str(root), pytest.fail))) == len(whole)
        lost = min(whole)
        (root / lost).unlink()
        assert check(root, repair=True)[1] == {lost: "missing"}
        assert (await run(quick_settings(simulator), simulator)).verdict == "complete"
    assert tree(root) == whole
    assert check(root, deep=True, strict=True)[0].exit_code == 0
