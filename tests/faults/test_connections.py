"""Connections that end before an answer, or that lead to nobody whom this machine trusts (rows 3, 25)."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from stacmirror.status import read_failed
from tests.contract.wire_server import RESET, Step, ok
from tests.faults.invariants import Before, hold, mends
from tests.faults.world import Bench, a_world, truth

BAD = {"expired": "has expired", "host": "is for another host", "unknown": "is signed by nobody"}


@pytest.mark.parametrize("end", [(), (RESET,)], ids=["closed", "reset"])
async def test_row_3_no_answer(bench: Bench, end: Sequence[Step]) -> None:
    """Once: asked again, and right. For ever: a failure; the others come."""
    for path in ("/files/i0/B01", "/files/i2/B02", "/mlhub/v1/collections/c/items"):
        bench.world.faults[path] = lambda nth, body: end if nth == 1 else None
    bench.world.faults["/files/i4/raw"] = lambda nth, body: end
    before = Before()
    run = await bench.run()
    hold(bench, run, before)
    assert run.summary.exit_code == 3
    assert {(f.item, f.asset, f.kind) for f in read_failed(str(bench.target))} == {("i4", "raw", "reset")}
    await mends(bench)


async def test_row_3_kept_connections_gone_stale(bench: Bench) -> None:
    """A server that closes each connection behind an answer, and says nothing of it: that is nobody's failure."""
    bench.world.faults["^/"] = lambda nth, body: (ok(body),) if body else None
    before = Before()
    # Ours asks again on a new connection; aiohttp once, and maybe on another one that is stale: that costs an attempt.
    run = await bench.run(retries=0 if bench.way[0] == "wire" else 2, sweeps=0)
    hold(bench, run, before)
    assert (run.summary.verdict, run.summary.exit_code) == ("complete", 0)
    await mends(bench)


def serving(case: str, authority: trustme.CA) -> ssl.SSLContext:
    """Return a server's side of TLS, with a certificate that is bad in one way."""
    signer = trustme.CA() if case == "unknown" else authority
    expires = datetime.now(UTC) - timedelta(days=2) if case == "expired" else None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    signer.issue_cert("other.test" if case == "host" else "localhost", not_after=expires).configure_cert(context)
    return context


@pytest.mark.parametrize("case", BAD)
async def test_row_25_the_apis_certificate(way: tuple[str, int], tmp_path: Path, case: str) -> None:
    """The run stops with exit 5 and says why, and nothing is sent; with a good one it goes on."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trusts = {"ca_file": str(tmp_path / "ca.pem")}
    tls = serving("good", authority)
    async with a_world(tls=tls) as world:
        bench = Bench(world, tmp_path / "mirror", *way)
        await bench.run(max_items=2, **trusts)
        world.heard.clear()
        bad = serving(case, authority)
        async with a_world(tls=bad) as other:
            bench.world, other.ids = other, world.ids
            before = Before()
            run = await bench.run(retries=1, **trusts)
            assert run.summary.exit_code == 5
            assert f"the certificate of localhost {BAD[case]}" in run.summary.reason
            assert other.heard == []
            hold(bench, run, before)
        bench.world = world
        await mends(bench, **trusts)


@pytest.mark.parametrize("case", BAD)
async def test_row_25_a_files_certificate(bench: Bench, tmp_path: Path, case: str) -> None:
    """Files at a host that nobody vouches for: failures, and nothing is sent to it; the others come."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trusts = {"ca_file": str(tmp_path / "ca.pem")}
    async with a_world(tls=serving(case, authority)) as other:

        def edit(item: dict[str, Any]) -> None:
            if item["id"] in ("i1", "i3"):
                item["assets"]["B01"]["href"] = f"{other.url}/files/{item['id']}/B01"

        bench.world.edit_item = edit
        before = Before()
        run = await bench.run(allow_host=["localhost"], **trusts)
        hold(bench, run, before)
        assert run.summary.exit_code == 3
        failed = {(f.item, f.asset, f.kind) for f in read_failed(str(bench.target))}
        assert failed == {("i1", "B01", "tls"), ("i3", "B01", "tls")}
        assert other.heard == []
        bench.world.edit_item = lambda item: None
        await mends(bench, **trusts)
    assert truth("i1", "B01") == (bench.target / "c/i1/B01.tif").read_bytes()
