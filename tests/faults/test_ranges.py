"""The rest of a large file that does not belong to what is there: begun again, never two versions in one (row 14)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence

import pytest

from stacmirror.model import AssetKey, ItemKey
from stacmirror.status import read_failed
from tests.contract.wire_server import KEEP, Step, head, ok
from tests.faults.invariants import Before, hold, mends
from tests.faults.world import COLLECTION, Bench, Fault, path_of, truth

LARGE = ["/files/i0/B02", "/files/i3/B02"]
HALF = 35_002
OLD, NEW = 'ETag: "old"', 'ETag: "new"'
Rest = Callable[[bytes, int], Sequence[Step]]
"""What a request for the bytes from an offset on gets; of the whole body, which is the new version."""


def older(body: bytes) -> bytes:
    """Return another version of a body, of the same length."""
    return body[:4] + bytes(byte ^ 1 for byte in body[4:])


def rest(body: bytes, start: int, *headers: str, says: str = "") -> tuple[Step, ...]:
    """Return a 206 with all from `start` on; it may say something else of its range."""
    range_ = f"Content-Range: bytes {says or f'{start}-{len(body) - 1}/{len(body)}'}"
    return head(206, range_, f"Content-Length: {len(body) - start}", *headers) + body[start:], KEEP


ODD: dict[str, tuple[Rest, int]] = {
    # What the server has is what was begun: the rest is wrong.
    "the range ignored": (lambda b, at: (ok(b, NEW), KEEP), 2),
    "from the start as 206": (lambda b, at: rest(b, 0, NEW), 3),
    "another range": (lambda b, at: rest(b, at - 7, NEW), 3),
    "another total": (lambda b, at: rest(b, at, NEW, says=f"{at}-{len(b) - 1}/{len(b) + 1}"), 3),
    "no Content-Range": (lambda b, at: (head(206, f"Content-Length: {len(b) - at}", NEW) + b[at:], KEEP), 3),
    "416": (lambda b, at: (head(416, "Content-Length: 0"), KEEP), 3),
    # What was begun is a version that is no more: the rest is of another one.
    "changed: the whole": (lambda b, at: (ok(b, NEW), KEEP), 2),
    "changed: 412": (lambda b, at: (head(412, "Content-Length: 0"), KEEP), 3),
    "changed: If-Range ignored": (lambda b, at: rest(b, at, NEW), 3),
    "changed: no word of the version": (lambda b, at: rest(b, at), 3),
}
"""The answer, and how many requests it then takes in all."""


def begins(request: str) -> int:
    """Return where a request for the rest begins; 0 where it is for all of it."""
    found = re.search(r"(?im)^range: bytes=(\d+)-\r$", request)
    return int(found[1]) if found else 0


def asked(bench: Bench, path: str) -> list[str]:
    """Return the requests for a file, in order."""
    return [request for request in bench.world.heard if request.startswith(f"GET {path} ")]


def has_come(bench: Bench, path: str, size_bytes: int) -> Step:
    """Wait until so much of a file has come: what a client has not handed on when a connection ends may be lost."""
    item, asset = path.split("/")[2:]
    key = AssetKey(ItemKey(COLLECTION, item), asset)

    async def wait() -> None:
        assert bench.mirror is not None
        while bench.mirror.progress._large.get(key, (0, 0))[0] < size_bytes:
            await asyncio.sleep(0.001)

    return wait


def cut_and_then(bench: Bench, path: str, answer: Rest, *, changed: bool) -> Fault:
    """Say half of a body and close; then `answer` a request for its rest; then the truth."""

    def fault(nth: int, body: bytes) -> Sequence[Step]:
        version, tag = (older(body), OLD) if changed else (body, NEW)
        if nth == 1:
            return head(200, f"Content-Length: {len(body)}", tag), version[:HALF], has_come(bench, path, HALF)
        return answer(body, begins(bench.world.heard[-1])) if nth == 2 else (ok(body, NEW), KEEP)

    return fault


@pytest.mark.parametrize("name", ODD)
async def test_what_cannot_be_joined_is_begun_again(bench: Bench, name: str) -> None:
    """Cut midway, and a rest that is not the rest of it: asked for from its first byte, and right."""
    answer, requests = ODD[name]
    changed = name.startswith("changed")
    for path in LARGE:
        bench.world.faults[path] = cut_and_then(bench, path, answer, changed=changed)
    before = Before()
    run = await bench.run()
    hold(bench, run, before)
    assert (run.summary.exit_code, run.summary.mirror.assets.unverified) == (0, 0)
    for path in LARGE:
        first, rest, *again = asked(bench, path)
        assert (begins(first), begins(rest), [begins(one) for one in again]) == (0, HALF, [0] * (requests - 2))
        assert f'if-range: "{"old" if changed else "new"}"' in rest.lower()  # on condition that it is the same object
    await mends(bench)


async def test_what_can_be_joined_is_gone_on_with(bench: Bench) -> None:
    """A rest of the same version is joined: two requests, and each byte came once."""
    for path in LARGE:
        bench.world.faults[path] = cut_and_then(bench, path, lambda body, at: rest(body, at, NEW), changed=False)
    before = Before()
    run = await bench.run()
    hold(bench, run, before)
    assert run.summary.exit_code == 0
    assert {tuple(map(begins, asked(bench, path))) for path in LARGE} == {(0, HALF)}
    await mends(bench)


async def test_an_object_that_never_holds_still(bench: Bench) -> None:
    """Another version at each request, and each is cut: a failure, and no file of several versions."""

    def restless(nth: int, body: bytes) -> Sequence[Step]:
        """Heed no If-Range, and go on a little further each time."""
        path = bench.world.heard[-1].split(" ")[1]
        version, start = (body, older(body))[nth % 2], begins(bench.world.heard[-1])
        headers = [f"Content-Length: {len(body) - start}", f'ETag: "{nth}"']
        if start:
            headers.append(f"Content-Range: bytes {start}-{len(body) - 1}/{len(body)}")
        return head(206 if start else 200, *headers), version[start : start + 8000], has_come(bench, path, start + 8000)

    for path in LARGE:
        bench.world.faults[path] = restless
    before = Before()
    run = await bench.run()
    hold(bench, run, before, cut=True)  # the part of a file that failed waits for the next run, with its record
    assert run.summary.exit_code == 3
    failed = list(read_failed(str(bench.target)))
    assert {(f"/files/{one.item}/{one.asset}", one.kind) for one in failed} == {(path, "short") for path in LARGE}
    await mends(bench)
    assert (bench.target / path_of("i0", "B02")).read_bytes() == truth("i0", "B02")
