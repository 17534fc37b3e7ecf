"""Where a mirror's ledger and lock are: in DEST/.stacmirror, or in a folder of their own that DEST points to.

    DEST/.stacmirror/state-dir.json    the pointer: the folder, and the mirror's mark
    FOLDER/mirror.json                 whose folder it is: the same mark, and the DEST that it was made for

The mark is random, so that a DEST or a folder that was moved is still known, and another's is not. Called by the
composition roots; `own` is DEST/.stacmirror, where staging stays in any case.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from typing import NamedTuple

from stacmirror.errors import TargetInUse, TargetUnwritable, UsageError
from stacmirror.ledger.lock import RunLock
from stacmirror.ledger.store import LedgerStore

LEDGER = "ledger.sqlite"
_POINTER = "state-dir.json"
_MARK = "mirror.json"


class _Marked(NamedTuple):
    mark: str
    place: str
    """In the pointer: the folder. In the folder: DEST."""


def state_folder(own: str) -> str:
    """Return the folder of the mirror's ledger and lock.

    Raises: TargetInUse when DEST points to a folder that is not there, or is another mirror's.
    """
    pointer = _read(os.path.join(own, _POINTER))
    if pointer is None:
        return own
    target = os.path.dirname(own)
    found = _read(os.path.join(pointer.place, _MARK))
    if found is None:
        raise TargetInUse(
            f"{target} keeps its ledger in {pointer.place}, which is not there",
            hint=f"mount it or bring it back; if it was moved, write its new place into {own}/{_POINTER}",
        )
    if found.mark != pointer.mark:
        raise TargetInUse(
            f"{target} keeps its ledger in {pointer.place}, which belongs to the mirror in {found.place}",
            hint=f"write the right place into {own}/{_POINTER}",
        )
    if not _same(found.place, target):
        original = _read(os.path.join(found.place, os.path.basename(own), _POINTER))
        if original is not None and original.mark == found.mark:
            raise TargetInUse(
                f"{target} is a copy of the mirror in {found.place}, whose ledger is in {pointer.place}",
                hint=f"two mirrors cannot share a ledger: remove {own} from the copy, and mirror into it anew",
            )
    return pointer.place


def ledger_path(own: str) -> str:
    """Return the path of the mirror's ledger. Raises: as `state_folder`."""
    return os.path.join(state_folder(own), LEDGER)


def take_home(own: str, wanted: str) -> tuple[str, RunLock]:
    """Return the folder of ledger and lock, with the lock taken; a ledger that is elsewhere yet moves to `wanted`.

    Raises: TargetInUse, also when `wanted` is another mirror's; UsageError when DEST points elsewhere, or `wanted` is
            inside DEST; TargetUnwritable.
    """
    wanted = os.path.abspath(wanted) if wanted else ""
    while True:
        refuse_links(own)
        folder = state_folder(own)
        if wanted and not _same(wanted, folder):
            if folder != own:
                raise UsageError(
                    f"{os.path.dirname(own)} keeps its ledger in {folder}, not in {wanted}",
                    hint="leave --state-dir out: DEST knows where its ledger is",
                )
            _refuse_inside(own, wanted)
            refuse_links(wanted, itself=False)
            _move(own, wanted)
            continue
        refuse_links(folder, itself=folder == own)
        lock = RunLock(folder)
        lock.take()
        if state_folder(own) == folder:  # else another run has moved it in between
            return folder, lock
        lock.release()


def refuse_links(folder: str, *, itself: bool = True) -> None:
    """Refuse a folder with a symbolic link in it, or (`itself`) that is one: ledger, lock or bytes would go elsewhere.

    Raises: TargetUnwritable naming the link.
    """
    links = [folder] if itself and os.path.islink(folder) else []
    try:
        with os.scandir(folder) as entries:
            links += [entry.path for entry in entries if entry.is_symlink()]
    except OSError:
        pass  # not there yet, or not to be read: whoever writes says so
    if links:
        raise TargetUnwritable(
            f"{links[0]} is a symbolic link, and nothing is written through one",
            hint="remove it, or bring back what it stands for; --state-dir DIR keeps a ledger elsewhere",
        )


