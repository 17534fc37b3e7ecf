"""Who asks: the order of the places a key can be in, and what is refused before anyone is asked."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

import pytest

from stacmirror.cli import access, config
from stacmirror.cli.layers import Given
from stacmirror.cli.opening import open_run
from stacmirror.cli.session import Look
from stacmirror.errors import LoginRefused, UsageError
from stacmirror.typed import build

NOTHING = config.Resolved({})


def _silent(line: str) -> None:
    raise AssertionError(f"unexpected warning: {line}")


def _profiles(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "profiles").write_text(text)
    (folder / "profiles").chmod(0o600)


def _key_file(mode: int = 0o600) -> config.Resolved:
    Path("key").write_text("from-file\nsecond line\n")
    Path("key").chmod(mode)
    return config.Resolved({"key_file": Given("key", "stacmirror.toml")})


def test_the_environment_comes_first_then_the_profile_then_the_key_file() -> None:
    """MLHUB_API_KEY beats ~/.mlhub/profiles, which beats the setting key_file, of which the first line counts."""
    resolved = _key_file()
    assert access.find_key(resolved, {}, _silent) == "from-file"
    _profiles(Path("~/.mlhub").expanduser(), "[default]\napi_key = from%profile\n[work]\napi_key = at-work\n")
    assert access.find_key(resolved, {}, _silent) == "from%profile"
    assert access.find_key(resolved, {"MLHUB_PROFILE": "work"}, _silent) == "at-work"
    assert access.find_key(resolved, {"MLHUB_PROFILE": "work", "MLHUB_API_KEY": " env "}, _silent) == "env"


def test_a_key_file_that_was_typed_beats_everything() -> None:
    """--key-file is nearer than the environment."""
    Path("key").write_text("typed\n")
    Path("key").chmod(0o600)
    typed = config.resolve({"key_file": "key"}, {}, config.places())
    assert access.find_key(typed, {"MLHUB_API_KEY": "env"}, _silent) == "typed"


def test_mlhub_home_moves_the_profiles(tmp_path: Path) -> None:
    """MLHUB_HOME is the folder of `profiles`, as it was for MLHub's own client."""
    _profiles(tmp_path / "elsewhere", "[default]\napi_key = moved\n")
    assert access.find_key(NOTHING, {"MLHUB_HOME": str(tmp_path / "elsewhere")}, _silent) == "moved"


def test_no_key_anywhere_says_where_to_put_one() -> None:
    """A missing key is exit 4, with the places to put it."""
    with pytest.raises(LoginRefused) as caught:
        access.need_key(NOTHING, {}, _silent)
    assert caught.value.exit_code == 4
    for place in ("MLHUB_API_KEY", "~/.mlhub/profiles", "--key-file"):
        assert place in caught.value.hint


def test_a_profile_that_was_named_must_exist() -> None:
    """MLHUB_PROFILE with a profile that is not there is no silent fall-back to another key."""
    _profiles(Path("~/.mlhub").expanduser(), "[default]\napi_key = other\n")
    with pytest.raises(LoginRefused, match="work"):
        access.find_key(NOTHING, {"MLHUB_PROFILE": "work"}, _silent)


def test_a_key_file_that_others_can_read_is_told() -> None:
    """A key file with mode 644 is used, and warned about once."""
    told: list[str] = []
    assert access.find_key(_key_file(0o644), {}, told.append) == "from-file"
    assert len(told) == 1
    assert "chmod 600" in told[0]


def test_profiles_that_others_can_read_are_told() -> None:
    """~/.mlhub/profiles with mode 644 is used, and warned about."""
    _profiles(Path("~/.mlhub").expanduser(), "[default]\napi_key = open\n")
    Path("~/.mlhub/profiles").expanduser().chmod(0o644)
    told: list[str] = []
    assert access.find_key(NOTHING, {}, told.append) == "open"
    assert "chmod 600" in told[0]


