"""Who asks: the API's root and the API key, from where MLHub's own client had them.

Called by the commands that talk to a source. The environment is handed in; the key is never a setting and is
never written anywhere.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from stacmirror.cli.config import Resolved
from stacmirror.errors import LoginRefused, UsageError
from stacmirror.settings import Settings

WHERE_TO_PUT_IT = (
    "set MLHUB_API_KEY, or write `api_key = ...` below [default] in ~/.mlhub/profiles, or name a file with --key-file"
)
_KEY_FILE = "--key-file names a text file whose first line is the key"


def check_urls(settings: Settings) -> None:
    """Refuse a source without an API, and URLs that are none or that carry a secret.

    Raises: UsageError.
    """
    if settings.source.startswith("mlhub") and not settings.catalog.api_url:
        raise UsageError(
            "MLHub is gone (2024), so `mlhub:` needs the root of an API that took its place: --api-url URL",
            hint="try `stacmirror demo`, which brings its own; `stacmirror sources` lists today's",
        )
    for name, url in (("api_url", settings.catalog.api_url), ("s3_endpoint", settings.s3.s3_endpoint)):
        if url:
            _check_url(name, url)


def _check_url(name: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(
            f"setting `{name}` is no http or https URL: {url.split('?')[0]}", hint="such as https://host/mlhub/v1"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        # Not shown: what stands there is likely a secret.
        raise UsageError(
            f"setting `{name}` must be a bare URL, without user, query or fragment",
            hint=WHERE_TO_PUT_IT if name == "api_url" else "credentials come from where the AWS tools look for them",
        )


def find_key(resolved: Resolved, environ: Mapping[str, str], warn: Callable[[str], None]) -> str:
    """Return the API key, or "" when nobody has put one anywhere.

    Order:  --key-file when typed; MLHUB_API_KEY; the profile MLHUB_PROFILE (or `default`) in ~/.mlhub/profiles
            (MLHUB_HOME moves the folder); the setting `key_file`.
    Raises: LoginRefused for a profile that was named and is not there; UsageError for a file that cannot be read.
    """
    key_file = resolved.settings().catalog.key_file
    if key_file and resolved.origin("key_file") == "--key-file":
        return _from_file(Path(key_file), warn)
    key = environ.get("MLHUB_API_KEY", "").strip()
    if key:
        return _usable(key, "MLHUB_API_KEY")
    key = _from_profiles(environ)
    if key:
        return key
    return _from_file(Path(key_file), warn) if key_file else ""


def need_key(resolved: Resolved, environ: Mapping[str, str], warn: Callable[[str], None]) -> str:
    """Return the API key. Raises: LoginRefused when there is none, with where to put it."""
    key = find_key(resolved, environ, warn)
    if not key:
        raise LoginRefused("no API key", hint=WHERE_TO_PUT_IT)
    return key


def _from_profiles(environ: Mapping[str, str]) -> str:
    home = environ.get("MLHUB_HOME", "")
    path = (Path(home) if home else Path("~/.mlhub").expanduser()) / "profiles"
    named = environ.get("MLHUB_PROFILE", "")
    import configparser  # here: most have the key in MLHUB_API_KEY

    # The official client's files: plain INI, where `%` is a character like any other.
    profiles = configparser.ConfigParser(interpolation=None)
    try:
        profiles.read_string(path.read_text(encoding="utf-8"))
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
    return _usable(key, f"{path}") if key else ""


def _from_file(path: Path, warn: Callable[[str], None]) -> str:
    path = path.expanduser()
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
    if mode & (stat.S_IRGRP | stat.S_IROTH) and stat.S_ISREG(mode):
        warn(f"key file {path} can be read by others; chmod 600 {path}")
    return _usable(key, f"key file {path}")


def _usable(key: str, where: str) -> str:
    # It goes into a URL and a header: a line break there is another request.
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(
            f"the API key from {where} has characters that no key has",
            hint="copy it anew: one word of ASCII letters and digits",
        )
    return key
