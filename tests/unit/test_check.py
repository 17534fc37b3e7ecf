"""A body is held against what its answer promised: length, Content-MD5, and ETags where they have proved to be MD5s."""

from __future__ import annotations

import base64
import hashlib

import pytest

from stacmirror.errors import TransferError
from stacmirror.pipeline.check import ETAG_TRUSTED_AFTER, Checks

BODY = b"II*\0 and so on"
MD5 = hashlib.md5(BODY).digest()
HOST = "https://blobs"


def check(checks: Checks, body: bytes, headers: dict[str, str], length: int | None = None) -> str:
    expected = checks.expected(HOST, headers, length)
    hasher = expected.hasher()
    hasher.update(body)
    expected.check(len(body), hasher.digest())
    return expected.kind


@pytest.mark.parametrize(("length", "kind"), [(len(BODY) + 1, "short"), (len(BODY) - 1, "long")])
def test_another_length_is_an_error(length: int, kind: str) -> None:
    """Short and long bodies are told apart, and both may be asked for again."""
    with pytest.raises(TransferError) as wrong:
        check(Checks(), BODY, {}, length)
    assert (wrong.value.kind, wrong.value.retryable) == (kind, True)


def test_content_md5_is_always_held_against_the_bytes() -> None:
    """A Content-MD5 that does not match is an error from the first answer on; one that does is the digest kept."""
    headers = {"content-md5": base64.b64encode(MD5).decode()}
    assert check(Checks(), BODY, headers, len(BODY)) == "md5"
    with pytest.raises(TransferError) as wrong:
        check(Checks(), BODY[::-1], headers, len(BODY))
    assert wrong.value.kind == "digest"


@pytest.mark.parametrize("value", ["", "no base64!", base64.b64encode(b"short").decode(), "ünicode"])
def test_a_content_md5_that_is_none_is_no_promise(value: str) -> None:
    """What cannot be an MD5 is not held against anyone."""
    assert check(Checks(), BODY, {"content-md5": value}) == "xxh3"


def test_an_etag_is_trusted_after_enough_matches() -> None:
    """A host whose ETags have matched long enough is believed: then a mismatch is an error, and stays one."""
    checks, good = Checks(), {"etag": f'"{MD5.hex()}"'}
    for _ in range(ETAG_TRUSTED_AFTER):
        assert check(checks, BODY, good) == "md5"
    for _ in range(2):
        with pytest.raises(TransferError) as wrong:
            check(checks, BODY[::-1], good)
        assert wrong.value.kind == "digest"
    assert check(checks, BODY, good) == "md5"


def test_an_early_mismatch_means_that_etags_are_no_md5() -> None:
    """One mismatch before the trust ends the trying: encrypted objects have such ETags, and are not damaged."""
    checks, good = Checks(), {"etag": MD5.hex()}
    assert check(checks, BODY, good) == "md5"
    assert check(checks, BODY, {"etag": "0" * 32}) == "md5"
    assert check(checks, BODY, good) == "xxh3"


@pytest.mark.parametrize("etag", [f'W/"{MD5.hex()}"', f'"{MD5.hex()}-3"', '"abc"', ""])
def test_other_etags_are_no_promise(etag: str) -> None:
    """Weak, multipart and short ETags are no MD5s."""
    assert check(Checks(), BODY, {"etag": etag}) == "xxh3"


def test_hosts_are_told_apart() -> None:
    """What one host's ETags are says nothing about another's."""
    checks = Checks()
    check(checks, BODY, {"etag": "0" * 32})
    assert checks.expected("https://other", {"etag": MD5.hex()}, None).kind == "md5"
