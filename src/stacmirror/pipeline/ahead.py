"""Ask for all small assets of an item in one go, before each is brought to its outcome one by one.

Called by the workers. It only brings answers: what it has none for, or what needs a second attempt, is asked for as
without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply, SeveralOpener
from stacmirror.model import ItemKey
from stacmirror.pipeline.bundle import Job
from stacmirror.pipeline.learn import Guess
from stacmirror.pipeline.missing import MissingKeys
from stacmirror.pipeline.shortcut import Shortcut
from stacmirror.retry import REDIRECT_STATUSES


class Answered(NamedTuple):
    """What was asked for in place of an asset's link (None: the link itself), and what came (None: nothing yet)."""

    guess: Guess | None
    reply: Reply | None
    error: TransferError | None = None
    """What came in place of an answer: an attempt that failed."""
    href: str = ""
    """The link that it is the answer to: the asset may have a new one since."""


NOTHING: Mapping[str, Answered] = {}


class Ahead:
    """One for the run, used by all workers."""

    def __init__(self, opener: SeveralOpener, missing: MissingKeys, shortcut: Shortcut | None) -> None:
        self._opener = opener
        self._missing = missing
        self._shortcut = shortcut
        self._large: set[tuple[str, str]] = set()

    def large(self, item: ItemKey, key: str) -> None:
        """Hear that an asset is a large file: those of its key are asked for by themselves from here on."""
        self._large.add((item.collection, key))

    def suits(self, job: Job) -> bool:
        """Return whether nobody asked for an item's assets yet, none was told to wait, and none is known to be large.

        An item that waits for what its redirects lead to would ask for all of them again each time it looks.
        """
        return not job.large and all(not transfer.attempts and not transfer.not_before_s for transfer in job.todo)

    async def ask(self, job: Job) -> Mapping[str, Answered]:
        """Return what came, by asset key. Cancel: safe."""
        collection, large = job.key.collection, self._large
        # A key that may exist nowhere is asked for by its own rules.
        transfers = [
            transfer
            for transfer in job.todo
            if transfer.asset.href
            and (collection, transfer.asset.key) not in large
            and not self._missing.tripped(collection, transfer.asset.key)
        ]
        if not transfers:
            return NOTHING
        shortcut = self._shortcut
        guesses = [None if shortcut is None else shortcut.guess(job.key, transfer) for transfer in transfers]
        hrefs = [t.asset.href if guess is None else guess.url for t, guess in zip(transfers, guesses, strict=True)]
        found = await self._opener.open_several(hrefs)
        return {
            transfer.asset.key: _answered(guess, came, href)
            for transfer, guess, came, href in zip(transfers, guesses, found, hrefs, strict=True)
        }


def _answered(guess: Guess | None, came: Reply | TransferError | None, href: str) -> Answered:
    if came is None or guess is not None:
        # A guess that failed is no attempt: the link is asked. One that leads elsewhere is judged by where.
        if isinstance(came, Reply) and came.status in REDIRECT_STATUSES:
            came = None
        return Answered(None, None) if isinstance(came, TransferError) else Answered(guess, came)
    return Answered(None, None, came, href) if isinstance(came, TransferError) else Answered(None, came, None, href)


def streaming(ahead: Mapping[str, Answered]) -> str | None:
    """Return the key of the asset whose large body is on its way. It holds a place at its host until it is read."""
    for key, answered in ahead.items():
        if answered.reply is not None and answered.reply.stream is not None:
            return key
    return None


def large_among(ahead: Mapping[str, Answered], key: str) -> Reply | None:
    """Return the answer of the asset's own link, where it is found and its body is large."""
    answered = ahead.get(key)
    if answered is None or answered.guess is not None or answered.reply is None:
        return None
    return answered.reply if answered.reply.stream is not None and answered.reply.status == 200 else None


def close_streams(ahead: Mapping[str, Answered]) -> None:
    """Close large bodies, whether somebody has read them or not."""
    for answered in ahead.values():
        if answered.reply is not None and answered.reply.stream is not None:
            answered.reply.stream.close()
