"""The failure file: a line of JSON for each asset that is missing, with all that is known of it, however a run ends."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from stacmirror.cli import app as program
from stacmirror.cli.report import Ending, verdict_lines
from stacmirror.errors import KINDS
from stacmirror.mirror import Mirror
from stacmirror.settings import Settings
from stacmirror.simulator import Simulator
from stacmirror.simulator.log import RequestRecord
from stacmirror.status import read_failed
from tests.conftest import SOURCE, simulated

NEXT = "next run"


async def stacmirror(simulator: Simulator, *words: str) -> tuple[int, str]:
    """Run the command line in a process of its own; return its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "stacmirror", *words, "--progress", "none",
        env={**os.environ, "MLHUB_API_KEY": simulator.key},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, said.decode()


def lines(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the file's values, by what is in an item's id and by asset."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return {(told["item"], told["asset"]): told for told in found}


async def test_every_failure_tells(tmp_path: Path) -> None:
    """Collection, item, asset, kind, status, host, attempts, what else was tried, and who asks again; then it mends."""
    target, file = tmp_path / "mirror", tmp_path / "failures.ndjson"
    began_s = time.time()
    async with simulated(items=8, generation=2022) as simulator:
        faults = {
            f"/{simulator.patch_name(1)}_B02.tif": "502",
            f"/{simulator.patch_name(2)}_B03.tif": "404",
            f"/{simulator.patch_name(3)}_B04.tif": "short",
            f"/items/{simulator.item_id(4, 'bigearthnet_v1_source')}": "500",
            f"/items/{simulator.item_id(5, 'bigearthnet_v1_source')}": "404",
        }
        simulator.on_request = lambda record: next((f for end, f in faults.items() if record.path.endswith(end)), None)
        code, said = await stacmirror(
            simulator, "mirror", SOURCE, str(target), "--api-url", simulator.api_url, "--exclude-asset", "B10",
            "--retries", "2", "--sweeps", "0", "--failures", str(file),
        )  # fmt: skip
        assert code == 3, said
        found = lines(file)
        assert f"5 lines in {file}" in said
        source = "bigearthnet_v1_source"
        blobs, api = simulator.blobs_url, simulator.api_url.removesuffix("/mlhub/v1")
        expected = [
            (1, "B02", "5xx", 502, blobs, 3),
            (2, "B03", "gone", 404, blobs, 1),
            (3, "B04", "short", 0, blobs, 3),
            (4, "@item", "source", 500, api, 3),
            (5, "@item", "gone", 0, api, 1),
        ]
        for number, asset, kind, status, host, attempts in expected:
            told = found.pop((simulator.item_id(number, source), asset))
            assert (told["collection"], told["kind"], told["status"]) == (source, kind, status)
            assert (told["host"], told["attempts"], told["again"]) == (host, attempts, NEXT)
            assert (told["renewed"], told["put_off"]) == (0, 0)
            assert began_s < told["at_s"] < time.time()
            assert told["message"]
            assert told["kind"] in KINDS
        assert not found
        assert simulator.key not in file.read_text()

        for kind, left in (("gone,short", {"5xx", "source"}), ("source", {"5xx"})):
            faults = {end: fault for end, fault in faults.items() if fault == "502"}
            await stacmirror(simulator, "retry", str(target), "--only", kind, "--failures", str(file))
            assert {told["kind"] for told in lines(file).values()} == left
        faults = {}
        code, said = await stacmirror(simulator, "resume", str(target), "--failures", str(file))
        assert (code, file.read_bytes()) == (0, b"")


@pytest.mark.parametrize(("answer", "why"), [("500", "500"), ("404", "no such item")])
async def test_a_link_that_died_and_was_not_renewed_says_so(
    quick_settings: Callable[..., Settings], answer: str, why: str
) -> None:
    """Not that the asset is refused, nor that the source never had it: how the renewal of its link failed."""
    async with simulated(items=1, generation=2022) as simulator:
        refused: list[str] = []

        def broken(record: RequestRecord) -> str | None:
            if record.server == "blobs":
                refused.append(record.path)
                return "403"
            return answer if refused and "/items/" in record.path else None

        simulator.on_request = broken
        settings = quick_settings(simulator, retries=0, sweeps=0, workers=1)
        settings = replace(settings, catalog=replace(settings.catalog, link_life_s=0.001))  # dead when they are read
        summary = await Mirror(settings, api_key=simulator.key).run()
        assert (summary.exit_code, bool(refused)) == (3, True)
        failed = [failure for failure in read_failed(settings.target) if failure.status == 403]
    assert failed
    for failure in failed:
        assert failure.kind == "expired"
        assert "its link had died, and the renewal failed: " in failure.message
        assert why in failure.message
    assert not any("--missing-ok" in line for line in verdict_lines(Ending(summary, "mirror", "resume", "status")))


@pytest.mark.parametrize("place", ["ben/failures.ndjson", "nowhere/failures.ndjson"])
def test_a_place_that_cannot_be_is_refused(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the mirror, or in a folder that is not there: one line and exit 2, before anyone is asked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLHUB_API_KEY", "k")
    words = ["mirror", SOURCE, "ben", "--api-url", "http://127.0.0.1:9/mlhub/v1", "--failures", place]
    assert program.run(words) == 2
    assert f"stacmirror: error: --failures {place} " in capsys.readouterr().err
    assert not (tmp_path / "ben").exists()


async def test_a_run_that_does_not_begin_leaves_the_last_file(tmp_path: Path) -> None:
    """Refused before it began, a run has nothing to say about the mirror."""
    file = tmp_path / "failures.ndjson"
    file.write_text("what the last run said\n")
    (tmp_path / "mirror" / ".stacmirror").mkdir(parents=True)
    (tmp_path / "mirror" / ".stacmirror" / "ledger.sqlite").write_bytes(b"no ledger" * 500)
    async with simulated(items=1) as simulator:
        words = ("mirror", SOURCE, str(tmp_path / "mirror"), "--api-url", simulator.api_url, "--failures", str(file))
        code, _ = await stacmirror(simulator, *words)
    assert code == 9
    assert file.read_text() == "what the last run said\n"
