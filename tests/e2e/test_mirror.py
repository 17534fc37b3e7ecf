"""The main job over real sockets: a simulator on one side, a folder on the other."""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from stacmirror.errors import UsageError
from stacmirror.listings import list_classes, list_collections
from stacmirror.mirror import Mirror
from stacmirror.model import FailureCount, Summary
from stacmirror.settings import Settings
from stacmirror.status import read_status
from tests.conftest import SOURCE, simulated, tree

Make = Callable[..., Settings]


async def run(settings: Settings, key: str) -> Summary:
    return await Mirror(settings, api_key=key).run()


def adds_up(summary: Summary) -> bool:
    return all(
        c.items.listed == c.items.complete + c.items.incomplete + c.items.filtered + c.items.duplicate + c.items.pending
        for c in (summary.run, summary.mirror)
    )


@pytest.mark.parametrize("generation", [2020, 2021, 2022])
async def test_every_byte_arrives(quick_settings: Make, tmp_path: Path, generation: int) -> None:
    """A mirror of any generation holds exactly the files that the simulator says there are, byte for byte."""
    async with simulated(items=23, generation=generation) as simulator:
        summary = await run(quick_settings(simulator, page_size=7), simulator.key)
        expected: dict[str, bytes] = {}
        for number in range(23):
            files = simulator.expected_files(number)
            label = simulator.item_id(number)
            source = simulator.item_id(number, "bigearthnet_v1_source")
            for key, content in files.items():
                name = f"bigearthnet_v1_labels/{label}/labels.geojson"
                expected[name if key == "labels" else f"bigearthnet_v1_source/{source}/{key}.tif"] = content
    assert tree(tmp_path / "mirror") == expected
    assert summary.exit_code == 0
    assert summary.verdict == "complete"
    assert summary.run.items.complete == 23
    assert summary.run.assets.stored == len(expected) == 23 * 13
    assert summary.run.assets.absent + summary.run.assets.assumed_absent == (0 if generation == 2020 else 23)
    assert adds_up(summary)
    assert summary.run.listing.ended


async def test_both_clients_bring_the_same(quick_settings: Make, tmp_path: Path) -> None:
    """Our own client and aiohttp give one tree, with as many requests, faults or not."""
    async with simulated(items=12, generation=2022) as simulator:
        counts = []
        for client in ("wire", "aiohttp"):
            summary = await run(quick_settings(simulator, client, http_client=client), simulator.key)
            assert summary.verdict == "complete"
            counts.append(summary.requests)
    assert counts[0] == counts[1]
    assert tree(tmp_path / "wire") == tree(tmp_path / "aiohttp")
    assert len(tree(tmp_path / "wire")) == 12 * 13


async def test_second_run_asks_for_nothing(quick_settings: Make) -> None:
    """A complete mirror run again asks for one page and no asset, but for a sample of what was missing everywhere."""
    async with simulated(items=20, generation=2022) as simulator:
        await run(quick_settings(simulator), simulator.key)
        asked = len(simulator.requests)
        summary = await run(quick_settings(simulator), simulator.key)
        again = [record.path for record in list(simulator.requests)[asked:]]
    assert summary.verdict == "complete"
    assert summary.mirror.items.complete == 20
    assert adds_up(summary)
    assert not [path for path in again if "_labels/items/" in path]
    assert 1 <= sum("_source/items/" in path for path in again) <= 5
    assert sum("/download/" in path for path in again) == sum("_source/items/" in path for path in again)
    assert sum(path.endswith("/items") for path in again) == 1


async def test_collection_documents_are_kept(quick_settings: Make, tmp_path: Path) -> None:
    """License and citation of both collections are beside their items."""
    async with simulated(items=2) as simulator:
        mirror = Mirror(quick_settings(simulator), api_key=simulator.key)
        await mirror.run()
    for collection in ("bigearthnet_v1_labels", "bigearthnet_v1_source"):
        folder = tmp_path / "mirror" / collection
        assert "Sumbul" in (folder / "CITATION.txt").read_text()
        assert "CDLA-Permissive-1.0" in (folder / "LICENSE.txt").read_text()
        assert collection in (folder / "collection.json").read_text()
    assert any("Sumbul" in line for line in mirror.citation)


