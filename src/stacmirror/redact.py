"""Secrets out of URLs, free text and STAC JSON, before any of it is logged, raised or kept.

Catalogs, transports and the command line call this where a value enters; nothing is redacted later. It knows how
secrets look (signed queries, capability links, credentials in a URL) and, as a `Redactor`, the ones of this run.
Removing too much is a flaw, removing too little a leak: where a form is doubtful, it goes.
"""

from __future__ import annotations

import base64
import json
import re
from collections import deque
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

import msgspec

REDACTED = "REDACTED"

# fmt: off
CREDENTIAL_PARAMETERS = frozenset(
    [
        "key", "api_key", "apikey", "api-key", "access_key", "accesskey", "access_token", "id_token",
        "refresh_token", "auth", "authorization", "bearer", "jwt", "password", "passwd", "pwd", "secret",
        "client_secret", "credential", "credentials", "subscription-key", "ocp-apim-subscription-key"
    ]
)
"""Query parameters that are a login, in lower case."""

_SIGNED = frozenset(
    [
        "sig", "signature", "se", "sp", "sv", "sr", "st", "spr", "sip", "skoid", "sktid", "skt", "ske", "sks",
        "skv", "awsaccesskeyid", "googleaccessid", "policy", "key-pair-id", "expires"
    ]
)
_SIGNED_PREFIXES = ("x-amz-", "x-goog-", "x-ms-")
_SECRET_FIELDS = frozenset(
    form
    for field in [
        "api_key", "apikey", "api-key", "access_key", "x-api-key", "subscription-key", "access_token", "id_token",
        "refresh_token", "authorization", "password", "passwd", "client_secret", "secret"
    ]
    for form in (field, field.title(), field.upper())
)
"""Names under which a JSON document would hold a secret as a plain string."""
# fmt: on
_PAGING_VALUE = re.compile(r"(?:next|prev)(?::|%3a)", re.IGNORECASE)

_FIELD_STEMS = (b'key"', b'token"', b'secret"', b'authorization"', b"passw")
"""Some part of each of `_SECRET_FIELDS`, as it stands in compact JSON in lower case."""

_CERTAIN_LENGTH = 8
"""Shorter secrets are words that a document may hold for other reasons."""
_LEARNED_LENGTH_MIN = 6
"""Shorter ones that a run learns are left: to take them out of everything would take out words."""
_PASSING_MAX = 32
"""Tokens that end are looked for while they are among the last so many: each costs every item some searches."""
_NESTED_MAX = 3
_PARAMETER = re.compile(r"([?&#;])([^=&#;?]+)=([^&#]*)")
_USERINFO = re.compile(r"(://)[^/?#\s\"'<>]*@")
_FERNET = re.compile(r"gAAAA[A-Za-z0-9_-]{16,}(?:={0,2}|(?:%3[dD]){0,2})")
_HASH_LINK = re.compile(r"/download/[0-9a-fA-F]{64}(?![0-9a-zA-Z])")
_FERNET_BYTES = re.compile(_FERNET.pattern.encode())
_HASH_LINK_BYTES = re.compile(_HASH_LINK.pattern.encode())
_URL_HINT = re.compile(r"[/?=@]|gAAAA").search
_SEMICOLON = re.compile(rb";[^ ]")

_TEXT_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>\\`]+")
_TEXT_SCHEME = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9+/=_.~%-]{8,}", re.IGNORECASE)
_TEXT_PARAMETER = re.compile(
    r"""(?ix)
    ( (?<![a-z0-9_-]) (?:x-(?:amz|goog)-[a-z-]+ | api[_-]?key | x-api-key | access_?key | access_token
         | id_token | refresh_token | authorization
         | password | passwd | pwd | client_secret | secret | signature | sig | awsaccesskeyid )
      ["']? \s* [=:] \s* ["']?
    | (?: [?&;] | \\u0026 ) key=
    | \b key= (?= [a-z0-9_-]{16} ) )
    (?! REDACTED ) (?! (?:bearer|basic)\s )
    (?! (?:\.\.\.|…) (?: [`'",)\s] | $ ) )  # as our own hints have it: where a secret is to be put
    [^&\s"'<>#\\]+"""
)
_TEXT_COOKIE = re.compile(r"\b((?:set-)?cookie[\"']?\s*[=:]\s*[\"']?[^=;\s]+=)[^;\s\"']+", re.IGNORECASE)
_TEXT_HINT = re.compile(r"[=:@]|gAAAA|/download/|bearer|basic", re.IGNORECASE)


def redact_url(url: str) -> str:
    """Return `url` without userinfo, credentials, signatures and capability tokens; the rest byte for byte.

    A paging token (`token=next:<id>`, `next=...`) names data, no session, and stays.
    """
    return _redact_url(url, 0)


def redact_text(text: str) -> str:
    """Return free text (a log line, an error) with everything that looks like a secret taken out."""
    if not _TEXT_HINT.search(text):
        return text
    text = _TEXT_URL.sub(lambda match: redact_url(match[0]), text)
    text = _TEXT_SCHEME.sub(rf"\1 {REDACTED}", text)
    text = _TEXT_PARAMETER.sub(rf"\1{REDACTED}", text)
    text = _TEXT_COOKIE.sub(rf"\1{REDACTED}", text)
    return _redact_tokens(text)


