"""Redirects: loops and dead ends fail their asset, good ones are followed, and none leads down from https unasked."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from stacmirror.status import read_failed
from tests.contract.wire_server import KEEP, head
from tests.faults.invariants import Before, hold, mends
from tests.faults.world import KEY, Bench, a_world, always


def to(location: str, status: int = 302) -> bytes:
    return head(status, f"Location: {location}", "Content-Length: 0")


async def test_redirects_that_lead_nowhere(bench: Bench) -> None:
    """A loop, more than ten hops, no Location, another scheme: failures, asked for once or as often as retries (22)."""
    world = bench.world
    world.faults["/go/i0/B01"] = always(to("/go/i0/B01"), KEEP)
    world.faults["^/hop/"] = lambda nth, body: (
        to(f"/hop/{sum(path.startswith('/hop/') for path in world.asked)}"),
        KEEP,
    )
    world.faults["/go/i1/B01"] = always(to("/hop/first"), KEEP)
    world.faults["/go/i2/B01"] = always(head(302, "Content-Length: 0"), KEEP)
    world.faults["/go/i3/B01"] = always(to("file:///etc/passwd"), KEEP)
    world.faults["/go/i4/B01"] = always(to("ftp://host/x"), KEEP)
    before = Before()
    run = await bench.run(sweeps=0)
    hold(bench, run, before)
    assert run.summary.exit_code == 3
    assert {(f.item, f.kind) for f in read_failed(str(bench.target))} == {
        ("i0", "redirect"), ("i1", "redirect"), ("i2", "redirect"), ("i3", "scheme"), ("i4", "scheme"),
    }  # fmt: skip
    # Who led there, and how, is told of each of them.
    assert {f.host for f in read_failed(str(bench.target)) if f.kind == "redirect"} == {bench.world.url}
    assert [f.status for f in read_failed(str(bench.target)) if f.item == "i2"] == [302]
    assert {f.host for f in read_failed(str(bench.target)) if f.kind == "scheme"} == {"file://", "ftp://host"}
    # The link and ten hops, also where the item's large file came between, and what was led to was followed from there.
    assert world.asked["/go/i0/B01"] == 11
    assert sum(count for path, count in world.asked.items() if path.startswith("/hop/")) == 10
    await mends(bench)


@pytest.mark.parametrize("where", ["//[::1", "http://[bad/x", "//\xbd\xaa\x85/x", "https://h\xff:99999/"])
async def test_redirects_to_what_is_no_address(bench: Bench, where: str) -> None:
    """Half an IPv6 address, bytes that no alphabet has: failures of their files, said and kept; the others come."""
    world = bench.world
    world.faults["^/go/i[0-4]/B01"] = always(to(where), KEEP)
    before = Before()
    run = await bench.run(sweeps=0)
    hold(bench, run, before)
    assert run.summary.exit_code == 3
    assert {(f.asset, f.kind in ("redirect", "url")) for f in read_failed(str(bench.target))} == {("B01", True)}
    await mends(bench)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_that_lead_somewhere(bench: Bench, status: int) -> None:
    """Any redirect status, absolute or relative, one or ten hops (22, 23)."""
    world = bench.world
    for number in range(6):
        where = [f"{world.url}/files/i{number}/B01", f"../../files/i{number}/B01"][number % 2]
        world.faults[f"/go/i{number}/B01"] = always(to(where, status), KEEP)
    for hop in range(9):
        where = f"/hop/{hop + 1}" if hop < 8 else "/files/i0/B02"
        world.faults[f"/hop/{hop}"] = always(to(where, status), KEEP)
    world.faults["/go/i0/B02"] = always(to("/hop/0", status), KEEP)
    before = Before()
    run = await bench.run()
    hold(bench, run, before)
    assert run.summary.exit_code == 0
    await mends(bench)


@pytest.mark.parametrize("allowed", [False, True])
async def test_the_way_down_to_http(
    way: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    """From https to http: refused, and nobody asked there; with `--allow-http` followed, without the key (24)."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with a_world() as plain, a_world(tls=context) as secure:
        bench = Bench(secure, tmp_path / "mirror", *way)
        secure.faults["/go/i0/B01"] = always(to(f"{plain.url}/files/i0/B01"), KEEP)
        # Up and down again is the way down as well.
        secure.faults["/go/i1/B01"] = always(to(f"{plain.url}/go/i1/B01"), KEEP)
        plain.faults["/go/i1/B01"] = always(to(f"{secure.url}/files/i1/B01"), KEEP)
        before = Before()
        run = await bench.run(allow_http=allowed)
        hold(bench, run, before)
        failed = {(f.item, f.asset, f.kind) for f in read_failed(str(bench.target))}
        assert failed == (set() if allowed else {("i0", "B01", "redirect"), ("i1", "B01", "redirect")})
        assert sorted(plain.asked) == (["/files/i0/B01", "/go/i1/B01"] if allowed else [])
        assert not [request for request in plain.heard if KEY in request]
        await mends(bench)


@pytest.mark.parametrize("allowed", [False, True])
async def test_pages_on_their_way_down_to_http(
    way: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    """A listing that redirects from https to http: exit 5; with `--allow-http` read there, without the key (24)."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with a_world() as plain, a_world(tls=context) as secure:
        bench = Bench(secure, tmp_path / "mirror", *way)
        path = "/mlhub/v1/collections/c/items"

        def edit(page: dict[str, Any], start: int) -> None:
            page["features"] = [secure.item(item["id"]) for item in page["features"]]
            page["links"] = [{"rel": "next", "href": secure.next_url(start + 2)}] if start < 4 else []

        plain.edit = edit
        secure.faults[path] = lambda nth, body: (
            to(plain.url + secure.heard[-1].split(" ")[1]),
            KEEP,
        )
        before = Before()
        run = await bench.run(allow_http=allowed)
        hold(bench, run, before)
        assert run.summary.exit_code == (0 if allowed else 5)
        assert len(plain.heard) == (3 if allowed else 0)
        assert not [request for request in plain.heard if KEY in request]
        await mends(bench)
