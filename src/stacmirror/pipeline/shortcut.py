"""Fetch assets past their redirects, where it has been learned where these lead (`--learn-redirects`).

Called by the workers in place of `transfer` where the settings ask for it. A guess that does not come true, for
whatever reason, costs its request and nothing else: the worker then asks the asset's link, in the same attempt.
"""

from __future__ import annotations

from collections.abc import Callable

from stacmirror.errors import TransferError
from stacmirror.interfaces import Opener, Reply
from stacmirror.model import ItemKey, Transfer, Unit
from stacmirror.pipeline.large import Fetched
from stacmirror.pipeline.learn import Guess, Learner
from stacmirror.pipeline.progress import Progress
from stacmirror.pipeline.transfer import Fetcher
from stacmirror.retry import REDIRECT_STATUSES


class Shortcut:
    """One for the run, used by all workers."""

    def __init__(self, learner: Learner, opener: Opener, fetcher: Fetcher, progress: Progress) -> None:
        self._learner = learner
        self._opener = opener
        self._fetcher = fetcher
        self._progress = progress

    def guess(self, item: ItemKey, transfer: Transfer) -> Guess | None:
        """Return where an asset should be. None to ask its link: for what failed once, and what is there in part."""
        if transfer.attempts or self._fetcher.waits(item, transfer):
            return None
        return self._learner.guess(item, transfer.asset)

    async def fetch(
        self,
        guess: Guess,
        item: ItemKey,
        transfer: Transfer,
        unit: Unit,
        name_for: Callable[[str], str],
        reply: Reply | None = None,
    ) -> Fetched | None:
        """Ask where the asset should be; None when the link is to be asked instead. Else as `Fetcher.fetch`.

        Raises: LoginRefused, TargetUnwritable; no TransferError.
        """
        try:
            reply = reply or await self._opener.open(guess.url)
            if not self._is_right(guess, reply):
                if reply.stream is not None:
                    reply.stream.close()
                self._learner.missed(guess)
                return None
            fetched = await self._fetcher.fetch(item, transfer, unit, name_for, reply)
        except TransferError:
            # A busy host or a broken connection says nothing of the guess: the link will say whether it was right.
            return None
        if not self._learner.came_true(guess):
            return None
        self._progress.predicted += 1
        return fetched

    async def fetch_by_link(
        self,
        item: ItemKey,
        transfer: Transfer,
        unit: Unit,
        name_for: Callable[[str], str],
        reply: Reply | None = None,
    ) -> Fetched:
        """Ask the asset's link, as `Fetcher.fetch` does, and learn where it leads."""
        asset = transfer.asset
        if reply is None or reply.status in REDIRECT_STATUSES:
            if not asset.href or self._fetcher.waits(item, transfer):
                return await self._fetcher.fetch(item, transfer, unit, name_for)  # which says so, or goes on
            reply = await (self._opener.open(asset.href) if reply is None else self._opener.follow(reply, asset.href))
        self._learner.led(item, asset, reply.url, _media_type(reply), found=reply.status == 200)
        return await self._fetcher.fetch(item, transfer, unit, name_for, reply)

    def _is_right(self, guess: Guess, reply: Reply) -> bool:
        return reply.status == 200 and reply.url == guess.url and self._learner.fits(guess, _media_type(reply))


def _media_type(reply: Reply) -> str:
    return reply.headers.get("content-type", "")
