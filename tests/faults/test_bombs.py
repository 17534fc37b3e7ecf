"""What is made to fill memory ends at its cap: by so little does a process grow, with the product's own settings."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from stacmirror.errors import TransferError
from tests.faults import file_bombs
from tests.faults.bombs import BOMBS

GROWTH_MAX_MIB = 64
CLIENTS = ("wire", "aiohttp") if os.environ.get("STACMIRROR_FAULTS") == "full" else ("wire",)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_is_dull(name: str, client: str, tmp_path: Path) -> None:
    """Pages packed, endless, deep or full of assets, redirects, heads, files: refused in one line, within 64 MiB."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.bombs", name, client, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    found = json.loads(out)
    _, code, words = BOMBS[name]
    assert found["code"] == code
    assert words in " ".join(found["said"])
    assert found["grown_mib"] < GROWTH_MAX_MIB
    assert all(len(line) < 2500 for line in found["said"])


@pytest.mark.parametrize("name", file_bombs.BOMBS)
async def test_a_bomb_in_a_file_is_dull(name: str, tmp_path: Path) -> None:
    """Items, lines, catalogs and tables, deep, long or full of assets: refused in one line, within 64 MiB."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.file_bombs", name, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    found = json.loads(out)
    _, code, words = file_bombs.BOMBS[name]
    assert found["code"] == code
    assert words in " ".join(found["said"])
    assert found["grown_mib"] < GROWTH_MAX_MIB
    assert all(len(line) < 2500 and "\n" not in line for line in found["said"])


def test_an_errors_message_has_an_end() -> None:
    """A Location of 60 kB does not go into the ledger once an asset."""
    assert len(TransferError("redirect", "x" * 60_000).message) < 1100
    assert TransferError("redirect", "short").message == "short"
