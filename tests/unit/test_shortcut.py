"""Past the redirect and back: what a guess that fails costs, and what it never does."""

from __future__ import annotations

import pytest

from stacmirror.clock import SystemClock
from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply
from stacmirror.model import Asset, ItemKey, Transfer, Unit
from stacmirror.pipeline.large import Fetched
from stacmirror.pipeline.learn import Learner
from stacmirror.pipeline.progress import Progress
from stacmirror.pipeline.shortcut import Shortcut
from stacmirror.pipeline.transfer import Fetcher
from tests.unit.fakes import FakeBody, FakeOpener, FakeSink, Notes, a_reply

UNIT = Unit("u", "folder", True)
HEADERS = {"content-type": "image/tiff"}


class Way:
    """A shortcut that has learned from `c_0` to `c_2`; links lead to `https://h/<id>.tif`."""

    def __init__(self) -> None:
        self.notes, self.progress, self.sink = Notes(), Progress(), FakeSink()
        self.answers: dict[str, bytes | Reply | BaseException] = {"": b""}
        self.opener = FakeOpener(self.answers)
        self.learner = Learner(self.notes.note, after=3)
        fetcher = Fetcher(self.opener, self.sink, SystemClock(), self.progress, any_content=True)
        self.way = Shortcut(self.learner, self.opener, fetcher, self.progress)

    async def learned(self) -> Way:
        for number in range(3):
            await self.by_link(number)
        self.opener.asked.clear()
        return self

    def transfer(self, number: int) -> Transfer:
        return Transfer(Asset("B", f"https://api/{number}"), "B.tif")

    async def by_link(self, number: int) -> Fetched:
        body = b"bytes of %d" % number
        self.answers.setdefault(f"https://api/{number}", a_reply(f"https://h/c_{number}.tif", 200, HEADERS, body))
        return await self.way.fetch_by_link(ItemKey("c", f"c_{number}"), self.transfer(number), UNIT, str)

    async def by_guess(self, number: int, answer: Reply | BaseException) -> Fetched | None:
        guess = self.way.guess(ItemKey("c", f"c_{number}"), self.transfer(number))
        assert guess is not None
        assert guess.url == f"https://h/c_{number}.tif"
        self.answers[guess.url] = answer
        return await self.way.fetch(guess, ItemKey("c", f"c_{number}"), self.transfer(number), UNIT, str)


async def test_a_guess_brings_what_the_link_would_bring() -> None:
    """Bytes, name and digest are those of the way over the link, with one request for the target alone."""
    way = await Way().learned()
    fetched = await way.by_guess(7, a_reply("https://h/c_7.tif", 200, HEADERS, b"bytes of 7"))
    assert way.opener.asked == ["https://h/c_7.tif"]
    assert fetched == await way.by_link(7)
    assert way.progress.predicted == 1


@pytest.mark.parametrize(
    "answer",
    [
        a_reply("https://h/c_7.tif", 404, HEADERS),
        a_reply("https://h/c_7.tif", 403, HEADERS),
        a_reply("https://h/c_7.tif", 206, HEADERS, b"by"),
        a_reply("https://h/login", 200, HEADERS, b"elsewhere"),
        a_reply("https://h/c_7.tif", 200, {"content-type": "text/html"}, b"<h1>Sorry</h1>"),
        a_reply("https://h/c_7.tif", 200, {**HEADERS, "content-length": "99"}, b"short"),
        a_reply("https://h/c_7.tif", 200, {**HEADERS, "content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="}, b"damaged"),
        TransferError("reset", "reset"),
        TransferError("5xx", "503", status=503),
        TransferError("redirect", "too many", retryable=False),
    ],
    ids=lambda answer: str(answer.status if isinstance(answer, Reply) else answer.kind),
)
async def test_a_guess_that_fails_leaves_the_link(answer: Reply | BaseException) -> None:
    """Whatever but the asset's whole bytes answers: nothing is kept, nothing is raised, and the link is next."""
    way = await Way().learned()
    assert await way.by_guess(7, answer) is None
    assert way.progress.predicted == 0
    assert way.sink.staged == {}
    assert (await way.by_link(7)).body == b"bytes of 7"
    assert way.notes.lines == []


async def test_large_bodies_are_closed_or_kept() -> None:
    """A stream that is no answer is closed; one that breaks is dropped; one that is whole goes to the sink."""
    way = await Way().learned()
    refused, broken = FakeBody([b"sorry"]), FakeBody([b"half", TransferError("reset", "reset")])
    assert await way.by_guess(7, a_reply("https://h/c_7.tif", 404, HEADERS, None, refused)) is None
    assert await way.by_guess(8, a_reply("https://h/c_8.tif", 200, HEADERS, None, broken)) is None
    assert (refused.closed, broken.closed > 0, way.sink.staged) == (1, True, {})
    fetched = await way.by_guess(9, a_reply("https://h/c_9.tif", 200, HEADERS, None, FakeBody([b"wh", b"ole"])))
    assert fetched is not None
    assert way.sink.staged == {"u": {"B.tif": b"whole"}}


async def test_bytes_that_fall_into_doubt_on_their_way_are_not_kept() -> None:
    """A link leads elsewhere while a guess is answered: what the guess brought is asked for again."""
    way = await Way().learned()

    class Moving(FakeBody):
        def chunks(self):  # type: ignore[no-untyped-def]
            asset = Asset("B", "https://api/1")
            way.learner.led(ItemKey("c", "c_1"), asset, "https://h/new/c_1.tif", "image/tiff", found=True)
            return super().chunks()

    answer = a_reply("https://h/c_7.tif", 200, HEADERS, None, Moving([b"old"]))
    assert await way.by_guess(7, answer) is None
    assert way.progress.predicted == 0
    assert len(way.notes.lines) == 1


async def test_what_failed_once_goes_by_its_link() -> None:
    """A guess is made for an asset's first attempt only."""
    way = await Way().learned()
    again = way.transfer(7)
    again.attempts = 1
    assert way.way.guess(ItemKey("c", "c_7"), again) is None


async def test_an_asset_without_a_link_fails_as_ever() -> None:
    """No href is `no-href`, learned or not."""
    way = await Way().learned()
    with pytest.raises(TransferError) as caught:
        await way.way.fetch_by_link(ItemKey("c", "c_7"), Transfer(Asset("B", ""), "B.tif"), UNIT, str)
    assert caught.value.kind == "no-href"


async def test_checks_are_the_same() -> None:
    """A wrong MD5 on the way over the link is an error as without learning."""
    way = Way()
    wrong = {**HEADERS, "content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="}
    way.answers["https://api/1"] = a_reply("https://h/c_1.tif", 200, wrong, b"x")
    with pytest.raises(TransferError, match="Content-MD5"):
        await way.by_link(1)
