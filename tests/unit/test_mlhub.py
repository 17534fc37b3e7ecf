"""The MLHub dialect against a scripted server: paging of three generations, the key's way, errors and retries."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from stacmirror.catalogs import DIALECTS, parse_source
from stacmirror.catalogs.mlhub import MlhubCatalog
from stacmirror.catalogs.stac_api import ApiRoot, cursor_of, encode, item_key, resolve, set_parameters
from stacmirror.errors import LoginRefused, SourceUnreachable, SourceUnreadable, TransferError, UsageError
from stacmirror.interfaces import Catalog, Reply
from stacmirror.model import START, Cursor, ItemKey
from stacmirror.retry import RetryPolicy

ROOT = "https://api.test/mlhub/v1"
ITEMS = f"{ROOT}/collections/c/items"
KEY = "0f" * 32
B64 = "eyJ0aW1lc3RhbXBBdExlYXN0IjoiMjAyMCJ9"

Answer = tuple[int, Any] | tuple[int, Any, Mapping[str, str]] | TransferError


class FakeClock:
    def __init__(self) -> None:
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return 1.0

    def wall(self) -> float:
        return 1_000.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class FakeAsker:
    """Answers in the order of the script; the last answer stays."""

    def __init__(self, *script: Answer) -> None:
        self.script = list(script)
        self.asked: list[str] = []

    async def ask(self, url: str, headers: Mapping[str, str], max_bytes: int) -> Reply:
        assert max_bytes == 1 << 20
        self.asked.append(url)
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(answer, TransferError):
            raise answer
        status, body, *rest = answer
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Reply(url, status, rest[0] if rest else {}, raw, None)

    def query(self, at: int) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.asked[at]).query)


def catalog(asker: FakeAsker, *, root: str = ROOT, key: str = KEY, retries: int = 2) -> MlhubCatalog:
    return MlhubCatalog(
        "c", root, key, 100, asker, RetryPolicy(retries=retries), FakeClock(), lambda: 0.5, lambda *_: None, 1 << 20
    )


def page(*ids: str, next_href: Any = "", **more: Any) -> tuple[int, Any]:
    links = [] if next_href == "" else [{"rel": "next", "href": next_href}]
    return 200, {"features": [{"id": item_id, "collection": "c"} for item_id in ids], "links": links, **more}


async def walk(asker: FakeAsker, **options: Any) -> list[str]:
    """Return all ids, as a walk would ask for them."""
    found: list[str] = []
    source = catalog(asker, **options)
    cursor: Cursor | None = START
    while cursor is not None:
        assert len(asker.asked) < 20, "the walk has no end"
        read = await source.page(cursor)
        found += [item.key.id for item in read.items]
        cursor = read.next
    return found


def test_it_is_a_catalog() -> None:
    """The class fits the contract of the pipeline."""
    source: Catalog = catalog(FakeAsker(page()))
    assert source.collection == "c"


async def test_2020_walk_ends_at_a_null_href() -> None:
    """`next` with href null is the end; `numberMatched` is the total."""
    asker = FakeAsker(page("a", next_href=f"{ITEMS}?next={B64}", numberMatched=2), page("b", next_href=None))
    assert await walk(asker) == ["a", "b"]
    assert (await catalog(FakeAsker(page("a", numberMatched=2))).page(START)).total == 2


async def test_2021_walk_ends_after_an_empty_page() -> None:
    """The last page has a `next` that leads to an empty one without; the cursor is the base64 alone."""
    asker = FakeAsker(page("a", "b", next_href=f"{ITEMS}?next={B64}&limit=30"), page())
    assert await walk(asker) == ["a", "b"]
    assert asker.query(1) == {"next": [B64], "limit": ["100"], "key": [KEY]}


async def test_2021_empty_page_with_next_goes_on() -> None:
    """An empty page is no end while it has a `next`."""
    asker = FakeAsker(page(next_href=f"{ITEMS}?next={B64}"), page("a"))
    assert await walk(asker) == ["a"]


async def test_2021_september_key_never_grows() -> None:
    """`next` over http with one more `key=` a page: each request has one key, over https."""
    echo = "http://api.test/mlhub/v1/collections/c/items?" + "key=x&" * 5 + "token=next:a&limit=10"
    asker = FakeAsker(page("a", next_href=echo), page("b"))
    assert await walk(asker) == ["a", "b"]
    assert asker.asked[1].startswith(f"{ITEMS}?")
    assert asker.query(1) == {"token": ["next:a"], "limit": ["100"], "key": [KEY]}


async def test_2022_walk_sets_limit_and_ignores_previous() -> None:
    """`next` has no limit, so it is set each time; `previous` is never followed."""
    previous = {"rel": "previous", "href": f"{ITEMS}?token=prev%3Aa"}
    asker = FakeAsker(
        page("a", next_href=f"{ITEMS}?token=next%3Aa", context={"matched": 2}),
        (200, {"features": [{"id": "b"}], "links": [previous], "context": {"matched": 2}}),
    )
    assert await walk(asker) == ["a", "b"]
    assert [asker.query(at)["limit"] for at in (0, 1)] == [["100"], ["100"]]
    assert asker.query(1)["token"] == ["next:a"]


async def test_2019_token_is_asked_as_next() -> None:
    """`search:metadata.next` without a link goes on, as a position."""
    asker = FakeAsker((200, {"features": [], "search:metadata": {"next": 2}}), page("a"))
    assert (await catalog(asker).page(START)).next == Cursor("next=2", "position")


@pytest.mark.parametrize(
    ("url", "cursor"),
    [
        (f"{ITEMS}?next={B64}&limit=30", Cursor(f"next={B64}")),
        (f"http://other:8080/x?limit=1&key=a&next={B64}&key=b", Cursor(f"next={B64}")),
        (f"{ITEMS}?token=next:tile_00", Cursor("token=next:tile_00")),
        (f"{ITEMS}?token=next%3Atile_00&token=next:tile_00", Cursor("token=next:tile_00")),
        (f"{ITEMS}?z=1&token=next:a%20b%26c&a=%2B#x", Cursor("a=%2B&token=next:a%20b%26c&z=1")),
        (f"{ITEMS}?api_key=s&access_token=s&page=2", Cursor("page=2", "position")),
        (f"{ITEMS}?offset=30", Cursor("offset=30", "position")),
        (f"{ITEMS}?next=30", Cursor("next=30", "position")),
        (f"{ITEMS}?token=abc", Cursor("token=abc", "position")),
    ],
)
def test_cursor_is_canonical(url: str, cursor: Cursor) -> None:
    """Host, scheme, key, page size, order and encoding leave no trace; keysets are told from positions."""
    assert cursor_of(url) == cursor
    assert cursor_of(f"{ITEMS}?{cursor.value}") == cursor


async def test_next_may_be_relative() -> None:
    """Relative hrefs are joined with the page's URL."""
    for href in (f"?next={B64}", f"items?next={B64}", f"/mlhub/v1/collections/c/items?next={B64}"):
        assert (await catalog(FakeAsker(page("a", next_href=href))).page(START)).next == Cursor(f"next={B64}")


