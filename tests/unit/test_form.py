"""What can be seen of a file without its source: cut, empty and foreign ones are told, whole ones pass."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacmirror.pipeline.form import fault_of


def tiff(order: str = "<", *, big: bool = False, strips: int = 3, strip_bytes: int = 40) -> bytes:
    """Return a TIFF of one directory, its strips after it."""
    form = "Q" if big else "I"
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    head += struct.pack(f"{order}HHQ", 8, 0, 16) if big else struct.pack(f"{order}I", 8)
    kind = 16 if big else 4
    lists = len(head) + (8 + 2 * 20 + 8 if big else 2 + 2 * 12 + 4)
    pixels = lists + 2 * strips * struct.calcsize(form)
    entry = f"{order}HH{form}{form}"
    directory = struct.pack(f"{order}{form if big else 'H'}", 2)
    directory += struct.pack(entry, 273, kind, strips, lists)
    directory += struct.pack(entry, 279, kind, strips, lists + strips * struct.calcsize(form))
    directory += struct.pack(f"{order}{form}", 0)
    offsets = struct.pack(f"{order}{strips}{form}", *(pixels + strip_bytes * n for n in range(strips)))
    counts = struct.pack(f"{order}{strips}{form}", *[strip_bytes] * strips)
    return head + directory + offsets + counts + b"\x07" * strips * strip_bytes


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_a_cut_tiff_is_seen_at_every_length(order: str, big: bool) -> None:
    """Both byte orders, classic and BigTIFF: whole it passes, without its last byte or any more of it not."""
    whole = tiff(order, big=big)
    assert fault_of("B01.tif", whole) == ""
    for length in range(len(whole)):
        assert fault_of("B01.tif", whole[:length]), length


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("B01.tif", b"", "empty"),
        ("B01.TIF", b"\0" * 500, "no TIFF"),
        ("B01.tif", b"<html>not found</html>", "no TIFF"),
        ("labels.geojson", b'{"labels": [', "no whole JSON"),
        ("a.png", b"\x89PNG\r\n\x1a\n....", "no whole PNG"),
        ("a.jpg", b"\xff\xd8....", "no whole JPEG"),
        ("a.bin", b"\0\0\0", "zeros only"),
    ],
)
def test_what_is_not_whole(name: str, body: bytes, said: str) -> None:
    """Each form has its own words."""
    assert said in fault_of(name, body)


def test_what_is_whole() -> None:
    """Whole files of each form pass, and those of unknown form."""
    assert fault_of("labels.geojson", json.dumps({"a": 1}).encode()) == ""
    assert fault_of("a.png", b"\x89PNG\r\n\x1a\n....IEND\xaeB`\x82") == ""
    assert fault_of("a.jpg", b"\xff\xd8..\xff\xd9") == ""
    assert fault_of("a.bin", b"\0x") == ""


@given(st.binary(max_size=300), st.sampled_from([b"II*\0", b"MM\0*", b"II+\0", b""]))
def test_no_bytes_make_it_raise(body: bytes, head: bytes) -> None:
    """Whatever is in a file, the answer is a word."""
    assert isinstance(fault_of("a.tif", head + body), str)
