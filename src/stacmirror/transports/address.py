"""What of a URL goes on the wire: its origin, checked, and its target, spelled as it came.

Used by both HTTP transports, so that they send and refuse the same. Knows no connection. A signature covers the
spelling of a URL, so a target is kept byte for byte; only what no server would accept is quoted (spaces, controls,
other alphabets). An origin is not repaired but refused: a name with a control byte or `%2F` is somebody's trick.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote

from stacmirror.errors import TransferError

_URL = re.compile(r"(https?)://([^/?#]*)([^#]*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"([A-Za-z0-9_~-][A-Za-z0-9._~-]*|\[[0-9A-Fa-f:.]+\])(?::([0-9]{0,5}))?")
_SCHEMES = ("http://", "https://")
_ODD = re.compile(r"[^\x21-\x7e]")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_HEADER_LINES = re.compile(r"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t\x20-\x7e\x80-\xff]*\r\n)*")
"""Each in a line of its own: a value that holds a line break makes more lines than there are headers."""


class Origin(NamedTuple):
    """Where a connection goes. `name` is lower-case, without brackets; `host` is what the Host header says."""

    tls: bool
    name: str
    port: int
    host: str


def split(url: str) -> tuple[str, str]:
    """Return a URL's origin as spelled, and its target, quoted where it must be. Raises: TransferError (`url`)."""
    end = url.find("/", 8)
    plain = end > 0 and url.isascii() and url.isprintable() and not (" " in url or "#" in url)
    if plain and url.startswith(_SCHEMES) and "?" not in url[:end]:
        return url[:end], url[end:]  # as nearly all are: nothing to quote, nothing to leave out
    parts = _URL.match(url)
    if parts is None:
        raise no_url()
    scheme, authority, target = parts.groups()
    if not target.startswith("/"):
        target = "/" + target  # https://host?query
    if _ODD.search(target):
        try:
            target = quote(target, safe=_PRINTABLE)
        except UnicodeError as error:  # half a surrogate pair, which JSON can spell
            raise no_url() from error
    return f"{scheme}://{authority}", target


def parse_origin(origin: str) -> Origin:
    """Return what a spelled origin means. Raises: TransferError (`url`) for names no host has, ports, and users."""
    scheme, _, authority = origin.partition("://")
    if "@" in authority:
        raise TransferError(
            "url", "it holds a user name or a password (user:password@host), which is sent nowhere", retryable=False
        )
    try:
        authority = authority if authority.isascii() else authority.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise no_url() from error
    parts = _AUTHORITY.fullmatch(authority)
    tls = scheme.lower() == "https"
    default = 443 if tls else 80
    port = int(parts[2] or default) if parts is not None else 0
    if parts is None or ".." in parts[1] or not 0 < port < 65536:
        raise no_url()
    spelled = parts[1].lower()
    return Origin(tls, spelled.strip("[]"), port, spelled if port == default else f"{spelled}:{port}")


def header_lines(headers: dict[str, str]) -> str:
    """Return headers as they are sent. Raises: TransferError (`url`) where a line break or a control is in one."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if not _HEADER_LINES.fullmatch(lines) or lines.count("\r\n") != len(headers):
        raise TransferError("url", "a header holds what none may hold", retryable=False)
    return lines


def no_url() -> TransferError:
    """Return the error for a href that cannot be asked, without its text: it may hold a token."""
    return TransferError("url", "not a URL that can be asked", retryable=False)
