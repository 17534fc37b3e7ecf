"""Going on where a run stopped, whatever the catalog did since: nothing lost or fetched twice, counts true."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stacmirror.errors import UsageError
from stacmirror.mirror import Mirror
from stacmirror.model import Counts, Summary
from stacmirror.settings import Settings
from stacmirror.status import read_status
from stacmirror.typed import build
from tests.conftest import tree
from tests.listing_server import SOURCE, Listing, listing
from tests.unit.fakes import Notes


@pytest.fixture
def going(tmp_path: Path) -> Callable[..., Settings]:
    def make(server: Listing, **values: object) -> Settings:
        chosen: dict[str, object] = {
            "api_url": server.api_url, "workers": 2, "backoff": 0.001, "sync_every": 0.0, "page_size": 3,
            "page_prefetch": 1, "queue_size": 2, "retries": 1,
        }  # fmt: skip
        return build(SOURCE, str(tmp_path / "mirror"), chosen | values)

    return make


Going = Callable[..., Settings]


async def run(server: Listing, settings: Settings, notes: Notes | None = None) -> Summary:
    """Run once, and check that the counts add up, in the summary and in what `status` reads."""
    server.requests.clear()
    server.fresh = True
    summary = await Mirror(settings, api_key="k", observer=notes or Notes()).run()
    for counts in (summary.run, summary.mirror, read_status(settings.target).counts):
        assert adds_up(counts), counts
    return summary


def adds_up(counts: Counts) -> bool:
    items = counts.items
    parts = (items.complete, items.incomplete, items.filtered, items.duplicate, items.pending)
    return items.listed == sum(parts) and min(parts) >= 0


def files(settings: Settings) -> dict[str, bytes]:
    return tree(Path(settings.target))


def expected(server: Listing, items: list[str] | None = None) -> dict[str, bytes]:
    named = [("labels", item) for item in (server.items if items is None else items)]
    named += [("source", source) for _, item in list(named) for source in server.sources.get(item, [])]
    return {f"{c}/{item}/{key}.txt": server.content(item, key) for c, item in named for key in server.keys}


def ids(*numbers: int) -> list[str]:
    return [f"i{n:02}" for n in numbers]


async def interrupted(server: Listing, settings: Settings) -> Summary:
    """Run until the listing breaks after its third page."""
    server.broken_after = 3
    summary = await run(server, settings)
    assert summary.exit_code == 5
    server.broken_after = None
    return summary


# -- where the walk goes on --------------------------------------------------------------------------------


async def test_a_keyset_goes_on_where_it_stopped(going: Going) -> None:
    """The first page asked for is the one that was not settled, and no page before it."""
    async with listing(ids(*range(12))) as server:
        settings = going(server)
        await interrupted(server, settings)
        notes = Notes()
        summary = await run(server, settings, notes)
        assert (summary.verdict, summary.mirror.items.listed, summary.mirror.items.complete) == ("complete", 12, 12)
        assert all("token=next" in request for request in server.asked("/labels/items"))
        assert len(server.asked("/files/")) == 3
        assert not any("from the start" in line for line in notes.lines)
        assert files(settings) == expected(server)


@pytest.mark.parametrize("how", ["refuses", "ignores", "nothing"])
async def test_a_cursor_that_is_not_taken_any_more(going: Going, how: str) -> None:
    """Refused, ignored, or answered with nothing: walked again from the start, and only the rest is fetched."""
    async with listing(ids(*range(12))) as server:
        settings = going(server)
        await interrupted(server, settings)
        server.on_cursor = how  # type: ignore[assignment]
        notes = Notes()
        summary = await run(server, settings, notes)
        assert (summary.verdict, summary.reason) == ("complete", "")
        items = summary.mirror.items
        assert (items.listed, items.complete, items.duplicate, items.pending) == (12, 12, 0, 0)
        assert len(server.asked("/files/")) == 3
        assert not server.asked("/labels/items/")
        assert sum("walking again from the start" in line for line in notes.lines) == 1
        assert files(settings) == expected(server)


async def test_a_cursor_that_is_ignored_under_filters(going: Going) -> None:
    """Pages without a wanted item cannot tell; the first one that has some does, and filtered ones count once."""
    async with listing(ids(*range(12))) as server:
        settings = going(server, label_class=["class-5", "class-7", "class-0"])
        await interrupted(server, settings)
        server.on_cursor = "ignores"
        summary = await run(server, settings)
        items = summary.mirror.items
        assert (items.listed, items.complete, items.filtered, items.duplicate) == (12, 4, 8, 0)
        assert not server.asked("/files/i05")


async def test_pages_by_number_are_walked_from_the_start(going: Going) -> None:
    """With items gone and come between two runs, every item that is listed is there; none is fetched twice."""
    async with listing(ids(*range(12)), paging="position") as server:
        settings = going(server)
        await interrupted(server, settings)
        server.items = [item for item in server.items if item != "i01"]
        server.items.insert(0, "i99")
        notes = Notes()
        summary = await run(server, settings, notes)
        assert (summary.verdict, summary.mirror.items.complete) == ("complete", 13)
        assert sorted(server.asked("/files/")) == [f"/v1/files/{item}/A" for item in ids(9, 10, 11, 99)]
        assert not server.asked("/labels/items/")
        assert sum("from the start" in line for line in notes.lines) == 1
        assert summary.mirror.listing.gone == 1
        assert files(settings) == expected(server, [*server.items, "i01"])


async def test_pages_by_number_interrupted_again_and_again(going: Going) -> None:
    """Each run breaks off one page later; in the end all is there, once, and the counts were true all the time."""
    async with listing(ids(*range(15)), paging="position") as server:
        settings = going(server)
        fetched: list[str] = []
        for pages in range(1, 5):
            server.broken_after = pages
            assert (await run(server, settings)).exit_code == 5
            fetched += server.asked("/files/")
        server.broken_after = None
        summary = await run(server, settings)
        fetched += server.asked("/files/")
        assert (summary.mirror.items.listed, summary.mirror.items.complete) == (15, 15)
        assert len(fetched) == len(set(fetched)) == 15


# -- what is new upstream ----------------------------------------------------------------------------------


async def test_new_items_at_the_end_are_found_by_running_again(going: Going) -> None:
    """A complete mirror asks for its last page again, and finds what was added behind it."""
    async with listing(ids(*range(7))) as server:
        settings = going(server)
        await run(server, settings)
        server.items += ids(7, 8, 9)
        summary = await run(server, settings)
        assert (summary.verdict, summary.mirror.items.complete, summary.mirror.items.duplicate) == ("complete", 10, 0)
        assert len(server.asked("/files/")) == 3
        assert len(server.asked("/labels/items")) == 2
        assert files(settings) == expected(server)


async def test_refresh_finds_what_is_new_changed_and_gone(going: Going) -> None:
    """New ones anywhere are fetched, changed ones fetched again, gone ones kept and said; the rest is not asked for."""
    async with listing(ids(*range(9))) as server:
        settings = going(server)
        await run(server, settings)
        old = server.content("i02", "A")
        server.versions = {"i04": 1}
        server.items.remove("i02")
        server.items.insert(1, "i50")
        notes = Notes()
        summary = await run(server, going(server, refresh=True), notes)
        assert (summary.verdict, summary.mirror.items.complete, summary.mirror.listing.gone) == ("complete", 10, 1)
        assert sorted(server.asked("/files/")) == ["/v1/files/i04/A", "/v1/files/i50/A"]
        assert files(settings) == {**expected(server), "labels/i02/A.txt": old}
        assert any(line.endswith("changed them: 1") for line in notes.lines)
        assert read_status(settings.target).counts.listing.gone == 1
        again = await run(server, going(server, refresh=True))
        assert not server.asked("/files/")
        assert (again.verdict, again.mirror.listing.gone) == ("complete", 1)
        await run(server, settings)
        assert len(server.asked("/labels/items")) == 1


async def test_refresh_goes_by_updated_where_items_have_it(going: Going) -> None:
    """An item whose `updated` is the same is the same, whatever else its JSON says."""
    async with listing(ids(*range(4))) as server:
        server.stamped = True
        settings = going(server, refresh=True)
        await run(server, settings)
        server.keys = ["A", "B"]
        await run(server, settings)
        assert not server.asked("/files/")
        server.versions = {"i01": 2}
        await run(server, settings)
        assert sorted(server.asked("/files/")) == ["/v1/files/i01/A", "/v1/files/i01/B"]


async def test_an_interrupted_refresh_goes_on_as_one(going: Going) -> None:
    """Stopped half way, a plain resume still fetches what has changed behind that point."""
    async with listing(ids(*range(12))) as server:
        settings = going(server)
        await run(server, settings)
        server.versions = {"i01": 1, "i10": 1}
        server.broken_after = 2
        assert (await run(server, going(server, refresh=True))).exit_code == 5
        assert server.asked("/files/") == ["/v1/files/i01/A"]
        server.broken_after = None
        summary = await run(server, settings)
        assert server.asked("/files/") == ["/v1/files/i10/A"]
        assert (summary.verdict, summary.mirror.items.complete) == ("complete", 12)
        assert files(settings) == expected(server)


async def test_a_changed_item_that_does_not_arrive_keeps_its_old_files(going: Going) -> None:
    """The new version's asset is missing: the item is incomplete, its old file is left where it is."""
    async with listing(ids(*range(4))) as server:
        server.keys = ["A", "B"]
        settings = going(server)
        await run(server, settings)
        before = files(settings)
        server.versions, server.missing = {"i01": 1}, {"i01/B"}
        summary = await run(server, going(server, refresh=True, sweeps=0))
        assert (summary.exit_code, summary.mirror.items.incomplete, summary.mirror.assets.failed) == (3, 1, 1)
        assert files(settings) == {**before, "labels/i01/A.txt": server.content("i01", "A")}
        server.missing = set()
        assert (await run(server, settings)).verdict == "complete"
        assert files(settings) == expected(server)


