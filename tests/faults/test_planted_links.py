"""A symbolic link in the target is never written through, wherever it was planted: what it leads to stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stacmirror.errors import StacmirrorError, TargetUnwritable
from stacmirror.model import AssetKey, ItemKey, PartState, Unit, Version
from stacmirror.sinks.directory import DirectorySink
from tests.faults.world import COLLECTION, Bench, a_world

OWN = ".stacmirror"
FOLDERS = [OWN, f"{OWN}/staging", f"{OWN}/parts", COLLECTION, f"{COLLECTION}/i0"]
FILES = [
    f"{OWN}/ledger.sqlite", f"{OWN}/ledger.sqlite-wal", f"{OWN}/ledger.sqlite-shm", f"{OWN}/lock", f"{OWN}/reserve",
    f"{OWN}/settings.toml", f"{OWN}/settings.toml.part", f"{OWN}/state-dir.json", f"{COLLECTION}/collection.json",
    f"{COLLECTION}/i0/B01.tif", f"{OWN}/parts/document-collection.json",
]  # fmt: skip


def plant(place: Path, outside: Path) -> None:
    """Put a link to `outside` where `place` is, with what is on the way there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(outside)


@pytest.mark.parametrize("place", FOLDERS)
async def test_a_linked_folder_is_refused(tmp_path: Path, place: str) -> None:
    """A link in place of a folder ends the run (exit 6), names the link, and nothing is written where it leads."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "theirs").write_bytes(b"theirs")
    async with a_world() as world:
        bench = Bench(world, tmp_path / "mirror", "wire", 4)
        plant(bench.target / place, outside)
        try:
            summary = (await bench.run()).summary
            told, code = summary.reason, summary.exit_code
        except StacmirrorError as error:
            told, code = error.message, error.exit_code
    assert code == 6
    assert "symbolic link" in told
    assert place.rpartition("/")[2] in told
    assert [path.name for path in outside.rglob("*")] == ["theirs"]
    assert (outside / "theirs").read_bytes() == b"theirs"


@pytest.mark.parametrize("there", [True, False], ids=["to a file", "to nothing"])
@pytest.mark.parametrize("place", FILES)
async def test_a_linked_file_is_refused_or_replaced(tmp_path: Path, place: str, there: bool) -> None:
    """A link in place of a file is refused, or gives way to the file; what it points to is not written, nor made."""
    outside = tmp_path / "outside"
    outside.mkdir()
    victim = outside / "theirs"
    if there:
        victim.write_bytes(b"theirs")
    async with a_world() as world:
        bench = Bench(world, tmp_path / "mirror", "wire", 4)
        plant(bench.target / place, victim)
        try:
            told, code = "", (await bench.run()).summary.exit_code
        except StacmirrorError as error:
            told, code = error.message, error.exit_code
    assert code in (0, 6, 9)
    assert "symbolic link" in told or place in told or not (bench.target / place).is_symlink()
    assert victim.exists() == there
    assert not there or victim.read_bytes() == b"theirs"


UNIT = Unit("1-1", "c/i", exclusive=True)


@pytest.mark.parametrize(
    "work",
    [
        lambda sink: sink.stage(UNIT, [("sub/A.tif", b"x")]),
        lambda sink: sink.link(UNIT, "sub/A.tif", __file__),
    ],
    ids=["stage", "link"],
)
def test_links_inside_a_unit_are_refused(tmp_path: Path, work: Callable[[DirectorySink], object]) -> None:
    """A link planted in staging, as a unit or as a folder of one, leads nobody out."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for place in ("1-1", "1-1/sub"):
        target = tmp_path / f"mirror-{len(place)}"
        sink = DirectorySink(str(target))
        plant(target / OWN / "staging" / place, outside)
        with pytest.raises(TargetUnwritable, match=r"symbolic link|Not a directory"):
            work(sink)
        sink.close()
    assert list(outside.iterdir()) == []


