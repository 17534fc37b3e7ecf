"""What every Sink owes, whatever it writes to. To add one: a maker in SINKS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stacmirror.interfaces import Sink
from stacmirror.model import Unit
from stacmirror.sinks import directory
from stacmirror.sinks.directory import DirectorySink
from stacmirror.sinks.durable import FsyncEach
from tests.conftest import tree

UNIT = Unit("1-1", "labels/a")
SHARED = Unit("1-2", "all", exclusive=False)
FILES = [("A.tif", b"the first"), ("deep/er/B.tif", b"the second")]
NAMES = {name: name for name, _ in FILES}
EXPECTED = {f"labels/a/{name}": content for name, content in FILES}


def _by_syncfs(root: Path, monkeypatch: pytest.MonkeyPatch) -> Sink:
    return DirectorySink(str(root))


def _by_fsync(root: Path, monkeypatch: pytest.MonkeyPatch) -> Sink:
    monkeypatch.setattr(directory, "make_syncer", lambda folder: FsyncEach())
    return DirectorySink(str(root))


SINKS: dict[str, Callable[[Path, pytest.MonkeyPatch], Sink]] = {
    "directory": _by_syncfs,
    "directory, fsync": _by_fsync,
}


@pytest.fixture(params=SINKS)
def make(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Sink]]:
    """A maker of sinks over one and the same target."""
    made: list[Sink] = []

    def maker() -> Sink:
        made.append(SINKS[request.param](tmp_path, monkeypatch))
        return made[-1]

    yield maker
    for sink in made:
        sink.close()
        sink.close()


def publish(sink: Sink, unit: Unit, names: dict[str, str]) -> None:
    sink.sync()
    sink.reveal(unit, names)
    sink.sync()


def test_nothing_is_visible_before_it_is_revealed(make: Callable[[], Sink], tmp_path: Path) -> None:
    """Staged and synced bytes are unseen; revealed, they are all there."""
    sink = make()
    sink.stage(UNIT, FILES)
    sink.sync()
    assert tree(tmp_path) == {}
    assert sink.holds(UNIT, NAMES)
    sink.reveal(UNIT, NAMES)
    assert tree(tmp_path) == EXPECTED


def test_revealing_again_changes_nothing(make: Callable[[], Sink], tmp_path: Path) -> None:
    """A kill after the reveal: the next run reveals once more, and what is there stays."""
    sink = make()
    sink.stage(UNIT, FILES)
    publish(sink, UNIT, NAMES)
    publish(make(), UNIT, NAMES)
    assert tree(tmp_path) == EXPECTED


def test_a_reveal_can_be_finished_by_another_run(make: Callable[[], Sink], tmp_path: Path) -> None:
    """Staged by one process, kept and revealed by the next."""
    make().stage(UNIT, FILES)
    later = make()
    later.retain({UNIT.id: list(NAMES)})
    assert later.holds(UNIT, NAMES)
    publish(later, UNIT, NAMES)
    assert tree(tmp_path) == EXPECTED


def test_what_is_there_already_is_joined(make: Callable[[], Sink], tmp_path: Path) -> None:
    """A unit whose folder is visible adds its files, and takes nothing away that others put there."""
    sink = make()
    sink.stage(UNIT, FILES[:1])
    publish(sink, UNIT, {"A.tif": "A.tif"})
    (tmp_path / "labels/a/theirs.txt").write_bytes(b"foreign")
    again = Unit("2-1", UNIT.folder)
    sink.stage(again, FILES[1:])
    publish(sink, again, NAMES)  # A.tif is in place since earlier, and not staged
    assert tree(tmp_path) == EXPECTED | {"labels/a/theirs.txt": b"foreign"}
    assert sink.holds(again, NAMES)


def test_shared_folders_take_files_under_their_final_names(make: Callable[[], Sink], tmp_path: Path) -> None:
    """Where items share a folder, each file goes to the name that the ledger gave it."""
    sink = make()
    sink.stage(SHARED, FILES)
    publish(sink, SHARED, {"A.tif": "A~1.tif", "deep/er/B.tif": "deep/er/B.tif"})
    assert tree(tmp_path) == {"all/A~1.tif": b"the first", "all/deep/er/B.tif": b"the second"}


def test_a_name_staged_twice_has_the_last_bytes(make: Callable[[], Sink], tmp_path: Path) -> None:
    """A longer first attempt leaves no tail behind."""
    sink = make()
    sink.stage(UNIT, [("A.tif", b"long and wrong")])
    sink.stage(UNIT, [("A.tif", b"right")])
    publish(sink, UNIT, {"A.tif": "A.tif"})
    assert tree(tmp_path) == {"labels/a/A.tif": b"right"}


def test_an_item_without_files_can_be_revealed(make: Callable[[], Sink], tmp_path: Path) -> None:
    """Nothing staged, nothing to show, no error."""
    sink = make()
    publish(sink, UNIT, {})
    publish(sink, SHARED, {})
    assert tree(tmp_path) == {}


def test_what_a_kill_left_is_removed(make: Callable[[], Sink], tmp_path: Path) -> None:
    """Of what is staged, only the kept units' names stay; visible files are not touched."""
    sink = make()
    sink.stage(UNIT, [*FILES, ("deep/orphan.tif", b"no receipt")])
    sink.stage(Unit("1-9", "labels/b"), FILES)
    sink.put_document("labels/note.txt", b"visible")
    sink.retain({UNIT.id: list(NAMES)})
    assert not sink.holds(Unit("1-9", "labels/b"), NAMES)
    publish(sink, UNIT, NAMES)
    assert tree(tmp_path) == EXPECTED | {"labels/note.txt": b"visible"}


