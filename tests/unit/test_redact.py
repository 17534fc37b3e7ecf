"""Secrets leave URLs, texts and documents; what is no secret stays as it was."""

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacmirror.redact import Redactor, redact_document, redact_text, redact_url

TOKEN = "gAAAAABjH4XW" + "x" * 320
SECRET = "s3cr/t+key=ä"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://user:p@ss@h/x", "https://REDACTED@h/x"),
        ("https://h/items?key=abc&limit=3", "https://h/items?key=REDACTED&limit=3"),
        ("https://h/items?key=a&key=b", "https://h/items?key=REDACTED&key=REDACTED"),
        ("items?API_KEY=abc", "items?API_KEY=REDACTED"),
        ("items?k%65y=abc", "items?k%65y=REDACTED"),
        ("https://h/x?token=abc", "https://h/x?token=REDACTED"),
        (f"https://h/mlhub/v1/download/{TOKEN}", "https://h/mlhub/v1/download/REDACTED"),
        (f"https://h/download/{'0f' * 32}?x=1", "https://h/download/REDACTED?x=1"),
        (
            "https://b.s3/k.tif?X-Amz-Credential=A%2Fb&X-Amz-Signature=0f&X-Amz-Security-Token=t&x=1",
            "https://b.s3/k.tif?X-Amz-Credential=REDACTED&X-Amz-Signature=REDACTED&X-Amz-Security-Token=REDACTED&x=1",
        ),
        ("https://a.blob/c/k?se=2024&sp=r&sv=1&sig=x%3D", "https://a.blob/c/k?se=REDACTED&sp=REDACTED&sv=REDACTED&sig=REDACTED"),
        ("https://s/k?AWSAccessKeyId=A&Signature=b", "https://s/k?AWSAccessKeyId=REDACTED&Signature=REDACTED"),
        ("https://h/#access_token=abc", "https://h/#access_token=REDACTED"),
        ("https://h/d?url=https://b/k?sig=abc&x=1", "https://h/d?url=https://b/k?sig=REDACTED&x=1"),
        ("https://h/d?url=https%3A%2F%2Fb%2Fk%3Fsig%3Dabc", "https://h/d?url=https%3A%2F%2Fb%2Fk%3Fsig%3DREDACTED"),
    ],
)  # fmt: skip
def test_url_loses_its_secrets(url: str, expected: str) -> None:
    """Userinfo, credentials, signatures and capability tokens are replaced; nothing else is."""
    assert redact_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "https://h/items?token=next:ref_tile_00&limit=10",
        "https://h/items?token=next%3Aref_tile_00",
        "https://h/items?next=eyJ0aW1lc3RhbXBBdExlYXN0Ijoi",
        "s3://radiant-mlhub/bigearthnet/a_B01.tif",
        "https://h/download?url=https://b.s3.amazonaws.com/k.jp2",
        "https://h/download/dummy_hash",
        "https://h/x?asset_key=B01&monkey=1",
    ],
)
def test_url_without_secrets_stays(url: str) -> None:
    """Paging tokens, plain links and look-alike parameters are kept byte for byte."""
    assert redact_url(url) == url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET https://h/x?key=abc failed", "GET https://h/x?key=REDACTED failed"),
        ("items?key=abc", "items?key=REDACTED"),
        ("Authorization: Bearer abcdefgh.ij", "Authorization: Bearer REDACTED"),
        ('{"api_key": "abc"}', '{"api_key": "REDACTED"}'),
        ("password=hunter2 x", "password=REDACTED x"),
        (f"link {TOKEN} is old", "link REDACTED is old"),
        (r"a\u0026key=abc", r"a\u0026key=REDACTED"),
        ("asset key=B01 of tile_00: 404", "asset key=B01 of tile_00: 404"),
        ("write `api_key = ...` below [default]", "write `api_key = ...` below [default]"),
        ("such as --header h:X-Api-Key=…", "such as --header h:X-Api-Key=…"),
        ("api_key=...hunter2", "api_key=REDACTED"),
    ],
)
def test_text_loses_its_secrets(text: str, expected: str) -> None:
    """Log lines lose what looks like a secret and keep the rest."""
    assert redact_text(text) == expected


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe="").lower(),
        json.dumps(SECRET)[1:-1],
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
    ],
)
def test_redactor_knows_the_forms_of_a_secret(form: str) -> None:
    """A known secret goes in each form in which it travels."""
    redacted = Redactor(["other", SECRET]).text(f"before {form} after")
    assert form.rstrip("=")[4:-4] not in redacted
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")


