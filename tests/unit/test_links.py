"""A link's age is read from the link, where it says it."""

import base64
import math
from datetime import UTC, datetime

import pytest

from stacmirror.links import expires_at_s, issued_at_s

ISSUED_S = datetime(2022, 9, 12, 19, 17, 42, tzinfo=UTC).timestamp()
FERNET = "https://h/mlhub/v1/download/gAAAAABjH4XW" + "x" * 320
LIFE_S = 6 * 3600.0
READ_S = 1_700_000_000.0
IN_2024_S = datetime(2024, 1, 1, tzinfo=UTC).timestamp()


def test_fernet_link_says_when_it_was_issued() -> None:
    """The token recorded on 2022-09-12 19:17:42Z gives that second."""
    assert issued_at_s(FERNET) == ISSUED_S


@pytest.mark.parametrize(
    "href",
    [
        "https://h/x.tif",
        "",
        "https://h/download/gAAAA",
        "https://h/download/gAAAA!!!!!!!!!!!",
        "https://h/download/gAAAA" + "_" * 30,
        "https://h/download/" + base64.urlsafe_b64encode(b"\x80" + (60).to_bytes(8, "big") + b"x" * 30).decode(),
    ],
)
def test_other_links_say_nothing(href: str) -> None:
    """No token, a cut one, one that is no base64, and implausible years give None."""
    assert issued_at_s(href) is None


@pytest.mark.parametrize(
    ("href", "expected"),
    [
        (FERNET, ISSUED_S + LIFE_S),
        ("https://b/k?X-Amz-Date=20240101T000000Z&X-Amz-Expires=900&X-Amz-Signature=0", IN_2024_S + 900),
        ("https://b/k?x-amz-expires=900&x-amz-date=20240101T000000Z", IN_2024_S + 900),
        ("https://b/k?X-Goog-Date=20240101T000000Z&X-Goog-Expires=60", IN_2024_S + 60),
        (f"https://b/k?AWSAccessKeyId=A&Expires={int(IN_2024_S)}&Signature=s", IN_2024_S),
        ("https://b/k?sv=1&se=2024-01-01T00%3A00%3A00Z&sig=s", IN_2024_S),
        ("https://b/k?se=2024-01-01&sig=s", IN_2024_S),
        ("https://h/download/" + "0f" * 32, READ_S + LIFE_S),
        ("https://h/download/dummy_hash", READ_S + LIFE_S),
        ("https://h/download/gAAAA" + "_" * 30, READ_S + LIFE_S),
        ("https://h/x.tif", math.inf),
        ("s3://b/k.tif", math.inf),
        ("https://h/download?url=https://b/k.jp2", math.inf),
        ("https://h/download/file.tif", math.inf),
        ("https://b/k?Expires=soon", math.inf),
        ("https://b/k?Expires=12", math.inf),
        ("https://b/k?X-Amz-Date=2024&X-Amz-Expires=900", math.inf),
        ("https://b/k?X-Amz-Expires=900", math.inf),
        ("", math.inf),
    ],
)
def test_expiry_follows_from_the_link(href: str, expected: float) -> None:
    """Signed links say when they end; tokens live from when they were read; plain URLs live on."""
    assert expires_at_s(href, LIFE_S, READ_S) == expected