def _typed(**flags: str) -> config.Resolved:
    return config.resolve(flags, {}, config.places())


def test_a_command_says_the_key() -> None:
    """--key-command runs without a shell; its first line counts, before the environment."""
    typed = _typed(key_command="printf '%s\\n' 'k;3y$HOME' more")
    assert access.find_key(typed, {"MLHUB_API_KEY": "env"}, _silent) == "k;3y$HOME"


@pytest.mark.parametrize(
    "command", ["false s3cr3t", "no-such-program s3cr3t", "printf 's3cr3t", "true s3cr3t", "printf '\\377'"]
)
def test_a_command_that_fails_is_one_line_without_it(command: str) -> None:
    """A command that is not there, fails or says nothing is told without its words: a secret may stand in them."""
    with pytest.raises((UsageError, LoginRefused)) as caught:
        access.find_key(_typed(key_command=command), {}, _silent)
    assert "s3cr3t" not in caught.value.message + caught.value.hint
    assert caught.value.__cause__ is None


def test_a_folder_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """`key_command` in ./stacmirror.toml, or in a mirror that one resumes, is refused, not run and not passed over."""
    Path("stacmirror.toml").write_text('[catalog]\nkey_command = "touch ran"\n')
    with pytest.raises(UsageError, match="must run nothing"):
        config.resolve({}, {}, config.places())
    Path("stacmirror.toml").unlink()
    saved = config.Saved("mlhub:x", {"key_command": Given("touch ran", "ben/.stacmirror/settings.toml")})
    with pytest.raises(UsageError, match="must run nothing"):
        config.resolve({}, {}, config.places(), saved=saved)
    assert not Path("ran").exists()
    assert config.resolve({}, {"STACMIRROR_KEY_COMMAND": "echo k"}, config.places()).origin("key_command")


def test_the_keyring_gives_the_key_of_the_apis_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """--keyring asks for the API's host, so that another host gets another key; none is exit 4."""
    kept = {("stacmirror", "api.example.org"): "from-ring"}
    ring = types.SimpleNamespace(get_password=lambda service, user: kept.get((service, user)))
    monkeypatch.setitem(sys.modules, "keyring", ring)
    typed = _typed(keyring="stacmirror", api_url="https://api.example.org:8443/v1")
    assert access.find_key(typed, {"MLHUB_API_KEY": "env"}, _silent) == "from-ring"
    with pytest.raises(LoginRefused) as caught:
        access.find_key(_typed(keyring="stacmirror", api_url="https://evil.example.org/"), {}, _silent)
    assert "keyring set stacmirror evil.example.org" in caught.value.hint