@pytest.mark.parametrize(
    ("trap", "generation"),
    [
        ("null-next", 2021),
        ("null-next", 2022),
        ("growing-key", 2022),
        ("empty-page-with-next", 2021),
        ("missing-403", 2021),
    ],
)
async def test_traps_of_the_real_service(quick_settings: Make, tmp_path: Path, trap: str, generation: int) -> None:
    """What the real service did wrong does not lose an item, and no request carries more than one key."""
    async with simulated(items=40, generation=generation, traps=(trap,)) as simulator:
        summary = await run(quick_settings(simulator, page_size=6), simulator.key)
        keys = [record.query.count("key=") for record in simulator.requests]
    assert (summary.verdict, summary.exit_code, summary.reason) == ("complete", 0, "")
    assert summary.run.items.complete == 40
    assert len(tree(tmp_path / "mirror")) == 40 * 13
    assert max(keys) == 1


async def test_shared_sources_are_fetched_once(quick_settings: Make, tmp_path: Path) -> None:
    """Three labels that share a source cost one fetch of it, and all three are complete."""
    async with simulated(items=30, traps=("shared-sources",)) as simulator:
        summary = await run(quick_settings(simulator, page_size=7), simulator.key)
        blobs = [record.path for record in simulator.requests if record.server == "blobs" and record.status == 200]
        sources = {simulator.item_id(s, "bigearthnet_v1_source") for i in range(30) for s in simulator.sources_of(i)}
    assert summary.verdict == "complete"
    assert summary.run.items.complete == 30
    assert len(blobs) == len(set(blobs)) == 30 + 12 * len(sources)
    assert {path.name for path in (tmp_path / "mirror" / "bigearthnet_v1_source").iterdir() if path.is_dir()} == sources


async def test_labels_with_many_sources(quick_settings: Make) -> None:
    """A label with five sources brings all five, each once."""
    async with simulated(items=12, traps=("many-sources",)) as simulator:
        summary = await run(quick_settings(simulator), simulator.key)
        blobs = [record.path for record in simulator.requests if record.server == "blobs" and record.status == 200]
    assert summary.verdict == "complete"
    assert len(blobs) == len(set(blobs)) == 12 + 12 * 12


@pytest.mark.parametrize("fault", ["503", "reset", "short", "500", "429"])
async def test_transient_faults_lose_nothing(quick_settings: Make, tmp_path: Path, fault: str) -> None:
    """With one request in twenty going wrong, every file arrives all the same, whole."""
    rate = 0.01 if fault == "429" else 0.05
    async with simulated(items=20, generation=2022, faults={fault: rate}) as simulator:
        summary = await run(quick_settings(simulator, retries=8), simulator.key)
        met = sum(record.fault == fault for record in simulator.requests)
        expected = {hashlib.md5(body).digest() for i in range(20) for body in simulator.expected_files(i).values()}
    assert met > 0
    assert (summary.verdict, summary.reason) == ("complete", "")
    assert {hashlib.md5(body).digest() for body in tree(tmp_path / "mirror").values()} == expected


async def test_what_never_arrives_is_counted_and_named(quick_settings: Make, tmp_path: Path) -> None:
    """An asset that fails for ever ends in exit 3, its item revealed without it, and a later run mends it."""
    async with simulated(items=6, generation=2020) as simulator:
        simulator.on_request = lambda record: "503" if record.path.endswith("_B04.tif") else None
        settings = quick_settings(simulator, retries=1, sweeps=1)
        first = await run(settings, simulator.key)
        assert (first.verdict, first.exit_code) == ("incomplete", 3)
        assert first.mirror.items.incomplete == 6
        assert first.mirror.assets.failed == 6
        assert adds_up(first)
        assert len(tree(tmp_path / "mirror")) == 6 * 12
        assert read_status(settings.target).failures == [FailureCount("B04", "5xx", 6)]
        simulator.on_request = None
        asked = len(simulator.requests)
        second = await run(settings, simulator.key)
        paths = [record.path for record in list(simulator.requests)[asked:] if record.server == "s3"]
    assert (second.verdict, second.exit_code) == ("complete", 0)
    assert adds_up(second)
    assert all(path.endswith("_B04.tif") for path in paths)
    assert len(paths) == 6
    assert len(tree(tmp_path / "mirror")) == 6 * 13


