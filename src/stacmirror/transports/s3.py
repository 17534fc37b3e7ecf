"""`s3://bucket/key`: signed here, fetched by the HTTP transport, with credentials from the AWS SDK.

Built by the composition root, called by the router. A GET by aiobotocore costs sixty times the CPU of a signed one on
the lean client, so the SDK is asked for what only it knows (see `aws`) and no more. A bucket's region and the
server's clock are learned from its refusals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple
from urllib.parse import unquote

from stacmirror.errors import LoginRefused, TransferError
from stacmirror.gate import DOUBTED_AFTER, Gate, Standing
from stacmirror.interfaces import Reply, SeveralTransport, Transport
from stacmirror.retry import parse_date
from stacmirror.transports.aws import AwsSession, Endpoint
from stacmirror.transports.s3_answers import BAD_SIGNATURE, code_of, code_of_login, refusal
from stacmirror.transports.sigv4 import Credentials, Signer, object_path

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_HOST_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
"""Buckets that can be a label of a host name. One with dots would fit no wildcard certificate."""
_REGION = re.compile(rb"<Region>([a-z0-9-]{1,32})</Region>")
_REGION_NAME = re.compile(r"[a-z0-9-]{1,32}")
_DEFAULT_REGION = "us-east-1"
_BUCKETS_MAX = 1000
_ATTEMPTS = 3
"""One, one more in the right region, one more at the right time."""
_ELSEWHERE = frozenset({301, 307})


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


class _Asks(NamedTuple):
    """What is asked for, but for who asks."""

    bucket: _Bucket
    path: str
    headers: Mapping[str, str]
    small_max_bytes: int


class S3Transport:
    """GET objects; a status of any kind is a Reply, as with HTTP.

    Raises: LoginRefused when no credentials are found and `unsigned` is not set, or when they are refused, and so are
            the others that are found then, if any: no object could be fetched.
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
        gate: Gate | None = None,
    ) -> None:
        """`http` is somebody else's to close. `endpoint` is a URL, addressed path-style, or "" for AWS.

        `several` is `http` once more, where it can send several requests at once. `vouch` hears of the endpoints, which
        the user's own settings name: AWS's too may have a private address, that of a gateway in one's network. `gate`
        is shut while credentials are in doubt.
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
        self._gate = gate or Gate()
        self._login: Standing[_Asks] = Standing(self._gate)

    async def fetch(self, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
        """See `interfaces.Transport.fetch`."""
        name, path = _parse(url)
        if "If-Range" in headers:
            headers = _conditions(headers)
        for attempt in range(_ATTEMPTS):
            bucket = self._buckets.get(name) or await self._open_bucket(name, self._region)
            reply = await self._ask(_Asks(bucket, path, headers, small_max_bytes))
            if reply.status < 300:
                return Reply(url, reply.status, reply.headers, reply.body, reply.stream)
            if reply.stream is not None:
                reply.stream.close()
            if attempt == _ATTEMPTS - 1 or not await self._learned(name, bucket, reply):
                break
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
        asks: list[_Asks] = []
        first = _parse(requests[0][0])[0] if requests else ""
        proofs, credentials = self._login.proofs, await self._credentials()
        for url, headers in requests:
            try:
                name, path = _parse(url)
            except TransferError:
                break  # its error is for who asks for it
            if name != first:
                break  # a bucket spelled otherwise may be at another host
            bucket = self._buckets.get(name) or await self._open_bucket(name, self._region)
            asks.append(_Asks(bucket, path, headers, small_max_bytes))
        with self._gate.doubt() as doubt:
            refused: dict[int, str] = {}
            """The codes of answers that refuse the credentials."""
            answers: list[Reply | TransferError | None] = []

            def goes_on(reply: Reply) -> bool:
                answers.append(reply)
                if code := self._refused_as(reply, asks[len(answers) - 1]):
                    refused[len(answers) - 1] = code
                    doubt.begin()
                # A bucket in another region has a redirect for each of its objects: one is enough to learn from.
                return heard is not None and heard(reply) and not code and reply.status not in _ELSEWHERE

            sent = [self._request(one, credentials) for one in asks]
            came = await self._several.fetch_several(sent, small_max_bytes, goes_on if heard is not None else None)
            for reply in came[len(answers) :]:
                if heard is None and isinstance(reply, Reply):
                    goes_on(reply)
                else:
                    answers.append(reply)
            if refused and credentials is not None:
                number, code = next(iter(refused.items()))
                proof = partial(self._find_out, credentials, code, asks[number])
                answers[number] = await self._login.prove(proofs, proof)
        return [self._told(url, reply) for (url, _), reply in zip(requests, answers, strict=False)]

    def _told(self, url: str, reply: Reply | TransferError | None) -> Reply | TransferError | None:
        """Return one of several answers as it is handed over; None for a refusal, which is `fetch`'s to learn from."""
        if not isinstance(reply, Reply):
            return reply
        if reply.status < 300:
            return Reply(url, reply.status, reply.headers, reply.body, reply.stream)
        if reply.stream is not None:
            reply.stream.close()
        # Without its body: an error's XML must not pass for an object.
        return Reply(url, 404, reply.headers, b"", None) if reply.status == 404 else None

    async def close(self) -> None:
        """Nothing of its own is open. May be called twice."""

    async def _credentials(self) -> Credentials | None:
        if self._unsigned:
            return None
        while True:
            credentials = self._aws.fresh_credentials() or await self._aws.credentials()
            if not self._gate.shut:
                return credentials
            await self._gate.passed()  # doubted while we waited for them

    def _request(self, asks: _Asks, credentials: Credentials | None) -> tuple[str, Mapping[str, str]]:
        """Return the URL to ask, and the headers to send."""
        bucket, path, headers = asks.bucket, asks.bucket.prefix + asks.path, asks.headers
        if credentials is None:
            return bucket.base + path, {**headers, **self._extra} if self._extra else headers
        now_s = self._wall() + self._behind_s
        signed = bucket.signer.headers(bucket.host, path, credentials, now_s, self._extra)
        return bucket.base + path, {**headers, **signed}

    async def _ask(self, asks: _Asks) -> Reply:
        """Ask once; where it is the credentials that are refused, once more when it is known that they are taken."""
        for attempt in range(2):
            proofs, credentials = self._login.proofs, await self._credentials()
            reply = await self._http.fetch(*self._request(asks, credentials), asks.small_max_bytes)
            code = self._refused_as(reply, asks)
            if not code or credentials is None or (attempt and code == BAD_SIGNATURE):
                break
            if attempt:
                raise self._gate.end(refusal(code))
            again = await self._login.prove(proofs, partial(self._find_out, credentials, code, asks))
            if again is not None:
                return again
        return reply

    async def _find_out(self, refused: Credentials, code: str, asks: _Asks) -> Reply | None:
        """Find out whether other credentials than those that were `refused` are taken; or whether these are, for
        something else. Return the answer to `asks` where it is what was asked for.

        Raises: LoginRefused, which ends the run.
        """
        about = self._login.witness or asks
        # The SDK takes its time: whether it is the object's own trouble is asked at once.
        credentials = refused if code == BAD_SIGNATURE and about is not asks else await self._aws.others(refused)
        while credentials is not None:
            reply = await self._http.fetch(*self._request(about, credentials), asks.small_max_bytes)
            code = code_of_login(reply)
            if not code:
                self._refused_as(reply, about)
                self._login.in_a_row = 0
                if about is asks:
                    return reply
                if reply.stream is not None:
                    reply.stream.close()
                return None
            credentials = await self._aws.others(refused) if credentials == refused else None
        raise self._gate.end(refusal(code))

    def _refused_as(self, reply: Reply, asks: _Asks) -> str:
        """Return the code of an answer that refuses the credentials and not the object, else ""; to be asked once."""
        if reply.status < 300:
            self._login.good(asks)
            return ""
        code = "" if self._unsigned else code_of_login(reply)
        if code == BAD_SIGNATURE and self._login.witness is not None:  # as for a key that is spelled oddly on its way
            self._login.in_a_row += 1
            return code if self._login.in_a_row >= DOUBTED_AFTER else ""
        return code

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
        if code_of(reply) == "RequestTimeTooSkewed":
            return self._learn_time(reply)
        return False

    def _learn_time(self, reply: Reply) -> bool:
        theirs_s = parse_date(reply.headers.get("date", ""))
        if theirs_s is None:
            return False
        self._behind_s = theirs_s - self._wall()
        return True


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
