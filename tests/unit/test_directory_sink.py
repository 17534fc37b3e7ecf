"""A folder as sink: renames, modes, short writes, full disks, and which folders are made durable."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stacmirror.errors import TargetUnwritable
from stacmirror.model import Unit
from stacmirror.sinks import directory, durable
from stacmirror.sinks.directory import DirectorySink
from stacmirror.sinks.durable import FsyncEach, SyncFs, file_system_of, make_syncer
from tests.conftest import tree
from tests.parts import a_large_file

UNIT = Unit("1-1", "labels/x/a")
FILES = [("A.tif", b"first"), ("deep/B.tif", b"second")]
NAMES = {name: name for name, _ in FILES}


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[DirectorySink]:
    sink = DirectorySink(str(tmp_path))
    yield sink
    sink.close()


class Recorder:
    """A syncer that notes what it was told since the last sync."""

    listens = True

    def __init__(self) -> None:
        self.noted: set[str] = set()

    def wrote(self, path: str) -> None:
        self.noted.add(path)

    def sync(self) -> None:
        self.noted.clear()

    def close(self) -> None:
        pass


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[DirectorySink, Recorder]:
    recorder = Recorder()
    monkeypatch.setattr(directory, "make_syncer", lambda folder: recorder)
    return DirectorySink(str(tmp_path)), recorder


def test_a_whole_folder_is_revealed_by_one_rename(sink: DirectorySink, tmp_path: Path) -> None:
    """The folder that was staged is the one that is seen: no copy, no moment with half of its files."""
    sink.stage(UNIT, FILES)
    staged = (tmp_path / ".stacmirror/staging/1-1").stat().st_ino
    sink.reveal(UNIT, NAMES)
    assert (tmp_path / "labels/x/a").stat().st_ino == staged
    assert list((tmp_path / ".stacmirror/staging").iterdir()) == []


def test_files_and_folders_get_the_umasks_mode(sink: DirectorySink, tmp_path: Path) -> None:
    """What is revealed can be read by whom the umask lets read it."""
    before = os.umask(0o027)
    try:
        sink.stage(UNIT, FILES)
        sink.reveal(UNIT, NAMES)
        sink.put_document("labels/CITE.txt", b"cite")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "labels").rglob("*")}
    assert modes == {"x": 0o750, "a": 0o750, "deep": 0o750, "A.tif": 0o640, "B.tif": 0o640, "CITE.txt": 0o640}


async def test_a_large_file_gets_the_umasks_mode(sink: DirectorySink, tmp_path: Path) -> None:
    """Parts, too."""
    before = os.umask(0o027)
    try:
        await a_large_file(sink, UNIT, "C.tif", b"x")
    finally:
        os.umask(before)
    sink.reveal(UNIT, {"C.tif": "C.tif"})
    assert stat.S_IMODE((tmp_path / "labels/x/a/C.tif").stat().st_mode) == 0o640


def test_short_writes_are_finished(sink: DirectorySink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`os.write` may take a part of the bytes without an error: the rest is written after."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:3]))
    sink.stage(UNIT, [("A.tif", b"0123456789"), ("empty.tif", b"")])
    sink.reveal(UNIT, {})
    assert tree(tmp_path) == {"labels/x/a/A.tif": b"0123456789", "labels/x/a/empty.tif": b""}


def test_a_write_that_takes_nothing_is_a_full_disk(sink: DirectorySink, monkeypatch: pytest.MonkeyPatch) -> None:
    """No endless loop on a disk that takes no byte and reports no error."""
    monkeypatch.setattr(os, "write", lambda fd, data: 0)
    with pytest.raises(TargetUnwritable, match="No space"):
        sink.stage(UNIT, FILES)


def test_a_planted_link_is_not_written_through(sink: DirectorySink, tmp_path: Path) -> None:
    """A link where a file is to be staged gives way to the file, and what it points to is left alone."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    folder = tmp_path / ".stacmirror/staging/1-1"
    folder.mkdir()
    (folder / "A.tif").symlink_to(outside)
    sink.stage(UNIT, FILES)
    assert outside.read_bytes() == b"mine"
    (folder / "A.tif").unlink()
    (folder / "A.tif").hardlink_to(outside)
    sink.stage(UNIT, FILES)
    assert outside.read_bytes() == b"mine"
    assert (folder / "A.tif").read_bytes() == dict(FILES)["A.tif"]


def test_a_file_where_a_folder_must_be_is_an_error(sink: DirectorySink, tmp_path: Path) -> None:
    """A foreign file in the item's place is not removed; the message names the place."""
    (tmp_path / "labels/x").mkdir(parents=True)
    (tmp_path / "labels/x/a").write_bytes(b"foreign")
    sink.stage(UNIT, FILES)
    with pytest.raises(TargetUnwritable, match="labels/x/a"):
        sink.reveal(UNIT, NAMES)
    assert (tmp_path / "labels/x/a").read_bytes() == b"foreign"
    assert sink.holds(UNIT, NAMES), "the staged files are lost"


