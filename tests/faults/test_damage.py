"""Files and ledgers that someone or something has damaged: found, said, and mended by the next run (rows 45, 49)."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from stacmirror.errors import TargetInUse
from stacmirror.findings import Finding
from stacmirror.verify import verify
from tests.conftest import simulated, tree
from tests.faults import mirrors
from tests.faults.invariants import Before, hold, mends
from tests.faults.whole_runs import Make, Way, by, is_whole, mirror
from tests.faults.world import Bench, path_of

Damage = Callable[[Path], object]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, tuple[Damage, str]] = {
    path_of("i0", "B01"): (lambda path: path.write_bytes(path.read_bytes()[:-1]), "cut"),
    path_of("i1", "B02"): (flip, "flipped"),
    path_of("i2", "raw"): (lambda path: path.unlink(), "missing"),
    path_of("i3", "labels"): (lambda path: path.write_bytes(path.read_bytes() + b"\n"), "grown"),
    path_of("i4", "raw"): (lambda path: path.write_bytes(b""), "cut"),
}


async def test_row_45_files_that_someone_has_changed(bench: Bench) -> None:
    """Cut, flipped, emptied, grown, a file and a folder gone: `verify` names each, the next run brings them alone."""
    before = Before()
    run = await bench.run()
    hold(bench, run, before)
    for path, (damage, _) in DAMAGE.items():
        damage(bench.target / path)
    shutil.rmtree(bench.target / "c/i5")
    expected = {path: kind for path, (_, kind) in DAMAGE.items()}
    expected |= {path: "missing" for path in bench.world.expected() if path.startswith("c/i5/")}
    found: list[Finding] = []
    result = verify(str(bench.target), deep=True, repair=True, on_finding=found.append)
    assert {finding.path: finding.kind for finding in found} == expected
    assert (result.exit_code, result.marked) == (7, len(expected))
    await mends(bench)
    asked = {path.removeprefix("/files/") for path in bench.world.asked if path.startswith("/files/")}
    assert asked == {path.removeprefix("c/").partition(".")[0] for path in expected}
    assert verify(str(bench.target), deep=True, strict=True).exit_code == 0


@pytest.mark.slow
async def test_row_49_a_torn_wal(quick_settings: Make, tmp_path: Path, way: Way) -> None:
    """Killed, and its WAL cut at any byte: the last whole group counts; the next run makes it whole (i1 to i7)."""
    items = 12
    dice = random.Random(49)
    async with simulated(items=items) as simulator:
        expected = await mirrors.undisturbed(simulator, tmp_path / "whole")
        killed = tmp_path / "killed"
        command = [*mirrors.CHILD, "--kill", "rename:16", "--", *mirrors.words(simulator, killed, "--page-size", "4")]
        await mirrors.ended(await mirrors.start(simulator, command), 60)
        rows = mirrors.check(_copy(killed, tmp_path / "seen"), expected)
        assert rows
        wal = killed / ".stacmirror" / "ledger.sqlite-wal"
        size = wal.stat().st_size
        lost = 0
        for number, cut in enumerate([0, size - 1, dice.randrange(size), dice.randrange(size)]):
            target = _copy(killed, tmp_path / f"torn{number}")
            _cut(target / ".stacmirror" / "ledger.sqlite-wal", cut)
            left = mirrors.check(_copy(target, tmp_path / f"look{number}"), expected)
            assert set(left) <= set(rows)
            lost += len(left) < len(rows)
            simulator.requests.clear()
            settings = quick_settings(simulator, target.name, **by(way))
            is_whole(await mirror(settings, simulator.key), simulator, target)
            mirrors.check_end(target, expected, items)
            assert not mirrors.asked_again(simulator, left, expected), "i3"
        assert lost, "no cut met a group"


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
async def test_row_49_a_ledger_cut_short(bench: Bench, share: float) -> None:
    """The database itself cut: refused with exit 9, nobody asked, nothing changed; put back, it goes on."""
    before = Before()
    run = await bench.run()
    ledger = bench.target / ".stacmirror" / "ledger.sqlite"
    whole = ledger.read_bytes()
    _cut(ledger, int(share * len(whole)))
    torn = ledger.read_bytes()
    bench.world.heard.clear()
    with pytest.raises(TargetInUse) as refused:
        await bench.run()
    assert refused.value.exit_code == 9
    assert refused.value.message == f"{ledger} is cut short: {len(torn)} of {len(whole)} bytes"
    assert "restore" in refused.value.hint
    assert (bench.world.heard, ledger.read_bytes()) == ([], torn)
    assert tree(bench.target) == bench.world.expected()
    ledger.write_bytes(whole)
    hold(bench, run, before)
    await mends(bench)


def _copy(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def _cut(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)
