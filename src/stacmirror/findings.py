"""What a verification says: one finding a file, counters while it works, and what all of it amounts to. Plain values.

Filled by `verify`, `strays` and `manifest`, shown by the command line.
"""

from __future__ import annotations

from msgspec import Struct, field

DAMAGE_KINDS = ("missing", "cut", "grown", "flipped", "unreadable", "row", "ledger")
"""What a finding of damage can be. Counts also know `marked`: found earlier, marked, and not yet fetched again."""
DAMAGED_EXIT_CODE = 7


class Finding(Struct, omit_defaults=True):
    """One thing that is not as the ledger has it. `kind`: one of DAMAGE_KINDS, `foreign`, `unrevealed`.

    `path` is relative to the mirror.
    """

    kind: str
    path: str
    detail: str = ""
    collection: str = ""
    item: str = ""
    asset: str = ""


class Checking:
    """What a verification is doing right now: plain counters, for a display."""

    def __init__(self) -> None:
        self.phase = "starting"
        self.items = 0
        self.items_total = 0
        self.files = 0
        self.bytes = 0
        """Bytes by size, or bytes read (deep)."""
        self.elsewhere = 0
        """Names looked at outside items' own folders."""
        self.damage = 0


class Verification(Struct):
    """What was found. `damage` and `notes` count by kind; `running` is "" or who worked on the mirror meanwhile."""

    target: str
    deep: bool
    running: str
    items: int = 0
    files: int = 0
    bytes: int = 0
    damage: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    lacking: int = 0
    """Assets that the ledger itself knows to be missing: `status --failed` lists them. No damage."""
    marked: int = 0
    """Files and rows that the next run fetches again."""
    seconds: float = 0.0
    exit_code: int = 0
