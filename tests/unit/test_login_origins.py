"""To which addresses a login goes: 5 ways to log in, each against 5 places that are not the one it is for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply
from stacmirror.transports.authorized import AuthorizedTransport, Logins
from stacmirror.transports.logins import make_rules
from tests.unit.fakes import FakeClock

SECRET = "s3cr3t-of-the-test"
HOST = "data.example.org"
WAYS = ["header", "bearer", "basic", "netrc", "query"]
ELSEWHERE = {
    "host": "https://other.example.org/x",
    "port": f"https://{HOST}:8443/x",
    "http": f"http://{HOST}/x",
    "below": f"https://sub.{HOST}/x",
    "look-alike": f"https://{HOST}.evil.example/x",
}


class Hearing:
    """Answers all, and remembers what it was asked."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def fetch(self, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
        self.heard.append(f"{url} {dict(headers)}")
        return Reply(url, 200, {}, b"", None)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, small_max_bytes: int) -> Reply:
        return await self.fetch(url, headers, small_max_bytes)

    async def close(self) -> None: ...


def logging_in(way: str, folder: Path, **named: object) -> tuple[AuthorizedTransport, Hearing]:
    (folder / "netrc").write_text(f"machine {HOST} login me password {SECRET}\n")
    auth = {
        "bearer": f"{HOST}=bearer:env:S", "basic": f"{HOST}=basic:env:S", "netrc": f"{HOST}=netrc:{folder}/netrc",
        "query": f"{HOST}=query:k:env:S",
    }.get(way)  # fmt: skip
    headers = [f"{HOST}:X-Api-Key={SECRET}"] if way == "header" else []
    http = Hearing()
    secret = f"me:{SECRET}" if way == "basic" else SECRET
    rules = make_rules([auth] if auth else [], headers, lambda name: secret, http, http, FakeClock())
    return AuthorizedTransport(http, None, Logins(rules, **named)), http  # type: ignore[arg-type]


def tells(heard: list[str]) -> bool:
    return any(sign in one for one in heard for sign in (SECRET, "authorization", "x-api-key", "k="))


@pytest.mark.parametrize("place", ELSEWHERE)
@pytest.mark.parametrize("way", WAYS)
async def test_a_login_goes_to_its_origin_only(way: str, place: str, tmp_path: Path) -> None:
    """Another host, port, scheme, name below or look-alike gets nothing of it, and its own origin does."""
    transport, http = logging_in(way, tmp_path)
    await transport.fetch(f"https://{HOST}/x", {}, 100)
    assert tells(http.heard)
    http.heard.clear()
    if place == "http":
        with pytest.raises(TransferError, match="without TLS"):
            await transport.fetch(ELSEWHERE[place], {}, 100)
    else:
        await transport.fetch(ELSEWHERE[place], {}, 100)
        assert http.heard == [f"{ELSEWHERE[place]} {{}}"]


async def test_the_sources_own_port_needs_no_naming(tmp_path: Path) -> None:
    """A login for the host of SOURCE goes to the port of SOURCE, and to the scheme's own; to no third."""
    transport, http = logging_in("bearer", tmp_path, home=f"https://{HOST}:8443/v1")
    for url, told in (
        (f"https://{HOST}:8443/a", True),
        (f"https://{HOST}:443/b", True),
        (f"https://{HOST}:9/c", False),
    ):
        http.heard.clear()
        await transport.fetch(url, {}, 100)
        assert tells(http.heard) == told, url


@pytest.mark.parametrize(
    "url", [f"https://{HOST}@evil.example/x", f"https://evil.example\\@{HOST}/x", f"https://{HOST}%2f.evil.example/x"]
)
async def test_a_trick_in_the_address_gets_no_login(url: str, tmp_path: Path) -> None:
    """An address that readers may read differently is asked by nobody."""
    transport, http = logging_in("bearer", tmp_path)
    with pytest.raises(TransferError):
        await transport.fetch(url, {}, 100)
    assert http.heard == []
