"""stacmirror mirrors whole STAC collections to disk. This module holds the public names and nothing else.

`Mirror` is loaded at its first use: the command line's light commands must not load an HTTP client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stacmirror.errors import StacmirrorError
from stacmirror.model import Summary
from stacmirror.settings import Settings
from stacmirror.typed import build as build_settings

if TYPE_CHECKING:
    from stacmirror.mirror import Mirror as Mirror

__version__ = "0.1.0"
__all__ = ["Mirror", "Settings", "StacmirrorError", "Summary", "__version__", "build_settings"]


def __getattr__(name: str) -> Any:
    if name == "Mirror":
        from stacmirror.mirror import Mirror

        return Mirror
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
