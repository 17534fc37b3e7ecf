"""aiohttp's exceptions in our own words. Used by `http`, so that they go no further."""

from __future__ import annotations

import asyncio
import ssl

import aiohttp

from stacmirror.errors import TransferError
from stacmirror.shortage import KIND, is_shortage
from stacmirror.transports.tls import certificate_error


def map_error(error: Exception) -> TransferError:
    """Return our error for one of aiohttp's (or of the socket's) without its text where that may hold a URL."""
    if isinstance(error, TransferError):
        return error
    if isinstance(error, (asyncio.TimeoutError, aiohttp.ServerTimeoutError)):
        kind = "connect" if isinstance(error, aiohttp.ConnectionTimeoutError) else "timeout"
        return TransferError(kind, "no connection in time" if kind == "connect" else "no byte in time")
    if isinstance(error, aiohttp.InvalidURL):
        return TransferError("url", "not a URL that can be asked", retryable=False)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        if isinstance(cause, ssl.SSLCertVerificationError):
            return certificate_error(cause, error.host)
        return TransferError("tls", f"the certificate of {error.host} is not trusted", retryable=False)
    if isinstance(error, ssl.SSLCertVerificationError):
        return certificate_error(error, "the server")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return TransferError("proxy", f"the proxy answered {error.status}", retryable=error.status >= 500)
    if isinstance(error, ssl.SSLError):
        return TransferError("tls", "the TLS handshake failed")
    if isinstance(error, aiohttp.ClientConnectorError) and is_shortage(error.os_error):
        return TransferError(KIND, f"{error.os_error.strerror}: {error.host}:{error.port}")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return TransferError("dns", f"host name not found: {error.host}")
    if isinstance(error, aiohttp.ClientConnectorError):
        return TransferError("connect", f"{error.os_error.strerror or 'no connection'}: {error.host}:{error.port}")
    if isinstance(error, aiohttp.ClientPayloadError):
        return TransferError("short", "the body ended early or is damaged")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return TransferError("reset", "the server closed the connection before it answered")
    if isinstance(error, (aiohttp.ClientOSError, ConnectionError)):
        return TransferError("reset", "the connection was reset")
    if isinstance(error, aiohttp.ClientResponseError):
        # The first line only: in the others aiohttp shows what the server sent.
        return TransferError("protocol", f"not an HTTP answer: {error.message.partition(chr(10))[0][:80]}")
    if isinstance(error, ValueError):
        return TransferError("url", "not a URL that can be asked", retryable=False)
    return TransferError("client", f"{type(error).__name__}")
