"""A mirror remembers how it was made, and refuses to become another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from stacmirror.errors import TargetInUse, UsageError
from stacmirror.record import read_record, refuse_other_mirror, write_record
from stacmirror.typed import build

SOURCE = "mlhub:bigearthnet_v1_labels"
ODD = [
    "plain",
    'quo"te',
    "back\\slash",
    "tab\tnew\nline",
    "\u00fcml\u00e4ut",
    "\U0001f30d",
    "del\x7f",
    "nul\0",
    "\u2028",
]


@pytest.mark.parametrize("text", ODD)
def test_any_text_comes_back(tmp_path: Path, text: str) -> None:
    """Whatever characters a setting holds, the record is TOML and has them."""
    settings = build(SOURCE, str(tmp_path), {"label_class": [text], "log_file": text})
    write_record(settings)
    record = read_record(str(tmp_path))
    assert record["source"] == SOURCE
    assert record["filter"]["label_class"] == [text]
    refuse_other_mirror(settings)


def test_many_ids_have_a_file_of_their_own(tmp_path: Path) -> None:
    """A list of ids comes back as it was; a mirror is the same with it, and another one without the last."""
    ids = [f"{text} {number}" for number in range(1000) for text in ODD] + ["@home"]
    settings = build(SOURCE, str(tmp_path), {"item": ids})
    write_record(settings)
    assert read_record(str(tmp_path))["filter"]["item"] == ids
    refuse_other_mirror(settings)
    with pytest.raises(UsageError, match=r"item is 9,001, \[.*\.\.\.\], not 9,000, \[") as refused:
        refuse_other_mirror(build(SOURCE, str(tmp_path), {"item": ids[:-1]}))
    assert len(str(refused.value)) < 1000
    assert (tmp_path / ".stacmirror/settings.toml").stat().st_size < 10_000
    write_record(build(SOURCE, str(tmp_path), {"item": ids[:-1]}))
    assert read_record(str(tmp_path))["filter"]["item"] == ids[:-1]
    assert len(list((tmp_path / ".stacmirror").glob("items-*"))) == 1


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_damaged_list_of_ids_is_refused(tmp_path: Path, damage: str) -> None:
    """Neither fewer ids than were asked for, nor all items, pass for what a mirror is of."""
    write_record(build(SOURCE, str(tmp_path), {"item": [f"i{number}" for number in range(1000)]}))
    [path] = (tmp_path / ".stacmirror").glob("items-*.json")
    if damage == "gone":
        path.unlink()
    else:
        path.write_text(path.read_text()[:100] + '"]')
    with pytest.raises(TargetInUse, match=path.name):
        read_record(str(tmp_path))


def test_another_filter_layout_or_source_is_refused(tmp_path: Path) -> None:
    """Each difference is named; what may change between runs may change."""
    write_record(build(SOURCE, str(tmp_path), {"label_class": ["Sea"], "workers": 3}))
    refuse_other_mirror(build(SOURCE, str(tmp_path), {"label_class": ["Sea"], "workers": 30}))
    with pytest.raises(UsageError) as refused:
        refuse_other_mirror(build("mlhub:other", str(tmp_path), {"layout": "fanout"}))
    for name in ("source", "label_class", "layout"):
        assert name in str(refused.value)


def test_no_token_command_is_kept(tmp_path: Path) -> None:
    """Of logins, those that run a program are for one run: a mirror names nothing to be run, and `resume` goes on."""
    write_record(build(SOURCE, str(tmp_path), {"auth": ["h=command:echo hunter2", "h=bearer:env:TOKEN"]}))
    assert read_record(str(tmp_path))["catalog"]["auth"] == ["h=bearer:env:TOKEN"]


def test_no_key_is_kept(tmp_path: Path) -> None:
    """A key in a URL is not written down."""
    write_record(build(SOURCE, str(tmp_path), {"api_url": "https://user:hunter2@host/mlhub/v1?key=hunter2"}))
    assert "hunter2" not in (tmp_path / ".stacmirror/settings.toml").read_text()


def test_no_record_and_a_broken_one(tmp_path: Path) -> None:
    """A folder without a mirror is a usage error; a record that cannot be read is a target in use."""
    with pytest.raises(UsageError):
        read_record(str(tmp_path))
    (tmp_path / ".stacmirror").mkdir()
    for broken in (b"source = ", b"\xff\xfe"):
        (tmp_path / ".stacmirror/settings.toml").write_bytes(broken)
        with pytest.raises(TargetInUse):
            read_record(str(tmp_path))
