"""Take files that someone already has: find them by a layout, check them, hand them over as if they had been fetched.

Called by the adopting worker in place of `transfer`. A file that cannot be found or does not look whole is a failure
that a later run mends; a sample of each asset key is fetched and compared byte for byte, so that a wrong folder is
noticed.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import xxhash

from stacmirror.errors import TargetUnwritable, TransferError
from stacmirror.interfaces import Shelf, Sink
from stacmirror.layout import Layout
from stacmirror.model import Adopted, Asset, AssetKey, Item, ItemKey, PartState, Receipt, Transfer, Unit, Version
from stacmirror.names import extension
from stacmirror.pipeline.bundle import Bundle, Job
from stacmirror.pipeline.form import fault_of, shows_its_end
from stacmirror.pipeline.large import Fetched, opened
from stacmirror.pipeline.task import Adopt
from stacmirror.pipeline.transfer import Fetcher

SAMPLES = 3
"""Files of each asset key that are compared with the source before any other is taken."""
SAMPLE_EVERY = 1000
"""From then on, one in so many."""
_NOTED_MAX = 5


class Candidate(NamedTuple):
    """A file that may be an asset. `body` is None above the small-file limit; `fault` is what speaks against it.

    `vouched`: its form was looked at, and shows that it is whole.
    """

    path: str
    size_bytes: int
    body: bytes | None
    digest: bytes
    fault: str
    vouched: bool = False


class _Key:
    """What is known of one asset key's files."""

    def __init__(self) -> None:
        self.first = asyncio.Lock()
        """Held while one of the first samples is compared: the others wait for what it shows."""
        self.compared = 0
        self.since = 0
        """Taken without a comparison since the last one."""
        self.differs = False
        """One was not what the source has: from then on every file is compared."""