def test_a_folder_removed_while_we_run_is_made_again(sink: DirectorySink, tmp_path: Path) -> None:
    """Someone deletes the collection's folder: the next unit is revealed all the same, and nothing staged is lost."""
    units = [Unit("1-1", "labels", exclusive=False), Unit("1-2", "labels", exclusive=False), Unit("1-3", "labels/x/a")]
    for unit in units:
        sink.stage(unit, FILES)
        sink.reveal(unit, NAMES)
        assert set(tree(tmp_path)) == {f"{unit.folder}/A.tif", f"{unit.folder}/deep/B.tif"}
        subprocess.run(["rm", "-r", str(tmp_path / "labels")], check=True)


def test_foreign_files_in_staging_do_not_stop_a_start(sink: DirectorySink, tmp_path: Path) -> None:
    """A file manager's leftovers among the staged units are removed like all else without a row."""
    (tmp_path / ".stacmirror/staging/.DS_Store").write_bytes(b"x")
    sink.stage(UNIT, FILES)
    (tmp_path / ".stacmirror/staging/1-1/gone").symlink_to("nowhere")
    sink.retain({UNIT.id: ["A.tif"]})
    left = [
        path.name for path in (tmp_path / ".stacmirror/staging").rglob("*") if not path.is_dir() or path.is_symlink()
    ]
    assert left == ["A.tif"]


def test_a_failed_sync_is_the_runs_error(sink: DirectorySink, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the file system at sync is TargetUnwritable with the reason."""

    def broken() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(sink._syncer, "sync", broken)
    with pytest.raises(TargetUnwritable, match="Input/output error"):
        sink.sync()


def test_every_folder_on_a_files_way_is_made_durable(recorded: tuple[DirectorySink, Recorder], tmp_path: Path) -> None:
    """A synced file is worth nothing while a folder on its way could be lost: staging, nested folders, parents."""
    sink, recorder = recorded
    staging = tmp_path / ".stacmirror/staging"
    sink.stage(UNIT, FILES)
    expected = {staging, staging / "1-1", staging / "1-1/A.tif", staging / "1-1/deep", staging / "1-1/deep/B.tif"}
    assert {Path(path) for path in recorder.noted} == expected
    sink.sync()
    sink.reveal(UNIT, NAMES)
    assert {tmp_path, tmp_path / "labels", tmp_path / "labels/x"} <= {Path(path) for path in recorder.noted}


async def test_a_kept_parts_folders_are_made_durable(recorded: tuple[DirectorySink, Recorder], tmp_path: Path) -> None:
    """A large file alone in its unit: the unit's own name must not be lost either."""
    sink, recorder = recorded
    await a_large_file(sink, UNIT, "C.tif", b"x")
    staging = tmp_path / ".stacmirror/staging"
    assert {staging, staging / "1-1"} <= {Path(path) for path in recorder.noted}


def test_fsync_each_syncs_each_path_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was noted is synced at the next sync and forgotten; what has moved on meanwhile is passed over."""
    synced: list[str] = []
    monkeypatch.setattr(
        durable, "fsync_path", lambda path: synced.append(path) if os.path.exists(path) else os.stat(path)
    )
    syncer = FsyncEach()
    (tmp_path / "a").touch()
    for path in (tmp_path / "a", tmp_path / "a", tmp_path / "moved"):
        syncer.wrote(str(path))
    syncer.sync()
    syncer.sync()
    assert synced == [str(tmp_path / "a")]


def test_syncfs_reports_what_the_kernel_says(tmp_path: Path) -> None:
    """A descriptor that is gone is an OSError with its number, not silence."""
    syncer = SyncFs(str(tmp_path))
    syncer.sync()
    os.close(syncer._fd)
    with pytest.raises(OSError, match="Bad file descriptor") as failed:
        syncer.sync()
    assert failed.value.errno == errno.EBADF
    syncer._fd = -1
    syncer.close()


def test_the_cheap_way_is_taken_only_where_it_is_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known file systems get one syncfs a group, all others fsync."""
    assert file_system_of("/proc") == "proc"
    monkeypatch.setattr(durable, "file_system_of", lambda folder: "fuse.sshfs")
    assert isinstance(make_syncer(str(tmp_path)), FsyncEach)
    monkeypatch.setattr(durable, "file_system_of", lambda folder: "ext4")
    syncer = make_syncer(str(tmp_path))
    assert isinstance(syncer, SyncFs)
    syncer.close()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB and few inodes."""
    place = tmp_path / "tiny"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    command = ["mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=40", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize(
    "fill",
    [
        lambda sink: sink.stage(UNIT, [("A.tif", bytes(100_000)), ("B.tif", bytes(300_000))]),
        lambda sink: sink.stage(UNIT, [(f"{n}.tif", b"") for n in range(60)]),
        lambda sink: sink.put_document("labels/big.json", bytes(300_000)),
    ],
    ids=["bytes", "inodes", "document"],
)
def test_a_full_disk_ends_with_what_to_do(tiny_disk: Path, fill: Callable[[DirectorySink], None]) -> None:
    """No room for bytes or inodes: TargetUnwritable, exit code 6, with a hint; nothing half-written becomes visible."""
    sink = DirectorySink(str(tiny_disk))
    try:
        with pytest.raises(TargetUnwritable, match="No space left") as full:
            fill(sink)
        assert full.value.exit_code == 6
        assert "make room" in full.value.hint
        assert tree(tiny_disk) == {}
    finally:
        sink.close()


async def test_a_full_disk_ends_a_large_file(tiny_disk: Path) -> None:
    """A part that finds no room raises and leaves none of its bytes."""
    sink = DirectorySink(str(tiny_disk))
    try:
        with pytest.raises(TargetUnwritable, match="No space left"):
            await a_large_file(sink, UNIT, "C.tif", bytes(2 << 20))
        assert [path for path in tiny_disk.rglob("*") if path.is_file()] == []
    finally:
        sink.close()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A target below a file is our error, with its path."""
    (tmp_path / "file").touch()
    with pytest.raises(TargetUnwritable, match="file/mirror"):
        DirectorySink(str(tmp_path / "file" / "mirror"))


def test_a_btrfs_subvolume_is_known_by_its_mount(tmp_path: Path) -> None:
    """Its device stands in no list of mounts: the nearest mount above counts, the later of two on one place."""
    place = tmp_path / "a b" / "c"
    place.mkdir(parents=True)
    escaped = str(tmp_path / "a b").replace(" ", "\\040")
    mounts = tmp_path / "mountinfo"
    rows = [("/", "xfs"), (escaped, "ext3"), (escaped, "btrfs"), (f"{tmp_path}/a", "nfs4"), (f"{place}/d", "cifs")]
    text = "".join(
        f"30 1 0:99{n} / {point} rw,relatime shared:1 - {kind} /dev/x rw\n" for n, (point, kind) in enumerate(rows)
    )
    mounts.write_text(text)
    assert file_system_of(str(place), str(mounts)) == "btrfs"
    assert file_system_of(str(tmp_path), str(mounts)) == "xfs"
    assert file_system_of(str(tmp_path), str(tmp_path / "none")) == ""


@pytest.mark.parametrize(
    ("release", "reports"),
    [("5.8.0", True), ("6.18.2-amd64", True), ("5.7.19", False), ("4.18.0-553.el8", False), ("x", False)],
)
def test_an_old_kernels_syncfs_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str, reports: bool
) -> None:
    """Before Linux 5.8 it returns well after a write-back error."""
    monkeypatch.setattr(durable, "file_system_of", lambda folder: "ext4")
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", release, "#1", "x86_64")))
    syncer = make_syncer(str(tmp_path))
    assert isinstance(syncer, SyncFs) == reports
    syncer.close()


