"""Pages at random: recorded and generated ones, mutated. The items that Python's own parser gives, or the one error.

STACMIRROR_FUZZ says how many (`make fuzz`: 100,000); STACMIRROR_FUZZ_SEED which ones.
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from stacmirror.catalogs.parse import Caps, Context, ParsedPage, parse_item, parse_page
from stacmirror.errors import SourceUnreadable
from stacmirror.pipeline.signatures import form_of
from stacmirror.redact import redact_document
from tests.faults.world import World

PAGES = int(os.environ.get("STACMIRROR_FUZZ", "1200"))
SEED = int(os.environ.get("STACMIRROR_FUZZ_SEED", "5"))
SHARE = 8
"""Tests that the pages are spread over, so that they run side by side."""
RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"
SECONDS_A_PAGE = 5.0
LARGE_BYTES = 30_000
CONTEXT = Context("page 7", "c", 1.0, lambda key: f"https://h/collections/{key.collection}/items/x")

TOKENS = [
    b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"-0", b'""', b'"\\ud800"', b'"\\u0000"', b"[]",
    b"{}", b"[" * 2000, b'{"a":' * 2000, b'"id":', b'"id":7,', b'"features":[],', b'"assets":{"x":null},', b"]", b"}",
    b'"links":[null],', b'{"rel":"next","href":"//[x"}', b'"href":"http://[::1/%zz"', b"\xff", b"\xed\xa0\x80", b",",
    b"\xef\xbb\xbf", b"\0", b'"', b"\\", b'"type":"X",', b'{"rel":"source","href":"/collections/s/items/%ff"}',
]  # fmt: skip


def seeds() -> list[bytes]:
    """Return pages and items as servers send them: recorded ones where they are at hand, cut to their first items."""
    found = [World()._page(token, limit) for token, limit in (("o0", 6), ("o4", 2), ("o6", 2))]
    for path in sorted(RECORDINGS.glob("20*/*item*.json")):
        body = path.read_bytes()
        document = json.loads(body)
        if isinstance(document, dict) and "features" in document and len(body) > LARGE_BYTES:
            found += [json.dumps({**document, "features": document["features"][:count]}).encode() for count in (1, 2)]
        if len(body) <= LARGE_BYTES:
            found.append(body)
    return found


def mutated(chance: random.Random, body: bytes) -> bytes:
    """Return `body` with one to six things wrong."""
    changed = bytearray(body)
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        at = chance.randrange(len(changed) + 1)
        to = min(len(changed), at + chance.choice((1, 1, 2, 10, 200)))
        how = chance.randrange(7)
        if how == 0 and changed:
            changed[at - 1] ^= 1 << chance.randrange(8)
        elif how == 1:
            del changed[at:to]
        elif how == 2:
            changed[at:at] = changed[at:to] * chance.choice((1, 2, 50))
        elif how == 3:
            changed[at:to] = chance.choice(TOKENS)
        elif how == 4:
            changed[at:at] = chance.choice(TOKENS)
        elif how == 5:
            del changed[at:]
        else:  # a value in place of a value: what is well formed gets further in
            start = changed.find(b":", at) + 1
            end = min((e for e in (changed.find(b",", start), changed.find(b"}", start)) if e > 0), default=start)
            changed[start:end] = chance.choice(TOKENS)
        if len(changed) > 4 * LARGE_BYTES:
            break
    return bytes(changed)


def generated(chance: random.Random, depth: int = 0) -> Any:
    """Return any JSON value, more often than not of the shape of a page."""
    if depth == 0:
        page = {name: generated(chance, 1) for name in ("features", "links", "context") if chance.random() < 0.9}
        page["features"] = [generated_item(chance) for _ in range(chance.randrange(4))]
        return page
    kind = chance.randrange(8 if depth < 5 else 5)
    if kind < 5:
        return chance.choice([None, True, 0, -1.5, 10**30, "", "a", "\u202e\0", "https://h/x?key=s", "next", "source"])
    if kind < 6:
        return [generated(chance, depth + 1) for _ in range(chance.randrange(4))]
    names = ["id", "href", "rel", "type", "assets", "links", "collection", "properties", "roles", "matched", "", "x/y"]
    return {name: generated(chance, depth + 1) for name in chance.sample(names, chance.randrange(5))}


def generated_item(chance: random.Random) -> Any:
    names = ("assets", "links", "properties", "collection", "geometry")
    return {"id": chance.choice(["a", "b/c", 7, "\0"]), **{name: generated(chance, 2) for name in names}}


def oracle(body: bytes) -> list[str] | None:
    """Return the ids that Python's own parser gives for a page; None for what is none, or may be refused."""
    try:
        page = json.loads(body, parse_int=lambda text: int(text) if len(text) <= 1000 else None)
    except (ValueError, RecursionError):
        return None
    if not isinstance(page, dict) or "features" not in page or not isinstance(page["features"], list | None):
        return None
    if page.get("links") and not isinstance(page["links"], list):
        return None  # nobody can say whether it is the last one
    ids = []
    for item in page["features"] or ():
        found = item.get("id") if isinstance(item, dict) else None
        if not isinstance(found, str | int) or isinstance(found, bool) or found == "":
            return None
        if isinstance(item.get("assets"), dict) and len(item["assets"]) > Caps().assets_max:
            return None
        ids.append(str(found).encode("utf-8", "xmlcharrefreplace").decode())
    return ids


def read(body: bytes) -> ParsedPage | None:
    """Return the page as the product reads it; None where it refuses it as it should, in one line."""
    try:
        parsed = parse_page(body, CONTEXT)
    except SourceUnreadable as error:
        check_line(error)
        return None
    for item in parsed.items:
        redact_document(item.document)
        for asset in item.assets:
            form_of(asset)
    return parsed


def check_line(error: SourceUnreadable) -> None:
    """Hold an error against what each must be: one line that names the page, and what to do next."""
    assert "page 7" in error.message
    assert "\n" not in error.message
    assert len(error.message) < 1000
    assert error.hint


def deep(body: bytes) -> bool:
    """Whether it is nested so far that either parser may give up."""
    level = most = 0
    for letter in body:
        level += (letter in b"[{") - (letter in b"]}")
        most = max(most, level)
    return most > 400


@pytest.mark.parametrize("part", range(SHARE))
def test_pages_at_random(part: int) -> None:
    """No page ends in an error of another kind; what is read are the items that Python's parser reads; none hangs."""
    chance = random.Random(SEED * SHARE + part)
    bodies = seeds()
    refused = 0
    for number in range(PAGES // SHARE):
        body = chance.choice(bodies)
        if number % 4 == 0:
            body = json.dumps(generated(chance)).encode()
        if number % 8:
            body = mutated(chance, body)
        started_s = time.thread_time()
        parsed = read(body)
        assert time.thread_time() - started_s < SECONDS_A_PAGE, body[:200]
        refused += parsed is None
        expected = oracle(body)
        if parsed is not None and expected is not None:
            assert [item.key.id for item in parsed.items] == expected, body
        elif parsed is None and expected is not None:
            assert deep(body), body
        try:
            parse_item(body, CONTEXT)
        except SourceUnreadable as error:
            check_line(error)
    assert 0 < refused < PAGES // SHARE