# -- other filters -----------------------------------------------------------------------------------------


async def test_wider_filters_fetch_the_rest(going: Going) -> None:
    """Refused with the difference; with --change-filter the pages are walked again, and only the rest is fetched."""
    async with listing(ids(*range(10))) as server:
        await run(server, going(server, label_class=["class-1", "class-2"]))
        wider = {"label_class": ["class-1", "class-2", "class-3"]}
        with pytest.raises(UsageError, match=r'label_class is \["class-1", "class-2"\], not') as refused:
            await Mirror(going(server, **wider), api_key="k").run()
        assert "--change-filter" in refused.value.hint
        notes = Notes()
        summary = await run(server, going(server, **wider, change_filter=True), notes)
        assert server.asked("/files/") == ["/v1/files/i03/A"]
        items = summary.mirror.items
        assert (summary.verdict, items.listed, items.complete, items.filtered) == ("complete", 10, 3, 7)
        assert any("the filter has changed" in line and "from the start" in line for line in notes.lines)
        assert (await run(server, going(server, **wider))).verdict == "complete"


async def test_narrower_filters_delete_nothing(going: Going) -> None:
    """What is here stays and counts; new items pass the new filter only; no page is walked again for it."""
    async with listing(ids(*range(6))) as server:
        await run(server, going(server))
        narrow = going(server, label_class=["class-7"], change_filter=True)
        server.items += ids(6, 7)
        notes = Notes()
        summary = await run(server, narrow, notes)
        items = summary.mirror.items
        assert (summary.verdict, items.listed, items.complete, items.filtered) == ("complete", 8, 7, 1)
        assert len(server.asked("/labels/items")) == 2
        assert any("nothing more is wanted" in line for line in notes.lines)


