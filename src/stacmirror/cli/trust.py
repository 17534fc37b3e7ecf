"""Which files of settings are believed: they say where the key is, and to whom it goes.

Called by `config` for each file that it reads. ./stacmirror.toml and a mirror's own settings lie in folders that others
may have filled; the user config, flags and the environment are the user's own.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stacmirror.errors import UsageError

if TYPE_CHECKING:
    from stacmirror.cli.layers import Layer

_LEADS_THE_KEY = frozenset({"api_url", "ca_file", "key_file", "key_command", "keyring"})


def refuse_foreign(path: Path) -> None:
    """Refuse a ./stacmirror.toml that someone else has put where we stand. Raises: UsageError."""
    try:
        owner = path.stat().st_uid
    except OSError:
        return
    if owner not in (os.geteuid(), 0):
        raise UsageError(
            f"{path} belongs to another user, and could lead your key to them",
            hint=f"read it first; --config {path} takes it all the same",
        )


def of(layer: Layer, path: Path) -> Layer:
    """Return what of a layer comes from the file `path`."""
    return {key: given for key, given in layer.items() if given.origin.startswith(str(path))}


def refuse_command(layer: Layer) -> None:
    """Refuse to run what a file names that lies where one happens to stand, or in a mirror. Raises: UsageError."""
    command, auth = layer.get("key_command"), layer.get("auth")
    runs = command if command is not None and command.value else None
    if auth is not None and "=command:" in str(auth.value):
        runs = auth
    if runs is not None:
        name = "key_command" if runs is command else "auth = HOST=command:..."
        raise UsageError(
            f"{runs.origin}: `{name}` is not taken from there, since a folder must run nothing",
            hint="put it into the user config (`stacmirror config path`), or type it as a flag",
        )


def warnings(layer: Layer, saved: Layer, own: Layer) -> list[str]:
    """Return warnings of files that say where the key is, or goes, and that others can write."""
    said = []
    origins = [given.origin for key, given in layer.items() if key in _LEADS_THE_KEY and given.value]
    for origin in dict.fromkeys(origins):
        with contextlib.suppress(OSError):
            if os.stat(origin).st_mode & stat.S_IWOTH:
                said.append(f"{origin} can be written by others, and says where your key goes; chmod o-w {origin}")
    command = layer.get("key_command")
    if command is not None and command.value:
        with contextlib.suppress(OSError):
            if os.stat(command.origin).st_mode & stat.S_IROTH:
                said.append(
                    f"{command.origin} can be read by others, and has `key_command`; chmod 600 {command.origin}"
                )
    if (api_url := saved.get("api_url")) is not None and api_url.value:
        with contextlib.suppress(OSError):
            if os.stat(api_url.origin).st_uid not in (os.geteuid(), 0):
                said.append(f"{api_url.origin} belongs to another user; your key goes to {api_url.value}")
        named = own.get("api_url")
        if named is not None and named.value and _host(named.value) != _host(api_url.value):
            said.append(f"your key goes to {api_url.value}, as {api_url.origin} says; {named.origin} is {named.value}")
    return said


def _host(url: object) -> str:
    try:
        return urlsplit(str(url)).hostname or ""
    except ValueError:  # no URL, which `access` says
        return ""
