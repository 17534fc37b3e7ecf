"""`s3://bucket/key`: signed here, fetched by the HTTP transport, with credentials from the AWS SDK.

Built by the composition root, called by the router. A GET by aiobotocore costs sixty times the CPU of a signed one on
the lean client, so the SDK is asked for what only it knows (see `aws`) and no more. A bucket's region and the
server's clock are learned from its refusals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import unquote

from stacmirror.errors import LoginRefused, TransferError
from stacmirror.interfaces import Reply, SeveralTransport, Transport
from stacmirror.retry import parse_date
from stacmirror.transports.aws import AwsSession, Endpoint
from stacmirror.transports.sigv4 import Credentials, Signer, object_path

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_HOST_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
"""Buckets that can be a label of a host name. One with dots would fit no wildcard certificate."""
_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,64})</Code>")
_REGION = re.compile(rb"<Region>([a-z0-9-]{1,32})</Region>")
_REGION_NAME = re.compile(r"[a-z0-9-]{1,32}")
_DEFAULT_REGION = "us-east-1"
_BUCKETS_MAX = 1000
_ATTEMPTS = 3
"""One, one more in the right region, one more at the right time."""
_ELSEWHERE = frozenset({301, 307})
_BAD_KEY_CODES = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch"})
_EXPIRED_CODES = frozenset({"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"})


class _Bucket:
    """How to ask for objects of one bucket: the URL before the path, the Host header, the path before the key."""

    __slots__ = ("base", "host", "prefix", "signer")

    def __init__(self, name: str, endpoint: Endpoint, signer: Signer) -> None:
        scheme, _, host = endpoint.url.partition("://")
        by_host = endpoint.virtual_hosts and _HOST_BUCKET.fullmatch(name) is not None
        self.host = f"{name}.{host}" if by_host else host
        self.base = f"{scheme}://{self.host}"
        self.host = self.host.removesuffix(":443" if scheme == "https" else ":80")
        self.prefix = "" if by_host else f"/{name}"
        self.signer = signer


class S3Transport:
    """GET objects; a status of any kind is a Reply, as with HTTP.

    Raises: LoginRefused when no credentials are found and `unsigned` is not set, or when they are refused before
            they were good for anything: no object could be fetched.
    """

    def __init__(
        self,
        http: Transport,
        *,
        endpoint: str,
        unsigned: bool,
        region: str,
        request_payer: bool,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        several: SeveralTransport | None = None,
        vouch: Callable[[str], None] = lambda url: None,
    ) -> None:
        """`http` is somebody else's to close. `endpoint` is a URL, addressed path-style, or "" for AWS.

        `several` is `http` once more, where it can send several requests at once. `vouch` hears of the endpoints, which
        the user's own settings name: AWS's too may have a private address, that of a gateway in one's network.
        """
        self._http = http
        self._several = several
        self._vouch = vouch
        self._endpoint = Endpoint(endpoint.rstrip("/"), virtual_hosts=False) if endpoint else None
        if self._endpoint is not None:
            vouch(self._endpoint.url)
        self._unsigned = unsigned
        self._region = region
        self._extra = {"x-amz-request-payer": "requester"} if request_payer else {}
        self._wall = wall
        self._aws = AwsSession(monotonic)
        self._buckets: dict[str, _Bucket] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._behind_s = 0.0
        """How far our clock is behind the servers'."""
        self._was_good = False

    async def fetch(self, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
        """See `interfaces.Transport.fetch`."""
        name, path = _parse(url)
        if "If-Range" in headers:
            headers = _conditions(headers)
        for attempt in range(_ATTEMPTS):
            bucket = self._buckets.get(name) or await self._open_bucket(name, self._region)
            address, sent = await self._request(bucket, path, headers)
            reply = await self._http.fetch(address, sent, small_max_bytes)
            if reply.status < 300:
                self._was_good = True
                return Reply(url, reply.status, reply.headers, reply.body, reply.stream)
            if reply.stream is not None:
                reply.stream.close()
            if attempt == _ATTEMPTS - 1 or not await self._learned(name, bucket, reply):
                break
        self._judge(reply)
        # Without its body: an error's XML must not pass for an object.
        return Reply(url, reply.status, reply.headers, b"", None)

    async def fetch_several(
        self,
        requests: Sequence[tuple[str, Mapping[str, str]]],
        small_max_bytes: int,
        heard: Callable[[Reply], bool] | None = None,
    ) -> list[Reply | TransferError | None]:
        """See `interfaces.SeveralTransport.fetch_several`. What is refused is for `fetch` to learn from."""
        if self._several is None:
            return []
        asked = []
        first = _parse(requests[0][0])[0] if requests else ""
        for url, headers in requests:
            try:
                name, path = _parse(url)
            except TransferError:
                break  # its error is for who asks for it
            if name != first:
                break  # a bucket spelled otherwise may be at another host
            bucket = self._buckets.get(name) or await self._open_bucket(name, self._region)
            asked.append(await self._request(bucket, path, headers))
        replies: list[Reply | TransferError | None] = []

        def goes_on(reply: Reply) -> bool:
            # A bucket that is in another region has a redirect for each of its objects: one is enough to learn from.
            return heard is not None and heard(reply) and reply.status not in _ELSEWHERE

        answers = await self._several.fetch_several(asked, small_max_bytes, goes_on if heard is not None else None)
        for (url, _), reply in zip(requests, answers, strict=False):
            if not isinstance(reply, Reply):
                replies.append(reply)
            elif reply.status < 300:
                self._was_good = True
                replies.append(Reply(url, reply.status, reply.headers, reply.body, reply.stream))
            else:  # without its body: an error's XML must not pass for an object
                if _code(reply) in _EXPIRED_CODES:
                    self._judge(reply)
                replies.append(Reply(url, 404, reply.headers, b"", None) if reply.status == 404 else None)
                if reply.stream is not None:
                    reply.stream.close()
        return replies

    async def close(self) -> None:
        """Nothing of its own is open. May be called twice."""

    async def _request(self, bucket: _Bucket, path: str, headers: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
        """Return the URL to ask, and the headers to send."""
        path = bucket.prefix + path
        if self._unsigned:
            return bucket.base + path, {**headers, **self._extra} if self._extra else headers
        credentials: Credentials = self._aws.fresh_credentials() or await self._aws.credentials()
        now_s = self._wall() + self._behind_s
        signed = bucket.signer.headers(bucket.host, path, credentials, now_s, self._extra)
        return bucket.base + path, {**headers, **signed}

    async def _open_bucket(self, name: str, region: str) -> _Bucket:
        if not region:
            # A server of one's own, asked without a signature, has no region: then the SDK need not be loaded.
            region = "" if self._unsigned and self._endpoint else self._aws.region()
        region = region or _DEFAULT_REGION
        endpoint = self._endpoint or self._endpoints.get(region)
        if endpoint is None:
            endpoint = self._endpoints[region] = await self._aws.endpoint(region)
            self._vouch(endpoint.url)
        if len(self._buckets) >= _BUCKETS_MAX:
            self._buckets.clear()
        bucket = self._buckets[name] = _Bucket(name, endpoint, Signer(region))
        return bucket

    async def _learned(self, name: str, bucket: _Bucket, reply: Reply) -> bool:
        """Learn the bucket's region or the server's time from a refusal; True when asking again makes sense."""
        body = reply.body or b""
        found = _REGION.search(body)
        region = reply.headers.get("x-amz-bucket-region", "") or (found[1].decode() if found else "")
        elsewhere = reply.status in (301, 307, 400, 403) and _REGION_NAME.fullmatch(region) is not None
        if elsewhere and region != bucket.signer.region:
            if self._buckets.get(name) is bucket:
                try:
                    await self._open_bucket(name, region)
                except LoginRefused:  # a region that the SDK does not know: not learned
                    return False
            return True
        if _code(reply) == "RequestTimeTooSkewed":
            return self._learn_time(reply)
        return False

    def _learn_time(self, reply: Reply) -> bool:
        theirs_s = parse_date(reply.headers.get("date", ""))
        if theirs_s is None:
            return False
        self._behind_s = theirs_s - self._wall()
        return True

    def _judge(self, reply: Reply) -> None:
        """Tell a refused key from a refused object. Raises: LoginRefused."""
        code = _code(reply) if reply.status in (400, 401, 403) and not self._unsigned else ""
        if code in _EXPIRED_CODES:
            raise LoginRefused(f"the AWS session has ended ({code})", hint="log in again, then resume")
        if code in _BAD_KEY_CODES and not self._was_good:
            raise LoginRefused(
                f"S3 refused the AWS credentials ({code})", hint="check AWS_PROFILE or the AWS_ variables"
            )


def _conditions(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with the conditions that S3 promises to heed; If-Range is none of them. Not met: 412."""
    sent = dict(headers)
    validator = sent.pop("If-Range")
    sent["If-Match" if validator.startswith('"') else "If-Unmodified-Since"] = validator
    return sent


def _parse(url: str) -> tuple[str, str]:
    """Return bucket and path of an `s3://` URL. Raises: TransferError (`url`)."""
    # Not urlsplit: a key may hold `?` and `#`, and begin with a slash.
    name, _, key = url.partition("://")[2].partition("/")
    if not key or not _BUCKET.fullmatch(name):
        raise TransferError("url", "not an s3://bucket/key address", retryable=False)
    try:
        return name, object_path(unquote(key))
    except UnicodeError as error:  # half a surrogate pair
        raise TransferError("url", "not an s3://bucket/key address", retryable=False) from error


def _code(reply: Reply) -> str:
    """Return the error code of S3's XML, or ""."""
    found = _CODE.search(reply.body or b"")
    return found[1].decode() if found else ""
