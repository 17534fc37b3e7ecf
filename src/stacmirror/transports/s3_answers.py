"""What S3 says where it refuses: the error codes of its XML, and which of them speak of the credentials.

Used by `s3`. Source: Amazon S3 API reference, "Error responses".
"""

from __future__ import annotations

import re

from stacmirror.errors import LoginRefused
from stacmirror.interfaces import Reply

BAD_SIGNATURE = "SignatureDoesNotMatch"
_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,64})</Code>")
_BAD_KEY_CODES = frozenset({"InvalidAccessKeyId", "InvalidSecurity", "NotSignedUp", BAD_SIGNATURE})
_EXPIRED_CODES = frozenset({"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"})


def code_of(reply: Reply) -> str:
    """Return the error code of S3's XML, or ""."""
    found = _CODE.search(reply.body or b"")
    return found[1].decode() if found else ""


def code_of_login(reply: Reply) -> str:
    """Return the error code where it is one that speaks of the credentials, else ""."""
    code = code_of(reply) if reply.status in (400, 401, 403) else ""
    return code if code in _BAD_KEY_CODES or code in _EXPIRED_CODES else ""


def refusal(code: str) -> LoginRefused:
    """Return the run's error for such a code."""
    if code in _EXPIRED_CODES:
        return LoginRefused(f"the AWS session has ended ({code})", hint="log in again, then resume")
    return LoginRefused(f"S3 refused the AWS credentials ({code})", hint="check AWS_PROFILE or the AWS_ variables")