async def test_links_that_expire_are_renewed(quick_settings: Make) -> None:
    """With links that die after two seconds of a slow run, nothing fails, and few links are found dead."""
    async with simulated(items=30, link_life_s=2.0, generation=2021) as simulator:
        settings = quick_settings(simulator, workers=2, rate="250/s", link_life="2s", page_size=30)
        summary = await run(settings, simulator.key)
        refused = sum(record.status == 403 for record in simulator.requests if "/download/" in record.path)
    assert (summary.verdict, summary.reason) == ("complete", "")
    assert refused <= 30


async def test_filters_have_the_notebooks_meaning(quick_settings: Make, tmp_path: Path) -> None:
    """Any-of labels and no snow keep just the items that a plain reading of the items keeps, in every generation."""
    kept: dict[int, set[str]] = {}
    for generation in (2020, 2021, 2022):
        async with simulated(items=60, generation=generation) as simulator:
            settings = quick_settings(
                simulator,
                f"g{generation}",
                label_class=["Coniferous forest", "Pastures"],
                seasonal_snow=False,
                asset=["labels"],
                page_size=25,
            )
            summary = await run(settings, simulator.key)
        folder = tmp_path / f"g{generation}" / "bigearthnet_v1_labels"
        kept[generation] = {path.name for path in folder.iterdir() if path.is_dir()}
        assert summary.run.items.complete == len(kept[generation])
        assert summary.run.items.filtered == 60 - len(kept[generation])
        assert adds_up(summary)
        assert 0 < len(kept[generation]) < 60
    assert kept[2020] == kept[2021] == kept[2022]


async def test_max_items_counts_over_resumes(quick_settings: Make) -> None:
    """`--max-items` stops inside a page, is complete, and a larger one later goes on without fetching twice."""
    async with simulated(items=30) as simulator:
        first = await run(quick_settings(simulator, max_items=8, page_size=5), simulator.key)
        assert (first.verdict, first.mirror.items.complete) == ("complete", 8)
        assert not first.run.listing.ended
        same = await run(quick_settings(simulator, max_items=8, page_size=5), simulator.key)
        assert (same.verdict, same.mirror.items.complete) == ("complete", 8)
        asked = len(simulator.requests)
        second = await run(quick_settings(simulator, max_items=17, page_size=4), simulator.key)
        blobs = [r.path for r in list(simulator.requests)[asked:] if r.server == "blobs" and r.status == 200]
        assert (second.verdict, second.mirror.items.complete) == ("complete", 17)
        assert second.mirror.items.duplicate == 0
        assert len(blobs) == 9 * 13
        everything = await run(quick_settings(simulator, page_size=6), simulator.key)
    assert (everything.verdict, everything.mirror.items.complete) == ("complete", 30)
    assert everything.run.listing.ended
    assert all(adds_up(summary) for summary in (first, same, second, everything))


async def test_another_filter_is_refused(quick_settings: Make) -> None:
    """A target made with other filters is not mixed: one line with the difference, nothing asked."""
    async with simulated(items=3) as simulator:
        await run(quick_settings(simulator), simulator.key)
        asked = len(simulator.requests)
        with pytest.raises(UsageError, match=r"asset is \[\], not \[\"B02\"\]"):
            await run(quick_settings(simulator, asset=["B02"]), simulator.key)
        assert len(simulator.requests) == asked