def redact_document(raw: bytes) -> bytes:
    """Return a JSON document with all its strings redacted, compact. Never raises.

    What is no JSON, or is nested too deeply to walk, is redacted as text: it stays what it was, without secrets.
    """
    try:
        # This runs once an item. Most items hold no secret but their links' tokens, which can be cut out of the bytes
        # as they are: a third of the cost of a walk over all strings. Anything that could be more is walked.
        compact = _HASH_LINK_BYTES.sub(b"/download/REDACTED", _FERNET_BYTES.sub(b"REDACTED", _compact(raw)))
        if not _may_hold_more(compact):
            return compact
        return msgspec.json.encode(_redact_tree(msgspec.json.decode(compact)))
    except (ValueError, RecursionError):
        pass
    try:  # NaN and lone surrogates: what msgspec refuses and Python's own parser takes
        return json.dumps(_redact_tree(json.loads(raw)), separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return redact_text(raw.decode("utf-8", "replace").replace("\\/", "/")).encode()


class Redactor:
    """Takes the secrets of this run out of any text, in the forms in which they travel, and all that looks like one.

    Forms: plain, percent-encoded (both cases), JSON-escaped, base64 (both alphabets, wherever it stands in the
    encoded text, as in `Basic base64(user:secret)`).
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._held = {secret for secret in secrets if secret}
        self._passing: deque[str] = deque(maxlen=_PASSING_MAX)
        self._look_for()

    def learn(self, secret: str, *, passing: bool = False) -> None:
        """Take out `secret` from now on, too; `passing` says that it ends, and another will take its place."""
        if len(secret) < _LEARNED_LENGTH_MIN or secret in self._held or secret in self._passing:
            return
        if passing:
            self._passing.append(secret)
        else:
            self._held.add(secret)
        self._look_for()

    def _look_for(self) -> None:
        forms = {form for secret in (*self._held, *self._passing) for form in _forms(secret)}
        # The longest first, so that no secret's tail is left when another one begins it.
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        self._known_bytes = [form.encode("utf-8", "surrogatepass") for form in ordered if len(form) >= _CERTAIN_LENGTH]
        self._known = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def document(self, raw: bytes) -> bytes:
        """Return a JSON document as `redact_document` does, and without the known secrets wherever they are."""
        redacted = redact_document(raw)
        for form in self._known_bytes:  # a few searches of bytes, a microsecond each: this runs once an item
            if form in redacted:
                redacted = redacted.replace(form, REDACTED.encode())
        return redacted

    def text(self, text: str) -> str:
        """Return `text` without secrets."""
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        return redact_text(text)


def _redact_url(url: str, depth: int) -> str:
    if "@" in url:
        url = _USERINFO.sub(rf"\1{REDACTED}@", url)
    if "=" in url and ("?" in url or ";" in url or "#" in url):
        url = _PARAMETER.sub(lambda match: _redact_parameter(match, depth), url)
    return _redact_tokens(url)


def _redact_parameter(match: re.Match[str], depth: int) -> str:
    before, name, value = match.groups()
    if _is_secret(unquote_plus(name).strip().lower(), value):
        return f"{before}{name}={REDACTED}"
    if depth < _NESTED_MAX:
        if "?" in value or ";" in value:  # a URL, or a further parameter, inside the value as it is ...
            value = _redact_url(value, depth + 1)
        if "%3" in value:  # ... or percent-encoded
            inner = unquote(value)
            redacted = _redact_url(inner, depth + 1)
            if redacted != inner:
                value = quote(redacted, safe="")
    return f"{before}{name}={value}"


def _is_secret(name: str, value: str) -> bool:
    if name == "token":
        return _PAGING_VALUE.match(value) is None
    return name in CREDENTIAL_PARAMETERS or name in _SIGNED or name.startswith(_SIGNED_PREFIXES)


def _redact_tokens(text: str) -> str:
    if "gAAAA" in text:
        text = _FERNET.sub(REDACTED, text)
    if "/download/" in text:
        text = _HASH_LINK.sub(f"/download/{REDACTED}", text)
    return text


def _compact(raw: bytes) -> bytes:
    return msgspec.json.format(raw, indent=-1)


def _may_hold_more(compact: bytes) -> bool:
    # Parameters (`?`, `#`, `;` without a blank, as media types have it), userinfo, escapes that hide them, fields.
    if b"?" in compact or b"#" in compact or b"@" in compact or b"\\" in compact or _SEMICOLON.search(compact):
        return True
    lower = compact.lower()
    return any(stem in lower for stem in _FIELD_STEMS)


def _redact_tree(node: Any) -> Any:
    """Redact a decoded document in place and return it."""
    if type(node) is dict:
        for key, value in node.items():
            kind = type(value)
            if kind is str:
                if key in _SECRET_FIELDS:
                    node[key] = REDACTED
                elif _URL_HINT(value):
                    node[key] = redact_url(value)
            elif kind is dict or kind is list:
                _redact_tree(value)
        for key in [key for key in node if "/" in key or "?" in key]:
            node[redact_url(key)] = node.pop(key)
    elif type(node) is list:
        for position, value in enumerate(node):
            kind = type(value)
            if kind is str:
                node[position] = redact_url(value)
            elif kind is dict or kind is list:
                _redact_tree(value)
    elif type(node) is str:
        return redact_url(node)
    return node


def _forms(secret: str) -> Iterable[str]:
    yield secret
    yield json.dumps(secret)[1:-1]
    for encoded in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        yield encoded
        yield re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), encoded)
    raw = secret.encode("utf-8", "surrogatepass")
    for before in range(3):
        # The characters at both ends also hold bits of the neighbours: only the core is the secret's own.
        core = base64.b64encode(b"\0" * before + raw)[(0, 2, 3)[before] : len(raw + b"\0" * before) * 8 // 6].decode()
        if len(core) >= 8:
            yield core
            yield core.replace("+", "-").replace("/", "_")
