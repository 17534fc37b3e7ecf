"""Our signatures of S3 GETs against botocore's, for keys, hosts and credentials of every kind."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from stacmirror.transports.sigv4 import Credentials, Signer, object_path

NOW_S = 1_606_000_000.7
HOST = "bucket.s3.eu-central-1.amazonaws.com"
KEYS = [
    "a.tif",
    "bigearthnet/S2A_MSIL2A_20170613T101031_0_45/S2A_MSIL2A_20170613T101031_0_45_B01.tif",
    "with space and+plus/100%.tif",
    "a?b#c&d=e;f:g@h!i$j'k(l)m*n,o[p]q",
    "tilde~ under_ dash- dot.",
    "ünï/cødé/\u65e5\u672c.tif",
    "/leading//double/slash/",
    "dots/../and/./here",
    "percent%2Fencoded%20already",
    'quote"backslash\\pipe|caret^back`tick<angle>{brace}',
    "control\x01\x7f",
]


def by_botocore(
    monkeypatch: pytest.MonkeyPatch, path: str, credentials: Credentials, region: str, extra: dict[str, str]
) -> dict[str, str]:
    """Return the headers that botocore adds to a GET of `path`, with lower-case names."""
    import botocore.auth

    now = dt.datetime.fromtimestamp(NOW_S, dt.UTC)
    if hasattr(botocore.auth, "get_current_datetime"):
        monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: now)
    else:

        class Clock(dt.datetime):
            @classmethod
            def utcnow(cls) -> Any:
                return now.replace(tzinfo=None)

        monkeypatch.setattr(botocore.auth.datetime, "datetime", Clock)
    request = AWSRequest(method="GET", url=f"http://{HOST}{path}", headers={"Host": HOST, **extra})
    frozen = ReadOnlyCredentials(credentials.access_key, credentials.secret_key, credentials.token or None)
    S3SigV4Auth(frozen, "s3", region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items() if name.lower() != "host"}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("token", ["", "FwoGZXIvYXdzE//token+with/slashes=="])
@pytest.mark.parametrize("prefix", ["", "/bucket"])
@pytest.mark.parametrize("extra", [{}, {"x-amz-request-payer": "requester"}])
def test_signatures_are_botocores(
    monkeypatch: pytest.MonkeyPatch, key: str, token: str, prefix: str, extra: dict[str, str]
) -> None:
    """Path style and virtual host, session token and requester pays, odd keys: the same headers to the letter."""
    credentials = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token)
    path = prefix + object_path(key)
    ours = Signer("eu-central-1").headers(HOST, path, credentials, NOW_S, extra)
    assert ours == by_botocore(monkeypatch, path, credentials, "eu-central-1", extra)


def test_keys_and_days_are_not_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One signer, two secrets, two days: each signature is that of a fresh signer."""
    signer = Signer("us-west-2")
    for now_s in (NOW_S, NOW_S + 86_400, NOW_S, NOW_S + 1):
        for secret in ("one", "two"):
            credentials = Credentials("AK", secret)
            again = signer.headers(HOST, "/k", credentials, now_s)
            assert again == Signer("us-west-2").headers(HOST, "/k", credentials, now_s)
    assert (
        signer.headers(HOST, "/k", Credentials("AK", "one"), NOW_S)["authorization"]
        != (signer.headers(HOST, "/k", Credentials("AK", "one"), NOW_S + 86_400)["authorization"])
    )


def test_a_secret_is_not_shown() -> None:
    """Neither in a repr nor in a traceback's locals."""
    assert "hidden" not in repr(Credentials("AK", "hidden", "hidden"))
    assert "hidden" not in f"{Credentials('AK', 'hidden')}"
