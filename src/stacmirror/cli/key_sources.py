"""Where an API key may be: a file, a command, the system's keyring, the profiles of MLHub's own client.

Called by `access`, which knows the order. A key is read where it is and handed on; it is written nowhere, and no error
shows it, nor anything that could be it.
"""

from __future__ import annotations

import shlex
import stat
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from stacmirror.errors import LoginRefused, UsageError

WHERE_TO_PUT_IT = (
    "set MLHUB_API_KEY, or write `api_key = ...` below [default] in ~/.mlhub/profiles, or name a file with --key-file"
)
_KEY_FILE = "--key-file names a text file whose first line is the key"
_KEY_COMMAND = (
    "--key-command is a command without a shell, such as 'pass show mlhub', that prints the key as its first line"
)
_COMMAND_S = 120.0
"""Someone may have to type a passphrase."""


def from_profiles(environ: Mapping[str, str], warn: Callable[[str], None]) -> str:
    """Return the key of the profile MLHUB_PROFILE, or `default`, or "". Raises: LoginRefused, UsageError."""
    home = environ.get("MLHUB_HOME", "")
    path = (Path(home) if home else Path("~/.mlhub").expanduser()) / "profiles"
    named = environ.get("MLHUB_PROFILE", "")
    import configparser  # here: most have the key in MLHUB_API_KEY

    # The official client's files: plain INI, where `%` is a character like any other.
    profiles = configparser.ConfigParser(interpolation=None)
    try:
        profiles.read_string(path.read_text(encoding="utf-8"))
        mode = path.stat().st_mode
    except FileNotFoundError:
        if named:
            raise LoginRefused(f"MLHUB_PROFILE names `{named}`, but there is no {path}", hint=WHERE_TO_PUT_IT) from None
        return ""
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", hint="mend its rights, or set MLHUB_API_KEY"
        ) from error
    except (configparser.Error, UnicodeDecodeError) as error:
        # The parser's own message quotes the line, which may be the key.
        raise UsageError(f"{path} is no INI file of profiles", hint="[default] and below it: api_key = ...") from error
    section = named or "default"
    key = profiles.get(section, "api_key", fallback="").strip()
    if not key and named:
        raise LoginRefused(f"{path} has no api_key below [{named}] (from MLHUB_PROFILE)", hint=WHERE_TO_PUT_IT)
    if not key:
        return ""
    _warn_of_readers(str(path), path, mode, warn)
    return usable(key, str(path))


def from_file(name: str, warn: Callable[[str], None]) -> str:
    """Return the first line of a file. Raises: UsageError."""
    path = Path(name).expanduser()
    try:
        with path.open(encoding="utf-8") as lines:
            # A key is a line, so a wrong file (a disk image, /dev/zero) is not read to its end.
            key = lines.readline(10_000).strip()
            mode = path.stat().st_mode
    except OSError as error:
        raise UsageError(f"key file {path} cannot be read: {error.strerror}", hint=_KEY_FILE) from error
    except UnicodeDecodeError:
        raise UsageError(f"key file {path} is no text", hint=_KEY_FILE) from None
    if not key:
        raise UsageError(f"key file {path} has an empty first line", hint=_KEY_FILE)
    _warn_of_readers(f"key file {path}", path, mode, warn)
    return usable(key, f"key file {path}")


def from_command(command: str) -> str:
    """Return the first line that a command prints. It may ask on the terminal. Raises: LoginRefused, UsageError."""
    try:
        words = shlex.split(command)
        done = subprocess.run(words, stdout=subprocess.PIPE, timeout=_COMMAND_S, check=False)  # noqa: S603 - the user's own
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        # Not its text, nor the command's: a secret may stand in either.
        raise UsageError(f"the key command cannot be run: {_why(error)}", hint=_KEY_COMMAND) from None
    if done.returncode:
        raise LoginRefused(f"the key command ended with {done.returncode}", hint=_KEY_COMMAND)
    try:
        key = done.stdout.partition(b"\n")[0].decode().strip()
    except UnicodeDecodeError:
        raise UsageError("the key command printed no text", hint=_KEY_COMMAND) from None
    if not key:
        raise LoginRefused("the key command printed nothing", hint=_KEY_COMMAND)
    return usable(key, "the key command")


def _why(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer in {_COMMAND_S:g} s"
    return (error.strerror or "an error of the system") if isinstance(error, OSError) else "its quotes do not match"


def from_keyring(service: str, host: str) -> str:
    """Return what the system's keyring has for `host` under `service`. Raises: LoginRefused, UsageError."""
    try:
        import keyring  # here: few have it, and it takes 100 ms to load
    except ImportError:
        raise UsageError("--keyring needs the extra `keyring`", hint="pip install 'stacmirror[keyring]'") from None
    hint = f"`keyring set {service} {host}` puts it there"
    try:
        key = keyring.get_password(service, host) or ""
    except Exception as error:
        raise LoginRefused(f"the keyring gives no key: {type(error).__name__}", hint=hint) from None
    if not key:
        raise LoginRefused(f"the keyring has no key for {host} under {service}", hint=hint)
    return usable(key.strip(), "the keyring")


def _warn_of_readers(what: str, path: Path, mode: int, warn: Callable[[str], None]) -> None:
    if mode & (stat.S_IRGRP | stat.S_IROTH) and stat.S_ISREG(mode):
        warn(f"{what} can be read by others; chmod 600 {path}")


def usable(key: str, where: str) -> str:
    """Return a key that can be sent. Raises: UsageError, without showing it."""
    # It goes into a URL and a header: a line break there is another request.
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(
            f"the API key from {where} has characters that no key has",
            hint="copy it anew: one word of ASCII letters and digits",
        )
    return key
