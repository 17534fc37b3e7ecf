"""Request and answer as plain values, the way all hosts of the simulator see them.

Hosts (`api`, `blobs`, `s3`) turn an Ask into an Answer; `delivery` alone knows sockets. Header lines are kept
ready to send: an answer costs one join and one write.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

HTML_REASONS: Mapping[int, str] = {
    400: "The browser (or proxy) sent a request that this server could not understand.",
    401: (
        "The server could not verify that you are authorized to access the URL requested. You either "
        "supplied the wrong credentials (e.g. a bad password), or your browser doesn&#x27;t understand how "
        "to supply the credentials required."
    ),
    403: "You don&#x27;t have the permission to access the requested resource.",
    404: (
        "The requested URL was not found on the server. If you entered the URL manually please check your "
        "spelling and try again."
    ),
    405: "The method is not allowed for the requested URL.",
    500: "The server encountered an internal error and was unable to complete your request.",
}


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: `path` as sent (percent-encoded), `query` without the question mark."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: `headers` are whole lines; a body that is an iterator is sent in chunks, or with its `length`."""

    status: int
    headers: bytes = b""
    body: bytes | Iterator[bytes] = b""
    length: int | None = None


class Host(Protocol):
    """One server of the simulator."""

    name: str

    def kind(self, path: str) -> str:
        """Return the kind of request that this path is; "" for one that no fault may strike."""

    def answer(self, ask: Ask, kind: str) -> Answer:
        """Return the answer. It makes at most one file or the first slice of a page, and never waits."""

    def failure(self, status: int) -> Answer:
        """Return an error in this host's form."""


def json_answer(status: int, text: str, headers: bytes = b"") -> Answer:
    """Return an answer that is JSON."""
    return Answer(status, b"Content-Type: application/json\r\n" + headers, text.encode())


def html_error(status: int) -> Answer:
    """Return an error as the gunicorn service of 2021 wrote it."""
    title = HTTPStatus(status).phrase
    reason = HTML_REASONS.get(status, HTTPStatus(status).description or title)
    text = (
        '<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">\n'
        f"<title>{status} {title}</title>\n<h1>{title}</h1>\n<p>{reason}</p>\n"
    )
    return Answer(status, b"Content-Type: text/html\r\n", text.encode())


def json_error(status: int, detail: str = "") -> Answer:
    """Return an error as the service of 2022 wrote it."""
    return json_answer(status, json.dumps({"detail": detail or HTTPStatus(status).phrase}, separators=(",", ":")))
