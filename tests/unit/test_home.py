"""A ledger outside DEST is found from DEST, never mixed with another mirror's, and never lost on its way there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from stacmirror.errors import StacmirrorError, TargetInUse, UsageError
from stacmirror.ledger import home, network
from stacmirror.ledger.home import LEDGER, ledger_path, state_folder, take_home
from stacmirror.ledger.lock import _TEXT_BYTES
from stacmirror.ledger.store import LedgerStore
from stacmirror.mirror import Mirror
from stacmirror.settings import Settings
from stacmirror.simulator import RequestRecord
from stacmirror.status import read_failed, read_status
from tests.conftest import simulated, tree
from tests.unit.fakes import Notes
from tests.unit.test_ledger import a_page, commit, outcome, record


def made(place: Path, state_dir: Path | str = "") -> str:
    """Take the mirror's home once, write an item, and return the folder."""
    folder, lock = take_home(str(place / ".stacmirror"), str(state_dir))
    store = LedgerStore(os.path.join(folder, LEDGER), lock.check)
    commit(store, a_page(0, 1), outcome(record("a")))
    store.close()
    lock.release()
    return folder


def items(place: Path) -> int:
    store = LedgerStore(ledger_path(str(place / ".stacmirror")))
    try:
        return store.counts().items.complete
    finally:
        store.close()


def test_without_a_state_dir_it_is_in_the_mirror(tmp_path: Path) -> None:
    """Nothing is asked, nothing is pointed to."""
    assert made(tmp_path / "ben") == str(tmp_path / "ben" / ".stacmirror")
    assert sorted(os.listdir(tmp_path / "ben" / ".stacmirror")) == [LEDGER, "lock"]


def test_a_new_ledger_is_made_there_and_found(tmp_path: Path) -> None:
    """The ledger and the lock are in the folder; DEST alone is enough to find them, also after it was moved."""
    assert made(tmp_path / "ben", tmp_path / "state") == str(tmp_path / "state")
    assert sorted(os.listdir(tmp_path / "state")) == [LEDGER, "lock", "mirror.json"]
    assert LEDGER not in os.listdir(tmp_path / "ben" / ".stacmirror")
    (tmp_path / "ben").rename(tmp_path / "moved")
    assert state_folder(str(tmp_path / "moved" / ".stacmirror")) == str(tmp_path / "state")
    assert items(tmp_path / "moved") == 1
    assert made(tmp_path / "moved", tmp_path / "state") == str(tmp_path / "state")


def test_a_ledger_that_is_in_dest_moves(tmp_path: Path) -> None:
    """Its rows are there, and DEST has none any more."""
    made(tmp_path / "ben")
    made(tmp_path / "ben", tmp_path / "state")
    assert items(tmp_path / "ben") == 1
    assert not [name for name in os.listdir(tmp_path / "ben" / ".stacmirror") if name.startswith(LEDGER)]


