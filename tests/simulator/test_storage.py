"""Blob host and S3: whole files, parts, conditions, errors."""

from __future__ import annotations

import base64
import hashlib

import pytest

from .conftest import Client, Start

LABEL_AND_BANDS = 13


@pytest.mark.parametrize("host", ["blobs", "s3"])
async def test_every_file_is_served_with_its_true_bytes(start: Start, host: str) -> None:
    """Both hosts give the expected bytes, the same length to HEAD, and a right MD5."""
    client = await start(items=3)
    base, patch = root_of(client, host), client.sim.patch_name(1)
    files = client.sim.expected_files(1)
    assert len(files) == LABEL_AND_BANDS
    for key, body in files.items():
        path = f"/bigearthnet/labels/{patch}.geojson" if key == "labels" else client.blob(1, key)
        status, headers, got = await client.get(base + path)
        assert (status, got) == (200, body)
        if host == "s3":
            assert headers["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
        else:
            assert base64.b64decode(headers["Content-MD5"]) == hashlib.md5(body).digest()
        head_status, head, nothing = await client.get(base + path, method="HEAD")
        assert (head_status, head["Content-Length"], nothing) == (200, str(len(body)), b"")
        assert head["ETag"] == headers["ETag"]


@pytest.mark.parametrize("host", ["blobs", "s3"])
@pytest.mark.parametrize(
    ("asked", "start_byte", "end_byte"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=7000-", 7000, 7560),
        ("bytes=-60", 7500, 7560),
        ("bytes=7559-9999", 7559, 7560),
    ],
)
async def test_a_range_gives_its_part(start: Start, host: str, asked: str, start_byte: int, end_byte: int) -> None:
    """Closed, open and suffix ranges are 206 with the part and its place."""
    client = await start(items=2)
    whole = client.sim.expected_files(0)["B05"]
    status, headers, body = await client.get(root_of(client, host) + client.blob(0, "B05"), Range=asked)
    assert (status, body) == (206, whole[start_byte:end_byte])
    assert headers["Content-Range"] == f"bytes {start_byte}-{end_byte - 1}/7560"
    assert "Content-MD5" not in headers


@pytest.mark.parametrize("host", ["blobs", "s3"])
async def test_conditions_are_kept(start: Start, host: str) -> None:
    """If-Range, If-Match, If-None-Match and a range beyond the end answer as RFC 9110 says."""
    client = await start(items=2)
    url = root_of(client, host) + client.blob(0, "B05")
    etag = (await client.get(url, method="HEAD"))[1]["ETag"]
    other = '"0"'
    assert (await client.get(url, Range="bytes=5-", If_Range=etag))[0] == 206
    status, _, body = await client.get(url, Range="bytes=5-", If_Range=other)
    assert (status, len(body)) == (200, 7_560)
    assert (await client.get(url, If_Match=etag))[0] == 200
    assert (await client.get(url, If_Match=f"{other}, {etag}"))[0] == 200
    assert (await client.get(url, If_Match=other))[0] == 412
    assert (await client.get(url, If_None_Match=etag))[0] == 304
    status, headers, _ = await client.get(url, Range="bytes=7560-")
    assert (status, headers["Content-Range"]) == (416, "bytes */7560")
    assert (await client.get(url, Range="bytes=9-3"))[0] == 200
    assert (await client.get(url, Range="lines=1-2"))[0] == 200


@pytest.mark.parametrize("host", ["blobs", "s3"])
async def test_what_is_missing_is_404_xml_or_403_under_the_trap(start: Start, host: str) -> None:
    """B10 and unknown objects are 404 in XML; with the trap missing-403 they are 403."""
    honest, sly = await start(items=2), await start(items=2, traps=("missing-403",))
    code = {"blobs": b"<Code>BlobNotFound</Code>", "s3": b"<Code>NoSuchKey</Code>"}[host]
    for path in (honest.blob(0, "B10"), "/bigearthnet/labels/none.geojson", "/bigearthnet/x/y_B01.tif"):
        status, headers, body = await honest.get(root_of(honest, host) + path)
        assert (status, headers["Content-Type"], code in body) == (404, "application/xml", True)
        assert (await sly.get(root_of(sly, host) + path))[0] == 403
    assert (await sly.get(root_of(sly, host) + sly.blob(0, "B09")))[0] == 200


async def test_s3_can_demand_a_signature_and_a_payer(start: Start) -> None:
    """Unsigned requests pass by default; when asked for, signature and payer are demanded."""
    signature = "AWS4-HMAC-SHA256 Credential=AKIATEST/20210101/us-west-2/s3/aws4_request, Signature=0"
    signing, paying = await start(s3_auth_required=True), await start(s3_request_payer=True)
    url = root_of(signing, "s3") + signing.blob(0, "B01")
    assert (await signing.get(url))[0] == 403
    assert (await signing.get(url, Authorization=signature))[0] == 200
    assert [record.credential for record in signing.sim.requests] == [None, "aws4:AKIATEST"]
    url = root_of(paying, "s3") + paying.blob(0, "B01")
    assert (await paying.get(url))[0] == 403
    assert (await paying.get(url, x_amz_request_payer="requester"))[0] == 200


async def test_aiobotocore_reads_objects_path_style(start: Start) -> None:
    """A real S3 client gets, heads and ranges objects, and sees NoSuchKey and NoSuchBucket."""
    session_module = pytest.importorskip("aiobotocore.session")
    config = pytest.importorskip("botocore.config").Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0})
    errors = pytest.importorskip("botocore.exceptions")
    client = await start(items=2, s3_auth_required=True)
    body = client.sim.expected_files(1)["B02"]
    key = client.blob(1, "B02")[1:]
    options = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-west-2"}
    session = session_module.get_session()
    async with session.create_client("s3", endpoint_url=client.sim.s3_url, config=config, **options) as s3:
        answer = await s3.get_object(Bucket="radiant-mlhub", Key=key)
        async with answer["Body"] as stream:
            assert await stream.read() == body
        assert answer["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
        assert (await s3.head_object(Bucket="radiant-mlhub", Key=key))["ContentLength"] == 29_192
        part = await s3.get_object(Bucket="radiant-mlhub", Key=key, Range="bytes=10-19")
        async with part["Body"] as stream:
            assert await stream.read() == body[10:20]
        for bucket, missing, code in (("radiant-mlhub", "none", "NoSuchKey"), ("other", key, "NoSuchBucket")):
            with pytest.raises(errors.ClientError) as refused:
                await s3.get_object(Bucket=bucket, Key=missing)
            assert refused.value.response["Error"]["Code"] == code


def root_of(client: Client, host: str) -> str:
    """Return the address that object keys follow."""
    return client.sim.blobs_url if host == "blobs" else f"{client.sim.s3_url}/radiant-mlhub"