def test_folders_may_have_no_fsync_but_files_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A "no such call" is taken for folders only, an error for neither; macOS's own sync goes first."""
    (tmp_path / "file").touch()
    paths = [str(tmp_path), str(tmp_path / "file")]

    def refuses(code: int) -> Callable[[int], None]:
        def fsync(fd: int) -> None:
            raise OSError(code, os.strerror(code))

        return fsync

    monkeypatch.setattr(os, "fsync", refuses(errno.EINVAL))
    durable.fsync_path(paths[0])
    with pytest.raises(OSError, match="Invalid"):
        durable.fsync_path(paths[1])
    monkeypatch.setattr(os, "fsync", refuses(errno.EIO))
    for path in paths:
        with pytest.raises(OSError, match="Input/output"):
            durable.fsync_path(path)
    full: list[int] = []
    monkeypatch.setattr(durable.fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(durable.fcntl, "fcntl", lambda fd, command: full.append(command))
    durable.fsync_path(paths[1])
    assert full == [51]
    monkeypatch.setattr(durable.fcntl, "fcntl", lambda fd, command: refuses(errno.ENOTSUP)(fd))
    with pytest.raises(OSError, match="Input/output"):  # then fsync, which says so
        durable.fsync_path(paths[1])


def test_room_in_a_folder_that_is_gone_is_an_error(sink: DirectorySink, tmp_path: Path) -> None:
    """Not the room of the folder above: a run whose DEST was taken away must hear of it."""
    assert sink.space() is not None
    (tmp_path / ".stacmirror" / "staging").rename(tmp_path / "away")
    with pytest.raises(TargetUnwritable, match="No such file"):
        sink.space()
