"""JSON as servers send it, decoded: mended where parsers differ, refused where it is deep or none at all.

Called by whoever reads a catalog's documents. Fields may be of any type, so each is taken by the type that is wanted.
It knows neither items nor pages.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from stacmirror.catalogs.nesting import is_deeper
from stacmirror.errors import SourceUnreadable
from stacmirror.interfaces import Reply
from stacmirror.redact import redact_url

IS_IT_THE_ROOT = "is --api-url the root of the API, and the server well?"
GIVE_A_ROOT = "give the root of an API, a collection, a catalog.json, or a file of items"
OWNERS = "the server's documents contradict themselves: tell the catalog's owner"
_DIGITS_MAX = 1000
T = TypeVar("T")


def refuse_deep(body: bytes, depth_max: int, what: str) -> None:
    """Refuse JSON that is nested deeper than `depth_max`. Raises: SourceUnreadable."""
    if is_deeper(body, depth_max):
        raise SourceUnreadable(f"{what} is nested too deeply (more than {depth_max})", hint=IS_IT_THE_ROOT)


def decode(decoder: msgspec.json.Decoder[T], body: bytes, what: str) -> T:
    """Return what `decoder` makes of a body, mended where only msgspec minds. Raises: SourceUnreadable."""
    try:
        try:
            return decoder.decode(body)
        except ValueError:  # no JSON, a number out of range, or not what is wanted
            return decoder.decode(_mended(body))
    except msgspec.ValidationError as error:
        raise SourceUnreadable(f"{what} is not what it should be: {error}", hint=IS_IT_THE_ROOT) from error
    except RecursionError as error:
        raise SourceUnreadable(f"{what} is nested too deeply", hint=IS_IT_THE_ROOT) from error
    except (ValueError, MemoryError) as error:
        raise SourceUnreadable(f"{what} is no JSON ({_looks_like(body)})", hint=IS_IT_THE_ROOT) from error


def object_of(reply: Reply, url: str, depth_max: int) -> dict[str, Any]:
    """Return an answer's JSON object. Raises: SourceUnreadable where it is none, or is nested too deeply."""
    refuse_deep(reply.body or b"", depth_max, redact_url(url))
    try:
        document = value_of(reply.body or b"")
    except (ValueError, RecursionError) as error:
        start = (reply.body or b"")[:200].lstrip().lower()
        what = "it is HTML" if start.startswith(b"<") else "it is empty" if not start else "it is no JSON"
        raise SourceUnreadable(f"{redact_url(url)} is no STAC: {what}", hint=GIVE_A_ROOT) from error
    if not isinstance(document, dict):
        raise SourceUnreadable(f"{redact_url(url)} is no STAC: it is no JSON object", hint=GIVE_A_ROOT)
    return document


def value_of(body: bytes) -> Any:
    """Return what a body is, mended as by `decode`. Raises: ValueError, RecursionError."""
    try:
        return msgspec.json.decode(body)
    except ValueError:
        return msgspec.json.decode(_mended(body))


class _Typed(msgspec.Struct):
    type: Any = None


_TYPED = msgspec.json.Decoder(_Typed)


def type_of(body: bytes) -> str:
    """Return the `type` of a body that is an object, "" where it has none, or is none."""
    try:
        return text_of(_TYPED.decode(body).type)
    except RecursionError:
        return ""
    except ValueError:
        try:
            found = value_of(body)
        except (ValueError, RecursionError):
            return ""
        return text_of(found.get("type")) if isinstance(found, dict) else ""


def links_of(links: Any, what: str) -> list[dict[str, Any]]:
    """Return a document's links. Raises: SourceUnreadable where they are no list: what it leads to cannot be told."""
    if links and not isinstance(links, list):
        raise SourceUnreadable(f"{what} has links that are no list", hint=OWNERS)
    return list(objects_of(links))


def objects_of(value: Any) -> Iterator[dict[str, Any]]:
    """Return the objects of an array; none of what is no array."""
    return (entry for entry in value if isinstance(entry, dict)) if isinstance(value, list) else iter(())


def text_of(value: Any) -> str:
    """Return a text, "" for anything else."""
    return value if isinstance(value, str) else ""


def count_of(value: Any) -> int | None:
    """Return a count, which may be written in digits; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value[:18])
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _mended(body: bytes) -> bytes:
    """Return JSON that msgspec takes, from what only Python's parser does: NaN, a byte order mark, lone surrogates.

    Numbers that are none to any computer (5,000 digits, 1e999) become null: they must not cost the page.
    """
    value = json.loads(body, parse_constant=lambda _: None, parse_int=_integer, parse_float=_finite)
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "xmlcharrefreplace")


def _integer(text: str) -> int | None:
    return int(text) if len(text) <= _DIGITS_MAX else None


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _looks_like(body: bytes) -> str:
    start = body[:200].lstrip().lower()
    if not start:
        return "it is empty"
    return "it is HTML" if start.startswith((b"<!doctype", b"<html", b"<")) else f"{len(body):,} bytes"