@pytest.mark.parametrize(
    "href", ["https://evil.test/x?token=next:a", f"{ROOT}/search?token=next:a", "http://[x?next=a"]
)
async def test_next_elsewhere_is_refused(href: str) -> None:
    """A `next` at another host or of another list ends the walk with a line; nothing is asked there."""
    asker = FakeAsker(page("a", next_href=href))
    with pytest.raises(SourceUnreadable):
        await walk(asker, retries=0)
    assert all(asked.startswith(ITEMS) for asked in asker.asked)


async def test_items_have_their_age_and_collection() -> None:
    """`read_at_s` is the clock's; a missing `collection` is the walked one."""
    read = await catalog(FakeAsker((200, {"features": [{"id": "a", "collection": None}]}))).page(START)
    assert read.items[0].key == ItemKey("c", "a")
    assert read.items[0].read_at_s == 1_000.0


async def test_no_key_is_sent_when_there_is_none() -> None:
    """An empty key adds no parameter."""
    asker = FakeAsker(page("a"))
    await walk(asker, key="")
    assert "key" not in asker.query(0)


@pytest.mark.parametrize("status", [401, 403])
async def test_login_refused(status: int) -> None:
    """401 and 403 end at once with a hint where to put the key, and without the key in the line."""
    asker = FakeAsker((status, b"<h1>Unauthorized</h1>"))
    with pytest.raises(LoginRefused) as caught:
        await walk(asker)
    assert len(asker.asked) == 1
    assert "MLHUB_API_KEY" in caught.value.hint
    assert KEY not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_at_the_root_keep_the_key(status: int) -> None:
    """The key is set, once, on each hop that stays at the root, whatever the Location repeats."""
    location = {"location": f"/mlhub/v1/collections/c/items?key={KEY}&key={KEY}&limit=100"}
    asker = FakeAsker((status, b"", location), page("a"))
    assert await walk(asker) == ["a"]
    assert asker.query(1)["key"] == [KEY]


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("https://evil.test/x", False),
        ("https://api.test:8443/x", False),
        ("https://u@api.test/x", False),
        ("https://api.test.evil.test/x", False),
        ("https://api.test@evil.test/x", False),
        ("https://API.test/x", True),
        ("https://api.test:443/x", True),
    ],
)
async def test_key_stays_at_the_root(target: str, sent: bool) -> None:
    """Another host, port or userinfo gets no key, not even the one that the Location repeats."""
    asker = FakeAsker((302, b"", {"location": f"{target}?a=%7e&key={KEY}"}), page("a"))
    assert await walk(asker) == ["a"]
    assert (KEY in asker.asked[1]) is sent
    assert "a=%7e" in asker.asked[1]


