"""What a client sends and reads, in order, whether one request after another or several on one connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pytest

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply
from stacmirror.limits import origin_of
from stacmirror.transports.http import AiohttpTransport
from stacmirror.transports.wire import WireTransport

REFUSALS = 3


class Event(NamedTuple):
    """`reply` is None where a request was sent, and what came where an answer was read."""

    url: str
    reply: Reply | None
    headers: Mapping[str, str]


class Asked:
    """The events of a run, from the moment it is made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[Event] = []
        for transport in (WireTransport, AiohttpTransport):
            self._watch(monkeypatch, transport)
        self._watch_several(monkeypatch)

    def after_third(self, refuses: Callable[[Reply], bool]) -> list[Event]:
        """Return what was sent after the third refusal in a row had been read: nothing where fewer were.

        A file that came from where the refused one is ends a row.
        """
        origin = next(origin_of(event.url) for event in self.events if event.reply is not None and refuses(event.reply))
        in_a_row = 0
        for at, event in enumerate(self.events):
            if event.reply is None or origin_of(event.url) != origin:
                continue
            if refuses(event.reply):
                in_a_row += 1
            elif event.reply.status == 200:
                in_a_row = 0
            if in_a_row == REFUSALS:
                return [later for later in self.events[at + 1 :] if later.reply is None]
        return []

    def refusals(self, refuses: Callable[[Reply], bool]) -> int:
        return sum(event.reply is not None and refuses(event.reply) for event in self.events)

    def _watch(self, monkeypatch: pytest.MonkeyPatch, transport: type[WireTransport | AiohttpTransport]) -> None:
        real, events = transport.fetch, self.events

        async def fetch(self: Any, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
            events.append(Event(url, None, headers))
            reply = await real(self, url, headers, small_max_bytes)
            events.append(Event(url, reply, headers))
            return reply

        monkeypatch.setattr(transport, "fetch", fetch)

    def _watch_several(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real, events = WireTransport.fetch_several, self.events

        async def fetch_several(
            self: Any,
            requests: Sequence[tuple[str, Mapping[str, str]]],
            small_max_bytes: int,
            heard: Callable[[Reply], bool] | None = None,
        ) -> Sequence[Reply | TransferError]:
            answers = 0

            def hear(reply: Reply) -> bool:
                nonlocal answers
                answers += 1
                events.append(Event(reply.url, reply, {}))
                goes_on = heard is not None and heard(reply)
                if goes_on and answers < len(requests):
                    events.append(Event(*_sent(requests[answers])))
                return goes_on

            first = requests if heard is None else requests[:1]
            events.extend(Event(*_sent(request)) for request in first)
            came = await real(self, requests, small_max_bytes, None if heard is None else hear)
            events.extend(Event(reply.url, reply, {}) for reply in came[answers:] if isinstance(reply, Reply))
            return came

        monkeypatch.setattr(WireTransport, "fetch_several", fetch_several)


def _sent(request: tuple[str, Mapping[str, str]]) -> tuple[str, None, Mapping[str, str]]:
    return request[0], None, request[1]