async def test_wrong_key_stops_at_once(quick_settings: Make) -> None:
    """A refused key ends the run with exit 4, and the source is asked at most three times."""
    async with simulated(items=3) as simulator:
        summary = await run(quick_settings(simulator), "0" * 64)
        assert summary.exit_code == 4
        assert sum(record.status in (401, 403) for record in simulator.requests) <= 3


async def test_no_secret_is_kept(quick_settings: Make, tmp_path: Path) -> None:
    """Neither the key nor a download token is in any file of the mirror, the ledger's blocks unpacked."""
    import sqlite3
    import zlib

    async with simulated(items=4, generation=2022) as simulator:
        await run(quick_settings(simulator), simulator.key)
        key = simulator.key.encode()
    ledger = sqlite3.connect(tmp_path / "mirror" / ".stacmirror" / "ledger.sqlite")
    documents = b"\n".join(zlib.decompress(block) for (block,) in ledger.execute("SELECT block FROM document"))
    ledger.close()
    assert documents.count(b'"type":"Feature"') == 8
    files = [path.read_bytes() for path in (tmp_path / "mirror").rglob("*") if path.is_file()]
    for content in (*files, documents):
        assert key not in content
        assert b"/download/gAAAA" not in content


async def test_listings(quick_settings: Make) -> None:
    """Collections say license and citation; classes are the 43 of the CORINE nomenclature."""
    async with simulated(items=3) as simulator:
        settings = quick_settings(simulator)
        collections = await list_collections(settings, "")
        classes = await list_classes(settings, simulator.key)
    assert {info.id for info in collections} == {"bigearthnet_v1_labels", "bigearthnet_v1_source"}
    assert all(info.license == "CDLA-Permissive-1.0" and "Sumbul" in info.citation for info in collections)
    assert len(classes["labels"]) == 43
    assert SOURCE.endswith("labels")


@pytest.mark.slow
async def test_three_generations_give_one_tree(quick_settings: Make, tmp_path: Path) -> None:
    """The same 300 items from 2020 (s3://), 2021 (302) and 2022 (303) are the same paths and sha256."""
    lists = []
    for generation in (2020, 2021, 2022):
        async with simulated(items=300, generation=generation, log_requests=False) as simulator:
            summary = await run(quick_settings(simulator, f"g{generation}", workers=16), simulator.key)
        assert summary.exit_code == 0
        files = tree(tmp_path / f"g{generation}")
        lists.append({name: hashlib.sha256(content).hexdigest() for name, content in files.items()})
    assert len(lists[0]) == 3900
    assert lists[0] == lists[1] == lists[2]


@pytest.mark.parametrize("status", [200, 301, 302, 303, 307, 308])
async def test_every_way_to_lead_to_the_bytes(quick_settings: Make, tmp_path: Path, status: int) -> None:
    """A link may redirect with any status, to s3:// or https://, or answer with the body itself."""
    for target in ("s3", "http"):
        async with simulated(items=2, redirect_status=status, redirect_to=target) as simulator:
            settings = quick_settings(simulator, f"{status}-{target}", missing_ok=["B10"])
            summary = await run(settings, simulator.key)
        assert (summary.verdict, summary.reason) == ("complete", "")
        assert len(tree(tmp_path / f"{status}-{target}")) == 26


async def test_requester_pays(quick_settings: Make) -> None:
    """A requester-pays bucket gives its objects to `--request-payer` and to nobody else."""
    async with simulated(items=2, generation=2020, s3_request_payer=True) as simulator:
        free = await run(quick_settings(simulator, "free", sweeps=0), simulator.key)
        paid = await run(quick_settings(simulator, "paid", request_payer=True), simulator.key)
    assert (free.exit_code, free.mirror.assets.stored) == (3, 0)
    assert (paid.exit_code, paid.mirror.assets.stored) == (0, 26)


