"""Who asks: the API's root and the API key, from where MLHub's own client had them.

Called by the commands that talk to a source. The environment is handed in; the key is never a setting and is
never written anywhere.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from stacmirror.cli.config import Resolved
from stacmirror.cli.key_sources import WHERE_TO_PUT_IT, from_command, from_file, from_keyring, from_profiles, usable
from stacmirror.errors import LoginRefused, UsageError
from stacmirror.settings import Settings, SourceSettings

_NAMED = ("key_file", "key_command", "keyring")
"""Settings that name where the key is."""


def check_urls(settings: Settings) -> None:
    """Refuse a source without an API, logins that are none, and URLs that are none or that carry a secret.

    Raises: UsageError.
    """
    if settings.source.startswith("mlhub") and not settings.catalog.api_url:
        raise UsageError(
            "MLHub is gone (2024), so `mlhub:` needs the root of an API that took its place: --api-url URL",
            hint="try `stacmirror demo`, which brings its own; `stacmirror sources` lists today's",
        )
    if settings.catalog.auth or settings.catalog.header:
        from stacmirror.assembly import check_logins  # here: few runs log in by it

        check_logins(settings)
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

    Order:  --key-file, --key-command or --keyring when typed; MLHUB_API_KEY; the profile MLHUB_PROFILE (or `default`)
            in ~/.mlhub/profiles (MLHUB_HOME moves the folder); the settings `key_file`, `key_command`, `keyring`.
    Raises: LoginRefused for a place that was named and has no key; UsageError for one that cannot be read, and for two
            that were typed.
    """
    typed = [name for name in _NAMED if resolved.origin(name).startswith("--") and getattr(_catalog(resolved), name)]
    if len(typed) > 1:
        words = " and ".join("--" + name.replace("_", "-") for name in typed)
        raise UsageError(f"{words} contradict each other", hint="give one of them")
    key = _from_setting(typed[0], resolved, warn) if typed else ""
    if not key and (key := environ.get("MLHUB_API_KEY", "").strip()):
        key = usable(key, "MLHUB_API_KEY")
    key = key or from_profiles(environ, warn)
    for name in _NAMED if not key else ():
        key = key or (_from_setting(name, resolved, warn) if getattr(_catalog(resolved), name) else "")
    if key and any(key in word for word in sys.argv[1:]):
        warn("the API key stands on the command line, where `ps` and the shell's history show it; see --key-file")
    return key


def _from_setting(name: str, resolved: Resolved, warn: Callable[[str], None]) -> str:
    catalog = _catalog(resolved)
    if name == "key_file":
        return from_file(catalog.key_file, warn)
    if name == "key_command":
        return from_command(catalog.key_command)
    return from_keyring(catalog.keyring, urlsplit(catalog.api_url).hostname or "")


def _catalog(resolved: Resolved) -> SourceSettings:
    return resolved.settings().catalog


def need_key(resolved: Resolved, environ: Mapping[str, str], warn: Callable[[str], None]) -> str:
    """Return the API key. Raises: LoginRefused when there is none, with where to put it."""
    key = find_key(resolved, environ, warn)
    if not key:
        raise LoginRefused("no API key", hint=WHERE_TO_PUT_IT)
    return key