class Adopter:
    """One for the run, used by all workers. `result` counts; `first_missed` is the first path that was not there."""

    def __init__(
        self, task: Adopt, layout: Layout, shelf: Shelf, sink: Sink, fetcher: Fetcher, note: Callable[[str], None],
        small_max_bytes: int,
    ) -> None:  # fmt: skip
        self._task = task
        self._layout = layout
        self._shelf = shelf
        self._sink = sink
        self._fetcher = fetcher
        self._note = note
        self._small_max_bytes = small_max_bytes
        self._found: dict[ItemKey, dict[str, Candidate]] = {}
        self._keys: dict[tuple[str, str], _Key] = {}
        self._noted = 0
        self.first_missed = ""
        self.result = Adopted()

    # -- finding -------------------------------------------------------------------------------------------

    async def has_any(self, bundle: Bundle) -> bool:
        """Return whether there is a folder for any of the bundle's items: without one, nothing of it need be asked."""
        folders = [self._layout.folder(job.key, bundle.walked)[0] for job in bundle.jobs]
        if await asyncio.to_thread(lambda: any(self._shelf.has_folder(folder) for folder in folders)):
            return True
        self.first_missed = self.first_missed or self._shelf.path(folders[0])
        return False

    async def look_up(self, bundle: Bundle, job: Job) -> None:
        """Read what there is of an item's planned assets. Cancel: safe."""
        if job.item is None:
            return
        wanted = [transfer.asset for transfer in job.todo]
        self._found[job.key] = await asyncio.to_thread(self._gather, job.item, bundle.walked, wanted)

    def small_body(self, job: Job, key: str) -> dict[str, bytes]:
        """Return the bytes of an asset's file by its key, where they are in memory."""
        candidate = self._found.get(job.key, {}).get(key)
        return {key: candidate.body} if candidate is not None and candidate.body is not None else {}

    def forget(self, bundle: Bundle) -> None:
        """Drop what was read of a bundle."""
        for job in bundle.jobs:
            self._found.pop(job.key, None)

    def _gather(self, item: Item, walked: ItemKey, wanted: Sequence[Asset]) -> dict[str, Candidate]:
        folder = self._layout.folder(item.key, walked)[0]
        names = self._layout.names(item, wanted)
        if self._layout.names_from_target:
            names = _names_among(self._shelf.names(folder), wanted, is_walked=item.key == walked)
        found = {}
        for asset in wanted:
            path = f"{folder}/{names[asset.key]}" if folder else names[asset.key]
            size_bytes = self._shelf.size_bytes(path) if names[asset.key] else None
            if size_bytes is not None:
                found[asset.key] = self._read(path, size_bytes)
            elif not self.first_missed:
                self.first_missed = self._shelf.path(path)
        return found

    def _read(self, path: str, size_bytes: int) -> Candidate:
        digest = xxhash.xxh3_128()
        held = bytearray()
        small = size_bytes <= self._small_max_bytes
        try:
            for chunk in self._shelf.read(path):
                digest.update(chunk)
                if small:
                    held += chunk
        except OSError as error:
            return Candidate(path, size_bytes, None, b"", f"it cannot be read: {error.strerror}")
        fault = fault_of(path, bytes(held)) if small else ""
        vouched = small and not fault and shows_its_end(path)
        return Candidate(path, size_bytes, bytes(held) if small else None, digest.digest(), fault, vouched)

    # -- taking --------------------------------------------------------------------------------------------

    async def fetch(self, job: Job, transfer: Transfer, unit: Unit, name_for: Callable[[str], str]) -> Fetched:
        """Return an asset that someone already has, or, as a sample, the source's own.

        Raises: TransferError (kinds `unadopted`, `unfit`; of a sample, as `Fetcher.fetch`); TargetUnwritable.
        Cancel: safe.
        """
        candidate = self._found.get(job.key, {}).get(transfer.asset.key)
        if candidate is None:
            raise TransferError("unadopted", "no such file was there to adopt", retryable=False)
        if candidate.fault:
            self.result.unfit += 1
            self._say(f"{self._shelf.path(candidate.path)}: {candidate.fault}; left to be fetched")
            raise TransferError("unfit", f"the file was not adopted: {candidate.fault}", retryable=False)
        if self._task.check == "none":
            return await self._take(job.key, transfer, unit, name_for, candidate)
        state = self._keys.setdefault((job.key.collection, transfer.asset.key), _Key())
        if state.compared < SAMPLES:
            async with state.first:
                if state.compared < SAMPLES:
                    return await self._compare(state, job.key, transfer, unit, name_for, candidate)
        if self._task.check == "all" or state.differs or state.since >= SAMPLE_EVERY:
            return await self._compare(state, job.key, transfer, unit, name_for, candidate)
        state.since += 1
        return await self._take(job.key, transfer, unit, name_for, candidate)

    async def _compare(
        self,
        state: _Key,
        item: ItemKey,
        transfer: Transfer,
        unit: Unit,
        name_for: Callable[[str], str],
        candidate: Candidate,
    ) -> Fetched:
        """Fetch the asset and compare; what is returned is the source's, so that a file that differs does no harm."""
        taken_before, state.since = state.since, 0
        fetched = await self._fetcher.fetch(item, transfer, unit, name_for)
        state.compared += 1
        receipt = fetched.receipt
        if fetched.body is not None and candidate.body is not None:
            same = fetched.body == candidate.body
        else:
            same = receipt.digest == await asyncio.to_thread(self._digest, candidate, receipt.digest_kind)
        if same:
            self.result.compared += 1
            self._count(receipt.size_bytes)
            return fetched
        self.result.differ += 1
        said = f"{self._shelf.path(candidate.path)}: not what the source has, which was fetched"
        if not state.differs:
            state.differs = True
            said += f"; from now on every {transfer.asset.key} is compared"
            if taken_before:
                said += f" ({taken_before} were taken unseen since the last one that was)"
        self._say(said, always=True)
        return fetched

    def _digest(self, candidate: Candidate, kind: str) -> bytes:
        if kind == "xxh3":
            return candidate.digest
        md5 = hashlib.md5(usedforsecurity=False)
        try:
            for chunk in self._shelf.read(candidate.path):
                md5.update(chunk)
        except OSError:
            return b""
        return md5.digest()

    async def _take(
        self, item: ItemKey, transfer: Transfer, unit: Unit, name_for: Callable[[str], str], candidate: Candidate
    ) -> Fetched:
        name = transfer.name or name_for(f"s3://shelf/{candidate.path.rpartition('/')[2]}")
        receipt = Receipt(
            transfer.asset.key, name, candidate.size_bytes, "xxh3", candidate.digest, verified=candidate.vouched
        )
        linked = self._task.link and self._sink.link(unit, name, self._shelf.path(candidate.path))
        if not linked and candidate.body is None:
            await self._copy(AssetKey(item, transfer.asset.key), unit, name, candidate)
        self._count(candidate.size_bytes)
        self.result.linked += linked
        return Fetched(receipt, None if linked else candidate.body)

    async def _copy(self, asset: AssetKey, unit: Unit, name: str, candidate: Candidate) -> None:
        chunks = self._shelf.read(candidate.path)
        async with self._sink.part(asset) as part:
            await opened(part.begin(PartState(asset, Version(), name, "xxh3"), xxhash.xxh3_128()))
            while True:
                try:
                    chunk = await asyncio.to_thread(next, chunks, b"")
                except TargetUnwritable:
                    raise
                except OSError as error:
                    raise TransferError("unfit", f"it cannot be read: {error.strerror}", retryable=False) from error
                if not chunk:
                    break
                await part.write(chunk)
            _, digest = await part.finish()
            if digest != candidate.digest:
                raise TransferError("unfit", "the file changed while it was read", retryable=False)
            await part.keep(unit, name, digest)

    def _count(self, size_bytes: int) -> None:
        self.result.files += 1
        self.result.size_bytes += size_bytes

    def _say(self, said: str, *, always: bool = False) -> None:
        self._noted += 1
        if always or self._noted <= _NOTED_MAX:
            self._note(said)
        elif self._noted == _NOTED_MAX + 1:
            self._note("more files do not look whole; the verdict counts them")


def _names_among(names: Sequence[str], wanted: Sequence[Asset], *, is_walked: bool) -> dict[str, str]:
    """Guess which file is which asset where names came from redirects' targets: by the key at the end of the stem.

    The walked item's only asset may be named otherwise (a label's GeoJSON by its patch): the only file with its suffix.
    """
    found: dict[str, str] = {}
    for asset in wanted:
        suffix = extension(asset)
        fits = [name for name in names if name.lower().endswith(suffix) and _key_of(name, asset.key)]
        if not fits and is_walked and len(wanted) == 1:
            fits = [name for name in names if name.lower().endswith((suffix, ".geojson") if suffix else ".geojson")]
        found[asset.key] = fits[0] if len(fits) == 1 else ""
    return found


def _key_of(name: str, key: str) -> bool:
    return re.fullmatch(rf"(?:.*[_.-])?{re.escape(key)}(?:\.[A-Za-z0-9]+)*", name) is not None
