"""Bodies that lie: what came over once arrives all the same, what is wrong for ever is a failure that says why."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Sequence

import pytest

from stacmirror.status import read_failed
from tests.contract.wire_server import KEEP, RESET, STALL, Step, chunked, head, ok
from tests.faults.invariants import Before, hold, mends
from tests.faults.world import Bench, Fault, always, login_page, path_of, truth


def md5(body: bytes) -> str:
    return f"Content-MD5: {base64.b64encode(hashlib.md5(body).digest()).decode()}"


def half(body: bytes) -> bytes:
    return body[: len(body) // 2]


def length(body: bytes) -> str:
    return f"Content-Length: {len(body)}"


def flipped(body: bytes) -> bytes:
    return body[:200] + bytes([body[200] ^ 1]) + body[201:]


CHUNKED = "Transfer-Encoding: chunked"
GZIPPED = "Content-Encoding: gzip"
Lie = Callable[[bytes], Sequence[Step]]

LIES: dict[str, tuple[Lie, set[str]]] = {
    # Row 4
    "reset midway": (lambda b: (head(200, length(b)), half(b), RESET), {"short"}),
    # Row 5
    "reset midway, no length": (lambda b: (head(200), half(b), RESET), {"short"}),
    "closed midway, no length, MD5": (lambda b: (head(200, md5(b)), half(b)), {"digest"}),
    # Row 6
    "shorter than its length": (lambda b: (head(200, length(b)), half(b)), {"short"}),
    # Row 7
    "longer than its length, MD5": (
        lambda b: (head(200, f"Content-Length: {len(b) - 10}", md5(b)), b),
        {"digest", "protocol"},
    ),
    # Row 8
    "chunks cut": (lambda b: (head(200, CHUNKED), chunked(half(b), end=False)), {"short"}),
    "a bad chunk": (lambda b: (head(200, CHUNKED), chunked(half(b), end=False), b"zz\r\n"), {"short", "protocol"}),
    # Row 9
    "silent midway": (lambda b: (head(200, length(b)), half(b), STALL), {"timeout"}),
    "silent from the start": (lambda b: (STALL,), {"timeout"}),
    # Row 12
    "a flipped byte": (lambda b: (ok(flipped(b), md5(b)), KEEP), {"digest"}),
    # Row 13
    "gzip cut short": (lambda b: (ok(gzip.compress(b)[:-20], GZIPPED), KEEP), {"short"}),
    "gzip cut short, no length": (lambda b: (head(200, GZIPPED), gzip.compress(b)[:-20]), {"short"}),
    "gzip damaged": (lambda b: (ok(flipped_gzip(b), GZIPPED), KEEP), {"encoding"}),
    "no gzip in spite of its header": (lambda b: (ok(b, GZIPPED), KEEP), {"encoding"}),
    "another coding": (lambda b: (ok(b, "Content-Encoding: br"), KEEP), {"encoding"}),
    # What clients let through in silence
    "a login page with 200": (lambda b: (login_page(), KEEP), {"content"}),
    "an empty 200": (lambda b: (ok(b""), KEEP), {"content"}),
    "an error in JSON, chunked": (lambda b: (head(200, CHUNKED), chunked(b"@" * 30_000), KEEP), {"content"}),
    "204": (lambda b: (head(204), KEEP), {"status"}),
    "304": (lambda b: (head(304), KEEP), {"status"}),
    "a 206 that nobody asked for": (lambda b: (partial(b), KEEP), {"status"}),
    "two lengths": (lambda b: (head(200, length(b), "Content-Length: 7"), b), {"protocol"}),
    "a negative length": (lambda b: (head(200, "Content-Length: -7"), b), {"protocol"}),
    "a length and chunks": (lambda b: (head(200, length(b), CHUNKED), chunked(b)), {"protocol"}),
    "a head of 200 kB": (lambda b: (head(200, length(b), "X-Long: " + "x" * 200_000), b), {"protocol"}),
    "20,000 headers": (lambda b: (head(200, length(b), *["X: y"] * 20_000), b), {"protocol"}),
    "no HTTP": (lambda b: (b"220 smtp.example.org ready\r\n\r\n",), {"protocol"}),
}
BRIEF = {"stall_timeout": 0.5}
FOR_EVER = (("i1", "B01"), ("i3", "B02"))
ONCE = (("i0", "B01"), ("i2", "B02"), ("i4", "labels"))


def flipped_gzip(body: bytes) -> bytes:
    packed = bytearray(gzip.compress(body))
    packed[-6] ^= 1  # in the checksum of what is inside
    return bytes(packed)


def partial(body: bytes) -> bytes:
    return head(206, length(half(body)), f"Content-Range: bytes 0-{len(body) // 2 - 1}/{len(body)}") + half(body)


def tells(lie: Lie, *, for_ever: bool) -> Fault:
    return lambda nth, body: lie(body) if for_ever or nth == 1 else None


@pytest.mark.parametrize("name", LIES)
async def test_a_body_that_lies(bench: Bench, name: str) -> None:
    """Once: the right file after a retry. For ever: a failure of its kind, not under its name; the others come."""
    lie, kinds = LIES[name]
    for item, asset in ONCE:
        bench.world.faults[f"/files/{item}/{asset}"] = tells(lie, for_ever=False)
    for item, asset in FOR_EVER:
        bench.world.faults[f"/files/{item}/{asset}"] = tells(lie, for_ever=True)
    before = Before()
    run = await bench.run(**BRIEF if "silent" in name else {})
    hold(bench, run, before)
    failed = list(read_failed(str(bench.target)))
    assert {(one.item, one.asset) for one in failed} == set(FOR_EVER)
    assert {one.kind for one in failed} <= kinds
    assert run.summary.exit_code == 3
    assert run.summary.mirror.assets.unverified == 0
    await mends(bench)


async def test_bodies_that_go_to_disk_are_judged_too(bench: Bench) -> None:
    """Where every body is large, a login page, an empty one and a long one of another kind are none the better."""
    bench.world.faults["/files/i0/B01"] = always(login_page(), KEEP)
    bench.world.faults["/files/i1/B01"] = always(head(200, CHUNKED), chunked(b" "), KEEP)
    bench.world.faults["/files/i2/B01"] = always(head(200, CHUNKED), chunked(*[b"{}" * 50_000] * 9), KEEP)
    page = b"<!DOCTYPE html>" + b"<p>log in</p>" * 9000

    def in_ranges(nth: int, body: bytes) -> Sequence[Step]:
        tag = 'ETag: "login"'
        found = re.search(r"(?im)^range: bytes=(\d+)-", bench.world.heard[-1])
        if found is None:
            return ok(page, tag), KEEP
        start, size = int(found[1]), len(page)
        answer = head(206, f"Content-Range: bytes {start}-{size - 1}/{size}", f"Content-Length: {size - start}", tag)
        return answer + page[start:], KEEP

    bench.world.faults["/files/i3/B01"] = in_ranges
    before = Before()
    run = await bench.run(small_file_max=20)
    hold(bench, run, before)
    failed = list(read_failed(str(bench.target)))
    assert {(one.item, one.asset, one.kind) for one in failed} == {(f"i{n}", "B01", "content") for n in range(4)}
    await mends(bench)


async def test_more_bytes_than_promised_belong_to_nobody(bench: Bench) -> None:
    """Surplus bytes behind a body of the right length, odd ones and another answer, are in no file (row 7)."""
    evil = ok(b"II*\0evil")
    for number in range(6):
        bench.world.faults[f"/files/i{number}/B01"] = tells(
            lambda body, number=number: (ok(body) + (evil if number % 2 else b"surplus" * 9), KEEP), for_ever=False
        )
    before = Before()
    run = await bench.run()
    hold(bench, run, before)
    assert run.summary.exit_code == 0
    await mends(bench)


async def test_gzip_unasked_is_undone(bench: Bench) -> None:
    """Packed on the way, small and large, with a length, chunked or neither: stored are the origin's bytes (row 13)."""
    packed: dict[str, Lie] = {
        "i0": lambda b: (ok(gzip.compress(b, mtime=0), GZIPPED, md5(gzip.compress(b, mtime=0))), KEEP),
        "i1": lambda b: (head(200, GZIPPED, CHUNKED), chunked(gzip.compress(b)), KEEP),
        "i2": lambda b: (head(200, "Content-Encoding: x-gzip"), gzip.compress(b)),
        "i3": lambda b: (ok(gzip.compress(half(b)) + gzip.compress(b[len(b) // 2 :]), GZIPPED), KEEP),
    }
    for item, lie in packed.items():
        for asset in ("labels", "B01", "B02", "raw"):
            bench.world.faults[f"/files/{item}/{asset}"] = tells(lie, for_ever=True)
    before = Before()
    run = await bench.run()
    hold(bench, run, before)
    assert (run.summary.exit_code, run.summary.mirror.assets.unverified) == (0, 0)
    await mends(bench)


async def test_a_file_that_is_gzip_stays_as_it_is(bench: Bench) -> None:
    """A .gz that is served with `Content-Encoding: gzip` is not unpacked: its one layer is the object's own."""
    plain = gzip.compress(b"a table\n" * 50)
    twice = gzip.compress(plain)

    def edit(item: dict[str, object]) -> None:
        item["assets"] = {
            "once": {"href": f"{bench.world.url}/z/{item['id']}/once.csv.gz", "type": "application/gzip"},
            "twice": {"href": f"{bench.world.url}/z/{item['id']}/twice.csv.gz"},
        }

    bench.world.edit_item = edit
    bench.world.faults["^/z/.*once"] = always(ok(plain, GZIPPED), KEEP)
    bench.world.faults["^/z/.*twice"] = always(ok(twice, GZIPPED), KEEP)
    before = Before()
    run = await bench.run()
    files = {f"c/i{n}/{name}.gz": plain for n in range(6) for name in ("once", "twice")}
    hold(bench, run, before, expected=files)
    assert run.summary.exit_code == 0


async def test_a_bomb_does_not_go_off(bench: Bench) -> None:
    """200 kB of gzip that hold 200 MB are a failure, with 64 MiB on the way at most (row 13)."""
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join([packer.compress(b"II*\0" + bytes(1_000_000)) for _ in range(200)]) + packer.flush()
    assert len(bomb) < 250_000
    bench.world.faults["/files/i2/B02"] = always(ok(bomb, GZIPPED), KEEP)
    bench.world.faults["/files/i4/B01"] = always(head(200, GZIPPED), bomb)
    before = Before()
    run = await bench.run()
    hold(bench, run, before)
    assert {(f.item, f.asset, f.kind, f.attempts) for f in read_failed(str(bench.target))} == {
        ("i2", "B02", "bomb", 1),
        ("i4", "B01", "bomb", 1),
    }
    await mends(bench)


async def test_a_body_without_an_end_ends_at_the_cap(bench: Bench) -> None:
    """Chunks for ever, and bytes for ever: a failure at `--max-file-size`, asked for once; the others come (row 11)."""
    piece = b"II*\0" + bytes(30_000)
    bench.world.faults["/files/i1/B02"] = always(head(200, CHUNKED), *[chunked(piece, end=False)] * 40, STALL)
    bench.world.faults["/files/i3/B01"] = always(head(200), *[piece] * 40, STALL)
    bench.world.faults["/files/i4/B02"] = always(head(200, "Content-Length: 900000000000"), piece, STALL)
    before = Before()
    run = await bench.run(max_file_size="200kB")
    hold(bench, run, before)
    assert {(f.item, f.asset, f.kind, f.attempts) for f in read_failed(str(bench.target))} == {
        ("i1", "B02", "too-large", 1),
        ("i3", "B01", "too-large", 1),
        ("i4", "B02", "too-large", 1),
    }
    await mends(bench)


async def test_what_nothing_proves_whole_is_counted(bench: Bench) -> None:
    """No length, no chunks, no digest: stored, and counted as unverified by the run and by the mirror (row 5)."""
    bench.world.faults["^/files/i[01]/raw"] = lambda nth, body: (head(200), body)
    bench.world.faults["/files/i2/B02"] = lambda nth, body: (head(200), half(body))
    bench.world.faults["/files/i3/raw"] = lambda nth, body: (head(200, md5(body)), body)
    bench.world.faults["/files/i4/raw"] = lambda nth, body: (head(200, CHUNKED), chunked(body), KEEP)
    before = Before()
    run = await bench.run()
    hold(bench, run, before)
    assert run.summary.exit_code == 0
    assert run.summary.run.assets.unverified == run.summary.mirror.assets.unverified == 3
    assert (bench.target / path_of("i2", "B02")).read_bytes() == half(truth("i2", "B02"))
    again = await mends(bench)
    assert (again.summary.run.assets.unverified, again.summary.mirror.assets.unverified) == (0, 3)


async def test_any_content_takes_what_comes(bench: Bench) -> None:
    """With `--any-content` a catalog whose types are wrong can be mirrored."""
    bench.world.faults["^/files/.*/B01"] = always(ok(b"\x89PNG\r\n\x1a\n in truth"), KEEP)
    files = bench.world.expected() | {path_of(f"i{n}", "B01"): b"\x89PNG\r\n\x1a\n in truth" for n in range(6)}
    before = Before()
    run = await bench.run(any_content=True)
    hold(bench, run, before, expected=files)
    assert run.summary.exit_code == 0
