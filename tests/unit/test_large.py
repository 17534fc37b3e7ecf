"""Large bodies: gone on with, begun again, refused at the cap, several at once - with stand-ins for server and disk."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Mapping, Sequence

import pytest
import xxhash

from stacmirror.clock import SystemClock
from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply
from stacmirror.model import Asset, AssetKey, ItemKey, Transfer, Unit
from stacmirror.pipeline import large
from stacmirror.pipeline.abreast import settle_abreast
from stacmirror.pipeline.large import Fetched
from stacmirror.pipeline.progress import Progress
from stacmirror.pipeline.transfer import Fetcher
from tests.unit.fakes import FakeBody, FakeOpener, FakeSink, a_reply

HREF = "https://api/link"
URL = "https://store/object"
ITEM, UNIT = ItemKey("c", "i"), Unit("u", "folder")
KEY = AssetKey(ITEM, "B")
BODY = bytes(range(256)) * 4
CUT = TransferError("reset", "cut")


def whole(
    chunks: Sequence[bytes | BaseException], headers: Mapping[str, str] | None = None, *, url: str = URL
) -> Reply:
    sent = {"etag": '"one"', "content-length": str(len(BODY))} if headers is None else headers
    return a_reply(url, 200, sent, None, FakeBody(chunks))


def rest(start: int, chunks: Sequence[bytes | BaseException], etag: str = '"one"') -> Reply:
    span = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
    headers = {"etag": etag, "content-range": span, "content-length": str(len(BODY) - start)}
    return a_reply(URL, 206, headers, None, FakeBody(chunks))


class Way:
    """A fetcher with a cap; answers by address, `HREF from N-` being the answer to a range."""

    def __init__(self, file_max_bytes: int = 0) -> None:
        self.answers: dict[str, bytes | Reply | BaseException] = {}
        self.opener, self.sink, self.progress = FakeOpener(), FakeSink(), Progress()
        self.opener.answers = self.answers
        self.fetcher = Fetcher(self.opener, self.sink, SystemClock(), self.progress, file_max_bytes=file_max_bytes)

    async def fetch(self) -> Fetched:
        return await self.fetcher.fetch(ITEM, Transfer(Asset("B", HREF), "B.tif"), UNIT, str)

    async def cut_after(self, count: int, headers: Mapping[str, str] | None = None) -> None:
        self.answers[HREF] = whole([BODY[:count], CUT], headers)
        with pytest.raises(TransferError, match="cut"):
            await self.fetch()
        self.opener.asked.clear()

    def is_right(self, fetched: Fetched, body: bytes = BODY) -> bool:
        digest = xxhash.xxh3_128_digest(body) if fetched.receipt.digest_kind == "xxh3" else hashlib.md5(body).digest()
        return (fetched.receipt.size_bytes, fetched.receipt.digest) == (len(body), digest) and self.sink.staged == {
            "u": {"B.tif": body}
        }


async def test_the_rest_is_asked_for_behind_the_redirect_only() -> None:
    """What is there is not asked for again; the link itself, known to lead elsewhere, hears of no range."""
    way = Way()
    await way.cut_after(300)
    way.answers[f"{HREF} from 300-"] = rest(300, [BODY[300:]])
    assert way.is_right(await way.fetch())
    assert way.opener.rests == [(HREF, {"Range": "bytes=300-", "If-Range": '"one"'}, True)]
    assert not way.sink.waiting


async def test_a_link_that_has_the_bytes_itself_hears_of_the_range() -> None:
    """No redirect before, none expected."""
    way = Way()
    way.answers[HREF] = whole([BODY[:300], CUT], url=HREF)
    with pytest.raises(TransferError):
        await way.fetch()
    way.answers[f"{HREF} from 300-"] = rest(300, [BODY[300:]])
    assert way.is_right(await way.fetch())
    assert way.opener.rests[0][2] is False


async def test_a_link_that_redirects_no_more_is_asked_for_the_range_itself() -> None:
    """It was not told of the range: its whole body is dropped, and the rest asked for there."""
    way = Way()
    await way.cut_after(300)
    everything = whole([BODY], url=HREF)
    answers = iter([everything, rest(300, [BODY[300:]])])

    async def open_rest(href: str, headers: Mapping[str, str], *, redirected: bool) -> Reply:
        way.opener.rests.append((href, dict(headers), redirected))
        return next(answers)

    way.opener.open_rest = open_rest  # type: ignore[method-assign]
    assert way.is_right(await way.fetch())
    assert [redirected for _, _, redirected in way.opener.rests] == [True, False]
    assert isinstance(everything.stream, FakeBody)
    assert everything.stream.closed


OTHER = BODY[::-1]


@pytest.mark.parametrize(
    ("answer", "again"),
    [
        (whole([OTHER], {"etag": '"two"', "content-length": str(len(OTHER))}), False),
        (rest(300, [BODY[300:]], '"two"'), True),
        (rest(301, [BODY[301:]]), True),
        (a_reply(URL, 416, {"content-range": f"bytes */{len(BODY)}"}), True),
        (a_reply(URL, 412), True),
        (whole([OTHER], {"etag": '"one"', "content-range": "bytes 300-1023/1024"}), True),
    ],
    ids=["200", "another ETag", "another start", "416", "412", "200 that says it is a range"],
)
async def test_what_does_not_fit_is_begun_again(answer: Reply, again: bool) -> None:
    """Never two versions joined: all of it comes anew, from this answer or from another one."""
    way = Way()
    await way.cut_after(300)
    way.answers[f"{HREF} from 300-"] = answer
    way.answers[HREF] = whole([OTHER], {"etag": '"two"', "content-length": str(len(OTHER))})
    assert way.is_right(await way.fetch(), OTHER)
    assert way.opener.asked == [f"{HREF} from 300-"] + [HREF] * again
    if answer.stream is not None:
        assert isinstance(answer.stream, FakeBody)
        assert answer.stream.closed


@pytest.mark.parametrize("status", [403, 404, 500])
async def test_a_refusal_of_the_rest_keeps_what_is_there(status: int) -> None:
    """An expired link, an outage: the part waits for the next attempt."""
    way = Way()
    await way.cut_after(300)
    way.answers[f"{HREF} from 300-"] = a_reply(URL, status)
    with pytest.raises(TransferError):
        await way.fetch()
    assert way.sink.waiting[KEY].offset == 300


async def test_what_has_no_strong_validator_is_begun_again() -> None:
    """A weak ETag says nothing of bytes."""
    way = Way()
    await way.cut_after(300, {"etag": 'W/"one"', "content-length": str(len(BODY))})
    way.answers[HREF] = whole([BODY])
    assert way.is_right(await way.fetch())
    assert way.opener.asked == [HREF]


async def test_a_checksum_of_the_whole_proves_what_was_joined() -> None:
    """Without a validator the range is asked for, and the MD5 decides: right it is kept, wrong nothing is."""
    md5 = base64.b64encode(hashlib.md5(BODY).digest()).decode()
    for joined in (BODY[300:], OTHER[300:]):
        way = Way()
        await way.cut_after(300, {"content-md5": md5, "content-length": str(len(BODY))})
        way.answers[f"{HREF} from 300-"] = rest(300, [joined], "")
        if joined == BODY[300:]:
            fetched = await way.fetch()
            assert way.is_right(fetched)
            assert fetched.receipt.digest_kind == "md5"
        else:
            with pytest.raises(TransferError, match="Content-MD5"):
                await way.fetch()
            assert not way.sink.waiting
            assert not way.sink.staged


async def test_a_part_that_is_whole_is_not_asked_for() -> None:
    """Killed after the last byte: nothing is missing, so nobody is asked."""
    way = Way()
    await way.cut_after(len(BODY))
    assert way.is_right(await way.fetch())
    assert way.opener.asked == []


async def test_an_attempt_that_got_far_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cuts every few MiB is asked on at once; one that cuts at the same place is not asked for ever."""
    monkeypatch.setattr(large, "_WORTH_GOING_ON_BYTES", 200)
    way = Way()
    way.answers[HREF] = whole([BODY[:300], CUT])
    way.answers[f"{HREF} from 300-"] = rest(300, [BODY[300:600], CUT])
    way.answers[f"{HREF} from 600-"] = rest(600, [BODY[600:]])
    assert way.is_right(await way.fetch())
    stuck = Way()
    for address in (HREF, f"{HREF} from 300-"):
        stuck.answers[address] = whole([BODY[:300], CUT])
    with pytest.raises(TransferError, match="cut"):
        await stuck.fetch()
    assert stuck.opener.asked == [HREF, f"{HREF} from 300-"]


