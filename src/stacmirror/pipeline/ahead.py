"""Ask for all assets of an item at once, before each is brought to its outcome one by one (`--pipeline`).

Called by the workers. It only brings answers: what it has none for, or what needs a second attempt, is asked for as
without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from stacmirror.interfaces import Reply, SeveralOpener
from stacmirror.pipeline.bundle import Job
from stacmirror.pipeline.learn import Guess
from stacmirror.pipeline.missing import MissingKeys
from stacmirror.pipeline.shortcut import Shortcut


class Answered(NamedTuple):
    """What was asked for in place of an asset's link (None: the link itself), and what came (None: nothing yet)."""

    guess: Guess | None
    reply: Reply | None


NOTHING: Mapping[str, Answered] = {}


class Ahead:
    """One for the run, used by all workers."""

    def __init__(self, opener: SeveralOpener, missing: MissingKeys, shortcut: Shortcut | None) -> None:
        self._opener = opener
        self._missing = missing
        self._shortcut = shortcut

    def suits(self, job: Job) -> bool:
        """Return whether an item has several small assets that nobody asked for yet."""
        return len(job.todo) > 1 and not job.large and all(transfer.attempts == 0 for transfer in job.todo)

    async def ask(self, job: Job) -> Mapping[str, Answered]:
        """Return what came, by asset key. Cancel: safe."""
        # A key that may exist nowhere is asked for by its own rules.
        transfers = [
            transfer
            for transfer in job.todo
            if transfer.asset.href and not self._missing.tripped(job.key.collection, transfer.asset.key)
        ]
        if len(transfers) < 2:
            return NOTHING
        shortcut = self._shortcut
        guesses = [None if shortcut is None else shortcut.guess(job.key, transfer) for transfer in transfers]
        hrefs = [t.asset.href if guess is None else guess.url for t, guess in zip(transfers, guesses, strict=True)]
        replies = await self._opener.open_several(hrefs)
        return {
            transfer.asset.key: Answered(guess, reply)
            for transfer, guess, reply in zip(transfers, guesses, replies, strict=True)
        }
