"""What the fault tests share: children that mirror from a simulator in this process, and what their DEST must be.

Used by `kills`, `power_cuts` and their short forms in the test suite. Every check names the file or item it is about.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from stacmirror.ledger import schema
from stacmirror.simulator import Simulator
from tests.conftest import SOURCE
from tests.faults.invariants import hold_simulated

_DOCUMENTS = frozenset({"collection.json", "CITATION.txt", "LICENSE.txt"})
_STATE = ".stacmirror"
PROGRAM = (sys.executable, "-m", "stacmirror")
CHILD = (sys.executable, "-m", "tests.faults.child")
ROOT = Path(__file__).parents[2]
SMALL_FILE_MAX = "20kB"
"""Below the largest patches (29 kB), so that large files are met, too."""

Digests = dict[str, bytes]


class Broken(AssertionError):
    """A promise was not kept."""


def words(simulator: Simulator, target: Path, *more: str) -> list[str]:
    """Return the command line of a mirror: few items in flight, and a commit every 50 ms."""
    return [
        "mirror", SOURCE, str(target), "--api-url", simulator.api_url, "--workers", "16", "--page-size", "20",
        "--sync-every", "50ms", "--progress", "none", "--json", *more,
    ]  # fmt: skip


async def start(simulator: Simulator, command: Sequence[str]) -> asyncio.subprocess.Process:
    """Start a child in the repository's root, with the key in its environment."""
    environment = {**os.environ, "MLHUB_API_KEY": simulator.key, "STACMIRROR_SMALL_FILE_MAX": SMALL_FILE_MAX}
    return await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=environment, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def ended(process: asyncio.subprocess.Process, within_s: float) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr. Raises: Broken when it does not end in time, or with a traceback."""
    try:
        out, said = await asyncio.wait_for(process.communicate(), within_s)
    except TimeoutError:
        process.kill()
        raise Broken(f"the run did not end within {within_s:g} s") from None
    if b"Traceback" in said or b"unexpected" in said:
        raise Broken(f"a traceback: {said.decode()}")
    return process.returncode or 0, out.decode(), said.decode()


async def undisturbed(simulator: Simulator, target: Path) -> Digests:
    """Mirror without a fault, and return what the tree must be."""
    process = await start(simulator, [*CHILD, "--", *words(simulator, target)])
    code, _, said = await ended(process, 600)
    if code != 0:
        raise Broken(f"the undisturbed run ended with {code}: {said}")
    return await asyncio.to_thread(digests, target)


async def finish(simulator: Simulator, target: Path) -> None:
    """Run without a fault to the end, and hold it to i1 to i7. Raises: Broken when that is not complete."""
    process = await start(simulator, [*CHILD, "--", *words(simulator, target)])
    code, out, said = await ended(process, 600)
    if code != 0 or json.loads(out)["verdict"] != "complete":
        raise Broken(f"the run after the faults ended with {code}: {said}")
    await asyncio.to_thread(hold_simulated, target, simulator, json.loads(out), [said])


def digests(root: Path) -> Digests:
    """Return every visible file of the mirror by path, with its digest."""
    return {name: hashlib.sha256(Path(root, name).read_bytes()).digest() for name in _visible(str(root), "")}


def _visible(root: str, below: str) -> Iterator[str]:
    with os.scandir(os.path.join(root, below)) as entries:
        for entry in entries:
            name = os.path.join(below, entry.name)
            if entry.is_dir(follow_symlinks=False):
                if name != _STATE:
                    yield from _visible(root, name)
            elif entry.name not in _DOCUMENTS:
                yield name


def rows(target: Path) -> dict[str, int]:
    """Return the ledger's rows: state by `collection/id`. Read beside whatever holds it, changing nothing."""
    path = target / _STATE / "ledger.sqlite"
    if not path.exists():
        return {}
    # Not read-only: a reader that may not write cannot look into a WAL that a kill left.
    ledger = sqlite3.connect(path)
    try:
        found = ledger.execute("SELECT c.id, i.id, i.state FROM item i JOIN collection c ON c.n = i.collection")
        return {f"{collection}/{item_id}": state for collection, item_id, state in found}
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return {}  # killed before the tables stood
        raise
    finally:
        ledger.close()


def check(target: Path, expected: Digests) -> dict[str, int]:
    """Hold a cut mirror against what it must be, and return the ledger's rows.

    Every visible file is whole and the origin's; every committed item's files are all visible; every staged item's
    files are visible or still staged. Raises: Broken.
    """
    if not target.exists():
        return {}
    seen = digests(target)
    wrong = [name for name, digest in seen.items() if expected.get(name) != digest]
    if wrong:
        raise Broken(f"{len(wrong)} visible files are wrong: {wrong[:3]}")
    found = rows(target)
    lost = [
        name
        for name in expected
        if found.get(os.path.dirname(name)) in (schema.COMMITTED, schema.INCOMPLETE) and name not in seen
    ]
    if lost:
        raise Broken(f"{len(lost)} files of committed items are lost: {lost[:3]}")
    return found


def check_end(target: Path, expected: Digests, items: int) -> None:
    """Hold a finished mirror against the undisturbed one, byte for byte and row for row. Raises: Broken."""
    if digests(target) != expected:
        raise Broken("the finished tree is not the undisturbed one")
    found = rows(target)
    if len(found) != 2 * items or set(found.values()) != {schema.COMMITTED}:
        raise Broken(f"{len(found)} rows of {2 * items}, in states {set(found.values())}")
    left = [str(path) for folder in ("staging", "parts") for path in (target / _STATE / folder).iterdir()]
    if left:
        raise Broken(f"left over: {left[:3]}")


def asked_again(simulator: Simulator, before: Collection[str], expected: Digests) -> list[str]:
    """Return the files of items with rows in `before` that the server was asked for since its log was cleared."""
    done = {file_of(name) for name in expected if os.path.dirname(name) in before}
    return sorted(done & asked(simulator))


def asked(simulator: Simulator) -> set[str]:
    """Return the files that the server was asked for since its log was cleared, by the server's own names."""
    return {record.path.rpartition("/")[2] for record in simulator.requests if record.server == "blobs"}


def file_of(name: str) -> str:
    """Return how the server names a mirrored file: `…_source_PATCH/B02.tif` is PATCH_B02.tif there."""
    folder, _, last = name.rpartition("/")
    patch = folder.rpartition("/")[2].removeprefix("bigearthnet_v1_labels_").removeprefix("bigearthnet_v1_source_")
    return f"{patch}.geojson" if last.startswith("labels") else f"{patch}_{last}"
