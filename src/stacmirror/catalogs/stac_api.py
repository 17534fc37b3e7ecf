"""What all dialects of the STAC API share: URLs, query parameters, cursors, and one GET by hand.

Dialects build on this; it knows no dialect, no HTTP client and no JSON. Parameters are set, never appended: the
server of September 2021 echoed the whole query into `next`, and walkers that appended their key grew one a page.

Source: STAC API - Features and Item Search, "Paging"; RFC 3986, section 5.2 for relative links.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import SplitResult, quote, unquote, unquote_plus, urljoin, urlsplit

from msgspec import Struct

from stacmirror.errors import TransferError, UsageError
from stacmirror.interfaces import Reply
from stacmirror.model import Cursor, ItemKey
from stacmirror.redact import CREDENTIAL_PARAMETERS, redact_url
from stacmirror.retry import REDIRECT_STATUSES

REDIRECTS_MAX = 10
KEY_HEADERS = {"bearer": ("authorization", "Bearer {}"), "x-api-key": ("x-api-key", "{}")}
"""How else than as the parameter `key` an API is given its key: name and value of a header."""
_CREDENTIAL_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SUCH_AS = "the root alone, such as https://host/mlhub/v1"
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_ITEM_PATH = re.compile(r"/collections/([^/]+)/items/([^/]+)/?$")


class Asker(Protocol):
    """Asks an API: one request, within the host's budget.

    Follows no redirect and retries nothing. The body comes whole in `Reply.body`, its Content-Encoding undone; a
    status of any kind is a Reply.

    Raises: TransferError for everything that goes wrong, a body over `max_bytes` (decoded) included.
    Cancel: safe at any await; the connection is dropped.
    """

    async def ask(self, url: str, headers: Mapping[str, str], max_bytes: int) -> Reply:
        """GET `url`."""
        ...

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, max_bytes: int) -> Reply:
        """POST `body` to `url`."""
        ...


class ApiRoot(Struct, frozen=True):
    """The API's root URL, and what belongs to it: the only origin that ever sees the key."""

    url: str
    scheme: str
    host: str
    port: int | None

    @staticmethod
    def parse(url: str) -> ApiRoot:
        """Return the root for a URL as typed. Raises: UsageError when it is no http(s) URL, or holds a query."""
        try:
            parts = urlsplit(url.strip())
            port = _port(parts)
        except ValueError:
            raise UsageError(f"--api-url {redact_url(url)!r} is no URL", hint=_SUCH_AS) from None
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise UsageError(f"--api-url {redact_url(url)!r} must be http:// or https://, with a host", hint=_SUCH_AS)
        if parts.query or parts.fragment or parts.username is not None:
            raise UsageError(f"--api-url {redact_url(url)!r} must hold no key, query or fragment", hint=_SUCH_AS)
        return ApiRoot(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", parts.scheme, parts.hostname, port)

    def may_see_key(self, url: str) -> bool:
        """Return whether `url` is of this origin, or its https where the root is http."""
        try:
            parts = urlsplit(url)
            same = (parts.scheme, _port(parts)) == (self.scheme, self.port)
            upgraded = self.scheme == "http" and parts.scheme == "https" and _port(parts) == self.port
        except ValueError:
            return False
        return parts.hostname == self.host and parts.username is None and (same or upgraded)

    def reroot(self, href: str) -> str | None:
        """Return `href` on the root's own scheme and port, or None when another host is meant.

        Servers behind proxies write `http` and inner ports into their links; the host's name is what counts.
        """
        if href.startswith(f"{self.url}/") and "#" not in href and "/." not in href:
            return href  # as nearly all are: nothing to resolve, nothing to mend
        try:
            parts = urlsplit(urljoin(f"{self.url}/", href))
        except ValueError:
            return None
        if parts.hostname != self.host or parts.scheme not in _DEFAULT_PORTS:
            return None
        query = f"?{parts.query}" if parts.query else ""
        return f"{self.scheme}://{urlsplit(self.url).netloc}{parts.path}{query}"

    def collections_url(self) -> str:
        return f"{self.url}/collections"

    def collection_url(self, collection: str) -> str:
        return f"{self.url}/collections/{encode(collection)}"

    def items_url(self, collection: str) -> str:
        return f"{self.collection_url(collection)}/items"

    def item_url(self, key: ItemKey) -> str:
        return f"{self.items_url(key.collection)}/{encode(key.id)}"


def encode(part: str) -> str:
    """Return one path part, percent-encoded; `.` and `..` too, which clients would take for folders."""
    if part in (".", ".."):
        return part.replace(".", "%2E")
    return quote(part.encode("utf-8", "surrogatepass"), safe="")


def item_key(href: str) -> ItemKey | None:
    """Return the key in an item's URL (`.../collections/{c}/items/{id}`), or None when it is none."""
    match = _ITEM_PATH.search(re.split(r"[?#]", href, maxsplit=1)[0])
    return ItemKey(unquote(match[1]), unquote(match[2])) if match else None


def resolve(base: str, href: str) -> str:
    """Return `href` absolute; an empty one stays empty, an absolute one stays byte for byte (it may be signed)."""
    if not href or _ABSOLUTE.match(href):
        return href
    scheme, _, rest = base.partition("://")
    try:
        if scheme in ("http", "https", "file"):
            return urljoin(base, href)
        # urljoin joins no s3:// addresses.
        return f"{scheme}:{urljoin(f'http://{rest}', href).partition(':')[2]}" if rest else urljoin(base, href)
    except ValueError:
        return href


def set_parameters(url: str, values: Mapping[str, str | None]) -> str:
    """Return `url` with these query parameters set once each, or taken out (None); all others byte for byte."""
    before, _, fragment = url.partition("#")
    path, _, query = before.partition("?")
    kept = [part for part in query.split("&") if part and _name(part) not in values]
    kept += [f"{quote(name)}={quote(value, safe=':')}" for name, value in values.items() if value is not None]
    return path + ("?" + "&".join(kept) if kept else "") + ("#" + fragment if fragment else "")


def cursor_of(next_url: str) -> Cursor:
    """Return the canonical cursor of a `next` URL: its query, sorted, once each, without credentials and page size.

    So it is the same whichever host, scheme, key and page size were used. The kinds, by what MLHub sent: a keyset
    is `next=<base64>` (2021) or `token=next:<last id>` (2022); anything else (page, offset) is a position.
    """
    query = next_url.partition("#")[0].partition("?")[2]
    pairs = {
        (_name(part), unquote_plus(part.partition("=")[2]))
        for part in query.split("&")
        if part and _name(part) != "limit" and _name(part).lower() not in CREDENTIAL_PARAMETERS
    }
    value = "&".join(f"{quote(name, safe=':')}={quote(text, safe=':')}" for name, text in sorted(pairs))
    keyset = any(
        (name == "next" and text and not text.isdigit()) or (name == "token" and text.startswith("next:"))
        for name, text in pairs
    )
    positions = any(name in ("page", "offset", "startIndex", "skip") for name, _ in pairs)
    return Cursor(value, "keyset" if keyset and not positions else "position")


async def ask_by_hand(
    asker: Asker,
    url: str,
    root: ApiRoot,
    key: str,
    headers: Mapping[str, str],
    max_bytes: int,
    *,
    allow_http: bool = False,
    body: bytes | None = None,
    key_as: str = "query",
    redirects_max: int = REDIRECTS_MAX,
) -> Reply:
    """GET `url`, or POST `body` to it, and follow redirects by hand, with the key at the root's origin only.

    `key_as` is how the key is given: `query` (set, as `key=`), or as one of `KEY_HEADERS` says. No hop elsewhere gets
    any header that could be a credential.

    Raises: TransferError, also (kind `redirect`) for too many redirects, one without a Location, and one that leads
            to another scheme than http(s), or down from https (unless `allow_http`; the key does not go there).
    Cancel: safe at any await.
    """
    plain = {name: value for name, value in headers.items() if name.lower() not in _CREDENTIAL_HEADERS}
    for _ in range(redirects_max + 1):
        if root.may_see_key(url):
            asked, sent = _with_key(url, plain, key, key_as)
        else:
            # Our key is taken out again, should the redirect have echoed it; the rest of a signed URL stays.
            asked, sent = _without(url, key), plain
        if body is None:
            reply = await asker.ask(asked, sent, max_bytes)
        else:
            reply = await asker.post(asked, sent, body, max_bytes)
        if reply.status not in REDIRECT_STATUSES:
            return reply
        url = _redirected(url, reply, allow_http)
        if reply.status == 303:
            body = None
    raise TransferError("redirect", f"more than {redirects_max} redirects from {redact_url(url)}", retryable=False)


def _redirected(url: str, reply: Reply, allow_http: bool) -> str:
    shown = redact_url(url)
    location = reply.location.strip()
    if not location:
        message = f"{reply.status} without a Location from {shown}"
        raise TransferError("redirect", message, status=reply.status, retryable=False)
    target = resolve(url, location)
    scheme = target.partition("://")[0].lower()
    if scheme not in _DEFAULT_PORTS or (scheme == "http" and url.startswith("https:") and not allow_http):
        message = f"{shown} redirects to {redact_url(target)}, which is not followed"
        raise TransferError("redirect", message, status=reply.status, retryable=False)
    return target


def _with_key(url: str, headers: Mapping[str, str], key: str, key_as: str) -> tuple[str, Mapping[str, str]]:
    if key_as == "query" or not key:
        return set_parameters(url, {"key": key or None}), headers
    name, form = KEY_HEADERS[key_as]
    return _without(url, key), {**headers, name: form.format(key)}


def _without(url: str, key: str) -> str:
    path, mark, query = url.partition("?")
    if not key or not mark:
        return url
    return f"{path}?" + "&".join(part for part in query.split("&") if unquote_plus(part.partition("=")[2]) != key)


def _name(parameter: str) -> str:
    return unquote_plus(parameter.partition("=")[0])


def _port(parts: SplitResult) -> int | None:
    """Return the port, None for the scheme's own. Raises: ValueError for one that is no port."""
    return None if parts.port == _DEFAULT_PORTS.get(parts.scheme) else parts.port
