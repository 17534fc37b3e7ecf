"""Links of one item that expire while several of its files are on their way."""

from __future__ import annotations

import asyncio

from stacmirror.interfaces import Catalog
from stacmirror.model import Asset, Item, ItemKey, Transfer
from stacmirror.pipeline.bundle import Job
from stacmirror.pipeline.renewal import Renewal
from tests.unit.fakes import FakeCatalog, FakeClock, an_item

OLD = f"http://host/download/{'0' * 300}"


class SlowCatalog(FakeCatalog):
    """Takes its time, so that others come meanwhile."""

    async def item(self, key: ItemKey, href: str = "") -> Item | None:
        self.asked.append(key.id)
        for _ in range(5):
            await asyncio.sleep(0)
        return await super().item(key, href)


async def test_two_refused_at_once_get_the_same_new_links() -> None:
    """Both wait for the one request that renews: the second one must not take the old link for the new one."""
    clock, fresh = FakeClock(), an_item("a", assets=("A", "B"))
    slow = SlowCatalog({}, {"a": fresh})
    catalog: Catalog = slow
    job = Job(fresh.key, item=Item(fresh.key, (), (), {}, b"{}", read_at_s=-1e6))
    job.todo = [Transfer(Asset(key, OLD + key), key) for key in "AB"]
    links = Renewal(catalog, clock, 3600.0)
    async with asyncio.TaskGroup() as group:
        mending = [group.create_task(links.mend(job, transfer, transfer.asset.href)) for transfer in job.todo]
    assert [task.result() for task in mending] == [True, True]
    assert [transfer.asset.href for transfer in job.todo] == ["http://host/a/A", "http://host/a/B"]
    assert slow.asked == ["a"]
    assert await links.mend(job, job.todo[1], OLD + "B"), "refused before the others renewed it"
