"""`retry`: only what failed, with fresh links, into folders that are visible already; what is left is told."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stacmirror.mirror import Mirror
from stacmirror.model import Retried, Summary
from stacmirror.pipeline.task import Retry
from stacmirror.settings import Settings
from stacmirror.simulator import Simulator
from stacmirror.status import read_failed
from tests.conftest import simulated, tree

Make = Callable[..., Settings]
ITEMS = 8


async def run(settings: Settings, key: str, task: Retry | None = None) -> Summary:
    return await Mirror(settings, api_key=key, task=task).run()


def break_some(simulator: Simulator) -> None:
    """B02 answers 503 on every item, B03 of one item is gone."""
    gone = simulator.item_id(3, "bigearthnet_v1_source").removeprefix("bigearthnet_v1_source_") + "_B03.tif"
    simulator.on_request = lambda record: "503" if "_B02.tif" in record.path else "404" if gone in record.path else None


async def test_retry_asks_for_what_failed_and_nothing_else(quick_settings: Make, tmp_path: Path) -> None:
    """No page, no label, no file that is there; the files come into visible folders; the mirror is complete."""
    async with simulated(items=ITEMS, generation=2020) as simulator:
        settings = quick_settings(simulator, retries=0, sweeps=0)
        break_some(simulator)
        first = await run(settings, simulator.key)
        assert first.exit_code == 3
        assert len(tree(tmp_path / "mirror")) == ITEMS * 13 - ITEMS - 1, "the others are visible"
        simulator.on_request = None
        simulator.requests.clear()
        second = await run(settings, simulator.key, Retry())
        asked = {record.path.rpartition("/")[2] for record in simulator.requests if record.server == "s3"}
        pages = [record for record in simulator.requests if record.path.endswith("/items")]
        expected = await undisturbed(quick_settings(simulator, target="whole"), simulator.key, tmp_path / "whole")
    assert (second.verdict, second.exit_code) == ("complete", 0)
    assert second.retried == Retried((), asked=ITEMS + 1, failed=0, unreached=0, others=0)
    assert len(asked) == ITEMS + 1
    assert all(name.endswith(("_B02.tif", "_B03.tif")) for name in asked)
    assert pages == []
    assert tree(tmp_path / "mirror") == expected
    assert not list((tmp_path / "mirror" / ".stacmirror" / "staging").iterdir())


@pytest.mark.parametrize("generation", [2020, 2022])
@pytest.mark.parametrize(("end", "code"), [("401", 4), ("404", 5), ("stop", 130)])
async def test_a_run_that_ends_before_it_walks_takes_nothing_back(
    quick_settings: Make, generation: int, end: str, code: int
) -> None:
    """Two runs that get no page leave the listing as an earlier one proved it: a retry that mends all says so."""
    async with simulated(items=ITEMS, generation=generation) as simulator:
        settings = quick_settings(simulator, retries=0, sweeps=0)
        break_some(simulator)
        assert (await run(settings, simulator.key)).mirror.listing.ended
        for _ in range(2):
            mirror = Mirror(settings, api_key=simulator.key)

            def broken(record: object, mirror: Mirror = mirror) -> str:
                if end == "stop":
                    mirror.stop.ask(130, "Ctrl-C")
                return "401" if end == "401" else "404"

            simulator.on_request = broken
            assert (await mirror.run()).exit_code == code
        simulator.on_request = None
        last = await run(settings, simulator.key, Retry())
    assert (last.verdict, last.exit_code, last.reason) == ("complete", 0, "")


async def undisturbed(settings: Settings, key: str, folder: Path) -> dict[str, bytes]:
    await run(settings, key)
    return tree(folder)


async def test_only_some_kinds(quick_settings: Make) -> None:
    """`--only gone` leaves the 5xx alone: unasked, unchanged in time and attempts, and told."""
    async with simulated(items=ITEMS, generation=2020) as simulator:
        settings = quick_settings(simulator, retries=0, sweeps=0)
        break_some(simulator)
        await run(settings, simulator.key)
        before = {(f.item, f.asset): f for f in read_failed(settings.target)}
        simulator.on_request = None
        simulator.requests.clear()
        summary = await run(settings, simulator.key, Retry(frozenset({"gone"})))
        asked = [record.path for record in simulator.requests if record.server == "s3"]
    assert (summary.verdict, summary.exit_code) == ("incomplete", 3)
    assert summary.retried == Retried(("gone",), asked=1, failed=0, unreached=0, others=ITEMS)
    assert len(asked) == 1
    after = {(f.item, f.asset): f for f in read_failed(settings.target)}
    assert after == {key: value for key, value in before.items() if value.kind == "5xx"}


async def test_one_item_with_failures_of_two_kinds(quick_settings: Make, tmp_path: Path) -> None:
    """Of an item that lacks two assets, the one is fetched and the other stays recorded as it was."""
    async with simulated(items=1, generation=2020) as simulator:
        settings = quick_settings(simulator, retries=0, sweeps=0)
        faults = {"_B02.tif": "503", "_B03.tif": "404"}
        simulator.on_request = lambda record: next((f for what, f in faults.items() if what in record.path), None)
        await run(settings, simulator.key)
        before = {f.asset: f for f in read_failed(settings.target)}
        simulator.on_request = None
        summary = await run(settings, simulator.key, Retry(frozenset({"5xx"})))
        assert summary.retried == Retried(("5xx",), asked=1, failed=0, unreached=0, others=1)
        assert list(read_failed(settings.target)) == [before["B03"]]
        assert len(tree(tmp_path / "mirror")) == 12
        assert (await run(settings, simulator.key, Retry())).verdict == "complete"
    assert len(tree(tmp_path / "mirror")) == 13


@pytest.mark.parametrize(("fault", "kind", "status"), [("500", "source", 500), ("404", "unlisted", 0)])
async def test_an_item_that_is_not_given_fails_with_what_it_lacks(
    quick_settings: Make, fault: str, kind: str, status: int
) -> None:
    """A retry that cannot read the items: as many failures as before, each with what was tried last; then all come."""
    async with simulated(items=ITEMS, generation=2020) as simulator:
        settings = quick_settings(simulator, retries=0, sweeps=0)
        break_some(simulator)
        await run(settings, simulator.key)
        before = {(f.item, f.asset) for f in read_failed(settings.target)}
        simulator.on_request = lambda record: fault if "/items/" in record.path else None
        summary = await run(settings, simulator.key, Retry())
        assert summary.retried == Retried((), asked=ITEMS + 1, failed=ITEMS + 1, unreached=0, others=0)
        assert summary.mirror.assets.failed == ITEMS + 1
        after = list(read_failed(settings.target))
        assert {(f.item, f.asset) for f in after} == before
        api = simulator.api_url.removesuffix("/mlhub/v1")
        assert {(f.kind, f.status, f.host) for f in after} == {(kind, status, api)}
        simulator.on_request = None
        summary = await run(settings, simulator.key, Retry(frozenset({kind})))
    assert summary.retried == Retried((kind,), asked=ITEMS + 1, failed=0, unreached=0, others=0)
    assert summary.verdict == "complete"


async def test_what_fails_again_is_told(quick_settings: Make) -> None:
    """It is asked once a pass, stays recorded with the new time, and the exit code is that of a mirror."""
    async with simulated(items=ITEMS, generation=2020) as simulator:
        settings = quick_settings(simulator, retries=0, sweeps=0)
        break_some(simulator)
        await run(settings, simulator.key)
        before = {(f.item, f.asset): f.at_s for f in read_failed(settings.target)}
        summary = await run(settings, simulator.key, Retry())
        after = {(f.item, f.asset): f.at_s for f in read_failed(settings.target)}
    assert (summary.exit_code, summary.retried) == (3, Retried((), ITEMS + 1, failed=ITEMS + 1, unreached=0, others=0))
    assert after.keys() == before.keys()
    assert all(after[key] > at_s for key, at_s in before.items())


async def test_a_retry_knows_how_far_the_listing_was_read(quick_settings: Make) -> None:
    """After a run that was stopped inside the listing, a retry does not call it complete, nor move its cursor."""
    async with simulated(items=30, generation=2020) as simulator:
        settings = quick_settings(simulator, page_size=5, retries=0, sweeps=0)
        simulator.on_request = lambda record: "503" if "_B02.tif" in record.path else None
        mirror = Mirror(settings, api_key=simulator.key)
        running = asyncio.create_task(mirror.run())
        while mirror.progress.items_done < 6:
            await asyncio.sleep(0.01)
        mirror.stop.ask()
        await running
        simulator.on_request = None
        summary = await run(settings, simulator.key, Retry())
        assert (summary.exit_code, summary.mirror.assets.failed) == (5, 0)
        whole = await run(settings, simulator.key)
    assert (whole.verdict, whole.mirror.items.complete) == ("complete", 30)


@pytest.mark.slow
async def test_killed_while_it_adds_to_visible_folders(quick_settings: Make, tmp_path: Path) -> None:
    """SIGKILL at any moment of a retry: every visible file is whole, and another retry makes the mirror complete."""
    async with simulated(items=60, generation=2020) as simulator:
        settings = quick_settings(simulator, retries=0, sweeps=0)
        simulator.on_request = lambda record: "503" if "_B02.tif" in record.path else None
        await run(settings, simulator.key)
        simulator.on_request = None
        expected = await undisturbed(quick_settings(simulator, target="whole"), simulator.key, tmp_path / "whole")
        words = ["retry", settings.target, "--progress", "none", "--json", "--sync-every", "20ms", "--workers", "2"]
        for files in (1, 15, 40):
            simulator.requests.clear()
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "stacmirror", *words,
                env={**os.environ, "MLHUB_API_KEY": simulator.key},
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            async with asyncio.timeout(60):
                while sum(r.server == "s3" for r in simulator.requests) < files and process.returncode is None:
                    await asyncio.sleep(0.002)
            if process.returncode is None:
                process.kill()
            await process.communicate()
            assert all(expected[name] == content for name, content in tree(tmp_path / "mirror").items())
        summary = await run(settings, simulator.key, Retry())
    assert (summary.verdict, tree(tmp_path / "mirror")) == ("complete", expected)


async def test_on_the_command_line(quick_settings: Make, capfd: pytest.CaptureFixture[str]) -> None:
    """The verdict says what became of it; an unknown kind is one line with the kinds that there are."""
    async with simulated(items=ITEMS, generation=2020) as simulator:
        settings = quick_settings(simulator, retries=0, sweeps=0)
        break_some(simulator)
        await run(settings, simulator.key)

        async def typed(*words: str, key: str = simulator.key) -> tuple[int, str, str]:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "stacmirror", "retry", settings.target, *words,
                env={**os.environ, "MLHUB_API_KEY": key},
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, err = await asyncio.wait_for(process.communicate(), 60)
            return process.returncode or 0, out.decode(), err.decode()

        code, _, err = await typed("--only", "timeuot")
        assert code == 2
        assert "--only timeuot: no failure is of that kind" in err
        assert "there are 5xx (8), gone (1)" in err
        code, _, err = await typed("--only", "")  # as of a variable that is not set: not all of it
        assert (code, "error: --only names no kind of failure" in err) == (2, True)
        code, _, err = await typed("--only", "timeout")
        assert (code, "nothing: no failure of kind timeout; 9 of other kinds were left" in err) == (3, True)
        simulator.on_request = None
        code, out, err = await typed("--only", "5xx,gone", "--json")
        assert "9 failures (5xx, gone) = 9 mended" in err
        assert (code, json.loads(out)["retried"]["asked"]) == (0, 9)
        simulator.requests.clear()
        nothing = await typed(key="")  # nothing is there to ask for, so nobody is asked who one is
        assert list(simulator.requests) == []
    assert (nothing[0], "complete" in nothing[2], "no API key" in nothing[2]) == (0, True, False), nothing[2]


async def test_with_failures_a_key_is_needed(quick_settings: Make) -> None:
    """Something failed, and no key: exit code 4 before anything is asked; kinds that nothing failed with need none."""
    async with simulated(items=ITEMS, generation=2020) as simulator:
        settings = quick_settings(simulator, retries=0, sweeps=0)
        break_some(simulator)
        await run(settings, simulator.key)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLHUB_")}
        codes = []
        for words in ((), ("--only", "5xx"), ("--only", "timeout")):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "stacmirror", "retry", settings.target, *words, env=environment,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            await asyncio.wait_for(process.communicate(), 60)
            codes.append(process.returncode)
    assert codes == [4, 4, 3]
