"""Decide what of an item is wanted and what each file will be called, before anything is asked for.

Called by the workers; pure but for the numbers it gives to units.
"""

from __future__ import annotations

from collections.abc import Callable

import xxhash

from stacmirror.errors import UsageError
from stacmirror.layout import Layout
from stacmirror.model import Asset, Failed, Receipt, Transfer, Unit
from stacmirror.pipeline.asset_names import AssetNames
from stacmirror.pipeline.bundle import Bundle, Job


class Planner:
    """Plans jobs. `run` makes unit names unique over all runs."""

    def __init__(
        self,
        layout: Layout,
        chooses: Callable[[str], bool],
        run: int,
        takes: Callable[[Asset], bool] | None = None,
        *,
        names: AssetNames | None = None,
        only_sources: bool = False,
        source: str = "",
    ) -> None:
        """`takes` says which assets are wanted, `chooses` which keys are, where nothing more is known.

        `names` hears of each item's assets. `only_sources`: of an item that names sources nothing is wanted itself.
        `source` is the catalog's origin.
        """
        self._layout = layout
        self._chooses = chooses
        self._takes = takes or (lambda asset: chooses(asset.key))
        self._names = names
        self._only_sources = only_sources
        self._source = source
        self._run = run
        self._units = 0

    def plan(self, bundle: Bundle, job: Job) -> None:
        """Give `job` its unit and its transfers.

        Raises: UsageError when a layout that needs one source per label meets another number.
        """
        if job.item is None:
            raise RuntimeError(f"unread item {job.key}")
        if self._layout.one_to_one and len(bundle.sources) > 1:
            raise UsageError(
                f"layout `{self._layout.name}` puts a label and its source into one folder,"
                f" but {bundle.walked.id} names {len(bundle.sources)} sources",
                hint="use --layout item",
            )
        self.give_unit(bundle, job)
        wanted = [asset for asset in job.item.assets if self._takes(asset)]
        if self._only_sources and job.item.sources:
            wanted = []
        if self._names is not None:
            self._names.planned(job.item.assets, wanted=bool(wanted))
        names = self._layout.names(job.item, wanted)
        if job.before is not None and (job.before.widen or any(failed.key != "@item" for failed in job.before.failed)):
            job.stored, job.absent = list(job.before.stored), list(job.before.absent)
            # What filters do not want by now is no failure any more.
            unwanted = {asset.key for asset in job.item.assets} - {asset.key for asset in wanted}
            lacking = {failed.key for failed in job.before.failed if self._chooses(failed.key)} - unwanted
            if job.before.widen:
                has = {receipt.key for receipt in job.stored} | {absent.key for absent in job.absent}
                lacking |= {asset.key for asset in wanted} - has
            unlisted = lacking - {asset.key for asset in wanted}
            job.failed += [
                Failed(key, "unlisted", "the catalog no longer lists it", 1, permanent=True, host=self._source)
                for key in sorted(unlisted)
                if not key.startswith("@")
            ]
            wanted = [asset for asset in wanted if asset.key in lacking]
        job.todo = [Transfer(asset, names[asset.key]) for asset in wanted]

    def give_unit(self, bundle: Bundle, job: Job) -> None:
        """Give `job` the unit that its files are staged in: the bundle's, where it shares the folder."""
        if job.unit is not None:
            return
        if job.before is not None and job.before.held:
            job.unit = job.before.unit
            return
        folder, exclusive = self._layout.folder(job.key, bundle.walked)
        if job.before is not None and job.before.unit.folder:
            folder = job.before.unit.folder
        for other in bundle.jobs:
            if other.unit is not None and other.unit.folder == folder and self._layout.one_to_one:
                job.unit = other.unit
                return
        self._units += 1
        job.unit = Unit(f"{self._run:x}-{self._units:x}", folder, exclusive)

    def name_for_target(self, url: str, key: str, job: Job) -> str:
        """Return the file's name where the layout takes it from the redirect's target."""
        taken = {receipt.name for receipt in job.stored}
        return self._layout.name_for_target(url, key, taken)

    @property
    def derives(self) -> bool:
        """Whether files are made from what is fetched."""
        return self._layout.derives

    def derive(self, job: Job) -> list[Receipt]:
        """Add the files that the layout makes from the item itself; return their receipts."""
        if job.item is None:
            return []
        receipts = []
        for key, name, content in self._layout.derived(job.item, job.label_bodies):
            receipts.append(Receipt(key, name, len(content), "xxh3", xxhash.xxh3_128_digest(content)))
            job.stored = [receipt for receipt in job.stored if receipt.key != key]
            job.bodies.append((name, content))
        job.stored += receipts
        return receipts
