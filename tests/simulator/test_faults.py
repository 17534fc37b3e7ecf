"""Faults, traps, log, and the command's body."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from stacmirror.simulator import FAULTS, TRAPS, RequestRecord, Simulator, SimulatorSettings, main, parse_fault

from .conftest import Client, Start, ids_of, next_of

STATUSES = sorted(name for name in FAULTS if name.isdigit())


@pytest.mark.parametrize("status", STATUSES)
async def test_a_status_fault_answers_in_the_hosts_own_form(start: Start, status: str) -> None:
    """A status asked for by header comes from every host in its form; 429 says when to come back."""
    client = await start()
    href = (await client.item(0))["assets"]["labels"]["href"]
    item = f"{client.items_url()}/{client.sim.item_id(0)}?key={client.sim.key}"
    page = client.items_url("labels", f"?key={client.sim.key}")
    blob, s3 = (
        client.sim.blobs_url + client.blob(0, "B01"),
        f"{client.sim.s3_url}/radiant-mlhub{client.blob(0, 'B01')}",
    )
    for url, media_type in (
        (href, "text/html"),
        (item, "text/html"),
        (page, "text/html"),
        (blob, "application/xml"),
        (s3, "application/xml"),
    ):
        got, headers, _ = await client.get(url, X_Simulate=status)
        assert (str(got), headers["Content-Type"]) == (status, media_type)
        assert headers.get("Retry-After") == ("1" if status == "429" else None)
    assert client.sim.counts["faults"] == {status: 5}


@pytest.mark.parametrize("generation", [2021, 2022])
@pytest.mark.parametrize("limit", [5, 150])
async def test_reset_and_short_break_every_kind_of_answer(start: Start, generation: int, limit: int) -> None:
    """Page, item, link, blob and S3 object: the reset is a reset, the short body ends too early."""
    client = await start(generation=generation)
    key = f"key={client.sim.key}"
    urls = [
        (await client.item(0))["assets"]["labels"]["href"],
        f"{client.items_url()}/{client.sim.item_id(0)}?{key}",
        client.items_url("labels", f"?{key}&limit={limit}"),
        client.sim.blobs_url + client.blob(0, "B02"),
        f"{client.sim.s3_url}/radiant-mlhub{client.blob(0, 'B02')}",
    ]
    for url in urls:
        # aiohttp repeats an idempotent request on a kept connection that breaks: ask on a new one.
        for fault in ("reset", "short"):
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
                with pytest.raises((aiohttp.ClientError, ConnectionError)):
                    await Client(client.sim, session).get(url, X_Simulate=fault)


async def test_on_the_wire_short_is_half_a_body_and_reset_is_rst(start: Start) -> None:
    """By a raw socket: short promises 29,192 bytes, sends half and closes; reset ends in ECONNRESET."""
    client = await start()
    for fault in ("short", "reset"):
        request = f"GET {client.blob(0, 'B02')} HTTP/1.1\r\nHost: x\r\nX-Simulate: {fault}\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", int(client.sim.blobs_url.rsplit(":", 1)[1]))
        writer.write(request.encode())
        if fault == "reset":
            with pytest.raises(ConnectionResetError):
                await reader.read(-1)
        else:
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
            assert b"Content-Length: 29192" in head
            assert body == client.sim.expected_files(0)["B02"][:14_596]
        writer.close()


async def test_stall_keeps_silent_and_does_not_hold_up_the_end(start: Start) -> None:
    """A stalled body never ends while others are served; closing the simulator ends it at once."""
    client = await start()
    url = client.sim.blobs_url + client.blob(0, "B02")
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(client.get(url, X_Simulate="stall"), 0.1)
    assert (await client.get(url))[0] == 200


async def test_rates_strike_the_share_and_the_target_they_name(start: Start) -> None:
    """A rate of 0.25 on blobs strikes about a quarter, the same ones each run, and no other host."""
    outcomes = []
    for _ in range(2):
        client = await start(faults={"blobs:503": 0.25})
        outcomes.append([(await client.get(client.sim.blobs_url + client.blob(0, "B01")))[0] for _ in range(200)])
        s3 = f"{client.sim.s3_url}/radiant-mlhub{client.blob(0, 'B01')}"
        assert {(await client.get(s3))[0] for _ in range(30)} == {200}
    assert outcomes[0] == outcomes[1]
    assert 30 <= Counter(outcomes[0])[503] <= 70


async def test_faults_change_while_it_runs_and_spare_the_collections(start: Start) -> None:
    """set_fault takes effect at once, 0 ends it, collections are spared, the hook picks requests."""
    client = await start()
    url = client.sim.blobs_url + client.blob(0, "B01")
    client.sim.set_fault("503", 1)
    assert dict(client.sim.faults) == {"503": 1}
    assert (await client.get(url))[0] == 503
    assert (await client.get(f"{client.sim.api_url}/collections"))[0] == 200
    client.sim.set_fault("503", 0)
    assert (await client.get(url))[0] == 200

    def second_band(record: RequestRecord) -> str | None:
        return "404" if record.path.endswith("_B02.tif") else None

    client.sim.on_request = second_band
    assert (await client.get(url))[0] == 200
    assert (await client.get(client.sim.blobs_url + client.blob(0, "B02")))[0] == 404
    with pytest.raises(ValueError, match="did you mean 'short'"):
        client.sim.set_fault("shot", 1)


def test_faults_are_written_name_rate_or_target_name_rate() -> None:
    """503:0.01 and blobs:503:0.01 are understood, other forms refused; all names are described."""
    assert parse_fault("503:0.01") == ("503", 0.01)
    assert parse_fault("blobs:reset:1") == ("blobs:reset", 1.0)
    for wrong in ("503", "503:2", "503:x", "504x:0.1", "disk:503:0.1", ""):
        with pytest.raises(ValueError, match=r"fault|rate"):
            parse_fault(wrong)
    assert all(text and "\n" not in text for text in (*FAULTS.values(), *TRAPS.values()))


@pytest.mark.parametrize(("generation", "sizes"), [(2020, [20, 20, 10]), (2021, [20, 20, 10]), (2022, [20, 20, 10])])
async def test_null_next(start: Start, generation: int, sizes: list[int]) -> None:
    """Trap null-next: the last page, and only it, has a next link whose href is null."""
    client = await start(items=50, generation=generation, traps=("null-next",))
    pages, url = [], client.items_url("labels", "?limit=20")
    while url:
        pages.append(await client.page(url))
        following = next_of(pages[-1])
        url = following and (following if "limit=" in following else f"{following}&limit=20")
    assert [len(page["features"]) for page in pages] == sizes
    assert [link["href"] for link in pages[-1]["links"] if link["rel"] == "next"] == [None]


@pytest.mark.parametrize("generation", [2021, 2022])
async def test_growing_key(start: Start, generation: int) -> None:
    """Trap growing-key: who appends the key is refused in the end; who sets it is not."""
    client = await start(items=2_000, generation=generation, traps=("growing-key",))
    key = f"key={client.sim.key}"
    url = client.items_url("labels", f"?limit=5&{key}")
    counts = []
    for _ in range(4):
        counts.append(url.count("key="))
        url = f"{next_of(await client.page(url))}&{key}"
    assert counts == [1, 2, 3, 4]
    for _ in range(150):
        status, _, body = await client.get(url)
        if status != 200:
            break
        url = f"{next_of(json.loads(body))}&{key}"
    assert status == 400
    assert len(url) > 8_000
    following = next_of(await client.page(client.items_url("labels", f"?limit=5&{key}")))
    assert following is not None
    assert following.count(key) == 1
    pages = await (await start(items=40, generation=generation, traps=("growing-key",))).walk(query="?limit=9")
    assert len(set(ids_of(pages))) == 40


@pytest.mark.parametrize("generation", [2020, 2021, 2022])
@pytest.mark.parametrize("items", [2, 41])
async def test_empty_page_with_next(start: Start, generation: int, items: int) -> None:
    """Trap empty-page-with-next: an empty page comes midway, and the walk still lists every item."""
    client = await start(items=items, generation=generation, traps=("empty-page-with-next",))
    pages = await client.walk()
    midway = [page for page in pages if not page["features"] and next_of(page)]
    assert len(midway) == 1
    ids = ids_of(pages)
    assert sorted(ids) == sorted(client.sim.item_id(i) for i in range(items))
    assert 0 < pages.index(midway[0]) < len(pages) - 1


@pytest.mark.parametrize("generation", [2020, 2021])
async def test_moved_objects(start: Start, generation: int) -> None:
    """Trap moved-objects: links of the newer half lead to another place, and each object is in one place only."""
    client = await start(items=10, generation=generation, traps=("moved-objects",))
    host = f"{client.sim.s3_url}/radiant-mlhub" if generation == 2020 else client.sim.blobs_url
    for index in range(10):
        old, new = client.blob(index, "B02"), f"/moved{client.blob(index, 'B02')}"
        link = (await client.item(index, "source"))["assets"]["B02"]["href"]
        _, headers, _ = await client.get(link)
        assert headers["Location"].endswith(new if index >= 5 else old)
        assert headers["Location"].count("/moved/") == (index >= 5)
        statuses = [(await client.get(host + path))[0] for path in (old, new)]
        assert statuses == ([404, 200] if index >= 5 else [200, 404])


async def test_signed_targets(start: Start) -> None:
    """Trap signed-targets: each link leads to an address of its own, which answers."""
    client = await start(items=2, traps=("signed-targets",))
    link = (await client.item(0, "source"))["assets"]["B02"]["href"]
    targets = [(await client.get(link))[1]["Location"] for _ in range(2)]
    assert targets[0] != targets[1]
    assert all("?sv=2021-06-08&sig=" in target for target in targets)
    assert (await client.get(targets[0]))[0] == 200


async def test_shared_and_many_sources(start: Start) -> None:
    """Traps: three labels share one source, or each has five, or both; all sources exist."""

    async def sources(client: Client, index: int) -> list[str]:
        item = await client.item(index)
        return [link["href"] for link in item["links"] if link["rel"] == "source"]

    shared = await start(items=10, traps=("shared-sources",))
    links = [await sources(shared, index) for index in range(6)]
    assert links[0] == links[1] == links[2] != links[3] == links[4] == links[5]
    assert shared.sim.sources_of(4) == (3,)
    many = await start(items=10, traps=("many-sources",), generation=2022)
    assert len(set(await sources(many, 8))) == 5
    assert many.sim.sources_of(8) == (8, 9, 0, 1, 2)
    both = await start(items=3, labels_per_source=2, traps=("many-sources",))
    assert both.sim.sources_of(1) == (0, 1, 2)
    for href in [*links[5], *(await sources(both, 2))]:
        client = shared if href in links[5] else both
        assert (await client.page(href))["type"] == "Feature"


async def test_the_log_says_who_asked_for_what(start: Start) -> None:
    """/__log gives the records as lines of JSON, from a number on; /__counts the counters."""
    client = await start()
    await client.get(client.items_url("labels", f"?key={client.sim.key}&key={client.sim.key}"))
    await client.get(client.sim.blobs_url + client.blob(0, "B10"), Authorization="Basic eDp5")
    _, headers, body = await client.get(f"{client.sim.log_url}/__log")
    lines = [json.loads(line) for line in body.splitlines()]
    assert headers["X-Log-First"] == "0"
    assert [(line["server"], line["status"], line["credential"]) for line in lines] == [
        ("api", 200, "key"),
        ("blobs", 404, "Basic"),
    ]
    assert lines[0]["query"] == "key=***&key=***"
    assert client.sim.requests[-1].path == client.blob(0, "B10")
    since = await client.get(f"{client.sim.log_url}/__log?since=1")
    assert [json.loads(line)["server"] for line in since[2].splitlines()] == ["blobs"]
    counts = json.loads((await client.get(f"{client.sim.log_url}/__counts"))[2])
    assert counts == client.sim.counts
    assert counts["total"] == 2


async def test_the_log_is_bounded_and_can_be_off(start: Start) -> None:
    """The oldest records go first and keep their numbers; without a log there are counters only."""
    client = await start(log_records_max=3)
    for band in ("B01", "B02", "B03", "B04", "B05"):
        await client.get(client.sim.blobs_url + client.blob(0, band))
    assert [record.path[-7:-4] for record in client.sim.requests] == ["B03", "B04", "B05"]
    assert (client.sim.requests.first, len(client.sim.requests[1:])) == (2, 2)
    _, _, body = await client.get(f"{client.sim.log_url}/__log?since=4")
    assert len(body.splitlines()) == 1
    silent = await start(log_requests=False)
    await silent.get(silent.sim.blobs_url + silent.blob(0, "B01"))
    assert len(silent.sim.requests) == 0
    assert silent.sim.counts["total"] == 1
    assert (await silent.get(f"{silent.sim.log_url}/__log"))[0] == 404


async def test_a_taken_port_is_an_oserror_and_leaves_none_open() -> None:
    """If one of the four ports is taken, entering raises OSError and the others are free again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1] - 2
        with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
            async with Simulator(SimulatorSettings(port=port)):
                pass
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_main_prints_its_addresses_and_stops_at_sigterm(capfd: pytest.CaptureFixture[str]) -> None:
    """`main` prints one line of JSON, with the key it made, and returns at SIGTERM."""
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    main(SimulatorSettings(items=1))
    (line,) = capfd.readouterr().out.splitlines()
    printed: dict[str, Any] = json.loads(line)
    assert list(printed) == ["api", "blobs", "s3", "counts", "key"]
    assert printed["api"].endswith("/mlhub/v1")
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    main(SimulatorSettings(items=1, key="a" * 64, log_requests=True))
    printed = json.loads(capfd.readouterr().out)
    assert list(printed) == ["api", "blobs", "s3", "counts", "log"]
    assert printed["log"].endswith("/__log")