@pytest.mark.parametrize("declared", [True, False])
async def test_the_cap_holds(declared: bool) -> None:
    """Declared or not, what is larger than the cap is refused for good, and none of it stays."""
    way = Way(file_max_bytes=500)
    headers = {"etag": '"one"'} | ({"content-length": str(len(BODY))} if declared else {})
    way.answers[HREF] = whole([BODY[:300], BODY[300:600], BODY[600:]], headers)
    with pytest.raises(TransferError, match="max-file-size") as refused:
        await way.fetch()
    assert (refused.value.kind, refused.value.retryable) == ("too-large", False)
    assert not way.sink.waiting
    assert not way.sink.staged


async def test_progress_counts_each_byte_once() -> None:
    """On the way, cut, gone on with, whole: never more than there is; what an earlier run brought is known as such."""
    way = Way()
    await way.cut_after(300)
    assert (way.progress.bytes_on_the_way, way.progress.bytes_there) == (300, 0)
    way.progress = later = Progress()
    way.fetcher = Fetcher(way.opener, way.sink, SystemClock(), later)
    way.answers[f"{HREF} from 300-"] = rest(300, [BODY[300:400], CUT])
    with pytest.raises(TransferError):
        await way.fetch()
    assert (later.bytes_on_the_way, later.bytes_there) == (400, 300)
    way.answers[f"{HREF} from 400-"] = rest(400, [BODY[400:]])
    await way.fetch()
    assert (later.bytes_on_the_way, later.bytes_there) == (0, 300)