@pytest.mark.parametrize("call", range(1, 7))
def test_a_move_that_is_killed_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Killed before any of its renames or removals: the same command again finds every row."""
    made(tmp_path / "ben")
    calls = 0

    def killed(method: Callable[..., None]) -> Callable[..., None]:
        def step(*values: object) -> None:
            nonlocal calls
            calls += 1
            if calls == call:
                raise KeyboardInterrupt
            method(*values)

        return step

    with monkeypatch.context() as patched:
        for name in ("replace", "unlink"):
            patched.setattr(os, name, killed(getattr(os, name)))
        with contextlib.suppress(KeyboardInterrupt):
            take_home(str(tmp_path / "ben" / ".stacmirror"), str(tmp_path / "state"))[1].release()
    assert items(tmp_path / "ben") == 1
    take_home(str(tmp_path / "ben" / ".stacmirror"), str(tmp_path / "state"))[1].release()
    assert items(tmp_path / "ben") == 1
    assert state_folder(str(tmp_path / "ben" / ".stacmirror")) == str(tmp_path / "state")


def _lost(tmp_path: Path) -> None:
    made(tmp_path / "ben", tmp_path / "state")
    (tmp_path / "state").rename(tmp_path / "gone")


def _anothers(tmp_path: Path) -> None:
    made(tmp_path / "other", tmp_path / "state")


def _a_plain_mirrors(tmp_path: Path) -> None:
    made(tmp_path / "other")
    (tmp_path / "other" / ".stacmirror").rename(tmp_path / "state")


def _of_a_dest_that_was_removed(tmp_path: Path) -> None:
    made(tmp_path / "ben", tmp_path / "state")
    (tmp_path / "ben").rename(tmp_path / "removed")


def _exchanged(tmp_path: Path) -> None:
    made(tmp_path / "ben", tmp_path / "state")
    made(tmp_path / "other", tmp_path / "state-2")
    (tmp_path / "state").rename(tmp_path / "state-3")
    (tmp_path / "state-2").rename(tmp_path / "state")


def _copied(tmp_path: Path) -> None:
    made(tmp_path / "original", tmp_path / "state")
    shutil.copytree(tmp_path / "original", tmp_path / "ben")


def _torn(tmp_path: Path) -> None:
    made(tmp_path / "ben", tmp_path / "state")
    (tmp_path / "ben" / ".stacmirror" / "state-dir.json").write_text('{"mark": ')


@pytest.mark.parametrize(
    ("before", "says"),
    [
        (_lost, "which is not there"),
        (_anothers, "belongs to the mirror in .*other"),
        (_a_plain_mirrors, "holds the ledger of another mirror"),
        (_of_a_dest_that_was_removed, "does not know of it any more"),
        (_exchanged, "belongs to the mirror in .*other"),
        (_torn, "cannot be read"),
        (_copied, "is a copy of the mirror in .*original"),
    ],
)
def test_a_folder_that_is_not_this_mirrors_is_refused(
    tmp_path: Path, before: Callable[[Path], None], says: str
) -> None:
    """One line with both places, exit code 9, and nothing is written."""
    before(tmp_path)
    places = {str(path): path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(TargetInUse, match=says) as refused:
        take_home(str(tmp_path / "ben" / ".stacmirror"), str(tmp_path / "state"))
    assert "\n" not in str(refused.value)
    assert refused.value.hint
    after = {str(path): path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert {path: time for path, time in after.items() if not path.endswith("/lock")} == {
        path: time for path, time in places.items() if not path.endswith("/lock")
    }


@pytest.mark.parametrize("wanted", ["elsewhere", "ben", "ben/inside"])
def test_a_state_dir_that_cannot_be_meant(tmp_path: Path, wanted: str) -> None:
    """Another place than DEST points to, DEST itself or inside it: a usage error."""
    if wanted == "elsewhere":
        made(tmp_path / "ben", tmp_path / "state")
    with pytest.raises(UsageError) as refused:
        take_home(str(tmp_path / "ben" / ".stacmirror"), str(tmp_path / wanted))
    assert refused.value.hint
    assert not (tmp_path / wanted / LEDGER).exists()


def test_a_lock_there_is_everyones(tmp_path: Path) -> None:
    """A run on DEST, with or without the flag, meets the lock in the folder; so does a move."""
    made(tmp_path / "ben", tmp_path / "state")
    own = str(tmp_path / "ben" / ".stacmirror")
    _, lock = take_home(own, "")
    for wanted in ("", str(tmp_path / "state")):
        with pytest.raises(TargetInUse, match=f"pid {os.getpid()}"):
            take_home(own, wanted)
    lock.release()
    made(tmp_path / "plain")
    _, lock = take_home(str(tmp_path / "plain" / ".stacmirror"), "")
    with pytest.raises(TargetInUse, match=f"pid {os.getpid()}"):
        take_home(str(tmp_path / "plain" / ".stacmirror"), str(tmp_path / "state-2"))
    lock.release()


async def test_a_run_and_its_status(quick_settings: Callable[..., Settings], tmp_path: Path) -> None:
    """Mirrored with a state folder, gone on and looked at without naming it; files and staging are in DEST."""
    async with simulated(items=3) as simulator:
        settings = quick_settings(simulator, state_dir=str(tmp_path / "state"))
        assert (await Mirror(settings, api_key=simulator.key).run()).verdict == "complete"
        summary = await Mirror(quick_settings(simulator), api_key=simulator.key).run()
    assert (summary.verdict, summary.mirror.items.complete) == ("complete", 3)
    assert read_status(settings.target).counts.items.complete == 3
    assert list(read_failed(settings.target)) == []
    assert len(tree(Path(settings.target))) == 39
    assert "state_dir" not in (Path(settings.target) / ".stacmirror" / "settings.toml").read_text()
    (tmp_path / "state").rename(tmp_path / "away")
    with pytest.raises(StacmirrorError, match="which is not there"):
        read_status(settings.target)


async def test_a_run_that_lost_its_lock_stops(quick_settings: Callable[..., Settings]) -> None:
    """Taken over while it slept: exit 9, who has it, and not a word more in the ledger or in the lock."""
    async with simulated(items=60) as simulator:
        settings = quick_settings(simulator, workers=2)
        lock = Path(settings.target) / ".stacmirror" / "lock"
        text = json.dumps({"pid": 7, "host": "elsewhere", "since": "now"}).ljust(_TEXT_BYTES)

        def take_over(record: RequestRecord) -> None:
            if record.server == "blobs" and sum(r.server == "blobs" for r in simulator.requests) == 30:
                with lock.open("r+") as file:  # in one piece, as a lock is written
                    os.pwrite(file.fileno(), text.encode(), 0)

        simulator.on_request = take_over
        summary = await Mirror(settings, api_key=simulator.key).run()
    assert (summary.exit_code, summary.verdict) == (9, "stopped")
    assert "pid 7 on elsewhere" in summary.reason
    assert summary.mirror.items.complete < 60
    assert lock.read_text() == text
    assert read_status(settings.target).ended_at == ""


# -- network file systems ----------------------------------------------------------------------------------

MOUNTS = """\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:5 / /data rw - nfs4 server:/export rw
31 30 8:2 / /data/local rw - xfs /dev/sdb rw
32 22 0:6 / /mnt/two\\040words rw shared:1 master:2 - fuse.sshfs me@there: rw
33 22 0:7 / /win rw - cifs //server/share rw
34 22 0:8 / /lustre rw - lustre mgs:/fs rw
35 22 0:9 / /host rw - 9p drvfs rw
36 22 0:10 / /usb rw - fuseblk /dev/sdc rw
37 22 0:11 / /over rw - nfs server:/x rw
38 22 8:3 / /over rw - ext4 /dev/sdd rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "local"),
    [
        ("/home/me/ben", "", True),
        ("/data", "nfs4", False),
        ("/data/ben/.stacmirror", "nfs4", False),
        ("/database", "", True),
        ("/data/local/ben", "", True),
        ("/mnt/two words/ben", "fuse.sshfs", False),
        ("/win/ben", "cifs", False),
        ("/lustre/ben", "lustre", False),
        ("/host/ben", "9p", False),
        ("/usb/ben", "", False),
        ("/over/ben", "", True),
    ],
)
def test_network_file_systems_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, kind: str, local: bool
) -> None:
    """The mount that a path is on, by the longest of them and the last of equals; only known kinds are called local."""
    (tmp_path / "mountinfo").write_text(MOUNTS)
    monkeypatch.setattr(network, "_MOUNTS", str(tmp_path / "mountinfo"))
    assert network.network_file_system(path) == kind
    assert network.is_surely_local(path) == local


def test_where_nothing_is_known_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a table of mounts, as on macOS."""
    monkeypatch.setattr(network, "_MOUNTS", "/nowhere")
    assert network.network_file_system("/") == ""
    assert not network.is_surely_local("/")


async def test_a_ledger_on_a_network_file_system_is_warned_of(
    quick_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, with the way out."""
    monkeypatch.setattr("stacmirror.mirror.network_file_system", lambda path: "nfs4")
    notes = Notes()
    async with simulated(items=1) as simulator:
        await Mirror(quick_settings(simulator), api_key=simulator.key, observer=notes).run()
    assert len([line for line in notes.lines if "nfs4" in line and "--state-dir" in line]) == 1


def test_the_pointer_is_what_a_person_can_mend(tmp_path: Path) -> None:
    """A folder that was moved on purpose: its new place, written into the pointer, is all that it takes."""
    made(tmp_path / "ben", tmp_path / "state")
    (tmp_path / "state").rename(tmp_path / "new-place")
    pointer = tmp_path / "ben" / ".stacmirror" / home._POINTER
    content = json.loads(pointer.read_text())
    pointer.write_text(json.dumps(content | {"state_dir": str(tmp_path / "new-place")}))
    assert items(tmp_path / "ben") == 1
