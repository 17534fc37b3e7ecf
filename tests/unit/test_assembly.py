"""Which HTTP client a run gets."""

from __future__ import annotations

import pytest

from stacmirror.assembly import make_router, make_several
from stacmirror.clock import SystemClock
from stacmirror.transports.bandwidth import LimitedTransport
from stacmirror.transports.http import AiohttpTransport
from stacmirror.transports.wire import WireTransport
from stacmirror.typed import build

PROXY = "http://proxy.example:3128"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def client(**values: object) -> object:
    router = make_router(build("mlhub:x", "target", values), SystemClock())
    assert router._transports["http"] is router._transports["https"]
    return router._transports["https"]


def test_the_settings_choose_the_client() -> None:
    """`wire` is the default; `aiohttp` can be asked for."""
    assert isinstance(client(), WireTransport)
    assert isinstance(client(http_client="aiohttp"), AiohttpTransport)


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("wanted", ["wire", "aiohttp"])
def test_a_proxy_chooses_aiohttp(monkeypatch: pytest.MonkeyPatch, name: str, wanted: str) -> None:
    """Our own client speaks to no proxy: where the environment names one, aiohttp does, and uses it."""
    monkeypatch.setenv(name, PROXY)
    chosen = client(http_client=wanted)
    assert isinstance(chosen, AiohttpTransport)
    scheme = "http" if name == "http_proxy" else "https"
    assert chosen._proxy_for(f"{scheme}://host.example/") == PROXY
    monkeypatch.setenv("no_proxy", "host.example")
    assert chosen._proxy_for(f"{scheme}://host.example/") is None


def test_exceptions_alone_choose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """`no_proxy` without a proxy leaves our own client."""
    monkeypatch.setenv("no_proxy", "*")
    assert isinstance(client(), WireTransport)


def test_a_limit_of_bytes_holds_for_all_schemes() -> None:
    """One line for http, https and S3, and no requests in turn, whose bytes it would not see."""
    settings = build("mlhub:x", "target", {"bwlimit": "1M", "pipeline": True})
    router = make_router(settings, SystemClock())
    transports = router._transports
    limited = [transports[scheme] for scheme in ("http", "https", "s3")]
    assert all(isinstance(transport, LimitedTransport) for transport in limited)
    assert len({id(transport._line) for transport in limited if isinstance(transport, LimitedTransport)}) == 1
    heard: list[str] = []
    assert make_several(settings, router, heard.append) is None
    assert "--bwlimit" in heard[0]
    assert make_several(build("mlhub:x", "target", {}), router, heard.append) is not None
