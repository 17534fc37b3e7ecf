"""Where settings come from: layers, the highest first, each value with its origin.

    flags > STACMIRROR_<KEY> > a mirror's saved settings (resume) > ./stacmirror.toml > user config > MLHUB_ROOT_URL
    > the profile that SOURCE names > defaults

A profile's own root goes before all but flags and what a mirror saved: `api_url` in a file is some other source's.

Called by the commands. The only reader of `STACMIRROR_*` and of TOML files; the key is not a setting (access.py).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_origin

from msgspec import Struct, field

from stacmirror.cli import trust
from stacmirror.errors import UsageError
from stacmirror.profiles import PROFILES
from stacmirror.settings import Settings
from stacmirror.typed import ALL_SETTINGS, Option, build, options, unknown_key

ENV_PREFIX = "STACMIRROR_"
PROJECT_FILE = "stacmirror.toml"
SAVED_FILE = Path(".stacmirror", "settings.toml")


class Given(Struct, frozen=True):
    """A value as typed, and where it was typed, in words."""

    value: object
    origin: str


Layer = Mapping[str, Given]
SOURCE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]+")


class Resolved(Struct, frozen=True):
    """What all layers together say. A key that no layer gives has its default."""

    given: Mapping[str, Given]
    warnings: tuple[str, ...] = ()

    def settings(self, source: str = "", target: str = "") -> Settings:
        """Return the settings for one run. Every value was checked when its layer was read."""
        return build(source, target, {key: given.value for key, given in self.given.items()})

    def origin(self, key: str) -> str:
        """Return where `key` has its value from."""
        return self.given[key].origin if key in self.given else "default"


class Saved(Struct, frozen=True):
    """What a mirror remembers of itself: its source and its settings."""

    source: str
    layer: Layer


class Places(Struct, frozen=True):
    """The files that are looked at. `explicit` is --config: it must exist."""

    project: Path = field(default_factory=lambda: Path(PROJECT_FILE))
    user: Path = field(default_factory=lambda: user_file())  # noqa: PLW0108 - defined below
    explicit: bool = False


def user_file() -> Path:
    """Return the user's own config file, which need not exist."""
    import platformdirs

    return Path(platformdirs.user_config_dir("stacmirror"), PROJECT_FILE)


def places(config_file: str = "") -> Places:
    """Return where to look, `--config FILE` taking the project file's place."""
    return Places(project=Path(config_file), explicit=True) if config_file else Places()


def resolve(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    where: Places,
    *,
    saved: Saved | None = None,
    source: str = "",
) -> Resolved:
    """Return all layers as one; `source` is SOURCE as typed, which may name a profile.

    Raises: UsageError naming the key or table that does not exist, its place and the nearest name; or the value that
            cannot be, and its place.
    """
    if where.explicit and not where.project.is_file():
        raise UsageError(
            f"--config {where.project}: no such file",
            hint="`stacmirror config path` says what is read without --config",
        )
    from_env, warnings = _environment(environ)
    if not where.explicit:
        trust.refuse_foreign(where.project)
    project, user = _file(where.project), _file(where.user)
    name = (saved.source if saved else source).partition(":")[0]
    profile = _profile(name, _sources(where.user), _sources(where.project))
    for layer in () if where.explicit else (project, trust.of(profile, where.project)):
        trust.refuse_command(layer)
    if saved is not None:
        trust.refuse_command(saved.layer)
    root = {} if saved else {key: profile[key] for key in ("api_url", "profile") if key in profile}
    layers: list[Layer] = [
        {key: Given(value, "--" + key.replace("_", "-")) for key, value in flags.items()},
        root,
        from_env,
        saved.layer if saved else {},
        project,
        user,
        _official_client(environ) if name in ("", "mlhub") else {},
        profile,
    ]
    merged: dict[str, Given] = {}
    ranks: dict[str, int] = {}
    for rank, layer in enumerate(layers):
        for key, given in layer.items():
            _check(key, given)
            if key not in merged:
                merged[key], ranks[key] = given, rank
    others = trust.warnings({**user, **project}, saved.layer if saved else {}, {**_official_client(environ), **user})
    return Resolved(_with_geometry(_with_layout(merged, ranks)), (*warnings, *others))


