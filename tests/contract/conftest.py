"""Fixtures of the tests against a scripted server; a file whose client or server differs has its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from stacmirror.transports.wire import WireTransport
from tests.contract.asking import PATIENCE_S
from tests.contract.wire_server import WireServer, wire_server


@pytest.fixture
async def server() -> AsyncIterator[WireServer]:
    async with wire_server() as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[WireTransport]:
    """A client that soon gives up a body that stalls."""
    client = WireTransport(user_agent="test/1", connect_timeout_s=PATIENCE_S, stall_timeout_s=0.5)
    yield client
    await client.close()
