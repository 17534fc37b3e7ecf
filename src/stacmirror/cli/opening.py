"""The first words of a run: what is mirrored from where, warnings, and the settings that are no defaults.

Called by mirror, resume and demo before a run; on stderr for the person, in --log-file for whoever reads it later.
"""

from __future__ import annotations

from stacmirror.cli.config import Resolved
from stacmirror.cli.log import Log
from stacmirror.cli.session import Look, say, warn
from stacmirror.settings import Settings
from stacmirror.typed import SECRETS, options

_NEVER_SHOWN = frozenset({"key_command"})
"""Settings whose words may hold a secret: `echo KEY` is a key command, too."""


def open_run(title: str, settings: Settings, resolved: Resolved, look: Look, warnings: list[str]) -> None:
    """Say `title` and, with -v, the settings that differ. The log gets all of it, however little is said.

    `warnings` were said when they came up: they go to the log only. Raises: UsageError when there can be no log.
    """
    differing = [
        f"  {key} = {'(secret)' if key in SECRETS | _NEVER_SHOWN else value} ({resolved.origin(key)})"
        for key, option in options().items()
        if (value := getattr(getattr(settings, option.section), option.field_name)) != option.default
    ]
    if settings.look.log_file:
        with Log(settings.look.log_file) as log:
            for line in (title, *(f"warning: {warning}" for warning in warnings), *differing):
                log.write(line)
    if not look.quiet:
        say(title)
    if look.verbose:
        for line in differing:
            say(line)


class Warnings(list[str]):
    """Says each warning as it comes, and keeps it for the log."""

    def __call__(self, warning: str) -> None:
        self.append(warning)
        warn(warning)