def only_flags(flags: Mapping[str, object]) -> Resolved:
    """Return what was typed and nothing else, for commands that must not depend on where they run."""
    given = {key: Given(value, "--" + key.replace("_", "-")) for key, value in flags.items()}
    for key, one in given.items():
        _check(key, one)
    return Resolved(_with_layout(given, dict.fromkeys(given, 0)))


def load_saved(target: str) -> Saved:
    """Return what the mirror in `target` remembers.

    Raises: UsageError when there is no mirror, with the command that makes one.
    """
    path = Path(target) / SAVED_FILE
    try:
        document = _read(path)
    except FileNotFoundError:
        raise UsageError(
            f"{target} holds no mirror to resume",
            hint=f"start one: stacmirror mirror mlhub:bigearthnet_v1_labels {target} --api-url URL",
        ) from None
    source = document.pop("source", None)
    if not isinstance(source, str) or not source:
        raise UsageError(
            f"{path}: `source` is missing", hint='put the line back, such as: source = "mlhub:bigearthnet_v1_labels"'
        )
    return Saved(source, _tables(document, path))


def _with_layout(merged: dict[str, Given], ranks: Mapping[str, int]) -> dict[str, Given]:
    """Let the nearer of layout and template count: a template implies its layout, a layout puts a template away."""
    template, layout = merged.get("path_template"), merged.get("layout")
    if template is None or not template.value:
        return merged
    if layout is None or ranks["path_template"] < ranks["layout"]:
        return merged | {"layout": Given("template", template.origin)}
    if ranks["layout"] < ranks["path_template"] and layout.value != "template":
        return {key: given for key, given in merged.items() if key != "path_template"}
    # Of one layer: whoever typed both meant one of them, and nobody can say which. The layout refuses it.
    return merged


def _with_geometry(merged: dict[str, Given]) -> dict[str, Given]:
    """Read the file that `intersects` names: a mirror remembers the geometry, not where it once was."""
    given = merged.get("intersects")
    if given is None or not isinstance(given.value, str) or not given.value.strip() or "{" in given.value:
        return merged
    path = Path(given.value)
    try:
        text = path.read_text(encoding="utf-8")
        compact = json.dumps(json.loads(text), separators=(",", ":"))
    except OSError as error:
        raise UsageError(f"--intersects {path}: {error.strerror}", hint="name a file with GeoJSON") from error
    except ValueError:
        raise UsageError(f"--intersects {path} is no JSON", hint="name a file with GeoJSON") from None
    return merged | {"intersects": Given(compact, given.origin)}


def _environment(environ: Mapping[str, str]) -> tuple[Layer, tuple[str, ...]]:
    table = options()
    layer: dict[str, Given] = {}
    warnings: list[str] = []
    for name in sorted(environ):
        if not name.startswith(ENV_PREFIX) or not environ[name]:
            continue
        key = name.removeprefix(ENV_PREFIX).lower()
        if key in table:
            layer[key] = Given(_from_text(table[key], environ[name], name), name)
        else:
            # Not an error: the environment is shared with others, a file of ours is not.
            warnings.append(f"environment variable {name}: {unknown_key(key, table)}")
    return layer, tuple(warnings)


def _from_text(option: Option, text: str, name: str) -> object:
    """Return a list for a JSON array; label names have commas in them, so commas alone cannot always separate."""
    if get_origin(option.type) is tuple and text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except ValueError as error:
            raise UsageError(
                f"{name} is not a JSON list: {error}", hint=f"""such as {name}='["B02", "B03"]'"""
            ) from error
    return text


def _official_client(environ: Mapping[str, str]) -> Layer:
    root = environ.get("MLHUB_ROOT_URL", "")
    return {"api_url": Given(root, "MLHUB_ROOT_URL")} if root else {}


def _file(path: Path) -> Layer:
    try:
        document = _read(path)
    except FileNotFoundError:
        return {}
    document.pop("source", None)  # profiles: see `_sources`
    return _tables(document, path)


