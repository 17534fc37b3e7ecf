"""The blob host: what https redirects point to, in the manner of Azure's storage.

Asked by the server, and by the API when it sends files itself. The ETag is opaque, not an MD5; Content-MD5 is
one.
"""

from __future__ import annotations

import base64

from .answers import Answer, Ask
from .files import Files
from .objects import Sending, send, with_error
from .world import World

_HEADERS = b"x-ms-version: 2021-06-08\r\nx-ms-blob-type: BlockBlob\r\n"
_MESSAGES = {
    403: ("AuthorizationFailure", "This request is not authorized to perform this operation."),
    404: ("BlobNotFound", "The specified blob does not exist."),
    405: ("UnsupportedHttpVerb", "The resource doesn't support specified Http Verb."),
    412: ("ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met."),
    416: ("InvalidRange", "The range specified is invalid for the current size of the resource."),
    429: ("TooManyRequests", "Too many requests."),
    503: ("ServerBusy", "The server is busy."),
}


class Blobs:
    """The blob host of a world."""

    name = "blobs"

    def __init__(self, world: World, files: Files, *, missing_status: int = 404) -> None:
        self._world = world
        self._files = files
        self._missing_status = missing_status

    def kind(self, path: str) -> str:
        """Return `blobs`: a fault may strike any request."""
        return "blobs"

    def answer(self, ask: Ask, kind: str) -> Answer:
        """Return the answer."""
        if ask.method not in ("GET", "HEAD"):
            return self.failure(405)
        found = self._world.find_key(ask.path[1:])
        return self.failure(self._missing_status) if found is None else self.file(ask, *found)

    def file(self, ask: Ask, index: int, asset: str) -> Answer:
        """Return a file that exists, or the part of it that is asked for."""
        large = self._files.large(index, asset)
        if large is not None:
            # Azure has no MD5 of what was put in blocks.
            how = Sending(f'"0x8D{large.opaque[:7].hex()[:13].upper()}"', _HEADERS)
            return with_error(send(ask, large, how), self.failure)
        stored = self._files.get(index, asset)
        md5 = base64.b64encode(stored.md5)
        how = Sending(
            etag=f'"0x8D{stored.md5[:7].hex()[:13].upper()}"',
            headers=_HEADERS,
            whole_headers=b"Content-MD5: %s\r\n" % md5,
            # Content-MD5 of a part would have to be the part's own.
            part_headers=b"x-ms-blob-content-md5: %s\r\n" % md5,
        )
        return with_error(send(ask, stored, how), self.failure)

    def failure(self, status: int) -> Answer:
        """Return an error as Azure writes it: XML after a byte order mark."""
        code, message = _MESSAGES.get(status, ("InternalError", "The server encountered an internal error."))
        text = (
            '\ufeff<?xml version="1.0" encoding="utf-8"?>'
            f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        )
        headers = b"Content-Type: application/xml\r\nx-ms-error-code: %s\r\n" % code.encode()
        return Answer(status, headers, text.encode())
