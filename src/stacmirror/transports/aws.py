"""What only the AWS SDK knows: credentials of every kind, kept fresh, and where a region's S3 is.

Used by `s3`, which signs and fetches by itself. aiobotocore is loaded when the first object is asked for: a run
without s3:// never pays for it (0.5 s and 40 MiB).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from stacmirror.errors import LoginRefused
from stacmirror.transports.sigv4 import Credentials

_FRESH_S = 10.0
"""Seconds for which credentials are taken as they are; then the SDK is asked whether they still hold."""
_NO_CREDENTIALS = "set AWS_PROFILE or AWS_ACCESS_KEY_ID, or use --s3-unsigned for public buckets"


class Endpoint(NamedTuple):
    """Where S3 is: a URL without a path, and whether buckets go into the host name."""

    url: str
    virtual_hosts: bool


class AwsSession:
    """One SDK session. Every question may be asked by many at once; the SDK is asked once."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._session: Any = None
        self._found: Any = None
        self._asking = asyncio.Lock()
        self._error: LoginRefused | None = None
        """Why there are none: whoever waits with others for the answer does not ask again."""
        self._frozen: Credentials | None = None
        self._frozen_s = 0.0

    def fresh_credentials(self) -> Credentials | None:
        """Return credentials that were good a moment ago, without a question, or None."""
        return self._frozen if self._monotonic() - self._frozen_s < _FRESH_S else None

    async def credentials(self) -> Credentials:
        """Return credentials that hold now, refreshed where that is due.

        Raises: LoginRefused when there are none, or when they cannot be refreshed.
        """
        async with self._asking:
            return self.fresh_credentials() or await self._ask()

    async def others(self, refused: Credentials) -> Credentials | None:
        """Return other credentials than those that were `refused`, found as if for the first time; None without any.

        A profile, a program or a service may give a new session where the SDK still holds an old one.
        Raises: as `credentials`.
        """
        async with self._asking:
            if self._frozen is None or self._frozen == refused:
                self._session = self._found = None
                await self._ask()
            return None if self._frozen == refused else self._frozen

    async def _ask(self) -> Credentials:
        if self._error is not None:
            raise LoginRefused(self._error.message, hint=self._error.hint)
        try:
            self._frozen = await self._find()
        except LoginRefused as error:
            self._error = error
            raise
        self._frozen_s = self._monotonic()
        return self._frozen

    async def _find(self) -> Credentials:
        try:
            if self._found is None:
                self._found = await self._open().get_credentials()
            frozen = None if self._found is None else await self._found.get_frozen_credentials()
        except Exception as error:
            raise _refused(error) from error
        if frozen is None:
            raise LoginRefused("no AWS credentials for s3:// assets", hint=_NO_CREDENTIALS)
        if not frozen.access_key or not frozen.secret_key:
            raise LoginRefused("the AWS credentials are incomplete", hint=_NO_CREDENTIALS)
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token or "")

    def region(self) -> str:
        """Return the region that the environment or the profile names, or "". Raises: LoginRefused."""
        try:
            return str(self._open().get_config_variable("region") or "")
        except Exception as error:
            raise _refused(error) from error

    async def endpoint(self, region: str) -> Endpoint:
        """Return where S3 is in `region`, by the SDK's rules (partitions, profile, AWS_ENDPOINT_URL).

        Raises: LoginRefused for settings that the SDK cannot use.
        """
        from aiobotocore.config import AioConfig
        from botocore import UNSIGNED

        try:
            config = AioConfig(signature_version=UNSIGNED)
            async with self._open().create_client("s3", region_name=region, config=config) as client:
                url = str(client.meta.endpoint_url).rstrip("/")
                style = (client.meta.config.s3 or {}).get("addressing_style") or "auto"
        except Exception as error:
            raise _refused(error) from error
        return Endpoint(url, virtual_hosts=style == "virtual" or (style == "auto" and ".amazonaws.com" in url))

    def _open(self) -> Any:
        if self._session is None:
            from aiobotocore.session import get_session

            self._session = get_session()
        return self._session


def _refused(error: Exception) -> LoginRefused:
    """Return our error for the SDK's, without its text: that may hold a key."""
    name = type(error).__name__
    if "Token" in name or "Retrieval" in name or "Refresh" in name:
        return LoginRefused("the AWS credentials cannot be refreshed", hint="log in again, then resume")
    return LoginRefused(
        f"the AWS settings cannot be used: {name}",
        hint="check AWS_PROFILE and ~/.aws/config, or use --s3-unsigned for public buckets",
    )
