"""What every Sink owes, whatever it writes to. To add one: a maker in SINKS."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import xxhash

from stacmirror.interfaces import Sink
from stacmirror.model import AssetKey, ItemKey, PartState, Unit, Version
from stacmirror.sinks import directory, part_file
from stacmirror.sinks.directory import DirectorySink
from stacmirror.sinks.durable import FsyncEach
from stacmirror.sinks.parts import PartStore
from tests.conftest import tree
from tests.parts import ASSET, VERSION, a_large_file, left_early

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


# -- large files -------------------------------------------------------------------------------------------

LARGE = bytes(range(256)) * 40_000  # 10 MB: enough for a record of its own


async def test_a_large_file_appears_with_its_unit(make: Callable[[], Sink], tmp_path: Path) -> None:
    """A part that was kept is revealed with the unit's small files, byte for byte, its digest that of its bytes."""
    sink = make()
    sink.stage(UNIT, FILES)
    digest = await a_large_file(sink, UNIT, "large/C.tif", LARGE)
    assert digest == xxhash.xxh3_128_digest(LARGE)
    assert tree(tmp_path) == {}
    publish(sink, UNIT, NAMES | {"large/C.tif": "large/C.tif"})
    assert tree(tmp_path) == EXPECTED | {"labels/a/large/C.tif": LARGE}
    assert left_of_parts(tmp_path) == []
    assert not sink.waiting


@pytest.mark.parametrize("again", [False, True], ids=["same run", "next run"])
async def test_a_large_file_left_early_goes_on(make: Callable[[], Sink], tmp_path: Path, again: bool) -> None:
    """What an attempt brought waits, with its version; the file is whole, and so is its digest, when the rest came."""
    sink = make()
    await left_early(sink, LARGE[:3_333_333])
    if again:
        sink = make()
        sink.retain({})
    assert sink.waiting[ASSET].version == VERSION
    async with sink.part(ASSET) as part:
        assert part.state is not None
        assert part.state.offset == 3_333_333
        await part.go_on(xxhash.xxh3_128())
        await part.write(LARGE[3_333_333:])
        size_bytes, digest = await part.finish()
        assert (size_bytes, digest) == (len(LARGE), xxhash.xxh3_128_digest(LARGE))
        await part.keep(UNIT, "C.tif", digest)
    publish(sink, UNIT, {"C.tif": "C.tif"})
    assert tree(tmp_path) == {"labels/a/C.tif": LARGE}
    assert left_of_parts(tmp_path) == []