async def test_redirect_up_to_https_keeps_the_key() -> None:
    """http to https of the same host is the same service."""
    asker = FakeAsker((307, b"", {"location": "https://api.test/mlhub/v1/x"}), page("a"))
    assert await walk(asker, root="http://api.test/mlhub/v1") == ["a"]
    assert asker.query(1)["key"] == [KEY]


@pytest.mark.parametrize(
    "answer",
    [
        (302, b"", {"location": ITEMS}),
        (302, b"", {}),
        (302, b"", {"location": "http://api.test/x"}),
        (302, b"", {"location": "s3://bucket/x"}),
        (302, b"", {"location": "file:///etc/passwd"}),
    ],
)
async def test_bad_redirects_end_the_listing(answer: Answer) -> None:
    """Loops, no Location, a way down from https and foreign schemes are not followed."""
    asker = FakeAsker(answer)
    with pytest.raises(SourceUnreachable):
        await walk(asker)
    assert len(asker.asked) <= 11
    assert all(url.startswith("https://api.test/") for url in asker.asked)


async def test_one_refused_item_is_its_own_trouble_while_the_key_is_good() -> None:
    """After a page was given, a 403 on an item fails that item; after the second in a row the page is asked again."""
    item = ItemKey("c", "x")
    with pytest.raises(LoginRefused):
        await catalog(FakeAsker((403, b""))).item(item)
    asker = FakeAsker(page("a"), *[(403, b""), (403, b""), page("a")] * 10, (403, b""))
    source = catalog(asker)
    await source.page(START)
    for _ in range(20):
        with pytest.raises(SourceUnreachable, match="403") as failed:
            await source.item(item)
        assert "other items" in failed.value.hint
    assert [url for url in asker.asked if "/items/" not in url] == [asker.asked[0]] * 11
    with pytest.raises(SourceUnreachable):
        await source.item(item)
    with pytest.raises(LoginRefused):  # the page, too
        await source.item(item)
    asked = len(asker.asked)
    with pytest.raises(LoginRefused):
        await source.item(item)
    assert len(asker.asked) == asked


async def test_a_refused_page_means_the_key() -> None:
    """Also after good ones: a listing that ends with a refusal is not one item's trouble."""
    source = catalog(FakeAsker(page("a"), (403, b"")))
    await source.page(START)
    with pytest.raises(LoginRefused):
        await source.page(START)


async def test_refused_elsewhere_is_no_login_refused() -> None:
    """Only the key's own origin can refuse it."""
    asker = FakeAsker((302, b"", {"location": "https://evil.test/x"}), (403, b""))
    with pytest.raises(SourceUnreachable):
        await walk(asker)


@pytest.mark.parametrize(
    "bad",
    [
        (503, b"", {"retry-after": "3"}),
        (429, b""),
        (200, b"<html>"),
        (200, b""),
        (200, b'{"features":['),
        TransferError("connect", "no route"),
    ],
)
async def test_passing_trouble_is_asked_again(bad: Answer) -> None:
    """Bad statuses, HTML, empty and cut bodies and lost connections are tried again."""
    asker = FakeAsker(bad, page("a"))
    assert await walk(asker) == ["a"]
    assert len(asker.asked) == 2


async def test_a_404_amid_the_paging_is_asked_again() -> None:
    """A page that another page named is not gone because one answer says so."""
    asker = FakeAsker(page("a", next_href=f"{ITEMS}?next={B64}"), (404, b"<html>"), page("b"))
    assert await walk(asker) == ["a", "b"]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ((503, b""), SourceUnreachable),
        ((200, b"<html>"), SourceUnreadable),
        ((200, b"{}"), SourceUnreadable),
        (TransferError("connect", "no route"), SourceUnreachable),
    ],
)
async def test_lasting_trouble_names_the_page(bad: Answer, error: type[Exception]) -> None:
    """After the last attempt one line names the page, without the key; exit code 5."""
    asker = FakeAsker(page("a", next_href=f"{ITEMS}?next={B64}"), bad)
    with pytest.raises(error) as caught:
        await walk(asker, retries=2)
    assert len(asker.asked) == 4
    assert B64 in str(caught.value)
    assert KEY not in str(caught.value)
    assert getattr(caught.value, "exit_code", 0) == 5


