"""Make connections: resolve a name, try its addresses in turn, shake hands over TLS, all within one time.

Used by `wire` only. It knows neither requests nor answers. Foreign exceptions of resolving, connecting and TLS are
mapped here.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

from stacmirror.errors import TransferError
from stacmirror.shortage import KIND, is_shortage
from stacmirror.transports.address import Origin
from stacmirror.transports.guard import Admits
from stacmirror.transports.tls import certificate_error
from stacmirror.transports.wire_connection import Connection, Keeper

_DNS_LIFE_S = 300.0
_NAMES_MAX = 1000
_FAREWELL_S = 2.0


class Dialer:
    """Connects. A name's addresses are kept for five minutes, the one that answered last in front."""

    def __init__(self, connect_timeout_s: float, tls: Callable[[], ssl.SSLContext], guard: Admits) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._guard = guard
        self._make_tls = tls
        self._tls: ssl.SSLContext | None = None
        self._addresses: dict[tuple[str, int], tuple[float, list[str]]] = {}
        self._asked: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def connect(self, origin: Origin, keeper: Keeper) -> Connection:
        """Return a new connection. It may be lost again by the time the caller uses it.

        Raises: TransferError (`dns`, `host`, `connect`, `tls`, `files`).
        Cancel: safe; a connection half made is dropped.
        """
        where = f"{origin.name}:{origin.port}"
        try:
            async with asyncio.timeout(self._connect_timeout_s) as deadline:
                return await self._try_each(origin, keeper, deadline.when() or 0.0)
        except ssl.SSLCertVerificationError as error:
            raise certificate_error(error, origin.name) from error
        except ssl.SSLError as error:
            raise TransferError("tls", f"the TLS handshake failed: {origin.name}") from error
        except OSError as error:  # a TimeoutError is one
            if is_shortage(error):
                raise TransferError(KIND, f"{error.strerror}: {where}") from error
            self._addresses.pop((origin.name, origin.port), None)  # the name may have moved
            late = isinstance(error, TimeoutError)
            reason = "no connection in time" if late else error.strerror or "no connection"
            raise TransferError("connect", f"{reason}: {where}") from error

    async def _try_each(self, origin: Origin, keeper: Keeper, ends_s: float) -> Connection:
        """Return a connection to the first address that gives one. Raises: TransferError (`dns`), OSError."""
        loop = asyncio.get_running_loop()
        addresses = await self._resolve(origin, loop)
        last = OSError("no address")
        for number, address in enumerate(list(addresses)):
            # An address that swallows packets must leave time for the next: each gets an even share.
            share_s = (ends_s - loop.time()) / (len(addresses) - number)
            try:
                async with asyncio.timeout(share_s):
                    connection = await self._connect_to(address, origin, keeper, loop)
            except ssl.SSLError:
                raise
            except OSError as error:
                last = error
            else:
                if number:
                    addresses.remove(address)
                    addresses.insert(0, address)
                return connection
        raise last

    async def _connect_to(
        self, address: str, origin: Origin, keeper: Keeper, loop: asyncio.AbstractEventLoop
    ) -> Connection:
        more: dict[str, Any] = {}
        if origin.tls:
            more = {
                "ssl": self._context(),
                "server_hostname": origin.name.rstrip("."),
                "ssl_shutdown_timeout": _FAREWELL_S,
            }
        _, connection = await loop.create_connection(lambda: Connection(loop, keeper), address, origin.port, **more)
        return connection

    async def _resolve(self, origin: Origin, loop: asyncio.AbstractEventLoop) -> list[str]:
        key = (origin.name, origin.port)
        known = self._addresses.get(key)
        if known is not None and known[0] > loop.time():
            return known[1]
        # One question for all who wait for it: the threads that resolve are few, and not only ours.
        asked = self._asked.get(key)
        if asked is None:
            asked = self._asked[key] = loop.run_in_executor(None, _addresses_of, *key)
            asked.add_done_callback(lambda _: self._asked.pop(key, None))
        try:
            addresses = await asyncio.shield(asked)
        except (OSError, UnicodeError) as error:
            if is_shortage(error):
                raise TransferError(KIND, f"{error}: {origin.name}") from error
            raise TransferError("dns", f"host name not found: {origin.name}") from error
        # Here, where numbers have come of whatever was spelled, and once for all connections to them.
        addresses = self._guard.admit(origin.name, origin.port, addresses)
        if len(self._addresses) >= _NAMES_MAX:
            self._addresses.clear()
        self._addresses[key] = (loop.time() + _DNS_LIFE_S, addresses)
        return addresses

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = self._make_tls()
        return self._tls


def _addresses_of(name: str, port: int) -> list[str]:
    """Return a name's IPv6 and IPv4 addresses, as the system prefers them. Blocks."""
    return list(dict.fromkeys(str(info[4][0]) for info in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)))
