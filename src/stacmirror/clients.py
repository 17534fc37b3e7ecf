"""Build the HTTP client of a run: our own or aiohttp, whom it may connect to, which CAs it trusts, its proxies.

Part of the composition root, called by `assembly`.
"""

from __future__ import annotations

import os
import re
import ssl
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from stacmirror import __version__
from stacmirror.catalogs import source_of
from stacmirror.errors import UsageError
from stacmirror.gate import Gate
from stacmirror.interfaces import Transport
from stacmirror.settings import Settings
from stacmirror.transports.guard import Guard
from stacmirror.transports.wire import WireTransport

if TYPE_CHECKING:
    from stacmirror.transports.http import AiohttpTransport

_URL = re.compile(r"https?://[^\s,;]+")
_USER_AGENT = f"stacmirror/{__version__}"


class Client(Transport, Protocol):
    """An HTTP client: a transport that can let go of the connections that nobody uses."""

    def close_idle(self) -> None: ...


def make_guard(settings: Settings) -> Guard:
    """Return the guard of a run: the host that its SOURCE is at, and those that the user's settings name."""
    catalog = settings.catalog
    dialect, place = source_of(settings, needs_collection=False)
    root = place if dialect == "web" else catalog.api_url
    if root.startswith("s3://"):
        root = settings.s3.s3_endpoint
    home = "loopback" if dialect in ("path", "stdin") else ""
    guard = Guard(urlsplit(root).hostname or "", catalog.allow_host, home=home)
    for text in catalog.auth:
        for url in _URL.findall(text):  # where a login gets its token
            guard.vouch(url)
    return guard


def make_http(settings: Settings, guard: Guard, gate: Gate) -> Client:
    """Return the client that the settings name; aiohttp where a proxy is to be used. Raises: UsageError."""
    limit, proxies, tls = settings.limit, _proxies(), _tls_maker(settings.catalog.ca_file)
    if limit.http_client == "wire" and not {"http", "https", "all"} & proxies.keys():
        return WireTransport(
            user_agent=_USER_AGENT,
            connect_timeout_s=limit.connect_timeout_s,
            stall_timeout_s=limit.stall_timeout_s,
            kept_max=limit.per_host,
            tls=tls,
            slowest_bytes_per_s=limit.lowest_speed_bytes,
            head_max_bytes=limit.header_max_bytes,
            guard=guard,
            gate=gate,
        )
    return make_aiohttp(settings, guard, gate)


def make_aiohttp(settings: Settings, guard: Guard, gate: Gate) -> AiohttpTransport:
    """Return aiohttp's client, which can POST as well. Raises: UsageError."""
    from stacmirror.transports.http import AiohttpTransport  # here: aiohttp takes 150 ms to load

    limit, proxies, tls = settings.limit, _proxies(), _tls_maker(settings.catalog.ca_file)
    for proxy in proxies.values():
        guard.vouch(proxy)
    return AiohttpTransport(
        user_agent=_USER_AGENT,
        connect_timeout_s=limit.connect_timeout_s,
        stall_timeout_s=limit.stall_timeout_s,
        proxies=proxies,
        tls=tls,
        slowest_bytes_per_s=limit.lowest_speed_bytes,
        head_max_bytes=limit.header_max_bytes,
        guard=guard,
        gate=gate,
    )


def _tls_maker(ca_file: str) -> Callable[[], ssl.SSLContext]:
    """Return what makes a TLS context that trusts `ca_file` besides the system's CAs. Raises: UsageError."""
    if not ca_file:
        return ssl.create_default_context  # not made before it is needed: it reads 150 certificates
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:  # an SSLError is an OSError, whose words are no help
        reason = "no certificates in PEM in it" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageError(f"--ca-file {ca_file}: {reason}", hint="name a PEM file with the CA's certificate") from error
    return lambda: context


def _proxies() -> Mapping[str, str]:
    """Return the proxies that the environment (on macOS: the system) names, by scheme."""
    if sys.platform != "darwin" and not any(name.lower().endswith("_proxy") for name in os.environ):
        return {}
    from urllib.request import getproxies  # here: it takes 50 ms to load

    return getproxies()