@pytest.mark.parametrize("user", ["u", "us", "use", "user"])
def test_redactor_finds_a_secret_inside_basic_credentials(user: str) -> None:
    """Base64 of `user:secret` hides the secret at any of three alignments; all are found."""
    secret = "0123456789abcdef0123"
    line = base64.b64encode(f"{user}:{secret}".encode()).decode()
    redacted = Redactor([secret]).text(f"x {line}")
    assert "REDACTED" in redacted
    assert len(redacted) < len(f"x {line}")


def test_redactor_without_secrets_still_redacts() -> None:
    """No known secret, and an empty one, change nothing about the general rules."""
    assert Redactor(["", ""]).text("a ?key=abc b") == "a ?key=REDACTED b"


def test_document_loses_its_secrets() -> None:
    """All strings of a document are redacted, at any depth, as keys and with escapes; the rest is equal."""
    document = {
        "assets": {"B01": {"href": f"https://h/download/{TOKEN}", "type": "image/tiff; profile=cog"}},
        "links": [{"href": "https://h/items?key=abc&token=next:1"}, "https://u:p@h/"],
        "https://h/?key=abc": 1.5,
        "api_key": "abc",
        "n": [None, True, 1e300, "plain"],
    }
    redacted = json.loads(redact_document(json.dumps(document).replace("/", "\\/").encode()))
    assert redacted == {
        "assets": {"B01": {"href": "https://h/download/REDACTED", "type": "image/tiff; profile=cog"}},
        "links": [{"href": "https://h/items?key=REDACTED&token=next:1"}, "https://REDACTED@h/"],
        "https://h/?key=REDACTED": 1.5,
        "api_key": "REDACTED",
        "n": [None, True, 1e300, "plain"],
    }


def test_document_with_links_only_is_compacted_and_equal() -> None:
    """The quick way over the bytes gives the same as the walk: compact JSON, tokens gone, all else equal."""
    document = {
        "assets": {"a": {"href": f"https://h/download/{TOKEN}"}, "b": {"href": f"https://h/download/{'0f' * 32}"}}
    }
    redacted = redact_document(json.dumps(document, indent=4).encode())
    assert (
        redacted
        == b'{"assets":{"a":{"href":"https://h/download/REDACTED"},"b":{"href":"https://h/download/REDACTED"}}}'
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>?key=abcdef</html>",
        b'[NaN,"?key=abcdef"]',
        b'["\\ud800?key=abcdef"]',
        b"\xff\xfe?key=abcdef",
        b'{"a":' * 5000 + b'"?key=abcdef"',
        b'{"a":' * 990 + b'"?key=abcdef"' + b"}" * 990,
        b"[" * 100_000,
        b'"?key=abcdef"',
    ],
)
def test_odd_documents_neither_raise_nor_leak(raw: bytes) -> None:
    """What is no JSON, or too deep to walk, is redacted as text."""
    assert b"abcdef" not in redact_document(raw)


@given(st.text(), st.binary())
def test_redaction_takes_any_input_twice(text: str, raw: bytes) -> None:
    """No input raises, and what is redacted stays as it is when redacted again."""
    assert redact_url(redact_url(text)) == redact_url(text)
    redact_text(text)
    redact_document(raw)


def test_a_document_loses_a_known_secret_wherever_it_is() -> None:
    """The run's own key goes from any text of a document, in each form; short words do not go from everything."""
    key = "0f3a" * 16
    raw = json.dumps(
        {"id": "a", "note": f"x {key} y", "list": [base64.b64encode(f"a:{key}".encode()).decode()]}
    ).encode()
    redacted = Redactor([key]).document(raw)
    assert json.loads(redacted)["note"] == "x REDACTED y"
    assert base64.b64encode(key.encode())[4:-4] not in redacted
    assert Redactor(["note"]).document(raw) == redact_document(raw)


def test_a_redactor_learns_while_a_run_is_on() -> None:
    """What a login sends is taken out from then on; of tokens that end, the last 32 are looked for, and words stay."""
    redactor = Redactor([])
    redactor.learn("held-all-along")
    redactor.learn("short")
    for number in range(40):
        redactor.learn(f"token-{number:02}-that-ends", passing=True)
    assert redactor.text("held-all-along token-39-that-ends token-08-that-ends") == "REDACTED REDACTED REDACTED"
    assert redactor.text("short token-07-that-ends") == "short token-07-that-ends"
    assert redactor.document(b'{"a":"x held-all-along y"}') == b'{"a":"x REDACTED y"}'
