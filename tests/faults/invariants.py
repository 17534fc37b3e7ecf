"""What must hold after every run, whatever went wrong in it: i1 to i7 of the fault matrix.

i1  every file under a final name has the origin's bytes (where anything could show that they are whole)
i2  every receipt of the ledger has its file, whole
i3  one run without faults makes the tree what an undisturbed run makes, and asks only for what was missing
i4  nothing is left behind in `parts`, and in `staging` only what the ledger holds back; a run that was cut short (a
    host that is gone for good, a login that is refused) may leave what it had in hand there, unseen, until the next one
i5  no secret in any file, ledger, log or note, and none sent to anyone but the API
i6  exit code, verdict and counts agree with the tree
i7  bounded memory and time
"""

from __future__ import annotations

import hashlib
import json
import resource
import sqlite3
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import xxhash

from stacmirror.cli.report import summary_json
from stacmirror.layout import make_layout
from stacmirror.ledger import schema
from stacmirror.mirror import Mirror
from stacmirror.model import ItemKey, Receipt, Summary
from stacmirror.record import has_record, read_record
from stacmirror.settings import Settings
from stacmirror.simulator import Simulator
from stacmirror.sinks.parts import look
from tests.conftest import tree
from tests.faults.world import KEY, Bench, Run

DEFAULT_PLACE = {"layout": "item", "path_template": ""}
GROWTH_MAX_MIB = 96
PEAK_MAX_MIB = 512
SECONDS_MAX = 20.0


class Before:
    """What was before a run: memory, for i7."""

    def __init__(self) -> None:
        self.peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def hold(
    bench: Bench,
    run: Run,
    before: Before,
    *,
    expected: Mapping[str, bytes] | None = None,
    cut: bool = False,
    ill: bool = False,
) -> None:
    """Assert i1, i2, i4, i5, i6 and i7 after a run. `expected` is what an undisturbed run makes; `cut`: cut short.

    `ill`: the disk fails, and what it does not let anyone take away is left to the next run (i4).
    """
    whole = bench.world.expected() if expected is None else expected
    end = as_told(run.summary)
    hold_mirror(bench.target, whole, end, cut=cut, ill=ill)
    keeps_secrets(bench.target, KEY, [*run.said, json.dumps(end)])
    told = [request for request in bench.world.heard if KEY in request and not request.startswith("GET /mlhub/")]
    assert not told, f"i5: the key was sent to {told[0].partition(' HTTP')[0]}"
    assert run.summary.seconds < SECONDS_MAX, "i7: time"
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before.peak_kib) / 1024
    assert grown_mib < GROWTH_MAX_MIB, f"i7: memory grew by {grown_mib:.0f} MiB"


def hold_simulated(
    target: Path,
    simulator: Simulator,
    end: Summary | Mapping[str, Any],
    said: Iterable[str] = (),
    *,
    expected: Mapping[str, bytes] | None = None,
    cut: bool = False,
) -> None:
    """Assert i1, i2, i4, i5, i6 and i7's memory after a run against a simulator; `end` is its summary, or the JSON.

    `expected` is what an undisturbed run makes, where that is not all. `cut`: it was cut short.
    """
    told = as_told(end) if isinstance(end, Summary) else end
    hold_mirror(target, simulated_files(simulator) if expected is None else expected, told, cut=cut)
    keeps_secrets(target, simulator.key, [*said, json.dumps(told)])
    for record in simulator.requests:
        sent = record.credential or ""
        assert record.server == "api" or not sent.startswith(("key", "bearer")), f"i5: the key was sent to {record}"
    assert told["peak_rss_mib"] < PEAK_MAX_MIB, f"i7: {told['peak_rss_mib']} MiB"


def hold_mirror(
    target: Path, whole: Mapping[str, bytes], end: Mapping[str, Any], *, cut: bool = False, ill: bool = False
) -> None:
    """Assert i1, i2, i4 and i6 of a mirror, after a run that told `end`."""
    receipts = ledger_receipts(target)
    unverified = {path for path, receipt in receipts.items() if not receipt.verified}
    files = tree(target)
    holds_origins_bytes(files, whole, unverified)
    holds_receipts(files, receipts)
    if not ill:
        leaves_nothing(target, cut=cut)
    held = len(set(ledger_receipts(target, (schema.HELD, schema.STAGED))) - set(files))
    agrees(end, files, whole, held, len(unverified))