async def test_progress_forgets_what_was_begun_again() -> None:
    """A new version has nothing from an earlier run."""
    way = Way()
    await way.cut_after(300)
    way.fetcher = Fetcher(way.opener, way.sink, SystemClock(), later := Progress())
    way.answers[f"{HREF} from 300-"] = whole([OTHER[:100], CUT], {"etag": '"two"'})
    with pytest.raises(TransferError):
        await way.fetch()
    assert (later.bytes_on_the_way, later.bytes_there) == (100, 0)


async def test_so_many_at_once_and_no_more() -> None:
    """Large files of one item come side by side up to the bound; those that must wait are named, in their order."""
    transfers = [Transfer(Asset(str(number), HREF), str(number)) for number in range(9)]
    at_once = most = 0

    async def settle(transfer: Transfer) -> bool:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.001 * (9 - int(transfer.name)))
        at_once -= 1
        return int(transfer.name) % 4 != 0

    later = await settle_abreast(transfers, settle, 3)
    assert most == 3
    assert [transfer.name for transfer in later] == ["0", "4", "8"]


async def test_one_that_breaks_ends_the_others() -> None:
    """A full disk in one: the others are cancelled, and nothing runs on."""
    ended = 0

    async def settle(transfer: Transfer) -> bool:
        nonlocal ended
        if transfer.name == "0":
            await asyncio.sleep(0)
            raise ZeroDivisionError
        try:
            await asyncio.sleep(60)
        finally:
            ended += 1
        return True

    with pytest.raises(ExceptionGroup):
        await settle_abreast([Transfer(Asset(n, HREF), n) for n in "0123"], settle, 3)
    assert ended == 2