def test_no_keyring_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the line names it."""
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(UsageError) as caught:
        access.find_key(_typed(keyring="stacmirror"), {}, _silent)
    assert "stacmirror[keyring]" in caught.value.hint


def test_two_places_that_were_typed_contradict() -> None:
    """--key-file and --key-command together are refused: nobody can say which was meant."""
    with pytest.raises(UsageError, match="contradict"):
        access.find_key(_typed(key_file="key", key_command="echo k"), {}, _silent)


def test_a_key_on_the_command_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the key came from: among the words that were typed, `ps` shows it, and a warning says so."""
    told: list[str] = []
    monkeypatch.setattr(sys, "argv", ["stacmirror", "mirror", "--key-command", "echo s3cr3t-0123"])
    assert access.find_key(_typed(key_command="echo s3cr3t-0123"), {}, told.append) == "s3cr3t-0123"
    assert len(told) == 1
    assert "command line" in told[0]
    assert "s3cr3t" not in told[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_project_file_of_another_user_is_refused() -> None:
    """./stacmirror.toml that someone else put there could lead the key to them; --config takes it all the same."""
    Path("stacmirror.toml").write_text('[catalog]\napi_url = "https://evil.example.org/"\n')
    os.chown("stacmirror.toml", 12345, -1)
    with pytest.raises(UsageError, match="another user"):
        config.resolve({}, {}, config.places())
    taken = config.resolve({}, {}, config.places("stacmirror.toml"))
    assert taken.settings().catalog.api_url == "https://evil.example.org/"


def test_settings_that_others_can_write_are_told() -> None:
    """A file that says where the key goes, and that others can write, is warned about; one that says neither is not."""
    Path("stacmirror.toml").write_text("[limit]\nworkers = 7\n")
    Path("stacmirror.toml").chmod(0o666)
    assert config.resolve({}, {}, config.places()).warnings == ()
    Path("stacmirror.toml").write_text('[catalog]\napi_url = "https://host/"\n')
    (told,) = config.resolve({}, {}, config.places()).warnings
    assert "can be written by others" in told
    Path("stacmirror.toml").chmod(0o644)
    assert config.resolve({}, {}, config.places()).warnings == ()


def test_a_profiles_file_that_is_none_does_not_show_its_lines() -> None:
    """The line for a broken profiles file does not quote it: it may be the key itself."""
    _profiles(Path("~/.mlhub").expanduser(), "s3cr3t-without-a-section\n")
    with pytest.raises(UsageError) as caught:
        access.find_key(NOTHING, {}, _silent)
    assert "s3cr3t" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("key", ["two words", "tab\there", "ümlaut"])
def test_a_key_that_would_break_a_request_is_refused_unseen(key: str) -> None:
    """A key with blanks or control characters is refused, and not shown."""
    with pytest.raises(UsageError) as caught:
        access.find_key(NOTHING, {"MLHUB_API_KEY": key}, _silent)
    assert key not in caught.value.message


def test_mlhub_without_a_root_is_refused_with_the_ways_out() -> None:
    """`mlhub:` never guesses a host: the line says that MLHub is gone, and names demo and --api-url."""
    with pytest.raises(UsageError) as caught:
        access.check_urls(build("mlhub:x", "d", {}))
    assert "gone" in caught.value.message
    assert "--api-url" in caught.value.message
    assert "stacmirror demo" in caught.value.hint


@pytest.mark.parametrize(
    "url",
    ["host/v1", "ftp://host", "https://", "https://u:s3cr3t@host/", "https://host/?key=s3cr3t", "https://h:x/s3cr3t?k"],
)
def test_a_url_that_is_none_or_carries_a_secret_is_refused_unseen(url: str) -> None:
    """An API root is a bare http or https URL; user, password and query are refused without being shown."""
    with pytest.raises(UsageError) as caught:
        access.check_urls(build("mlhub:x", "d", {"api_url": url}))
    assert "=s3cr3t" not in caught.value.message
    assert ":s3cr3t" not in caught.value.message


def test_a_mirror_that_names_another_api_is_told() -> None:
    """Where a mirror's own settings name another host than the user does, the key's way is said before it goes."""
    saved = config.Saved("mlhub:x", {"api_url": Given("https://evil.example.org/", "ben/settings.toml")})
    environ = {"MLHUB_ROOT_URL": "https://good.example.org/"}
    (told,) = config.resolve({}, environ, config.places(), saved=saved).warnings
    assert "your key goes to https://evil.example.org/" in told
    assert config.resolve({}, {}, config.places(), saved=saved).warnings == ()
    keyless = config.Saved("/a/catalog.json", {"api_url": Given("", "ben/settings.toml")})
    assert config.resolve({}, environ, config.places(), saved=keyless).warnings == ()


def test_a_key_command_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """What -v and the log say of settings leaves the command's words out: `echo KEY` is one, too."""
    resolved = _typed(key_command="echo s3cr3t", log_file="run.log")
    open_run("title", resolved.settings("mlhub:x", "d"), resolved, Look(json=False, quiet=False, verbose=True), [])
    said = capsys.readouterr().err + Path("run.log").read_text()
    assert "key_command = (secret)" in said
    assert "s3cr3t" not in said
