"""Which addresses may be connected to: none inside a network that the source itself is not in, unless the user says so.

Made by the composition root, asked by the HTTP clients with the addresses that a name turned out to have, before they
connect to one of them: so it is the connected address that counts, however it was spelled and whatever a name server
says later. A kept connection is not asked about again.

    source in public      links lead to public addresses only
    source on loopback    and to loopback;    in a private network    and to private ones
    never unasked         link-local ones, and where clouds tell machines their credentials

Sources: CWE-918; RFC 6890 (special-purpose addresses); RFC 6052, 3056, 4380, 4291, 7915 (IPv4 inside IPv6).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from stacmirror.errors import TransferError, UsageError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PUBLIC = "public"
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")
_TRANSLATED = ipaddress.ip_network("::ffff:0:0:0/96")
_SHARED = ipaddress.ip_network("100.64.0.0/10")
_METADATA = frozenset(
    map(ipaddress.ip_address, ("168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"))
)
"""Where clouds tell their machines credentials, besides 169.254.169.254 (link-local): Azure, Alibaba, Oracle, AWS,
Google."""
_NUMBERS = re.compile(r"[0-9A-Fa-fxX.]+")
_WORDS = {
    "loopback": "is this machine itself",
    "private": "is in a private network",
    "link-local": "is in a link-local network",
    "metadata": "is where clouds tell machines their credentials",
    "reserved": "is no server's address",
}
_NAME = re.compile(r"(?:\*\.)?[a-z0-9_~-][a-z0-9._~-]*")


class Admits(Protocol):
    """What an HTTP client asks."""

    def admit(self, name: str, port: int, addresses: Sequence[str]) -> list[str]: ...

    def admit_spelled(self, name: str, port: int) -> None: ...


class Anywhere:
    """Admits all: for who asks only where the user said."""

    def admit(self, name: str, port: int, addresses: Sequence[str]) -> list[str]:
        """See `Guard.admit`."""
        return list(addresses)

    def admit_spelled(self, name: str, port: int) -> None:
        """See `Guard.admit_spelled`."""


class Guard:
    """One for a run. `source` is the host that the user named as the source; `allowed` is what `--allow-host` says.

    Raises: UsageError for a host that is none.
    """

    def __init__(self, source: str, allowed: Iterable[str] = (), *, home: str = "") -> None:
        """`home` is where a source is that has no host: `loopback` for a file of this machine."""
        self._source = _ascii(_plain(source))
        self._home = home
        """Where the source was when it was first met. Before that only public addresses are let through."""
        self._networks: list[tuple[Network, int]] = []
        self._names: set[tuple[str, int]] = set()
        for text in allowed:
            self._allow(text)

    def _allow(self, text: str) -> None:
        host = _taken_apart(text)
        try:
            self._networks.append((ipaddress.ip_network(host.name, strict=False), host.port))
        except ValueError:
            if _NAME.fullmatch(host.name) is None:
                raise UsageError(
                    f"--allow-host {text!r} is no host",
                    hint="such as storage.example.org, *.example.org, 10.1.2.3:9000, or 10.0.0.0/8",
                ) from None
            self._names.add((host.name, host.port))

    def vouch(self, url: str) -> None:
        """Let the host of `url`, and those below it, through: an S3 endpoint or a proxy of the user's own."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        name, port = _plain(parts.hostname or ""), parts.port or (443 if parts.scheme == "https" else 80)
        self._names |= {(name, port), (f"*.{name}", port)}

    def admit(self, name: str, port: int, addresses: Sequence[str]) -> list[str]:
        """Return those of a name's addresses that may be connected to.

        Raises: TransferError (`host`) where there is none.
        """
        name = _plain(name)
        if self._is_named(name, port):
            return list(addresses)
        kinds = {address: kind_of(address) for address in addresses}
        if not self._home and name == self._source and kinds:
            # A name that has a public address has no business with others: that is how a rebinding looks.
            self._home = PUBLIC if PUBLIC in kinds.values() else kinds[addresses[0]]
        admitted = [
            address for address in addresses if kinds[address] in (PUBLIC, self._home) or self._holds(address, port)
        ]
        if addresses and not admitted:
            raise _refused(name, addresses[0], kinds[addresses[0]])
        return admitted

    def admit_spelled(self, name: str, port: int) -> None:
        """Refuse a host that needs no name server to be known: a number in any spelling, or `localhost`.

        For who does not resolve names here: a proxy does. Raises: TransferError (`host`).
        """
        address = spelled_address(name)
        if address:
            self.admit(name, port, [address])

    def _is_named(self, name: str, port: int) -> bool:
        if not self._names:
            return False
        wider = (f"*.{'.'.join(labels)}" for labels in _tails(name))
        return any((known, at) in self._names for known in (name, *wider) for at in (0, port))

    def _holds(self, address: str, port: int) -> bool:
        if not self._networks:
            return False
        found = _unwrapped(ipaddress.ip_address(address.partition("%")[0]))
        return any(found in network for network, at in self._networks if at in (0, port))


def kind_of(address: str) -> str:
    """Return where an address is: `public`, `loopback`, `private`, `link-local`, `metadata` or `reserved`."""
    found = _unwrapped(ipaddress.ip_address(address.partition("%")[0]))
    if found in _METADATA:
        return "metadata"
    if found.is_loopback or found.is_unspecified:  # to connect to 0.0.0.0 is to connect to oneself
        return "loopback"
    if found.is_link_local:
        return "link-local"
    if found.is_multicast or found.is_reserved:
        return "reserved"
    if isinstance(found, ipaddress.IPv6Address) and found.is_site_local:
        return "private"
    if found.is_private or (isinstance(found, ipaddress.IPv4Address) and found in _SHARED):
        return "private"
    return PUBLIC if found.is_global else "reserved"


def spelled_address(name: str) -> str:
    """Return the address that a host's name spells (`2130706433`, `0x7f.1`, `[::1]`, `localhost`), or ""."""
    name = _plain(name)
    if name == "localhost" or name.endswith(".localhost"):
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(name.partition("%")[0]))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(name)) if _NUMBERS.fullmatch(name) else ""
    except OSError:
        return ""


def _unwrapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one leads to, or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
    carries = address in _NAT64 or address in _TRANSLATED or (address in _COMPATIBLE and int(address) > 0xFFFF)
    if inner is None and carries:
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address if inner is None else inner


class _Host(NamedTuple):
    name: str
    port: int
    """0: any."""


def _taken_apart(text: str) -> _Host:
    name, port = text.strip(), ""
    if name.startswith("["):
        name, _, port = name[1:].partition("]")
        port = port.removeprefix(":")
    elif name.count(":") == 1:
        name, _, port = name.partition(":")
    if port and not (port.isascii() and port.isdigit()):
        return _Host(text, 0)  # which is no name either
    return _Host(_plain(name), int(port or 0))


def _plain(name: str) -> str:
    return name.strip("[]").rstrip(".").lower()


def _ascii(name: str) -> str:
    try:
        return name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        return name


def _tails(name: str) -> list[list[str]]:
    labels = name.split(".")
    return [labels[at:] for at in range(1, len(labels))]


def _refused(name: str, address: str, kind: str) -> TransferError:
    where = name if name == address else f"{name} ({address})"
    message = f"{where} {_WORDS[kind]}, where the source is not: not asked; --allow-host {name} allows it"
    return TransferError("host", message, retryable=False)
