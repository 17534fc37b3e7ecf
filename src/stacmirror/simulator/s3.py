"""The S3 host: what `s3://` redirects point to, path-style, one bucket.

Asked by the server. GET and HEAD of objects; the ETag is the MD5, as for every object that was put in one
piece. It takes signed and unsigned requests alike unless the settings demand a signature, which it does not
check.
"""

from __future__ import annotations

from urllib.parse import unquote
from xml.sax.saxutils import escape

from .answers import Answer, Ask
from .files import Files
from .objects import Sending, send, with_error
from .settings import SimulatorSettings
from .world import World

BUCKET = "radiant-mlhub"
_MESSAGES = {
    403: ("AccessDenied", "Access Denied"),
    404: ("NoSuchKey", "The specified key does not exist."),
    405: ("MethodNotAllowed", "The specified method is not allowed against this resource."),
    412: ("PreconditionFailed", "At least one of the pre-conditions you specified did not hold"),
    416: ("InvalidRange", "The requested range is not satisfiable"),
    429: ("TooManyRequests", "Please reduce your request rate."),
    503: ("SlowDown", "Please reduce your request rate."),
}


class S3:
    """The S3 host of a world."""

    name = "s3"

    def __init__(self, settings: SimulatorSettings, world: World, files: Files, *, missing_status: int = 404) -> None:
        self._world = world
        self._files = files
        self._missing_status = missing_status
        self._auth_required = settings.s3_auth_required
        self._payer_required = settings.s3_request_payer

    def kind(self, path: str) -> str:
        """Return `s3`: a fault may strike any request."""
        return "s3"

    def answer(self, ask: Ask, kind: str) -> Answer:
        """Return the answer."""
        if ask.method not in ("GET", "HEAD"):
            return self.failure(405)
        signed = ask.headers.get("Authorization", "").startswith("AWS4-HMAC-SHA256 ")
        if self._auth_required and not signed and "X-Amz-Signature=" not in ask.query:
            return self.failure(403)
        if self._payer_required and ask.headers.get("x-amz-request-payer") != "requester":
            return self.failure(403)
        bucket, _, key = unquote(ask.path).removeprefix("/").partition("/")
        if bucket != BUCKET:
            return _error(404, "NoSuchBucket", "The specified bucket does not exist")
        found = self._world.find_key(key)
        if found is None:
            return self.failure(self._missing_status)
        return with_error(self._sent(ask, *found), self.failure)

    def _sent(self, ask: Ask, index: int, asset: str) -> Answer:
        headers = b"x-amz-request-id: SIMULATED\r\nServer: AmazonS3\r\n"
        large = self._files.large(index, asset)
        if large is not None:  # put in pieces, as large objects are: its ETag is no MD5
            return send(ask, large, Sending(f'"{large.opaque.hex()}-9"', headers))
        stored = self._files.get(index, asset)
        return send(ask, stored, Sending(f'"{stored.md5.hex()}"', headers))

    def failure(self, status: int) -> Answer:
        """Return an error as S3 writes it."""
        return _error(status, *_MESSAGES.get(status, ("InternalError", "We encountered an internal error.")))


def _error(status: int, code: str, message: str) -> Answer:
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{escape(message)}</Message><RequestId>SIMULATED</RequestId></Error>"
    )
    return Answer(status, b"Content-Type: application/xml\r\nx-amz-request-id: SIMULATED\r\n", text.encode())
