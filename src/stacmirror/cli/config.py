"""Where settings come from: layers, the highest first, each value with its origin.

    flags > STACMIRROR_<KEY> > a mirror's saved settings (resume) > ./stacmirror.toml > user config > MLHUB_ROOT_URL
    > the profile that SOURCE names > defaults

A profile's own root goes before all but flags and what a mirror saved: `api_url` in a file is some other source's.

Called by the commands. `layers` reads flags and variables, `config_file` TOML; the key is not a setting (access.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, field

from stacmirror.cli import trust
from stacmirror.cli.config_file import read_settings, read_sources, read_toml, settings_in
from stacmirror.cli.layers import Given, Layer, check_value, of_environment, of_flags, of_official_client
from stacmirror.cli.named_files import with_geometry, with_ids
from stacmirror.errors import UsageError
from stacmirror.profiles import PROFILES
from stacmirror.record import bring_ids
from stacmirror.settings import Settings
from stacmirror.typed import build

PROJECT_FILE = "stacmirror.toml"
SAVED_FILE = Path(".stacmirror", "settings.toml")


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
    from_env, warnings = of_environment(environ)
    if not where.explicit:
        trust.refuse_foreign(where.project)
    project, user = read_settings(where.project), read_settings(where.user)
    name = (saved.source if saved else source).partition(":")[0]
    profile = _profile(name, read_sources(where.user), read_sources(where.project))
    for layer in () if where.explicit else (project, trust.of(profile, where.project)):
        trust.refuse_command(layer)
    if saved is not None:
        trust.refuse_command(saved.layer)
    root = {} if saved else {key: profile[key] for key in ("api_url", "profile") if key in profile}
    layers: list[Layer] = [
        of_flags(flags),
        root,
        from_env,
        saved.layer if saved else {},
        project,
        user,
        of_official_client(environ) if name in ("", "mlhub") else {},
        profile,
    ]
    merged: dict[str, Given] = {}
    ranks: dict[str, int] = {}
    for rank, layer in enumerate(layers):
        for key, given in layer.items():
            check_value(key, given)
            if key not in merged:
                merged[key], ranks[key] = given, rank
    others = trust.warnings({**user, **project}, saved.layer if saved else {}, {**of_official_client(environ), **user})
    if saved is None or merged.get("item") is not saved.layer.get("item"):  # it holds ids, whatever they begin with
        merged = with_ids(merged)
    return Resolved(with_geometry(_with_layout(merged, ranks)), (*warnings, *others))


def only_flags(flags: Mapping[str, object]) -> Resolved:
    """Return what was typed and nothing else, for commands that must not depend on where they run."""
    given = of_flags(flags)
    for key, one in given.items():
        check_value(key, one)
    return Resolved(_with_layout(given, dict.fromkeys(given, 0)))


def load_saved(target: str) -> Saved:
    """Return what the mirror in `target` remembers.

    Raises: UsageError when there is no mirror, with the command that makes one; TargetInUse for a list of ids that
            is not what was written.
    """
    path = Path(target) / SAVED_FILE
    try:
        document = read_toml(path)
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
    bring_ids(document, str(path.parent))
    return Saved(source, settings_in(document, path))


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
    files = (read_sources(where.user), read_sources(where.project))
    names = [*PROFILES, *(name for tables in files for name in tables if name not in PROFILES)]
    return {name: _profile(name, *files) for name in dict.fromkeys(names)}
