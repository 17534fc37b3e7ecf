"""What all workers of a run share: the ways to ask, to keep and to tell, and the rules they keep.

Made once a run by the composition root; `worker` and `settle` use it, nobody changes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from stacmirror.interfaces import Catalog, Clock, Opener, Sink
from stacmirror.pipeline.ahead import Ahead
from stacmirror.pipeline.caps import Caps
from stacmirror.pipeline.commit import Committer
from stacmirror.pipeline.missing import MissingKeys
from stacmirror.pipeline.plan import Planner
from stacmirror.pipeline.progress import Progress
from stacmirror.pipeline.renewal import Renewal
from stacmirror.pipeline.shortcut import Shortcut
from stacmirror.pipeline.transfer import Fetcher
from stacmirror.redact import redact_document
from stacmirror.retry import RetryPolicy


class Crew(NamedTuple):
    """What all workers of a run share."""

    catalog: Catalog
    opener: Opener
    sink: Sink
    fetcher: Fetcher
    planner: Planner
    missing: MissingKeys
    committer: Committer
    progress: Progress
    policy: RetryPolicy
    clock: Clock
    random: Callable[[], float]
    links: Renewal
    held_max_bytes: int
    """Small bodies one worker may hold before it stages them."""
    large_at_once: int = 4
    """Large files of one item on their way at once."""
    shortcut: Shortcut | None = None
    """Where redirects are learned: the way past them."""
    caps: Caps | None = None
    ahead: Ahead | None = None
    """Where several requests are sent at once: the way to do it."""

    redact: Callable[[bytes], bytes] = redact_document
    """Takes secrets out of an item's JSON."""
    hide: Callable[[str], str] = str
    """Takes them out of a message that is kept."""
    source: str = ""
    """The catalog's origin: to blame where no other host was asked."""
    shows_at_once: bool = False
    """Items are revealed when they are handed over, although they may lack assets."""