def test_a_document_is_whole_and_can_be_replaced(make: Callable[[], Sink], tmp_path: Path) -> None:
    """The mirror's own files are put in place at once; again with other bytes, too."""
    sink = make()
    sink.put_document("labels/CITE.txt", b"one, and long")
    sink.put_document("labels/CITE.txt", b"two")
    assert tree(tmp_path) == {"labels/CITE.txt": b"two"}


async def test_a_large_file_appears_with_its_unit(make: Callable[[], Sink], tmp_path: Path) -> None:
    """A part that was kept is revealed with the unit's small files, byte for byte."""
    sink = make()
    content = bytes(range(256)) * 20_000
    sink.stage(UNIT, FILES)
    async with sink.part(UNIT, "large/C.tif") as part:
        for start in range(0, len(content), 70_001):
            await part.write(content[start : start + 70_001])
        await part.keep()
    assert tree(tmp_path) == {}
    publish(sink, UNIT, NAMES | {"large/C.tif": "large/C.tif"})
    assert tree(tmp_path) == EXPECTED | {"labels/a/large/C.tif": content}


async def test_a_large_file_that_was_not_kept_is_gone(make: Callable[[], Sink], tmp_path: Path) -> None:
    """Left by an error before `keep`, a part leaves nothing: not in the unit, not in the state folder."""
    sink = make()

    async def cut_short() -> None:
        async with sink.part(UNIT, "C.tif") as part:
            await part.write(b"x" * (3 << 20))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await cut_short()
    assert not sink.holds(UNIT, {"C.tif": "C.tif"})
    publish(sink, UNIT, {"C.tif": "C.tif"})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_two_parts_of_one_name_do_not_meet(make: Callable[[], Sink], tmp_path: Path) -> None:
    """The same file of two units at once: each has its own bytes."""
    sink = make()
    other = Unit("1-7", "labels/b")
    async with sink.part(UNIT, "C.tif") as one, sink.part(other, "C.tif") as two:
        await one.write(b"one")
        await two.write(b"two")
        await one.keep()
        await two.keep()
    sink.sync()
    for unit in (UNIT, other):
        sink.reveal(unit, {"C.tif": "C.tif"})
    assert tree(tmp_path) == {"labels/a/C.tif": b"one", "labels/b/C.tif": b"two"}


def test_a_file_can_be_read_staged_or_in_place(make: Callable[[], Sink]) -> None:
    """What is staged comes first, then what is visible under that name; None where there is neither."""
    sink = make()
    assert sink.read(UNIT, "A.tif") is None
    sink.stage(UNIT, FILES)
    assert sink.read(UNIT, "deep/er/B.tif") == b"the second"
    publish(sink, UNIT, NAMES)
    assert sink.read(Unit("other", UNIT.folder), "A.tif") == b"the first"
    again = Unit("1-9", UNIT.folder)
    sink.stage(again, [("A.tif", b"anew")])
    assert sink.read(again, "A.tif") == b"anew"


def test_a_visible_file_is_replaced_by_one_that_is_staged_again(make: Callable[[], Sink], tmp_path: Path) -> None:
    """A folder that is visible keeps its other files; the one that was staged again is there whole, in one step."""
    sink = make()
    sink.stage(UNIT, FILES)
    publish(sink, UNIT, NAMES)
    (tmp_path / "labels" / "a" / "A.tif").write_bytes(b"cut")
    held_open = (tmp_path / "labels" / "a" / "A.tif").open("rb")
    again = Unit("1-9", UNIT.folder)
    sink.stage(again, [("A.tif", b"the first")])
    publish(sink, again, NAMES)
    assert tree(tmp_path) == EXPECTED
    assert held_open.read() == b"cut"  # replaced, not written over
    held_open.close()
