"""Layers of settings: which one wins, where a value comes from, and what is refused."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from msgspec.structs import replace

from stacmirror.cli import config
from stacmirror.cli.config_show import to_toml
from stacmirror.cli.layers import ENV_PREFIX
from stacmirror.cli.options import ACCESS, FILTERS, LOOK, PLACE, TUNING
from stacmirror.errors import UsageError
from stacmirror.settings import Settings
from stacmirror.typed import Option, build, options

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"


def _user_file(text: str) -> None:
    path = config.user_file()
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_each_layer_yields_to_the_one_above_it() -> None:
    """Flags beat the environment, that beats ./stacmirror.toml, that the user's config, that the defaults."""
    _user_file("[limit]\nworkers = 1\nretries = 1\nper_host = 1\nsweeps = 1\n")
    Path("stacmirror.toml").write_text("[limit]\nworkers = 2\nretries = 2\nper_host = 2\n")
    environ = {"STACMIRROR_WORKERS": "3", "STACMIRROR_RETRIES": "3"}
    resolved = config.resolve({"workers": "4"}, environ, config.places())
    limit = resolved.settings().limit
    assert (limit.workers, limit.retries, limit.per_host, limit.sweeps) == (4, 3, 2, 1)
    assert [resolved.origin(key) for key in ("workers", "retries", "per_host", "sweeps", "page_size")] == [
        "--workers",
        "STACMIRROR_RETRIES",
        "stacmirror.toml",
        str(config.user_file()),
        "default",
    ]


def test_what_a_mirror_saved_beats_config_files_but_not_flags() -> None:
    """A resumed mirror keeps its own settings whatever the config files say; flags and environment still win."""
    saved_at = Path("ben") / config.SAVED_FILE
    saved_at.parent.mkdir(parents=True)
    saved_at.write_text('source = "mlhub:x"\n[limit]\nworkers = 7\nretries = 7\nsweeps = 7\n')
    Path("stacmirror.toml").write_text("[limit]\nworkers = 2\nretries = 2\nsweeps = 2\n")
    saved = config.load_saved("ben")
    resolved = config.resolve({"workers": "9"}, {"STACMIRROR_RETRIES": "8"}, config.places(), saved=saved)
    limit = resolved.settings(saved.source, "ben").limit
    assert saved.source == "mlhub:x"
    assert (limit.workers, limit.retries, limit.sweeps) == (9, 8, 7)


def test_a_folder_without_a_mirror_is_told_how_to_make_one() -> None:
    """Resuming where nothing was mirrored names the command that starts a mirror."""
    with pytest.raises(UsageError) as caught:
        config.load_saved("nowhere")
    assert "stacmirror mirror" in caught.value.hint