def test_on_uvloop_it_serves_and_resets() -> None:
    """uvloop's transports and sockets are not asyncio's: whole answers and resets come there too."""
    uvloop = pytest.importorskip("uvloop")

    async def ask() -> None:
        async with Simulator(SimulatorSettings(items=1)) as sim, aiohttp.ClientSession() as session:
            client = Client(sim, session)
            page = await client.page(client.items_url("labels"))
            assert len(page["features"]) == 1
            reader, writer = await asyncio.open_connection("127.0.0.1", int(sim.blobs_url.rsplit(":", 1)[1]))
            writer.write(f"GET {client.blob(0, 'B02')} HTTP/1.1\r\nHost: x\r\nX-Simulate: reset\r\n\r\n".encode())
            with pytest.raises(ConnectionResetError):
                await reader.read(-1)
            writer.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask())


def test_it_imports_nothing_else_of_stacmirror() -> None:
    """The simulator stands apart: its modules import each other, aiohttp and the standard library only."""
    folder = Path(sys.modules[Simulator.__module__].__file__ or "").parent
    allowed = sys.stdlib_module_names | {"aiohttp"}
    for path in folder.glob("*.py"):
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]) and not words[1].startswith("."):
                assert words[1].split(".")[0] in allowed, f"{path.name}: {line}"