async def test_permanent_trouble_is_asked_once() -> None:
    """A 400 will be a 400."""
    asker = FakeAsker((400, b""))
    with pytest.raises(SourceUnreachable):
        await walk(asker)
    assert len(asker.asked) == 1


async def test_unknown_collection_says_so() -> None:
    """404 on the first page, or on the collection, names the collection and how to list them; asked once."""
    for ask in (lambda source: source.page(START), lambda source: source.describe("c")):
        asker = FakeAsker((404, b'{"detail":"Collection c does not exist."}'))
        with pytest.raises(SourceUnreadable) as caught:
            await ask(catalog(asker))
        assert "'c'" in caught.value.message
        assert "collections" in caught.value.hint
        assert len(asker.asked) == 1


async def test_item_by_href_of_any_scheme() -> None:
    """A link at the API's host is asked as it is, on the root's scheme; others are built from the key."""
    body = {"id": "a", "collection": "c"}
    for href in (f"{ITEMS}/a", f"http{ITEMS[5:]}/a", "", "https://elsewhere.test/collections/c/items/a"):
        asker = FakeAsker((200, body))
        found = await catalog(asker).item(ItemKey("c", "a"), href)
        assert found is not None
        assert asker.asked == [f"{ITEMS}/a?key={KEY}"]


async def test_item_id_is_percent_encoded() -> None:
    """A slash, a blank or dots in an id stay inside one path part."""
    asker = FakeAsker((200, {"id": "a/b c", "collection": "c"}))
    assert await catalog(asker).item(ItemKey("c", "a/b c")) is not None
    assert asker.asked == [f"{ITEMS}/a%2Fb%20c?key={KEY}"]
    assert encode("..") == "%2E%2E"


@pytest.mark.parametrize("status", [404, 410])
async def test_item_that_is_gone_is_none(status: int) -> None:
    """404 and 410 are an answer: there is none."""
    assert await catalog(FakeAsker((status, b"<html>"))).item(ItemKey("c", "a")) is None


async def test_item_must_be_the_one_asked_for() -> None:
    """Another item's assets are never taken for this one's."""
    with pytest.raises(SourceUnreadable):
        await catalog(FakeAsker((200, {"id": "b"}))).item(ItemKey("c", "a"))


async def test_describe_and_collections() -> None:
    """One collection, and all of them."""
    info = await catalog(FakeAsker((200, {"id": "c", "license": "L"}))).describe("c")
    assert (info.id, info.license) == ("c", "L")
    asker = FakeAsker((200, {"collections": [{"id": "c"}, {"id": "d"}]}))
    assert [info.id for info in await catalog(asker).collections()] == ["c", "d"]
    assert asker.asked == [f"{ROOT}/collections?key={KEY}"]


async def test_cancellation_passes_through() -> None:
    """A cancelled page is no error of the source, and is not tried again."""

    class Slow(FakeAsker):
        async def ask(self, url: str, headers: Mapping[str, str], max_bytes: int) -> Reply:
            self.asked.append(url)
            await asyncio.Event().wait()
            raise AssertionError

    asker = Slow(page())
    task = asyncio.create_task(catalog(asker).page(START))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(asker.asked) == 1


async def test_retries_are_told_without_secrets() -> None:
    """`on_retry` hears each failed attempt and the wait; the key is not in it."""
    heard: list[tuple[str, float]] = []
    clock = FakeClock()
    source = MlhubCatalog(
        "c", ROOT, KEY, 100, FakeAsker((503, b"", {"retry-after": "7"}), page("a")), RetryPolicy(first_s=2.0),
        clock, lambda: 0.5, lambda error, wait_s: heard.append((error.message, wait_s)), 1 << 20,
    )  # fmt: skip
    await source.page(START)
    assert [wait_s for _, wait_s in heard] == clock.slept == [8.0]
    assert KEY not in heard[0][0]