async def test_cancelled_while_its_record_is_written(
    make: Callable[[], Sink], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever leaves waits for the thread that writes the record: two that write it at once would fail the disk."""
    monkeypatch.setattr(part_file, "_SAVED_EVERY_BYTES", 1)
    sink, save, goes_on = make(), PartStore.save, threading.Event()
    at_once = most = 0

    def slowly(store: PartStore, *values: Any) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        goes_on.wait(5)
        save(store, *values)
        at_once -= 1

    monkeypatch.setattr(PartStore, "save", slowly)
    task = asyncio.create_task(a_large_file(sink, UNIT, "C.tif", LARGE, chunk_bytes=1 << 20))
    while not at_once:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.02)  # it writes on, and waits for the record before the next one
    task.cancel()
    asyncio.get_running_loop().call_later(0.05, goes_on.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert most == 1
    assert sink.waiting[ASSET].offset


@pytest.mark.parametrize("content", [LARGE, LARGE[:99]], ids=["with a record", "too small for one"])
async def test_cancelled_while_it_is_put_into_its_unit(
    make: Callable[[], Sink], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """Whoever leaves waits for that thread, too, and takes the file back: whole, with its record, for any unit."""
    sink, move, begun, goes_on = make(), PartStore._move_into_unit, threading.Event(), threading.Event()

    def slowly(store: PartStore, *values: Any) -> None:
        begun.set()
        goes_on.wait(5)
        move(store, *values)

    sink.stage(UNIT, FILES)
    monkeypatch.setattr(PartStore, "_move_into_unit", slowly)
    await cancelled(asyncio.create_task(a_large_file(sink, UNIT, "C.tif", content)), begun, goes_on)
    assert sink.waiting[ASSET].digest == xxhash.xxh3_128_digest(content)
    assert endings_of_parts(tmp_path) == [".json", ".part"]
    for next_sink in (sink, make()):
        next_sink.retain({})
        async with next_sink.part(ASSET) as part:
            assert part.state is not None
            assert (part.state.offset, part.state.unit) == (len(content), "")
    async with next_sink.part(ASSET) as part:
        await part.keep(UNIT, "C.tif", xxhash.xxh3_128_digest(content))
    publish(next_sink, UNIT, {"C.tif": "C.tif"})
    assert tree(tmp_path) == {"labels/a/C.tif": content}
    assert left_of_parts(tmp_path) == []


@pytest.mark.parametrize("at", ["opened", "written"])
async def test_cancelled_while_a_thread_is_at_it(
    make: Callable[[], Sink], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """A file is closed when no thread is at it any more, and what waits is what its record says."""
    sink, begun, goes_on, closed = make(), threading.Event(), threading.Event(), []

    class Slow(part_file._HashedFile):
        def truncate(self, size: int | None = None) -> int:
            if at == "opened":
                begun.set()
                goes_on.wait(5)
            return super().truncate(size)

        def write(self, data: Any, /) -> int:
            if at == "written":
                begun.set()
                goes_on.wait(5)
            return super().write(data)

        def close(self) -> None:
            closed.append(goes_on.is_set())
            super().close()

    monkeypatch.setattr(part_file, "_HashedFile", Slow)
    await cancelled(asyncio.create_task(a_large_file(sink, UNIT, "C.tif", LARGE, chunk_bytes=1 << 20)), begun, goes_on)
    assert closed
    assert all(closed)
    written = {"opened": 0, "written": 1 << 20}[at]
    assert {state.offset for state in sink.waiting.values()} == ({written} if written else set())
    assert endings_of_parts(tmp_path) == ([".json", ".part"] if written else [])


async def cancelled(task: asyncio.Task[bytes], begun: threading.Event, goes_on: threading.Event) -> None:
    """Cancel `task` when its thread has `begun`; let that go on when the task has had time to be done without it."""
    await asyncio.to_thread(begun.wait, 5)
    task.cancel()
    asyncio.get_running_loop().call_later(0.05, goes_on.set)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_came_after_the_last_promise_is_not_joined(make: Callable[[], Sink], tmp_path: Path) -> None:
    """Bytes behind the recorded offset may be anything after a power cut: they are written again."""
    await left_early(make(), b"promised")
    [path] = [path for path in (tmp_path / ".stacmirror/parts").iterdir() if path.suffix == ".part"]
    path.write_bytes(b"promised, and then rubbish that is far longer than the file")
    sink = make()
    sink.retain({})
    async with sink.part(ASSET) as part:
        await part.go_on(xxhash.xxh3_128())
        await part.write(b" bytes")
        _, digest = await part.finish()
        await part.keep(UNIT, "C.tif", digest)
    publish(sink, UNIT, {"C.tif": "C.tif"})
    assert tree(tmp_path) == {"labels/a/C.tif": b"promised bytes"}


@pytest.mark.parametrize("how", ["shorter", "gone", "record cut", "record flipped", "record of another"])
async def test_a_damaged_part_is_begun_again(make: Callable[[], Sink], tmp_path: Path, how: str) -> None:
    """Whatever happened to bytes or record, nothing is gone on with that its record does not promise."""
    await left_early(make(), b"promised")
    parts = tmp_path / ".stacmirror/parts"
    [path], [record] = parts.glob("*.part"), parts.glob("*.json")
    if how == "shorter":
        path.write_bytes(b"promis")
    elif how == "gone":
        path.unlink()
    elif how == "record cut":
        record.write_bytes(record.read_bytes()[:-9])
    elif how == "record flipped":
        record.write_bytes(record.read_bytes().replace(b'"one"', b'"two"').replace(b"one", b"two"))
    else:
        record.rename(parts / f"{'0' * 32}.json")
        path.rename(parts / f"{'0' * 32}.part")
    sink = make()
    sink.retain({})
    assert not sink.waiting
    assert left_of_parts(tmp_path) == []


async def test_a_part_that_cannot_go_on_leaves_nothing(make: Callable[[], Sink], tmp_path: Path) -> None:
    """Without a validator, or dropped because it is wrong: no bytes stay, and none are offered."""
    sink = make()
    await left_early(sink, LARGE, Version(length=len(LARGE)))
    assert left_of_parts(tmp_path) == []
    await left_early(sink, LARGE)
    async with sink.part(ASSET) as part:
        part.drop()
    assert left_of_parts(tmp_path) == []
    assert not sink.waiting
    await left_early(sink, LARGE)
    sink.drop_parts([ASSET, AssetKey(ItemKey("labels", "nobody"), "C")])
    assert left_of_parts(tmp_path) == []
    assert not sink.waiting


async def test_beginning_again_forgets_what_was_there(make: Callable[[], Sink], tmp_path: Path) -> None:
    """A shorter second version has no tail of the first."""
    sink = make()
    await left_early(sink, LARGE)
    await a_large_file(sink, UNIT, "C.tif", b"another version")
    publish(sink, UNIT, {"C.tif": "C.tif"})
    assert tree(tmp_path) == {"labels/a/C.tif": b"another version"}


async def test_a_whole_file_of_a_killed_run_is_not_lost(make: Callable[[], Sink], tmp_path: Path) -> None:
    """Kept in a unit that never got its row: the next run has it, whole and with its digest, for its own unit."""
    digest = await a_large_file(make(), UNIT, "C.tif", LARGE)
    sink = make()
    sink.retain({})
    assert not sink.holds(UNIT, {"C.tif": "C.tif"})
    later = Unit("2-1", "labels/a")
    async with sink.part(ASSET) as part:
        assert part.state is not None
        assert (part.state.offset, part.state.digest) == (len(LARGE), digest)
        await part.keep(later, "C.tif", digest)
    publish(sink, later, {"C.tif": "C.tif"})
    assert tree(tmp_path) == {"labels/a/C.tif": LARGE}
    assert left_of_parts(tmp_path) == []


async def test_a_large_file_with_a_row_stays_in_its_unit(make: Callable[[], Sink], tmp_path: Path) -> None:
    """Killed between row and reveal: the unit has its large file, nothing waits, and no record is left at the end."""
    await a_large_file(make(), UNIT, "C.tif", LARGE)
    sink = make()
    sink.retain({UNIT.id: ["C.tif"]})
    assert sink.holds(UNIT, {"C.tif": "C.tif"})
    assert not sink.waiting
    publish(sink, UNIT, {"C.tif": "C.tif"})
    assert tree(tmp_path) == {"labels/a/C.tif": LARGE}
    assert left_of_parts(tmp_path) == []


async def test_a_record_that_outlived_the_reveal_is_removed(make: Callable[[], Sink], tmp_path: Path) -> None:
    """Killed between reveal and record: the visible file is left alone, and nothing waits."""
    sink = make()
    await a_large_file(sink, UNIT, "C.tif", LARGE)
    [record] = (tmp_path / ".stacmirror/parts").glob("*.json")
    content = record.read_bytes()
    publish(sink, UNIT, {"C.tif": "C.tif"})
    record.write_bytes(content)
    sink = make()
    sink.retain({})
    assert not sink.waiting
    assert left_of_parts(tmp_path) == []
    assert tree(tmp_path) == {"labels/a/C.tif": LARGE}


async def test_two_large_files_of_one_name_do_not_meet(make: Callable[[], Sink], tmp_path: Path) -> None:
    """The same asset key of two items at once: each has its own bytes."""
    sink = make()
    other, key = Unit("1-7", "labels/b"), AssetKey(ItemKey("labels", "b"), "C")
    async with asyncio.TaskGroup() as group:
        group.create_task(a_large_file(sink, UNIT, "C.tif", LARGE))
        group.create_task(a_large_file(sink, other, "C.tif", LARGE[::-1], key))
    sink.sync()
    for unit in (UNIT, other):
        sink.reveal(unit, {"C.tif": "C.tif"})
    assert tree(tmp_path) == {"labels/a/C.tif": LARGE, "labels/b/C.tif": LARGE[::-1]}


async def test_a_large_file_is_recorded_while_it_comes(
    make: Callable[[], Sink], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill in the middle: the next run goes on from bytes that were made durable, not from nothing."""
    monkeypatch.setattr(part_file, "_SAVED_EVERY_BYTES", 2 << 20)
    sink = make()
    async with sink.part(ASSET) as part:
        await part.begin(PartState(ASSET, VERSION, "C.tif", "xxh3"), xxhash.xxh3_128())
        for start in range(0, 8 << 20, 1 << 20):
            await part.write(LARGE[start : start + (1 << 20)])
        copied = make()  # as a run after a kill here would find it
        waits = copied.waiting[ASSET]
        assert 2 << 20 <= waits.offset <= 8 << 20
        [path] = (tmp_path / ".stacmirror/parts").glob("*.part")
        assert path.read_bytes()[: waits.offset] == LARGE[: waits.offset]


def left_of_parts(root: Path) -> list[str]:
    return sorted(path.name for path in (root / ".stacmirror/parts").iterdir())


def endings_of_parts(root: Path) -> list[str]:
    return [name[name.index(".") :] for name in left_of_parts(root)]


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


def test_a_linked_file_is_revealed_as_others(make: Callable[[], Sink], tmp_path: Path) -> None:
    """It takes its place beside staged ones, by its name; the file that it came from is where it was."""
    theirs = tmp_path / "theirs.tif"
    theirs.write_bytes(b"already there")
    sink = make()
    assert sink.link(UNIT, "deep/er/B.tif", str(theirs))
    sink.stage(UNIT, FILES[:1])
    publish(sink, UNIT, NAMES)
    assert (tmp_path / "labels/a/deep/er/B.tif").read_bytes() == b"already there"
    assert (tmp_path / "labels/a/A.tif").read_bytes() == b"the first"
    assert theirs.read_bytes() == b"already there"


def test_a_link_is_never_written_through(make: Callable[[], Sink], tmp_path: Path) -> None:
    """What is staged under a linked name replaces the name, not the bytes of the file that it came from."""
    theirs = tmp_path / "theirs.tif"
    theirs.write_bytes(b"already there")
    sink = make()
    assert sink.link(UNIT, "A.tif", str(theirs))
    sink.stage(UNIT, FILES[:1])
    assert sink.link(UNIT, "deep/er/B.tif", str(theirs))
    assert sink.link(UNIT, "deep/er/B.tif", str(theirs)), "again"
    publish(sink, UNIT, NAMES)
    assert theirs.read_bytes() == b"already there"
    assert (tmp_path / "labels/a/A.tif").read_bytes() == b"the first"


def test_what_cannot_be_linked_is_left_to_be_copied(
    make: Callable[[], Sink], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file system, and a symbolic link: False, and nothing is staged."""

    def refuse(*paths: str, **how: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    theirs = tmp_path / "theirs.tif"
    theirs.write_bytes(b"already there")
    (tmp_path / "symbolic.tif").symlink_to(theirs)
    sink = make()
    assert not sink.link(UNIT, "A.tif", str(tmp_path / "symbolic.tif"))
    monkeypatch.setattr(directory.os, "link", refuse)
    monkeypatch.setattr(directory, "_share_blocks", lambda *where: False)
    assert not sink.link(UNIT, "A.tif", str(theirs))
    assert not sink.holds(UNIT, {"A.tif": "A.tif"})
