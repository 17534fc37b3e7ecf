"""How deeply JSON is nested is known without a decoder, whatever stands in its strings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stacmirror.catalogs import nesting
from stacmirror.catalogs.nesting import is_deeper

texts = st.text(alphabet='[]{}"\\,:ab\n', max_size=12)
documents: st.SearchStrategy[Any] = st.recursive(
    texts | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


@given(documents, st.integers(0, 6), st.integers(1, 40))
@settings(max_examples=300)
def test_the_depth_is_the_decoders(document: Any, depth_max: int, piece_bytes: int) -> None:
    """Any document, cut into pieces anywhere: deeper exactly where walking over the decoded one says so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nesting, "_PIECE_BYTES", piece_bytes)
        assert is_deeper(json.dumps(document).encode(), depth_max) == (depth_of(document) > depth_max)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 101 + b"]" * 101,
        b'{"a":' * 101 + b"1" + b"}" * 101,
        b'[[],{"a":' * 51 + b"1" + b"}]" * 51,
        b"[" * 200_000,
        b'["]",' * 101 + b"1" + b"]" * 101,
        b'["\\\\",["\\"]",' * 51 + b"1" + b"]]" * 51,
    ],
)
def test_101_levels_are_too_many(body: bytes) -> None:
    """Straight down, of both kinds, branching, without an end, and hidden behind brackets in strings."""
    assert is_deeper(body, 100)


def test_100_levels_are_none_too_many() -> None:
    """A hundred pass, and so does anything wide."""
    assert not is_deeper(b"[" * 100 + b"]" * 100, 100)
    assert not is_deeper(b"[" + b"[[],{}]," * 100_000 + b"1]", 100)
    assert not is_deeper(b'["' + b"[" * 500 + b'"]', 100)