@pytest.mark.parametrize(
    "url", ["", "api.test/mlhub", "ftp://h/x", "https://", "https://h/x?key=abc", "https://u:p@h/x", "https://h:x/", "https://[h"]
)  # fmt: skip
def test_bad_api_urls_are_refused(url: str) -> None:
    """A root is http(s) with a host, and holds no secret; the line shows none."""
    with pytest.raises(UsageError) as caught:
        ApiRoot.parse(url)
    assert "abc" not in caught.value.message
    assert "u:p" not in caught.value.message


def test_url_pieces() -> None:
    """Parameters are set once and the rest is kept; links are joined; keys are read from URLs."""
    assert set_parameters("https://h/x?a=%7e&key=1&key=2#f", {"key": "n", "b": None}) == "https://h/x?a=%7e&key=n#f"
    assert set_parameters("https://h/x?", {"a": "b c&d"}) == "https://h/x?a=b%20c%26d"
    assert resolve("https://h/a/b", "../c?x=1") == "https://h/c?x=1"
    assert resolve("https://h/a", "https://s/%7E?q=%2f") == "https://s/%7E?q=%2f"
    assert resolve("https://h/a", "//[bad") == "//[bad"
    assert item_key("https://h/collections/a%20b/items/c%2Fd/?x") == ItemKey("a b", "c/d")
    assert item_key("https://h/collections/a/items") is None


def test_parse_source() -> None:
    """`mlhub:COLLECTION` names dialect and collection; `mlhub:` does where no collection is needed."""
    assert parse_source("mlhub:bigearthnet_v1_labels") == ("mlhub", "bigearthnet_v1_labels")
    assert parse_source("mlhub:", needs_collection=False) == ("mlhub", "")
    assert DIALECTS["mlhub"] is MlhubCatalog


@pytest.mark.parametrize(
    "source", ["", "x", "mlhub", "mlhub:", "mlhub:a/b", "mlhub:..", "mlhub:a b", "https://h/?key=abc", "xyz:c"]
)
def test_unknown_sources_are_refused(source: str) -> None:
    """Other forms end with one line that lists what is accepted, and shows no secret."""
    with pytest.raises(UsageError) as caught:
        parse_source(source)
    assert "mlhub:COLLECTION" in caught.value.hint
    assert "abc" not in caught.value.message


async def test_the_third_401_in_a_row_is_the_key_and_ends_all_asking() -> None:
    """Two items refused are theirs to tell; with the third it is the key, and nothing more is asked with it."""
    asker = FakeAsker(page("a"), *[(401, b"")] * 25)
    source = catalog(asker)
    await source.page(START)
    for _ in range(2):
        with pytest.raises(SourceUnreachable, match="401"):
            await source.item(ItemKey("c", "x"))
    with pytest.raises(LoginRefused):
        await source.item(ItemKey("c", "x"))
    asked = len(asker.asked)
    for ask in (source.item(ItemKey("c", "x")), source.page(START), source.describe("c")):
        with pytest.raises(LoginRefused):
            await ask
    assert len(asker.asked) == asked == 4


@pytest.mark.parametrize(
    ("root", "url", "sees"),
    [
        ("https://api.test/v1", "https://api.test/other", True),
        ("https://api.test/v1", "https://API.test:443/x", True),
        ("https://api.test/v1", "http://api.test/v1", False),
        ("https://api.test/v1", "https://api.test:8443/v1", False),
        ("https://api.test/v1", "https://api.test.evil.test/", False),
        ("https://api.test/v1", "https://api.test@evil.test/", False),
        ("https://api.test/v1", "https://@api.test/", False),
        ("https://api.test/v1", "https://api.test\\@evil.test/", False),
        ("https://api.test/v1", "https://evil.test#@api.test/", False),
        ("https://api.test/v1", "https://api.test:99999/", False),
        ("https://api.test/v1", "s3://api.test/v1", False),
        ("http://api.test/v1", "https://api.test/v1", True),
        ("http://api.test:8080/v1", "https://api.test:8080/v1", True),
        ("http://api.test:8080/v1", "https://api.test/v1", False),
        ("http://api.test/v1", "https://api.test:8443/v1", False),
    ],
)
def test_the_key_is_one_origins(root: str, url: str, sees: bool) -> None:
    """Scheme, host and port must be the root's, or its https: another port is another origin."""
    assert ApiRoot.parse(root).may_see_key(url) == sees


def test_a_relative_address_with_another_in_its_query_is_relative() -> None:
    """`://` in a query makes no address absolute."""
    assert resolve(f"{ROOT}/x", "/y?to=https://h/") == "https://api.test/y?to=https://h/"
    assert resolve(f"{ROOT}/x", "s3://bucket/key") == "s3://bucket/key"
