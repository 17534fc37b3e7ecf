"""Whether anything may be asked: nothing while a login is in doubt, and nothing ever again once it counts as refused.

One for the run. The router passes it before every request; whoever sends a login shuts it when that is refused, until
it is known whether another one (a new token, a new session) is taken: one request finds that out, all others wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

from stacmirror.errors import LoginRefused
from stacmirror.interfaces import Reply

DOUBTED_AFTER, REFUSALS_MAX = 2, 3
"""Refusals one after another, where one may be the object's own trouble, until something that the login was good for is
asked for once more; and with which it counts as refused, where it never was good for anything."""

T = TypeVar("T")


class Gate:
    """`shut`: do not ask, but wait by `passed`. `error` is what ended it all, or None."""

    def __init__(self) -> None:
        self.shut = False
        self.error: LoginRefused | None = None
        self._doubts = 0
        self._moved = asyncio.Event()

    async def passed(self) -> None:
        """Wait until no login is in doubt. Raises: LoginRefused once one counts as refused. Cancel: safe."""
        while self.shut:
            if self.error is not None:
                raise self.end(self.error)
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
        """Refusals since it was last good for something."""
        self.proofs = 0
        """How often somebody has found out that it is taken, or another one in its place."""
        self._proving = asyncio.Lock()

    def good(self, witness: T) -> None:
        """Hear what it was good for."""
        self.witness = witness
        self.in_a_row = 0

    async def prove(self, proofs: int, ask: Callable[[], Awaitable[Reply | None]]) -> Reply | None:
        """Find out by `ask` whether the login, or another one, is taken, while everybody else waits.

        `proofs` is from before the request was sent. `ask` returns the answer to it where it got one, and raises
        LoginRefused, from `Gate.end`, where it is refused again. None: ask as usual. Raises: what `ask` raises.
        Cancel: safe; the next one that was refused finds out.
        """
        with self._gate.doubt() as doubt:
            doubt.begin()
            async with self._proving:
                if self._gate.error is not None:
                    raise self._gate.end(self._gate.error)
                if self.proofs != proofs:
                    return None
                reply = await ask()
                self.proofs += 1
                self.in_a_row = 0
                return reply
