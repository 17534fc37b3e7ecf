"""One redirect: where it leads, and whether anybody could have changed it. Used by the router and `in_turn`."""

from __future__ import annotations

import re
from urllib.parse import urljoin

from stacmirror.errors import TransferError
from stacmirror.interfaces import Reply
from stacmirror.redact import redact_url

DEAD_STATUSES = frozenset({400, 401, 403})
"""What the target of a redirect answers once its signature has died."""
TARGET_OLD_S = 1.0
"""A target that is asked for later than that after its link may have died meanwhile."""
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def target_of(reply: Reply, url: str) -> str:
    """Return where a redirect from `url` leads, byte for byte where it is absolute; "" when it does not say.

    Raises: TransferError, kind `redirect`, where it leads to nothing that could be an address.
    """
    location = reply.location
    try:
        return location if not location or _ABSOLUTE.match(location) else urljoin(url, location)
    except ValueError as error:  # such as //[::1
        raise TransferError("redirect", f"{redact_url(url)} leads to no address", retryable=False) from error


def is_secure(url: str) -> bool:
    """Return whether nobody on the way can read or change what comes from `url`: https, and objects of S3."""
    return url[:6].lower() == "https:" or url[:5].lower() == "s3://"


def is_plain(url: str) -> bool:
    """Return whether `url` is http without TLS."""
    return url[:5].lower() == "http:"
