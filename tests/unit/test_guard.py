"""Which addresses a run may connect to: spellings, names, and what the user allows."""

from __future__ import annotations

import pytest

from stacmirror.errors import TransferError, UsageError
from stacmirror.transports.guard import Guard, kind_of, spelled_address

PUBLIC = "93.184.216.34"
LOOPBACK, PRIVATE, LINK_LOCAL = "127.0.0.1", "10.1.2.3", "169.254.169.254"


def started(address: str, *allowed: str) -> Guard:
    """Return the guard of a run whose source was met at `address`."""
    guard = Guard("api.example.org", allowed)
    guard.admit("api.example.org", 443, [address])
    return guard


def refuses(guard: Guard, address: str, name: str = "other.example.org", port: int = 80) -> bool:
    try:
        admitted, refused = guard.admit(name, port, [address]), None
    except TransferError as error:
        admitted, refused = [], error
    if refused is None:
        assert admitted == [address]
        return False
    assert (refused.kind, refused.retryable) == ("host", False)
    assert "--allow-host" in refused.message
    return True


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        (PUBLIC, "public"), ("2606:2800:220:1::1", "public"), ("8.8.8.8", "public"), ("2002:0808:0808::1", "public"),
        (LOOPBACK, "loopback"), ("127.255.255.254", "loopback"), ("::1", "loopback"), ("0.0.0.0", "loopback"),
        ("::", "loopback"), ("::ffff:127.0.0.1", "loopback"), ("::127.0.0.1", "loopback"),
        ("2002:7f00:1::", "loopback"), ("::ffff:0:7f00:1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"), ("2001:0:1:2:3:4:80ff:fffe", "loopback"),
        (PRIVATE, "private"), ("172.16.0.1", "private"), ("172.31.255.255", "private"), ("192.168.0.1", "private"),
        ("100.64.0.1", "private"), ("fd12::1", "private"), ("fec0::1", "private"), ("::ffff:10.0.0.1", "private"),
        ("64:ff9b:1::a00:1", "reserved"), (LINK_LOCAL, "link-local"), ("fe80::1%eth0", "link-local"),
        ("::ffff:a9fe:a9fe", "link-local"), ("64:ff9b::a9fe:a9fe", "link-local"), ("168.63.129.16", "metadata"),
        ("100.100.100.200", "metadata"), ("192.0.0.192", "metadata"), ("fd00:ec2::254", "metadata"),
        ("224.0.0.1", "reserved"), ("255.255.255.255", "reserved"), ("240.0.0.1", "reserved"), ("ff02::1", "reserved"),
    ],
)  # fmt: skip
def test_where_an_address_is(address: str, kind: str) -> None:
    """Loopback, private, link-local, metadata: known, also inside IPv6 (mapped, compatible, 6to4, NAT64, Teredo)."""
    assert kind_of(address) == kind


@pytest.mark.parametrize(
    "name",
    [
        "169.254.169.254", "2852039166", "0xa9fea9fe", "0xa9.0xfe.0xa9.0xfe", "0251.0376.0251.0376", "169.254.43518",
        "169.16689662", "0xA9.254.0251.254", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "169.254.169.254.",
    ],
)  # fmt: skip
def test_a_number_is_known_in_every_spelling(name: str) -> None:
    """Decimal, hex, octal, short and mapped forms of 169.254.169.254 are that address, and refused as that."""
    assert kind_of(spelled_address(name)) == "link-local"
    with pytest.raises(TransferError, match="link-local"):
        started(PUBLIC).admit_spelled(name, 80)


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST.", "api.localhost", "0", "0x7f.1", "017700000001", "[::1]"])
def test_this_machine_is_known_in_every_spelling(name: str) -> None:
    """`localhost` and all numbers of loopback are refused after a public start, without a name server."""
    with pytest.raises(TransferError, match="this machine"):
        started(PUBLIC).admit_spelled(name, 80)


def test_names_are_no_numbers() -> None:
    """What only looks like a number is a name, for a name server to tell."""
    assert [spelled_address(name) for name in ("face.de", "0x", "1.2.3.4.5", "api.example.org", "")] == [""] * 5