def test_the_official_clients_root_url_is_the_last_resort() -> None:
    """MLHUB_ROOT_URL is the API's root only where no flag, variable or file names one."""
    environ = {"MLHUB_ROOT_URL": "https://old/mlhub/v1"}
    assert config.resolve({}, environ, config.places()).settings().catalog.api_url == "https://old/mlhub/v1"
    Path("stacmirror.toml").write_text('[catalog]\napi_url = "https://new/v1"\n')
    assert config.resolve({}, environ, config.places()).settings().catalog.api_url == "https://new/v1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[walk]\npage_sise = 3\n", r"stacmirror.toml: \[walk\] unknown setting `page_sise`; did you mean `page_size`"),
        ("[wlak]\npage_size = 3\n", r"stacmirror.toml: unknown table \[wlak\]; did you mean \[walk\]"),
        ("[Limits]\nworkers = 3\n", r"unknown table \[Limits\]; did you mean \[limit\]\?"),
        ("[worker]\nn = 3\n", r"unknown table \[worker\]; did you mean `workers` below \[limit\]\?"),
        ("[xyz]\nn = 3\n", r"unknown table \[xyz\]$"),
        ("worker = 3\n", r"stacmirror.toml: unknown setting `worker`; did you mean `workers`\?"),
        ("page_size = 3\n", r"`page_size` stands outside its table$"),
        ("[limit]\npage_size = 3\n", r"`page_size` belongs in \[walk\], not in \[limit\]"),
        ("[walk]\npage_size = 0\n", r"page_size.* must be 1 to 10000 \(from stacmirror.toml\)"),
        ("[walk\n", r"stacmirror.toml is no valid TOML"),
        ("walk = 3\n", r"`walk` is a table, not a value"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_place(text: str, expected: str) -> None:
    """A key, table or value that cannot be is refused with file, name and the nearest that exists."""
    Path("stacmirror.toml").write_text(text)
    with pytest.raises(UsageError, match=expected):
        config.resolve({}, {}, config.places())


def test_an_unknown_variable_is_a_warning() -> None:
    """A misspelt STACMIRROR_ variable is told, and stops nothing: others may use the prefix."""
    resolved = config.resolve({}, {"STACMIRROR_WORKRS": "3"}, config.places())
    assert "STACMIRROR_WORKRS" in resolved.warnings[0]
    assert "`workers`" in resolved.warnings[0]


def test_a_wrong_value_names_the_layer_it_came_from() -> None:
    """The line for a bad value says whether flag or variable was meant."""
    with pytest.raises(UsageError, match=r"from STACMIRROR_STALL_TIMEOUT"):
        config.resolve({}, {"STACMIRROR_STALL_TIMEOUT": "soon"}, config.places())
    with pytest.raises(UsageError, match=r"from --workers"):
        config.resolve({"workers": "many"}, {}, config.places())


@pytest.mark.parametrize("option", options().values(), ids=lambda option: option.key)
def test_every_number_has_a_range_that_holds_wherever_it_is_set(option: Option) -> None:
    """Each number, time, size and rate has both ends, its default is inside, and files and variables are held to it."""
    number = {int, int | None, float, float | None} & {option.type}
    assert (option.range is not None) == bool(number)
    if option.range is None:
        return
    assert str(option.range) in next(line for line in EXAMPLE.read_text().splitlines() if line.startswith(option.key))
    for end in (option.range.least, option.range.most):
        config.resolve({option.key: str(end)}, {}, config.places())
    unit = re.sub(r"^\d+", "", str(option.range.most))
    beyond = f"{int(str(option.range.most).removesuffix(unit)) + 1}{unit}"
    told = rf"`{option.key}` = .*: must be {option.range} \(from "
    with pytest.raises(UsageError, match=told + f"STACMIRROR_{option.key.upper()}"):
        config.resolve({}, {ENV_PREFIX + option.key.upper(): beyond}, config.places())
    Path("stacmirror.toml").write_text(f'[{option.section}]\n{option.key} = "{beyond}"\n')
    with pytest.raises(UsageError, match=told + "stacmirror.toml"):
        config.resolve({}, {}, config.places())
    Path("stacmirror.toml").write_text(f"[{option.section}]\n{option.key} = -1\n")
    with pytest.raises(UsageError, match=told + "stacmirror.toml"):
        config.resolve({}, {}, config.places())


def test_a_number_that_is_none_is_out_of_range() -> None:
    """TOML has `nan` and `inf`: neither is a time."""
    for text in ("nan", "inf"):
        Path("stacmirror.toml").write_text(f"[run]\ngrace = {text}\n")
        with pytest.raises(UsageError, match="must be 0 to 1d"):
            config.resolve({}, {}, config.places())


def test_lists_from_the_environment_may_have_commas_in_them() -> None:
    """A JSON list keeps a label with commas whole; plain commas separate; a text alone in TOML is one value."""
    environ = {"STACMIRROR_LABEL_CLASS": '["Beaches, dunes, sands"]', "STACMIRROR_ASSET": "B02, B03"}
    chosen = config.resolve({}, environ, config.places()).settings().filter
    assert chosen.label_class == ("Beaches, dunes, sands",)
    assert chosen.asset == ("B02", "B03")
    Path("stacmirror.toml").write_text('[filter]\nlabel_class = "Beaches, dunes, sands"\n')
    assert config.resolve({}, {}, config.places()).settings().filter.label_class == ("Beaches, dunes, sands",)


def test_an_empty_text_unsets_a_lower_layer() -> None:
    """TOML has no null: `rate = ""` in a project file removes the rate of the user's config."""
    _user_file('[limit]\nrate = "5/s"\n')
    assert config.resolve({}, {}, config.places()).settings().limit.rate_per_s == 5
    Path("stacmirror.toml").write_text('[limit]\nrate = ""\n')
    assert config.resolve({}, {}, config.places()).settings().limit.rate_per_s is None


def test_a_template_implies_its_layout() -> None:
    """--path-template alone means layout template, also over a file's layout; a nearer --layout wins."""
    template = {"path_template": "{item_id}/{asset_key}{ext}"}
    assert config.resolve(template, {}, config.places()).settings().place.layout == "template"
    Path("stacmirror.toml").write_text('[place]\nlayout = "fanout"\n')
    assert config.resolve(template, {}, config.places()).settings().place.layout == "template"
    Path("stacmirror.toml").write_text('[place]\npath_template = "{item_id}/{asset_key}"\n')
    place = config.resolve({"layout": "item"}, {}, config.places()).settings().place
    assert (place.layout, place.path_template) == ("item", "")
    assert build("", "", template).place.layout == "template"  # the library's way


def test_a_config_file_that_was_named_must_exist() -> None:
    """--config with a file that is not there is refused; without --config a missing file is fine."""
    with pytest.raises(UsageError, match="no such file"):
        config.resolve({}, {}, config.places("missing.toml"))


def test_the_example_says_exactly_the_defaults() -> None:
    """config.example.toml has every setting, in its table, with its default, and a comment that says why."""
    document = tomllib.loads(EXAMPLE.read_text())
    written = [(section, key) for section, content in document.items() for key in content]
    assert written == [(option.section, option.key) for option in options().values()]
    assert config.resolve({}, {}, config.places(str(EXAMPLE))).settings() == Settings("", "")
    for line in EXAMPLE.read_text().splitlines():
        if re.match(r"\w+ = ", line):
            assert re.search(r" # \S.{10,}\.$", line), f"no unit and reason: {line}"


def test_every_setting_has_a_documented_way_to_be_set() -> None:
    """Each setting can be set by TOML and environment, and each flag sets a setting that exists."""
    table = options()
    for group in (FILTERS, PLACE, TUNING, ACCESS, LOOK):
        for flag in group.flags:
            assert flag.key in table
    for key, option in table.items():
        name = ENV_PREFIX + key.upper()
        value = str(not option.default) if isinstance(option.default, bool) else "7"
        value = "true" if key in ("cloud_and_shadow", "seasonal_snow") else value
        value = {
            "rate": "7/s",
            "intersects": '{"type": "Point"}',
            "layout": "fanout",
            "incomplete": "hide",
            "progress": "none",
            "http_client": "aiohttp",
            "key_as": "bearer",
            "json_depth_max": "70",
            "header_max": "7KiB",
            "bwlimit": "70KiB",
            "shard": "2/7",
        }.get(key, value)
        changed = config.resolve({}, {name: value}, config.places()).settings()
        assert changed != Settings("", ""), f"{name} changes nothing"


def test_what_config_show_prints_can_be_read_back(tmp_path: Path) -> None:
    """`config show` writes TOML that loads to the same settings, whatever characters a value has."""
    odd = Settings("", "")
    odd = replace(
        odd,
        filter=replace(odd.filter, label_class=('a "b" \\ \x1b', "Beaches, dunes"), seasonal_snow=False),
    )
    lines = []
    for option in options().values():
        value = getattr(getattr(odd, option.section), option.field_name)
        lines += [f"[{option.section}]"] if f"[{option.section}]" not in lines else []
        lines.append(f"{option.key} = {to_toml(value)}")
    path = tmp_path / "shown.toml"
    path.write_text("\n".join(lines))
    assert config.resolve({}, {}, config.places(str(path))).settings() == odd
