"""`explain`: everything that happened to one item, and nothing that is secret."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import xxhash

from stacmirror.cli import app as program
from stacmirror.errors import UsageError
from stacmirror.explain import explain
from stacmirror.mirror import Mirror
from stacmirror.settings import Settings
from tests.conftest import simulated

Make = Callable[..., Settings]
LABELS, SOURCES = "bigearthnet_v1_labels", "bigearthnet_v1_source"


async def test_one_item_from_its_page_to_its_files(quick_settings: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """Page and cursor, links both ways, each file with its digest, the failure with host, time and command."""
    began_s = int(time.time())
    async with simulated(items=9, generation=2021) as simulator:
        label, source = simulator.item_id(4, LABELS), simulator.item_id(4, SOURCES)
        lost = source.removeprefix(f"{SOURCES}_") + "_B03.tif"
        simulator.on_request = lambda record: "503" if lost in record.path else None
        settings = quick_settings(simulator, page_size=2, retries=1, sweeps=0)
        await Mirror(settings, api_key=simulator.key).run()
        blobs = simulator.blobs_url
    target = Path(settings.target)
    (found,) = explain(settings.target, source)
    assert (found.collection, found.state, found.page, found.named_by) == (
        SOURCES,
        "incomplete",
        None,
        [f"{LABELS}/{label}"],
    )
    assert began_s <= found.at_s <= time.time()
    assets = {asset.key: asset for asset in found.assets}
    band = (target / assets["B02"].path).read_bytes()
    assert (assets["B02"].outcome, assets["B02"].size_bytes, assets["B02"].damage) == ("stored", len(band), "")
    kind, _, digest = assets["B02"].digest.partition(":")
    assert digest == (hashlib.md5(band) if kind == "md5" else xxhash.xxh3_128(band)).hexdigest()
    failed = assets["B03"]
    assert (failed.outcome, failed.kind, failed.attempts, failed.host) == ("failed", "5xx", 2, blobs)
    assert began_s <= failed.at_s <= time.time()
    assert failed.again == f"stacmirror retry {settings.target} --only 5xx"
    assert assets["B10"].outcome == "absent"

    (walked,) = explain(settings.target, f"{LABELS}/{label}")
    assert (walked.state, walked.page, walked.sources) == ("committed", 2, [f"{SOURCES}/{source}"])
    assert walked.cursor

    (target / assets["B02"].path).write_bytes(band[:-1])
    (target / assets["B04"].path).unlink()
    assert program.run(["explain", settings.target, source]) == 0
    said = capsys.readouterr().out
    assert f"DAMAGED: {len(band) - 1:,} bytes on the disk" in said
    assert "DAMAGED: not on the disk" in said
    assert f"failed: 5xx after 2 attempts, {time.strftime('%Y-%m-%d')}" in said
    assert f"at {blobs}" in said
    assert not re.search(r"gAAAA|/download/[0-9a-f]{64}", said)
    assert simulator.key not in said
    assert program.run(["explain", settings.target, source, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"][0]["item"] == source


async def test_an_item_that_is_not_there(quick_settings: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit 2, and the ids that are like it: with a typo, or with a part of it."""
    async with simulated(items=5) as simulator:
        settings = quick_settings(simulator)
        await Mirror(settings, api_key=simulator.key).run()
        label, source = simulator.item_id(2, LABELS), simulator.item_id(2, SOURCES)
    with pytest.raises(UsageError) as told:
        explain(settings.target, label.replace("S2", "S9"))
    assert told.value.hint.startswith(f"near: {label}")
    with pytest.raises(UsageError) as told:
        explain(settings.target, label.removeprefix(f"{LABELS}_"))
    assert sorted(told.value.hint.removeprefix("near: ").split(", ")) == [label, source]
    assert program.run(["explain", settings.target, "xyz"]) == 2
    assert "not listed so far, or left out by the mirror's filters" in capsys.readouterr().err


def test_an_id_in_several_collections(tmp_path: Path) -> None:
    """Each collection that has the id is told; COLLECTION/ID names one."""
    from stacmirror.ledger.store import LedgerStore
    from stacmirror.record import write_record
    from stacmirror.typed import build
    from tests.unit.test_ledger import a_page, commit, outcome, record

    write_record(build("mlhub:labels", str(tmp_path), {}))
    store = LedgerStore(str(tmp_path / ".stacmirror" / "ledger.sqlite"))
    one, two = record("a", sources=["a"]), record("a", collection="source", page=None)
    commit(store, a_page(0, 1), outcome(one, two))
    store.close()
    assert [found.collection for found in explain(str(tmp_path), "a")] == ["labels", "source"]
    (found,) = explain(str(tmp_path), "source/a")
    assert (found.collection, found.named_by) == ("source", ["labels/a"])
