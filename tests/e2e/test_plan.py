"""`plan` against the simulator, held against the mirror that it foretells; it writes nothing, and ends as it should."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from stacmirror.errors import LoginRefused, SourceError
from stacmirror.forecast import forecast
from stacmirror.mirror import Mirror
from stacmirror.sampling import Sampler
from stacmirror.settings import Settings
from tests.conftest import simulated, tree

Make = Callable[..., Settings]


async def test_the_mirror_is_as_foretold(quick_settings: Make, tmp_path: Path) -> None:
    """By 20 of 60 items: files exactly, bytes within a tenth, requests within a twentieth; nothing is written."""
    async with simulated(items=60) as simulator:
        settings = quick_settings(simulator, max_items=60)
        before = simulator.counts["total"]
        sample = await Sampler(settings, items=20, api_key=simulator.key).run()
        assert list(tmp_path.iterdir()) == []
        assert simulator.counts["total"] - before == sample.pages + sample.requests
        found = forecast(
            sample, items_max=60, ids=0, missing_after=settings.missing.missing_after, rate_per_s=None, block_bytes=4096
        )
        mirror = Mirror(settings, api_key=simulator.key)
        summary = await mirror.run()
        assert summary.exit_code == 0
        assets = tree(Path(settings.target))
        assert sample.phantoms == ("B10",)
        assert found.files == 60 * 13
        assert found.bytes == pytest.approx(sum(map(len, assets.values())), rel=0.1)
        assert found.requests == pytest.approx(mirror.progress.requests, rel=0.05)
        inodes = sum(1 + len(names) for _, _, names in os.walk(settings.target))
        assert found.inodes == pytest.approx(inodes, rel=0.05)


@pytest.mark.parametrize(
    ("choice", "layout"),
    [({"only_sources": True}, "item"), ({"asset": ("B0*",)}, "item"), ({}, "notebook"), ({}, "bigearthnet")],
    ids=["only sources", "some assets", "notebook", "bigearthnet"],
)
async def test_folders_are_those_that_hold_something(
    quick_settings: Make, tmp_path: Path, choice: dict[str, object], layout: str
) -> None:
    """Items of which nothing is wanted have no folder, and in some layouts a label and its source share one.

    What the layout derives itself, a patch's `_labels_metadata.json`, is not foretold.
    """
    async with simulated(items=60) as simulator:
        settings = quick_settings(simulator, max_items=60)
        settings = replace(
            settings,
            filter=replace(settings.filter, **choice),
            place=replace(settings.place, layout=layout),
        )
        sample = await Sampler(settings, items=20, api_key=simulator.key).run()
        assert (await Mirror(settings, api_key=simulator.key).run()).exit_code == 0
    assert sample.folders == sample.asked
    found = forecast(sample, items_max=60, ids=0, missing_after=20, rate_per_s=None, block_bytes=4096)
    names = [name for name in tree(Path(settings.target)) if not name.endswith("_labels_metadata.json")]
    folders = {os.path.dirname(name) for name in names}
    assert found.inodes == pytest.approx(len(names) + len(folders), rel=0.03)


async def test_shared_sources_are_told(quick_settings: Make) -> None:
    """Three labels share one source: those beyond the first are counted, so that nobody takes the files for certain."""
    async with simulated(items=9, traps=["shared-sources"]) as simulator:
        sample = await Sampler(quick_settings(simulator), items=9, api_key=simulator.key).run()
    assert (sample.linked, sample.shared) == (3, 6)


async def test_large_files_are_measured_not_read(quick_settings: Make) -> None:
    """A band of a gigabyte an item: its length counts, its bytes do not pass."""
    async with simulated(items=5, large={"B02": 1 << 30}) as simulator:
        sample = await Sampler(quick_settings(simulator), items=5, api_key=simulator.key).run()
    assert sample.sized == sample.files == 5 * 13
    assert 5 << 30 < sample.bytes < (5 << 30) + 5_000_000


async def test_filters_and_the_listings_end(quick_settings: Make) -> None:
    """Only the wanted assets of labels, to the end of a short listing."""
    async with simulated(items=7) as simulator:
        settings = quick_settings(simulator, sources=False)
        sample = await Sampler(settings, items=50, api_key=simulator.key).run()
        assert (sample.ended, sample.asked, sample.linked, sample.files) == (True, 7, 0, 7)
        bands = replace(settings, filter=replace(settings.filter, sources=True, asset=("B0*",)))
        sample = await Sampler(bands, items=2, api_key=simulator.key).run()
    assert (sample.asked, sample.linked, sample.files) == (2, 2, 18)


async def test_what_fails_is_told_and_ends_nothing(quick_settings: Make) -> None:
    """A host whose answers are 503 now and then."""
    async with simulated(items=10, faults={"blobs:503": 0.2}) as simulator:
        sample = await Sampler(quick_settings(simulator), items=10, api_key=simulator.key).run()
    assert sample.failed
    assert "503" in sample.first_failure
    assert sample.files + sum(sample.failed.values()) + sum(sample.absent.values()) == 140


async def test_a_wrong_key_and_nothing_there(quick_settings: Make) -> None:
    """They end it with their own errors."""
    async with simulated(items=2) as simulator:
        with pytest.raises(LoginRefused):
            await Sampler(quick_settings(simulator), items=2, api_key="wrong").run()
        absent = replace(quick_settings(simulator), source="mlhub:nothing")
        with pytest.raises(SourceError):
            await Sampler(absent, items=2, api_key=simulator.key).run()


async def test_an_asset_without_an_address_is_named_as_such(tmp_path: Path) -> None:
    """As in a mirror's failures; the others count."""
    (tmp_path / "a.tif").write_bytes(b"II*\0" + bytes(96))
    item = (
        '{"type":"Feature","stac_version":"1.0.0","id":"i","collection":"c","geometry":null,"links":[],"properties":'
        '{"datetime":"2020-01-01T00:00:00Z"},"assets":{"a":{"href":"a.tif"},"b":{"href":null}}}'
    )
    (tmp_path / "items.ndjson").write_text(item + "\n")
    settings = Settings(str(tmp_path / "items.ndjson"), str(tmp_path / "mirror"))
    sample = await Sampler(settings, items=5).run()
    assert (sample.files, sample.bytes, sample.failed) == (1, 100, {"no-href": 1})
    assert sample.first_failure == "the catalog gives no address"