def _sources(path: Path) -> Mapping[str, Layer]:
    """Return the `[source.NAME]` tables of a file, by name. Raises: UsageError, as for other tables."""
    try:
        found = _read(path).get("source", {})
    except FileNotFoundError:
        return {}
    if not isinstance(found, dict) or not all(isinstance(content, dict) for content in found.values()):
        raise UsageError(f"{path}: `source` is a table of tables", hint="write [source.NAME], and its settings below")
    table = options()
    layers: dict[str, Layer] = {}
    for name, content in found.items():
        if not SOURCE_NAME.fullmatch(name) or name in ("mlhub", "http", "https", "s3", "file"):
            raise UsageError(f"{path}: [source.{name}] is no name for a source", hint="letters, digits, - and _")
        where = f"{path}: [source.{name}]"
        layer: dict[str, Given] = {}
        for key, value in content.items():
            if key not in table or table[key].section in ("place", "look", "run") or key == "profile":
                raise UsageError(f"{where} {unknown_key(key, table)}", hint=ALL_SETTINGS)
            layer[key] = Given(_from_toml(table[key], value), f"[source.{name}] of {path}")
        layers[name] = layer
    return layers


def _profile(name: str, *files: Mapping[str, Layer]) -> Layer:
    """Return the settings of the profile called `name`: built in, and then as files have it, the last file above."""
    built_in = PROFILES.get(name)
    layer: dict[str, Given] = {}
    if built_in is not None:
        layer = {key: Given(value, f"the profile {name}") for key, value in built_in.settings.items()}
    for tables in files:
        if name in tables:
            layer.update(tables[name])
            layer["profile"] = Given(name, f"[source.{name}]")
    return layer


def named_sources(where: Places) -> dict[str, Layer]:
    """Return all profiles by name: those that are built in, and those of files."""
    files = (_sources(where.user), _sources(where.project))
    names = [*PROFILES, *(name for tables in files for name in tables if name not in PROFILES)]
    return {name: _profile(name, *files) for name in dict.fromkeys(names)}


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        import tomllib  # here: mostly there is no file, and it takes 4 ms to load

        return tomllib.loads(text)
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:
        raise FileNotFoundError(path) from error
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", hint="mend its rights, or name another file with --config"
        ) from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise UsageError(
            f"{path} is no valid TOML: {error}",
            hint="`stacmirror config show` prints settings as a file should have them",
        ) from error


def _tables(document: Mapping[str, Any], path: Path) -> Layer:
    table = options()
    sections = list(dict.fromkeys(option.section for option in table.values()))
    layer: dict[str, Given] = {}
    for section, content in document.items():
        if not isinstance(content, dict):
            raise _outside(section, path, table)
        if section not in sections:
            raise _unknown_table(section, path, table)
        for key, value in content.items():
            if key not in table:
                raise UsageError(f"{path}: [{section}] {unknown_key(key, table)}", hint=ALL_SETTINGS)
            if table[key].section != section:
                right = table[key].section
                raise UsageError(
                    f"{path}: `{key}` belongs in [{right}], not in [{section}]", hint=f"move the line below [{right}]"
                )
            layer[key] = Given(_from_toml(table[key], value), str(path))
    return layer


def _outside(key: str, path: Path, table: Mapping[str, Option]) -> UsageError:
    """Return what is wrong with a key above all tables: a setting in the wrong place, or none."""
    if key in table:
        right = table[key].section
        return UsageError(f"{path}: `{key}` stands outside its table", hint=f"put it below [{right}]")
    if key in {option.section for option in table.values()}:
        return UsageError(f"{path}: `{key}` is a table, not a value", hint=f"write [{key}], and its settings below")
    return UsageError(f"{path}: {unknown_key(key, table)}", hint=ALL_SETTINGS)


def _unknown_table(name: str, path: Path, table: Mapping[str, Option]) -> UsageError:
    """Return what is wrong with a table that does not exist, with the nearest name: a table, or a setting in one."""
    sections = list(dict.fromkeys(option.section for option in table.values()))
    near = difflib.get_close_matches(name.lower(), [*sections, *table], n=1)
    said = f"{path}: unknown table [{name}]"
    if near and near[0] in sections:
        said += f"; did you mean [{near[0]}]?"
    elif near:
        said += f"; did you mean `{near[0]}` below [{table[near[0]].section}]?"
    return UsageError(said, hint=f"there are {', '.join(f'[{section}]' for section in sections)}")


def _from_toml(option: Option, value: object) -> object:
    """TOML has no null: an empty text says "not set" where that is possible. A text alone is a list of one."""
    if option.default is None and value == "":
        return None
    if get_origin(option.type) is tuple and isinstance(value, str):
        return [value] if value else []
    return value


def _check(key: str, given: Given) -> None:
    try:
        build("", "", {key: given.value})
    except UsageError as error:
        raise UsageError(f"{error.message} (from {given.origin})", hint=error.hint) from error