async def test_hidden_incomplete_items(quick_settings: Make, tmp_path: Path) -> None:
    """With `--incomplete hide` an item that lacks an asset is not seen until it has it."""
    async with simulated(items=4, generation=2020) as simulator:
        simulator.on_request = lambda record: "503" if record.path.endswith("_B04.tif") else None
        settings = quick_settings(simulator, retries=0, sweeps=0, incomplete="hide")
        first = await run(settings, simulator.key)
        assert (first.exit_code, first.mirror.items.incomplete) == (3, 4)
        assert {path.partition("/")[0] for path in tree(tmp_path / "mirror")} == {"bigearthnet_v1_labels"}
        simulator.on_request = None
        asked = len(simulator.requests)
        second = await run(quick_settings(simulator, incomplete="hide"), simulator.key)
        objects = [r.path for r in list(simulator.requests)[asked:] if r.server == "s3"]
    assert (second.verdict, len(tree(tmp_path / "mirror"))) == ("complete", 52)
    assert len(objects) == 4


async def test_page_size_and_key_reach_the_server(quick_settings: Make) -> None:
    """`--page-size` is the limit of every page request, in the generation that drops it from its next link, too."""
    async with simulated(items=40, generation=2022) as simulator:
        await run(quick_settings(simulator, page_size=9, asset=["labels"]), simulator.key)
        pages = [r for r in simulator.requests if r.path.endswith("_labels/items")]
    assert len(pages) == 5
    assert all("limit=9" in r.query and r.credential == "key" for r in pages)
    assert not any(r.credential for r in simulator.requests if "/download/" in r.path or r.server != "api")


async def test_large_bodies_are_streamed(quick_settings: Make, tmp_path: Path) -> None:
    """Bodies above `small_file_max` arrive by way of a part, the same bytes under the same names."""
    async with simulated(items=3) as simulator:
        small = await run(quick_settings(simulator, "small"), simulator.key)
        large = await run(quick_settings(simulator, "large", small_file_max="4kB"), simulator.key)
    assert small.verdict == large.verdict == "complete"
    assert tree(tmp_path / "small") == tree(tmp_path / "large")
    assert not list((tmp_path / "large" / ".stacmirror" / "parts").iterdir())


async def test_a_source_that_is_not_there(quick_settings: Make, tmp_path: Path) -> None:
    """A host that refuses connections ends the run with exit 5, naming it, and leaves a mirror to resume."""
    async with simulated(items=3) as simulator:
        settings = quick_settings(simulator, retries=1)
        key = simulator.key
    summary = await run(settings, key)
    assert summary.exit_code == 5
    assert "127.0.0.1" in summary.reason
    assert key not in summary.reason
    assert (tmp_path / "mirror" / ".stacmirror" / "settings.toml").exists()


async def test_a_low_limit_of_open_files_lowers_the_ceiling(
    quick_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the hard limit does not allow what --per-host asks for, the run says so, and completes."""

    class Observer:
        def __init__(self) -> None:
            self.notes: list[str] = []

        def note(self, message: str) -> None:
            self.notes.append(message)

    monkeypatch.setattr(resource, "getrlimit", lambda _: (512, 512))
    observer = Observer()
    async with simulated(items=3) as simulator:
        settings = quick_settings(simulator, per_host=1000)
        summary = await Mirror(settings, api_key=simulator.key, observer=observer).run()
    assert summary.exit_code == 0
    assert any("at most 128 at once, not 1000" in note for note in observer.notes)


async def test_asset_names_that_match_nothing_are_told_with_those_there_are(
    quick_settings: Make, tmp_path: Path
) -> None:
    """Neither of labels nor of their sources: that is no complete mirror, and the reason has the names there are."""
    async with simulated(items=6, generation=2022) as simulator:
        summary = await run(quick_settings(simulator, asset=["B99"]), simulator.key)
        assert (summary.verdict, summary.exit_code) == ("incomplete", 3)
        assert summary.reason.startswith("--asset `B99` matches no asset: there are ")
        assert {"labels", "B01", "B12"} <= set(summary.reason.partition("there are ")[2].split(", "))
        right = await run(quick_settings(simulator, "right", asset=["B99", "B01"]), simulator.key)
    assert right.verdict == "complete"
