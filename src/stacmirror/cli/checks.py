"""What commands refuse before they ask anyone for anything: settings, DEST, and files of the user's inside DEST."""

from __future__ import annotations

import os
from pathlib import Path

from stacmirror.errors import UsageError
from stacmirror.settings import Settings


def check_target(target: str) -> None:
    """Refuse a DEST that cannot become a folder, before anything is asked of anyone. Raises: UsageError."""
    if not target:
        raise UsageError("DEST is empty", hint="name a folder; it is made when it is not there")
    place = Path(target)
    # The nearest thing that exists on the way to DEST must be a folder.
    for step in (place, *place.absolute().parents):
        if os.path.lexists(step):
            if not step.is_dir():
                raise UsageError(
                    f"DEST {target}: {step} is not a folder", hint="name another DEST, or move that file away"
                )
            return


def refuse_inside(flag: str, path: str, target: str) -> None:
    """Refuse a file of the user's that would lie in the mirror. Raises: UsageError."""
    if os.path.commonpath([os.path.realpath(path), os.path.realpath(target)]) == os.path.realpath(target):
        raise UsageError(f"{flag} {path} lies in the mirror, where it would be foreign", hint="name another place")


def check_settings(settings: Settings) -> None:
    """Refuse what cannot be, before anything is asked of anyone. Raises: UsageError."""
    from stacmirror.catalogs import source_of
    from stacmirror.filters import make_filters
    from stacmirror.layout import make_layout

    source_of(settings)
    make_filters(settings.filter)
    if not settings.filter.sources and settings.filter.only_sources:
        raise UsageError("--no-sources and --only-sources leave nothing", hint="give one of the two, or neither")
    check_target(settings.target)
    place, filters = settings.place, settings.filter
    make_layout(place.layout, place.path_template)
    both = set(filters.asset) & set(filters.exclude_asset)
    if both:
        raise UsageError(
            f"`{min(both)}` is both in --asset and in --exclude-asset, so nothing is left of it",
            hint="leave it out of one of the two",
        )
