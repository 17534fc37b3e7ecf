"""A symbolic link in the target is never written through, wherever it was planted: what it leads to stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stacmirror.errors import StacmirrorError, TargetUnwritable
from stacmirror.model import Unit
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