def as_told(summary: Summary) -> dict[str, Any]:
    """Return a summary as `--json` prints it."""
    told: dict[str, Any] = json.loads(msgspec.json.encode(summary_json(summary)))
    return told


def simulated_files(simulator: Simulator) -> dict[str, bytes]:
    """Return every file of a whole mirror in layout `item`, by path."""
    labels, source = "bigearthnet_v1_labels", "bigearthnet_v1_source"
    found: dict[str, bytes] = {}
    for number in range(simulator.settings.items):
        for asset, body in simulator.expected_files(number).items():
            collection, end = (labels, ".geojson") if asset == "labels" else (source, ".tif")
            found[f"{collection}/{simulator.item_id(number, collection)}/{asset}{end}"] = body
    return found


async def mends(
    bench: Bench,
    *,
    refetched: Iterable[str] = (),
    expected: Mapping[str, bytes] | None = None,
    **settings: object,
) -> Run:
    """Assert i3: one run without faults completes the mirror, and asks for no file that was there.

    `refetched` are paths at the origin that may be asked for all the same.
    """
    world = bench.world
    whole = world.expected() if expected is None else expected
    receipts = ledger_receipts(bench.target)
    world.heal()
    world.asked.clear()
    before = Before()
    run = await bench.run(**settings)
    assert (run.summary.verdict, run.summary.exit_code) == ("complete", 0), run.summary.reason
    wrong = {path for path, body in tree(bench.target).items() if body != whole.get(path)}
    assert wrong <= {path for path, receipt in receipts.items() if not receipt.verified}, "i3: wrong bytes"
    assert set(tree(bench.target)) == set(whole), "i3: not the tree of an undisturbed run"
    asked = {path.removeprefix("/bucket") for path in world.asked} - set(refetched)
    there = {f"/files/{path.split('/')[1]}/{receipt.key}" for path, receipt in receipts.items()}
    assert not asked & there, f"i3: asked again for {asked & there}"
    hold(bench, run, before, expected=whole)
    return run


async def mends_simulated(settings: Settings, simulator: Simulator) -> Summary:
    """Assert i3 against a simulator: it tells the truth from now on, and one run asks for what was missing only."""
    target = Path(settings.target)
    whole = simulated_files(simulator)
    there = set(ledger_receipts(target)) | set(ledger_receipts(target, (schema.HELD, schema.STAGED)))
    simulator.on_request = None
    for fault in list(simulator.faults):
        simulator.set_fault(fault, 0.0)
    simulator.requests.clear()
    summary = await Mirror(settings, api_key=simulator.key).run()
    assert (summary.verdict, summary.exit_code) == ("complete", 0), summary.reason
    assert set(tree(target)) == set(whole), "i3: not the tree of an undisturbed run"
    asked = {record.path.rpartition("/")[2] for record in simulator.requests if record.server != "api"}
    again = {path for path in there if _served_as(path) in asked}
    assert not again, f"i3: asked again for {again}"
    hold_simulated(target, simulator, summary)
    return summary


def _served_as(path: str) -> str:
    """Return how a simulator's storage names a mirrored file: `…_source_PATCH/B02.tif` is PATCH_B02.tif there."""
    folder, _, name = path.rpartition("/")
    patch = folder.rpartition("/")[2].removeprefix("bigearthnet_v1_labels_").removeprefix("bigearthnet_v1_source_")
    return f"{patch}.geojson" if name.startswith("labels") else f"{patch}_{name}"


def holds_origins_bytes(files: Mapping[str, bytes], whole: Mapping[str, bytes], unverified: set[str]) -> None:
    """i1."""
    for path, body in files.items():
        assert path in whole, f"i1: {path} is nobody's"
        assert body == whole[path] or path in unverified, f"i1: {path} has {len(body)} bytes that are not the origin's"


def holds_receipts(files: Mapping[str, bytes], receipts: Mapping[str, Receipt]) -> None:
    """i2."""
    for path, receipt in receipts.items():
        assert path in files, f"i2: the ledger has {path}, the folder has not"
        body = files[path]
        digest = hashlib.md5(body).digest() if receipt.digest_kind == "md5" else xxhash.xxh3_128_digest(body)
        assert (len(body), digest) == (receipt.size_bytes, receipt.digest), f"i2: {path}"