def _refuse_inside(own: str, wanted: str) -> None:
    target = os.path.realpath(os.path.dirname(own))
    if os.path.realpath(wanted) == target or os.path.realpath(wanted).startswith(target + "/"):
        raise UsageError(f"--state-dir {wanted} is inside DEST {os.path.dirname(own)}", hint="name a folder outside it")


def _move(own: str, wanted: str) -> None:
    """Make `wanted` the folder of this mirror's ledger. Killed anywhere, the ledger is in one of the two, whole."""
    lock = RunLock(own)
    lock.take()
    try:
        os.makedirs(wanted, exist_ok=True)
        mark = _refuse_taken(own, wanted) or secrets.token_hex(16)
        target = os.path.dirname(os.path.abspath(own))
        _write(os.path.join(wanted, _MARK), {"mark": mark, "target": target})
        before = os.path.join(own, LEDGER)
        if os.path.exists(before):
            _copy(before, os.path.join(wanted, LEDGER))
        _write(os.path.join(own, _POINTER), {"mark": mark, "state_dir": wanted})
        for name in (before, f"{before}-wal", f"{before}-shm"):
            if os.path.exists(name):
                os.unlink(name)
    except OSError as error:
        raise TargetUnwritable(
            f"cannot keep the ledger in {wanted}: {error.strerror}", hint="name another folder with --state-dir"
        ) from error
    finally:
        lock.release()


def _refuse_taken(own: str, wanted: str) -> str:
    """Return the mark of a move that a kill cut short, or "". Raises: TargetInUse when the folder is not free."""
    target = os.path.dirname(os.path.abspath(own))
    found = _read(os.path.join(wanted, _MARK))
    has_ledger = os.path.exists(os.path.join(wanted, LEDGER))
    hint = "give each mirror a --state-dir of its own"
    if found is None:
        if has_ledger:
            raise TargetInUse(f"{wanted} holds the ledger of another mirror", hint=hint)
        return ""
    if found.place != target:
        raise TargetInUse(f"{wanted} belongs to the mirror in {found.place}, not to {target}", hint=hint)
    if has_ledger and not os.path.exists(os.path.join(own, LEDGER)):
        raise TargetInUse(
            f"{wanted} holds the ledger of a mirror that was in {target}, which does not know of it any more",
            hint="if the files of that mirror were removed, remove that folder as well, or name another --state-dir",
        )
    return found.mark


def _copy(before: str, after: str) -> None:
    LedgerStore(before).close()  # refuses what is no ledger, and brings an older one up to date
    part = f"{after}.part"
    if os.path.exists(part):
        os.unlink(part)
    try:
        source, copy = sqlite3.connect(before), sqlite3.connect(part)
        try:
            source.backup(copy)
        finally:
            copy.close()
            source.close()
    except sqlite3.Error as error:
        raise TargetUnwritable(
            f"cannot copy the ledger to {after}: {error}", hint="name another folder with --state-dir"
        ) from error
    _sync(part)
    os.replace(part, after)
    _sync(os.path.dirname(after))


def _read(path: str) -> _Marked | None:
    """Return what a pointer or a folder's mark says; None when there is none. Raises: TargetInUse when unreadable."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        return _Marked(str(found["mark"]), str(found["state_dir" if path.endswith(_POINTER) else "target"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TargetInUse(f"{path} cannot be read: {error}", hint="restore it from a copy") from error


def _write(path: str, content: dict[str, str]) -> None:
    with open(path + ".part", "w", encoding="utf-8", opener=_unfollowed) as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".part", path)
    _sync(os.path.dirname(path))


def _unfollowed(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
