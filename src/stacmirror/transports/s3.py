"""`s3://bucket/key` by aiobotocore, with one client for the whole run.

It resolves credentials (environment, profiles, SSO, roles, instance metadata), finds a bucket's region and
signs. A client costs about 0.3 s to make and looks up credentials once: never one an object.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import unquote

from stacmirror.errors import LoginRefused, TransferError
from stacmirror.interfaces import Reply

_CHUNK_BYTES = 1 << 18


class S3Transport:
    """GET objects; a status of any kind is a Reply, as with HTTP.

    Raises: LoginRefused when no credentials are found and `unsigned` is not set: no object could be fetched.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        unsigned: bool,
        region: str,
        request_payer: bool,
        connections_max: int,
        connect_timeout_s: float,
        stall_timeout_s: float,
    ) -> None:
        self._endpoint = endpoint
        self._unsigned = unsigned
        self._region = region
        self._extra = {"RequestPayer": "requester"} if request_payer else {}
        self._connections_max = connections_max
        self._connect_timeout_s = connect_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._open = contextlib.AsyncExitStack()
        self._client: Any = None
        self._making = asyncio.Lock()

    async def _made_client(self) -> Any:
        if self._client is None:
            async with self._making:
                if self._client is None:
                    self._client = await self._make_client()
        return self._client

    async def _make_client(self) -> Any:
        from aiobotocore.config import AioConfig  # here, so that a run without s3:// never loads botocore (0.5 s)
        from aiobotocore.session import get_session
        from botocore import UNSIGNED

        session = get_session()
        config = AioConfig(
            connect_timeout=self._connect_timeout_s,
            read_timeout=self._stall_timeout_s,
            max_pool_connections=self._connections_max,
            retries={"total_max_attempts": 1},  # retrying is our own policy's business
            s3={"addressing_style": "path" if self._endpoint else "auto"},
            signature_version=UNSIGNED if self._unsigned else None,
        )
        try:
            region = self._region or session.get_config_variable("region") or "us-east-1"
            return await self._open.enter_async_context(
                session.create_client("s3", region_name=region, endpoint_url=self._endpoint or None, config=config)
            )
        except Exception as error:
            raise LoginRefused(
                f"the AWS settings cannot be used: {type(error).__name__}",
                hint="check AWS_PROFILE and ~/.aws/config, or use --s3-unsigned for public buckets",
            ) from error

    async def fetch(self, url: str, headers: Mapping[str, str], small_max_bytes: int) -> Reply:
        """See `interfaces.Transport.fetch`. `headers` is not used: S3 needs none of ours."""
        # Not urlsplit: a key may hold `?` and `#`, and begin with a slash.
        bucket, _, key = url.partition("://")[2].partition("/")
        if not bucket or not key:
            raise TransferError("url", "not an s3://bucket/key address", retryable=False)
        client = await self._made_client()
        try:
            answer = await client.get_object(Bucket=bucket, Key=unquote(key), **self._extra)
        except Exception as error:
            return _refused(url, error)
        found = {name.lower(): value for name, value in answer["ResponseMetadata"]["HTTPHeaders"].items()}
        body = answer["Body"]
        if answer.get("ContentLength", small_max_bytes + 1) > small_max_bytes:  # some services send chunks
            return Reply(url, 200, found, None, _Stream(body))
        try:
            return Reply(url, 200, found, await body.read(), None)
        except Exception as error:
            raise _cut(error) from error
        finally:
            body.close()

    async def close(self) -> None:
        """Close the client."""
        self._client = None
        await self._open.aclose()


class _Stream:
    def __init__(self, body: Any) -> None:
        self._body = body

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._body.iter_chunks(_CHUNK_BYTES):
                yield chunk
        except Exception as error:
            raise _cut(error) from error

    def close(self) -> None:
        self._body.close()


def _cut(error: Exception) -> TransferError:
    timed_out = isinstance(error, asyncio.TimeoutError) or "Timeout" in type(error).__name__
    if timed_out:
        return TransferError("timeout", "no byte in time")
    return TransferError("short", "the body ended early or is damaged")


def _refused(url: str, error: Exception) -> Reply:
    """Return the Reply for an S3 error answer.

    Raises: TransferError or LoginRefused for what is no answer at all.
    """
    from botocore import exceptions as s3_errors

    if isinstance(error, s3_errors.ClientError):
        meta = error.response.get("ResponseMetadata", {})
        status = int(meta.get("HTTPStatusCode", 0))
        if status < 300:  # S3 can say 200 first and fail after: never an empty object
            status = 500
        found = {name.lower(): value for name, value in meta.get("HTTPHeaders", {}).items()}
        found["x-s3-code"] = str(error.response.get("Error", {}).get("Code", ""))
        return Reply(url, status, found, b"", None)
    if isinstance(error, (s3_errors.NoCredentialsError, s3_errors.PartialCredentialsError)):
        raise LoginRefused(
            "no AWS credentials for s3:// assets",
            hint="set AWS_PROFILE or AWS_ACCESS_KEY_ID, or use --s3-unsigned for public buckets",
        ) from error
    if isinstance(error, (s3_errors.CredentialRetrievalError, s3_errors.TokenRetrievalError)):
        raise LoginRefused("the AWS credentials cannot be refreshed", hint="log in again, then resume") from error
    if isinstance(error, s3_errors.ConnectTimeoutError):
        raise TransferError("connect", "no connection in time") from error
    if isinstance(error, s3_errors.ReadTimeoutError):
        raise TransferError("timeout", "no byte in time") from error
    if isinstance(error, s3_errors.ParamValidationError):
        raise TransferError("url", "not a valid bucket or key", retryable=False) from error
    if isinstance(error, s3_errors.ConnectionClosedError):
        raise TransferError("reset", "the server closed the connection before it answered") from error
    if isinstance(error, (s3_errors.HTTPClientError, s3_errors.ConnectionError)):
        raise TransferError("connect", f"no connection to S3: {type(error).__name__}") from error
    raise TransferError("client", f"{type(error).__name__}") from error
