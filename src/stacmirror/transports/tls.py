"""What is wrong with a server's certificate, in words; the same for both HTTP clients. Nothing is ever let through.

Used by `wire_dial` and `http`. It makes no connection.
"""

from __future__ import annotations

import ssl

from stacmirror.errors import TransferError

_EXPIRED, _NOT_YET, _WRONG_HOST, _WRONG_ADDRESS = 10, 9, 62, 64
"""OpenSSL's X509_V_ERR_*; what is none of these is a certificate that nobody known has signed."""
_ASK_OWNER = "tell the host's owner; checks are never switched off"


def certificate_error(error: ssl.SSLCertVerificationError, host: str) -> TransferError:
    """Return our error (`tls`, not to be retried) for a certificate that does not pass."""
    code = getattr(error, "verify_code", 0)
    if code == _EXPIRED:
        words, hint = "has expired", f"{_ASK_OWNER}; is the date of this machine right?"
    elif code == _NOT_YET:
        words, hint = "is not valid yet", "is the date of this machine right?"
    elif code in (_WRONG_HOST, _WRONG_ADDRESS):
        words, hint = "is for another host", f"is the address right? {_ASK_OWNER}"
    else:
        words = "is signed by nobody whom this machine trusts"
        hint = "if the host has a CA of its own, name its certificate with --ca-file"
    found = TransferError("tls", f"the certificate of {host} {words}", retryable=False)
    found.hint = hint
    return found