def leaves_nothing(target: Path, *, cut: bool = False) -> None:
    """i4. After a run that was `cut` short, a record of a part, or of what is staged, waits for the next."""
    parts = target / ".stacmirror" / "parts"
    left = {path.name for path in parts.rglob("*") if path.is_file()}
    if cut:
        for name, state in look(str(parts)).items():
            part = (parts / name).with_suffix(".part")
            staged = target / ".stacmirror" / "staging" / state.unit / state.name if state and state.unit else part
            if state is not None and (part.is_file() or staged.is_file()):
                left -= {part.name, part.with_suffix(".json").name}
    assert not left, f"i4: {left}"
    with sqlite3.connect(target / ".stacmirror" / "ledger.sqlite") as ledger:
        units = {unit for (unit,) in ledger.execute("SELECT unit FROM item WHERE unit IS NOT NULL")}
    ledger.close()
    staged = {path.name for path in (target / ".stacmirror" / "staging").iterdir()}
    assert cut or staged <= units, f"i4: {staged - units}"


def keeps_secrets(target: Path, secret: str, said: Iterable[str]) -> None:
    """i5."""
    for path in target.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), f"i5: the key is in {path}"
    with sqlite3.connect(target / ".stacmirror" / "ledger.sqlite") as ledger:
        for (block,) in ledger.execute("SELECT block FROM document"):
            assert secret.encode() not in zlib.decompress(block), "i5: the key is in a document"
    ledger.close()
    assert not [line for line in said if secret in line], "i5: the key was said"


def agrees(
    end: Mapping[str, Any], files: Mapping[str, bytes], whole: Mapping[str, bytes], held: int, unverified: int
) -> None:
    """i6. `held` files are durable, and not revealed until what their items lack has come."""
    for counts in (end, end["mirror"]):
        items = counts["items"]
        others = sum(items[name] for name in ("complete", "incomplete", "filtered", "duplicate", "pending"))
        assert items["listed"] == others, "i6: the items do not add up"
    assets = end["mirror"]["assets"]
    assert assets["stored"] == len(files) + held, f"i6: {assets['stored']} stored, {len(files)} files, {held} held"
    assert assets["unverified"] == unverified, "i6: unverified"
    is_whole = set(files) == set(whole)
    assert (end["exit_code"] == 0) == (end["verdict"] == "complete"), "i6: exit code and verdict"
    assert end["exit_code"] != 0 or is_whole, f"i6: complete, without {sorted(set(whole) - set(files))}"
    assert bool(end["reason"]) == (end["exit_code"] != 0), "i6: a reason where there is one"
    assert sum(failure["count"] for failure in end["failures"]) == assets["failed"], "i6: failures"


def ledger_receipts(target: Path, states: Sequence[int] = (schema.COMMITTED, schema.INCOMPLETE)) -> dict[str, Receipt]:
    """Return the receipts of all items in `states` (revealed ones), by path below the target."""
    return {path: receipt for path, (_, receipt) in ledger_files(target, states).items()}


def ledger_files(
    target: Path, states: Sequence[int] = (schema.COMMITTED, schema.INCOMPLETE)
) -> dict[str, tuple[ItemKey, Receipt]]:
    """Return whose each file is, by path below the target: the item, and the asset's receipt."""
    found: dict[str, tuple[ItemKey, Receipt]] = {}
    with sqlite3.connect(target / ".stacmirror" / "ledger.sqlite") as ledger:
        rows = ledger.execute(
            "SELECT c.id, i.id, i.folder, i.receipts FROM item i JOIN collection c ON c.n = i.collection"
            " WHERE i.state IN (?, ?)",
            tuple(states),
        ).fetchall()
    ledger.close()
    # A run that is put together by a test has no record; its layout is the default one.
    place = (read_record(str(target)) if has_record(str(target)) else {"place": DEFAULT_PLACE})["place"]
    folder_of = make_layout(place["layout"], place["path_template"]).folder
    for collection, item, kept, blob in rows:
        key = ItemKey(collection, item)
        folder = folder_of(key, key)[0] if kept is None else schema.unpack_folder(kept, key)
        for receipt in schema.unpack(blob)[0]:
            found[f"{folder}/{receipt.name}" if folder else receipt.name] = key, receipt
    return found
