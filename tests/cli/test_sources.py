"""Sources known by name: built in and of TOML files; which settings they bring, and which go before."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from stacmirror.catalogs import parse_source, source_of
from stacmirror.cli import app as program
from stacmirror.cli import config
from stacmirror.errors import UsageError
from stacmirror.profiles import PROFILES
from stacmirror.settings import Settings
from stacmirror.typed import build


def resolved(source: str, flags: dict[str, object] | None = None) -> Settings:
    return config.resolve(flags or {}, os.environ, config.places(), source=source).settings(source, "out")


@pytest.mark.parametrize("name", [name for name in PROFILES if "api_url" in PROFILES[name].settings])
def test_built_in_profiles_are_settings(name: str) -> None:
    """Each has a root and values that are in range, for the library and the command line alike."""
    for settings in (resolved(f"{name}:c"), build(f"{name}:c", "out", {})):
        assert settings.catalog.api_url == PROFILES[name].settings["api_url"]
        assert source_of(settings) == ("api", "c")


def test_what_is_typed_goes_before_a_profile_and_a_profile_before_another_sources_root(tmp_path: Path) -> None:
    """Flags and files change a profile's figures; `api_url` in a file is MLHub's, and only a flag changes a root."""
    Path("stacmirror.toml").write_text('[catalog]\napi_url = "https://mine/mlhub/v1"\n[limit]\nper_host = 7\n')
    settings = resolved("cdse:sentinel-2-l2a", {"page_size": "33"})
    assert settings.catalog.api_url == "https://stac.dataspace.copernicus.eu/v1"
    assert (settings.limit.per_host, settings.walk.page_size, settings.limit.workers) == (7, 33, 8)
    assert resolved("cdse:x", {"api_url": "https://proxy/v1"}).catalog.api_url == "https://proxy/v1"
    assert resolved("mlhub:x").catalog.api_url == "https://mine/mlhub/v1"


def test_a_file_adds_sources_and_changes_them() -> None:
    """`[source.NAME]` makes NAME:COLLECTION a source; of a built-in name it changes what it says."""
    Path("stacmirror.toml").write_text(
        '[source.ours]\napi_url = "https://ours/stac"\npage_size = 5\nmissing_ok = ["B10"]\n'
        "[source.cdse]\nper_host = 2\n"
    )
    ours = resolved("ours:c")
    assert source_of(ours) == ("api", "c")
    assert (ours.catalog.api_url, ours.walk.page_size, ours.missing.missing_ok) == ("https://ours/stac", 5, ("B10",))
    cdse = resolved("cdse:c")
    assert (cdse.limit.per_host, cdse.limit.workers) == (2, 8)
    with pytest.raises(UsageError, match="no known source"):
        source_of(resolved("theirs:c"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[source.ours]\npage_sise = 5\n", r"\[source.ours\] unknown setting `page_sise`; did you mean `page_size`"),
        ("[source.mlhub]\npage_size = 5\n", r"\[source.mlhub\] is no name"),
        ('[source]\nours = "x"\n', "`source` is a table of tables"),
        ("[source.ours]\nlayout = 'item'\n", r"\[source.ours\] unknown setting `layout`"),
        (
            "[source.ours]\npage_size = 0\n",
            r"page_size.* must be 1 to 10000 \(from \[source.ours\] of stacmirror.toml\)",
        ),
    ],
)
def test_mistakes_in_a_source_are_named(text: str, said: str) -> None:
    """A key, name or value that cannot be is refused with its place."""
    Path("stacmirror.toml").write_text(text)
    with pytest.raises(UsageError, match=said):
        resolved("ours:c")


def test_sources_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """A line each into a pipe, all of it as JSON, and the ways to log in; no secret of a file is shown."""
    Path("stacmirror.toml").write_text('[source.ours]\napi_url = "https://ours/stac"\nheader = ["h:a=s3cr3t"]\n')
    assert program.run(["sources"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [*PROFILES, "ours"]
    assert program.run(["sources", "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["sources"]["cdse"]["per_host"] == 4
    assert "s3cr3t" not in out
    assert program.run(["sources", "--auth"]) == 0
    assert "planetary-computer" in capsys.readouterr().out


def test_a_header_is_shown_and_kept_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither `config show` nor -v says what a header holds."""
    Path("stacmirror.toml").write_text('[catalog]\nheader = ["h:a=s3cr3t"]\n')
    for command in (["config", "show"], ["config", "show", "--json"]):
        assert program.run(command) == 0
        assert "s3cr3t" not in capsys.readouterr().out


def test_a_geometry_file_is_read_once() -> None:
    """--intersects FILE becomes the geometry itself, so that a mirror can be resumed from anywhere."""
    Path("area.geojson").write_text('{"type": "Point", "coordinates": [1, 2]}')
    settings = resolved("https://h/x", {"intersects": "area.geojson"})
    assert settings.filter.intersects == '{"type":"Point","coordinates":[1,2]}'
    for text, said in (("nowhere.json", "No such file"), ("stacmirror", "No such file")):
        with pytest.raises(UsageError, match=said):
            resolved("https://h/x", {"intersects": text})
    Path("bad.json").write_text("hello")
    with pytest.raises(UsageError, match="no JSON"):
        resolved("https://h/x", {"intersects": "bad.json"})


def test_a_file_of_ids_is_read_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """--item @FILE becomes the ids themselves, each once, beside those that were typed."""
    Path("train.csv").write_bytes(b"\xef\xbb\xbfa\r\n\n  b,1 \nc\na")
    settings = resolved("https://h/x", {"item": ["z", "@train.csv", "c"]})
    assert settings.filter.item == ("z", "a", "b,1", "c")
    Path("empty").write_text("\n \n")
    Path("picture").write_bytes(b"\xff\xd8\xff")
    gone = "No such file"
    for text, said in (("@nowhere", gone), ("@", gone), ("@empty", "no id"), ("@picture", "no text")):
        with pytest.raises(UsageError, match=f"--ids-from {text[1:]}.*{said}"):
            resolved("https://h/x", {"item": [text]})
    monkeypatch.setenv("STACMIRROR_ITEM", "@train.csv")
    assert program.run(["config", "show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["item"] == ["a", "b,1", "c"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("https://h/v1", ("web", "https://h/v1")),
        ("s3://bucket/catalog.json", ("web", "s3://bucket/catalog.json")),
        ("-", ("stdin", "")),
        ("here.json", ("path", "here.json")),
        ("earth-search:sentinel-2-l2a", ("api", "sentinel-2-l2a")),
    ],
)
def test_forms_of_source(source: str, expected: tuple[str, str]) -> None:
    """An address, a path that is there, stdin, a name."""
    Path("here.json").write_text("{}")
    assert parse_source(source) == expected


@pytest.mark.parametrize(
    "source", ["https://u:s3cr3t@h/v1", "https://h/v1?api_key=s3cr3t", "https://h/x?sig=s3cr3t&se=1"]
)
def test_a_source_with_a_secret_is_refused(source: str) -> None:
    """A mirror keeps its source; the secret is not shown."""
    with pytest.raises(UsageError) as caught:
        parse_source(source)
    assert "s3cr3t" not in caught.value.message + caught.value.hint
