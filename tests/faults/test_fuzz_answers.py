"""Raw HTTP answers at random to our own client: the body that h11 gives, or an error; never a hang, nor a leftover.

STACMIRROR_FUZZ says how many (`make fuzz`: 100,000); STACMIRROR_FUZZ_SEED which ones. Each is fed to a connection in
pieces of any size, as a socket would, and the connection is cut at the end. h11 reads the same bytes by the letter of
RFC 9112; ours may refuse what h11 takes, and must not take what h11 refuses, but for what `tolerated` names.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from typing import Any, NamedTuple

import h11
import pytest

from stacmirror.errors import KINDS, TransferError
from stacmirror.transports.wire_connection import Connection
from tests.contract.test_wire_waits import FakeTransport
from tests.contract.wire_server import chunked, head

ANSWERS = int(os.environ.get("STACMIRROR_FUZZ", "1200"))
SEED = int(os.environ.get("STACMIRROR_FUZZ_SEED", "5"))
SHARE = 8
"""Tests that the answers are spread over, so that they run side by side."""
SMALL_MAX = 400
"""Bodies above that are streams; half of the seeds have one."""
REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"

TRAILING_CODING = "Only Transfer-Encoding: chunked is supported"
"""What h11 says of a coding in a trailer as well, which says nothing of a body that has ended."""

BODIES = [b"", b"x", b"II*\0" + bytes(range(60)), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"0\r\n\r\n" * 90]
TOKENS = [
    b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b";", b",", b"\0", b"\xff", b"\r\n\r\n", b"\r\n ", b"0", b"0\r\n\r\n",
    b"ffffffffffffffff", b"-1", b"+5", b"5, 5", b"5 5", b"0x5", b"1e2", b"9" * 30, b"1_0", b"\xb2",
    b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/2 200\r\n", b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    b"HTTP/1.1 204 No\r\n\r\n", b"HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", b"ICY 200 OK\r\n",
    b"Content-Length: 5\r\n", b"Content-Length: 64\r\n", b"content-length:\r\n", b"Content-Length : 5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: chunked, chunked\r\n", b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n",
    b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Connection: upgrade\r\n", b"Upgrade: h2c\r\n",
    b"X: " + b"y" * 70_000 + b"\r\n", b"X: y\r\n" * 200, b"5;ext=\"\r\n\"\r\n", b"5\r\nhello\r\n", b"0\r\nT: x\r\n\r\n",
]  # fmt: skip


class Read(NamedTuple):
    """What a reader makes of the bytes. `keeps`: another request may follow on the same connection."""

    status: int
    body: bytes
    keeps: bool


class Keeper:
    """The owner of the connection."""

    head_max_bytes = 64 << 10

    def made(self, connection: Connection) -> None: ...

    def free(self, connection: Connection) -> None: ...

    def gone(self, connection: Connection) -> None: ...


def proper(chance: random.Random) -> bytes:
    """Return an answer as servers send it."""
    body = chance.choice(BODIES)
    status = chance.choice((200, 200, 200, 206, 302, 404, 503, 204, 304))
    headers = chance.sample(["Date: x", 'ETag: "e"', "Location: /x", "Connection: close", "Server: s"], 2)
    if status in (204, 304):
        return head(status, *headers)
    how = chance.randrange(4)
    if how == 0:
        return head(status, *headers) + body
    if how == 1:
        half = len(body) // 2
        parts = [part for part in (body[:half], body[half:]) if part]
        return head(status, "Transfer-Encoding: chunked", *headers) + chunked(*parts)
    return head(status, f"Content-Length: {len(body)}", *headers) + body


def mutated(chance: random.Random, answer: bytes) -> bytes:
    """Return an answer with one to four things wrong, most of them in its head."""
    changed = bytearray(answer)
    for _ in range(chance.choice((1, 1, 2, 4))):
        end = changed.find(b"\r\n\r\n") + 4 if chance.random() < 0.7 else len(changed)
        lines = [at + 2 for at in range(max(0, end - 2)) if changed[at : at + 2] == b"\r\n"]
        at = chance.choice(lines) if lines and chance.random() < 0.5 else chance.randrange(max(1, end) + 1)
        to = min(len(changed), at + chance.choice((1, 1, 2, 9)))
        how = chance.randrange(6)
        if how == 0 and at < len(changed):
            changed[at] ^= 1 << chance.randrange(8)
        elif how == 1:
            del changed[at:to]
        elif how == 2:
            changed[at:to] = chance.choice(TOKENS)
        elif how == 3:
            changed += chance.choice((b"\r\n", b"x", bytes(changed), bytes(changed[:9])))
        elif how == 4 and chance.random() < 0.5:
            del changed[at:]
        else:
            changed[at:at] = chance.choice(TOKENS)
    return bytes(changed)


def pieces(chance: random.Random, data: bytes) -> list[bytes]:
    """Return the bytes as they may come from a socket."""
    found, at, size = [], 0, chance.choice((1, 7, 50, 1000, 1 << 20))
    if len(data) > 5000:
        size = max(size, 1000)
    while at < len(data):
        step = chance.randint(1, size)
        found.append(data[at : at + step])
        at += step
    return found


async def ours(parts: list[bytes]) -> Read | TransferError:
    """Return what our client reads. Raises: TimeoutError where it would wait for ever."""
    connection = Connection(asyncio.get_running_loop(), Keeper())
    transport = FakeTransport(connection)
    connection.connection_made(transport)
    asked = asyncio.ensure_future(connection.reply(connection.ask(REQUEST, "http://h/", SMALL_MAX)))
    try:
        for part in parts:
            if transport.closing:
                break
            connection.data_received(part)
        kept = connection.usable
        await asyncio.sleep(0)
        if not transport.closing:
            connection.eof_received()
            transport.lose()
        async with asyncio.timeout(1):
            reply = await asked
            body = reply.body
            if body is None:
                assert reply.stream is not None
                body = b"".join([chunk async for chunk in reply.stream.chunks()])
    except TransferError as error:
        return error
    return Read(reply.status, body, kept)


def tolerated(data: bytes) -> bytes:
    """Return the bytes without what ours takes and h11 does not: no byte of a body hangs on it.

    Empty lines before the answer; whatever words come with the status; a second Transfer-Encoding behind `chunked`.
    """
    data = data.lstrip(b"\r\n")
    first, end, rest = data.partition(b"\r\n\r\n")
    if re.match(rb"HTTP/1\.[01] 1\d\d", first):
        return first + end + tolerated(rest)
    lines = first.split(b"\r\n")
    lines[0] = re.sub(rb"\A(HTTP/1\.[01] \d{3}) .*", rb"\1 Words", lines[0], flags=re.DOTALL)
    codings = [line for line in lines if line.lower().startswith(b"transfer-encoding:")]
    if codings and re.fullmatch(rb"(?i)transfer-encoding: *chunked *", codings[0]):
        lines = [line for line in lines if line not in codings[1:] or line == codings[0]]
        while lines.count(codings[0]) > 1:
            lines.reverse()
            lines.remove(codings[0])
            lines.reverse()
    return b"\r\n".join(lines) + end + rest


def theirs(data: bytes) -> Read | str:
    """Return what h11 reads, or why it refuses."""
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=64 << 10)
    reader.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    reader.send(h11.EndOfMessage())
    status, body, ended = 0, b"", False
    try:
        reader.receive_data(tolerated(data))
        while True:
            event: Any = reader.next_event()
            if event is h11.NEED_DATA and not ended:
                reader.receive_data(b"")
                ended = True
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                surplus = reader.trailing_data[0].strip(b"\r\n")
                return Read(status, body, reader.their_state is h11.DONE and not surplus and not ended)
            elif not isinstance(event, h11.InformationalResponse):
                return repr(event)
    except h11.RemoteProtocolError as error:
        return str(error)


@pytest.mark.parametrize("part", range(SHARE))
async def test_answers_at_random(part: int) -> None:
    """No body that h11 does not read as well, no error but TransferError, no wait without end, no surplus kept."""
    chance = random.Random(SEED * SHARE + part)
    good = 0
    for number in range(ANSWERS // SHARE):
        data = proper(chance)
        if number % 8:
            data = mutated(chance, data)
        found = await ours(pieces(chance, data))
        expected = theirs(data)
        if expected == TRAILING_CODING:
            expected = theirs(re.sub(rb"(\r\n0+\r\n)Transfer-Encoding:[^\r\n]*\r\n", rb"\1", data))
        if isinstance(found, TransferError):
            assert found.kind in KINDS, data
            assert "\n" not in found.message
            assert number % 8 or isinstance(expected, str), f"a proper answer was refused: {found} {data!r}"
            continue
        if found.status < 100:
            continue  # h11 knows no such status; whoever asked refuses it
        good += 1
        assert isinstance(expected, Read), f"h11 refuses it: {expected} {found} {data!r}"
        assert found[:2] == expected[:2], data
        assert expected.keeps or not found.keeps, f"kept: {data!r}"
    assert good > ANSWERS // SHARE // 8