def test_a_folder_that_becomes_a_link_is_refused(tmp_path: Path) -> None:
    """A collection's folder that is exchanged for a link while a run is on is not written through either."""
    outside, target = tmp_path / "outside", tmp_path / "mirror"
    outside.mkdir()
    sink = DirectorySink(str(target))
    for number in range(2):
        unit = Unit(f"1-{number}", f"c/i{number}", exclusive=True)
        sink.stage(unit, [("A.tif", b"x")])
        sink.sync()
        if number == 0:
            sink.reveal(unit, {"A.tif": "A.tif"})
            (target / "c").rename(target / "moved")
            (target / "c").symlink_to(outside)
            continue
        with pytest.raises(TargetUnwritable, match="symbolic link"):
            sink.reveal(unit, {"A.tif": "A.tif"})
    sink.close()
    assert list(outside.iterdir()) == []


async def test_the_target_itself_may_be_a_link(tmp_path: Path) -> None:
    """DEST is the user's own word: it may lead through links, as `/data` often does."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    async with a_world() as world:
        assert (await Bench(world, tmp_path / "data/mirror", "wire", 4).run()).summary.exit_code == 0
    assert (tmp_path / "disk/mirror" / COLLECTION / "i0/B01.tif").is_file()


@pytest.mark.parametrize(
    "work",
    [
        lambda sink: sink.stage(Unit("../../../outside", "c/i", exclusive=True), [("A.tif", b"x")]),
        lambda sink: sink.stage(UNIT, [("../../../../outside/A.tif", b"x")]),
        lambda sink: sink.reveal(Unit("1-1", "../outside", exclusive=True), {}),
        lambda sink: sink.reveal(Unit("1-1", "../outside/x", exclusive=False), {"A.tif": "A.tif"}),
        lambda sink: sink.reveal(Unit("1-1", "c", exclusive=False), {"A.tif": "../../outside/A.tif"}),
        lambda sink: sink.reveal(Unit("../../../outside", "c/i", exclusive=True), {}),
        lambda sink: sink.reveal(Unit("../../../outside", "c", exclusive=False), {"theirs": "theirs"}),
        lambda sink: sink.link(Unit("../../../outside", "c", exclusive=False), "B.py", __file__),
        lambda sink: sink.put_document("../outside/collection.json", b"{}"),
    ],
)
def test_a_made_up_ledger_leads_nobody_out(tmp_path: Path, work: Callable[[DirectorySink], object]) -> None:
    """Units, folders and names with `..`, as only a ledger that someone made up has them: exit 6, nothing moved."""
    outside, target = tmp_path / "outside", tmp_path / "mirror"
    outside.mkdir()
    (outside / "theirs").write_bytes(b"theirs")
    sink = DirectorySink(str(target))
    sink.stage(UNIT, [("A.tif", b"x")])
    with pytest.raises(TargetUnwritable, match=r"leads out|Invalid"):
        work(sink)
    sink.close()
    assert [(path.name, path.read_bytes()) for path in outside.iterdir()] == [("theirs", b"theirs")]
    assert {path.name for path in tmp_path.iterdir()} == {"outside", "mirror"}


@pytest.mark.parametrize(("unit", "name"), [("../../../outside", "theirs"), ("1-1", "../../../../outside/theirs")])
def test_a_made_up_record_moves_nothing(tmp_path: Path, unit: str, name: str) -> None:
    """A record of a large file that names someone's file as its own is no record: that file stays where it is."""
    outside, target = tmp_path / "outside", tmp_path / "mirror"
    outside.mkdir()
    (outside / "theirs").write_bytes(b"theirs")
    asset = AssetKey(ItemKey("c", "i"), "B01")
    sink = DirectorySink(str(target))
    state = PartState(asset, Version(length=6), name, "xxh3", redirected=False)
    state.unit, state.offset, state.digest = unit, 6, b"0" * 16
    path = sink._large._path(asset)
    Path(path + ".part").write_bytes(b"")
    sink._large.save(state, path)
    sink.close()
    again = DirectorySink(str(target))
    assert again.waiting == {}
    again.retain({})
    again.close()
    assert (outside / "theirs").read_bytes() == b"theirs"
