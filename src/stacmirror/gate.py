"""Whether anything may be sent: nothing while a login is in doubt, and nothing ever again once it counts as refused.

One for the run. The router passes it before it asks, and the clients just before they write, since whoever waited for a
connection or a token may have begun before it was shut. Whoever sends a login shuts it when that is refused, until
one question has shown whether it, or another one in its place, is taken; that question alone passes meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

from stacmirror.errors import LoginRefused

DOUBTED_AFTER, REFUSALS_MAX = 2, 3
"""Refusals one after another, where one may be the object's own trouble: after so many something that the login was
good for is asked for once more (so that this question is out before a third is read); and with so many it counts as
refused, where it never was good for anything."""

T = TypeVar("T")
Found = TypeVar("Found")


class Gate:
    """`shut`: do not ask, but wait by `passed`. `error` is what ended it all, or None."""

    def __init__(self) -> None:
        self.shut = False
        self.error: LoginRefused | None = None
        self._doubts = 0
        self._moved = asyncio.Event()
        self._asking: set[asyncio.Task[object] | None] = set()
        """Who finds out about a login."""

    @property
    def is_asking(self) -> bool:
        """Whether the current task is one that finds out about a login: it need not wait, and must not."""
        return asyncio.current_task() in self._asking

    async def passed(self) -> None:
        """Wait until no login is in doubt. Raises: LoginRefused once one counts as refused. Cancel: safe."""
        while self.shut:
            if self.error is not None:
                raise self.end(self.error)
            if self.is_asking:
                return
            await self._moved.wait()

    def end(self, error: LoginRefused) -> LoginRefused:
        """Hear that a login counts as refused: from here on nobody asks anything. Return what to raise."""
        if self.error is None:
            self.error, self.shut = error, True
            self._moved.set()
        ended = LoginRefused(self.error.message, hint=self.error.hint)
        ended.ends_run = True
        return ended

    def doubt(self) -> Doubt:
        """Return a doubt that has not begun; to be left by `with`, whatever happens."""
        return Doubt(self)

    def count(self, doubts: int) -> None:
        """Hear of a doubt that begins (1) or ends (-1)."""
        self._doubts += doubts
        self.shut = self._doubts > 0 or self.error is not None
        if self._doubts and self.error is None:
            self._moved.clear()
        else:
            self._moved.set()

    async def ask(self, ask: Callable[[], Awaitable[Found]]) -> Found:
        """Return what `ask` returns, whose requests pass. Raises: what it raises. Cancel: safe."""
        task = asyncio.current_task()
        self._asking.add(task)
        try:
            return await ask()
        finally:
            self._asking.discard(task)


class Doubt:
    """Shuts the gate from `begin` on until it is left."""

    __slots__ = ("_begun", "_gate")

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._begun = False

    def begin(self) -> None:
        """Shut the gate. May be called twice."""
        if not self._begun:
            self._begun = True
            self._gate.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._begun:
            self._gate.count(-1)


class Standing(Generic[T]):
    """How one login stands at its origin."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.witness: T | None = None
        """What was had by it, to be asked for once more in a doubt: then no odd object passes for a bad login."""
        self.in_a_row = 0
        """Refusals since it was last good for something, as far as they are its own."""
        self.proofs = 0
        """How often somebody has found out whether it is taken, or another one in its place."""
        self._proving = asyncio.Lock()

    def good(self, witness: T) -> None:
        """Hear what it was good for."""
        self.witness = witness
        self.in_a_row = 0

    def has_moved(self, proofs: int) -> bool:
        """Return whether somebody finds out about it, or has since `proofs` was read: another one may be in its place,
        of which a refusal of the one before says nothing."""
        return self._proving.locked() or self.proofs != proofs

    async def prove(self, proofs: int, ask: Callable[[], Awaitable[Found | None]]) -> Found | None:
        """Find out by `ask` whether the login, or another one, is taken, while everybody else waits.

        `proofs` is from before the request was sent. `ask` returns the answer to it where it got one, and raises
        LoginRefused, from `Gate.end`, where it is refused again. What it asks first is out before anybody else's
        answer is read, where a connection is kept. None: ask as usual. Raises: what `ask` raises.
        Cancel: safe; the next one that was refused finds out.
        """
        with self._gate.doubt() as doubt:
            doubt.begin()
            async with self._proving:
                if self._gate.error is not None:
                    raise self._gate.end(self._gate.error)
                if self.proofs != proofs:
                    return None
                found = await self._gate.ask(ask)
                self.proofs += 1
                return found