@pytest.mark.parametrize(
    ("home", "admitted"),
    [
        (PUBLIC, {PUBLIC}),
        (LOOPBACK, {PUBLIC, LOOPBACK}),
        (PRIVATE, {PUBLIC, PRIVATE, "192.168.7.7"}),
        (LINK_LOCAL, {PUBLIC, LINK_LOCAL}),
    ],
)
def test_links_lead_where_the_source_is_or_into_the_open(home: str, admitted: set[str]) -> None:
    """A public source's links lead to public addresses; a private one's to private ones too, and not to loopback."""
    guard = started(home)
    every = (PUBLIC, LOOPBACK, PRIVATE, "192.168.7.7", LINK_LOCAL, "fd00:ec2::254")
    assert {address for address in every if not refuses(guard, address)} == admitted


def test_nobody_is_let_through_before_the_source_was_met() -> None:
    """Before the first connection to the source only public addresses are let through."""
    guard = Guard("api.example.org")
    assert not refuses(guard, PUBLIC)
    assert refuses(guard, LOOPBACK)
    assert refuses(guard, PRIVATE)


def test_a_source_that_moves_inside_is_refused() -> None:
    """A public source's name that turns private later (rebinding) is refused, and so is a private address beside."""
    guard = started(PUBLIC)
    assert refuses(guard, LOOPBACK, "api.example.org")
    both = Guard("API.example.org.")
    assert both.admit("api.example.org", 443, [PRIVATE, PUBLIC]) == [PUBLIC]
    assert refuses(both, PRIVATE, "api.example.org")


def test_of_several_addresses_the_good_ones_are_left() -> None:
    """A name with a public and a private address is connected to at the public one only."""
    assert started(PUBLIC).admit("mixed.example.org", 80, [LOOPBACK, PUBLIC, "::1"]) == [PUBLIC]


@pytest.mark.parametrize(
    ("allowed", "name", "address", "port", "through"),
    [
        ("storage.local", "storage.local", PRIVATE, 80, True),
        ("storage.local", "STORAGE.local.", LOOPBACK, 443, True),
        ("storage.local", "other.local", PRIVATE, 80, False),
        ("storage.local:9000", "storage.local", PRIVATE, 9000, True),
        ("storage.local:9000", "storage.local", PRIVATE, 80, False),
        ("*.local", "a.b.local", PRIVATE, 80, True),
        ("*.local", "local", PRIVATE, 80, False),
        ("*.local", "notlocal", PRIVATE, 80, False),
        ("10.0.0.0/8", "any.example.org", PRIVATE, 80, True),
        ("10.0.0.0/8", "any.example.org", "::ffff:10.1.2.3", 80, True),
        ("10.0.0.0/8", "any.example.org", LOOPBACK, 80, False),
        ("10.1.2.3", "10.1.2.3", PRIVATE, 80, True),
        ("10.1.2.3:81", "10.1.2.3", PRIVATE, 80, False),
        ("[::1]:8080", "any.example.org", "::1", 8080, True),
        ("fd00::/8", "any.example.org", "fd12::1", 1, True),
    ],
)
def test_allow_host(allowed: str, name: str, address: str, port: int, through: bool) -> None:
    """Names, names with a port, names below a name, addresses and networks are let through, and nothing near them."""
    assert refuses(started(PUBLIC, allowed), address, name, port) != through


@pytest.mark.parametrize("text", ["", "a b", "https://host/", "10.0.0.0/99", "*", "ho$t"])
def test_what_is_no_host_is_refused(text: str) -> None:
    """A flag that names no host is an error, not a hole and not nothing."""
    with pytest.raises(UsageError, match="no host"):
        Guard("api.example.org", [text])


def test_the_users_own_endpoints_are_let_through_at_their_port() -> None:
    """An S3 endpoint or a proxy that the user named is let through, with what is below it, at its port."""
    guard = started(PUBLIC)
    guard.vouch("http://minio.local:9000/")
    guard.vouch("https://s3.eu-central-1.amazonaws.com")
    assert not refuses(guard, PRIVATE, "minio.local", 9000)
    assert refuses(guard, PRIVATE, "minio.local", 22)
    assert not refuses(guard, PRIVATE, "bucket.s3.eu-central-1.amazonaws.com", 443)
    assert refuses(guard, PRIVATE, "evil-s3.eu-central-1.amazonaws.com", 443)