async def test_more_assets_are_fetched_of_what_is_here(going: Going) -> None:
    """Labels and their sources get the assets that are wanted now, and nothing that they have is asked for again."""
    async with listing(ids(*range(5))) as server:
        server.keys = ["A", "B", "C"]
        server.sources = {item: [f"s{item}", "shared"] for item in server.items}
        await run(server, going(server, asset=["A"]))
        assert len(server.asked("/files/")) == 11
        settings = going(server, asset=["A", "B"], change_filter=True)
        server.broken_after = 1
        await run(server, settings)
        first, read = server.asked("/files/"), server.asked("/source/items/")
        server.broken_after = None
        summary = await run(server, settings)
        fetched, read = first + server.asked("/files/"), read + server.asked("/source/items/")
        assert len(read) == len(set(read)) == 6, "each linked item is read once"
        assert len(fetched) == len(set(fetched)) == 11
        assert all(path.endswith("/B") for path in fetched)
        assert (summary.verdict, summary.mirror.items.complete, summary.mirror.assets.stored) == ("complete", 5, 22)
        server.keys = ["A", "B"]
        assert files(settings) == expected(server)
        notes = Notes()
        server.keys = ["A", "B", "C"]
        await run(server, going(server, asset=["A", "B"], refresh=True), notes)
        assert not server.asked("/files/"), "what the walk before was for is over"
        assert any(line.endswith("changed them: 0") for line in notes.lines)


async def test_a_failure_that_nobody_wants_any_more_is_none(going: Going) -> None:
    """An asset that failed and is filtered out since does not keep the mirror incomplete."""
    async with listing(ids(*range(3))) as server:
        server.keys, server.missing = ["A", "B"], {"i01/B"}
        assert (await run(server, going(server))).exit_code == 3
        summary = await run(server, going(server, asset=["A"], change_filter=True))
        assert (summary.verdict, summary.mirror.items.complete) == ("complete", 3)


async def test_a_killed_change_of_filters_is_made_again(going: Going, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between the ledger and the record of settings: the next run still sees the difference, and walks."""
    async with listing(ids(*range(6))) as server:
        await run(server, going(server, label_class=["class-1"]))
        wider = going(server, label_class=["class-1", "class-2"], change_filter=True)
        with monkeypatch.context() as patched:

            def killed(_: Settings) -> None:
                raise KeyboardInterrupt

            patched.setattr("stacmirror.mirror.write_record", killed)
            with pytest.raises(KeyboardInterrupt):
                await Mirror(wider, api_key="k").run()
        summary = await run(server, wider)
        assert (summary.verdict, summary.mirror.items.complete) == ("complete", 2)
