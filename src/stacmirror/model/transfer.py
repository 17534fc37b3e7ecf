"""One asset on its way, how that ended, and where its bytes go: the unit, and the room that there is."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from stacmirror.model.stac import Asset, ItemKey


class Transfer(Struct):
    """One asset on its way: what to ask for and the name (relative to the item's folder) it will have.

    `name` is "" until the redirect's target is known, in layouts that name files by it. `attempts` counts
    requests for this asset in this run; `not_before_s` is the monotonic time before which it must wait.
    """

    asset: Asset
    name: str
    attempts: int = 0
    not_before_s: float = 0.0
    put_off: int = 0
    """Requests that brought nothing because of the host, since `put_off_since_s`: these are no attempts."""
    put_off_since_s: float = 0.0
    refused_age_s: float = 0.0
    """How old the link was that was refused before its time, and that the one in `asset` stands for; 0.0: none was."""
    refused: int = 0
    """Links of it that were refused before their time, one after another."""
    renewed: int = 0
    """How often its link was renewed because one was refused."""
    unrenewed: str = ""
    """What became of the attempt to renew the link that was refused last, where it failed."""


class Receipt(Struct, frozen=True):
    """What the sink has of one asset: its size in bytes and a 16-byte digest of the bytes written.

    `name` is the path relative to the item's folder. `digest_kind` is `md5` where the server gave one (and it
    matched), else `xxh3`. A derived file (written by us, not fetched) has a key that starts with `@`.
    `verified` is False where nothing showed that the bytes are whole: no length, no chunks, no digest.
    """

    key: str
    name: str
    size_bytes: int
    digest_kind: Literal["md5", "xxh3"]
    digest: bytes
    verified: bool = True


class AssetKey(Struct, frozen=True):
    """The identity of one asset: never its href."""

    item: ItemKey
    key: str


class Version(Struct, frozen=True):
    """Which bytes an address had: validators that are strong, and what is known of the bytes. Empty: not said.

    `md5` is hex, of the whole body. `length` is None where the server did not say it.
    """

    etag: str = ""
    last_modified: str = ""
    md5: str = ""
    length: int | None = None


class PartState(Struct):
    """What there is of a large file: the first `offset` bytes of `version`. No address and no secret.

    `name` is the file's, relative to its item's folder. `kind` is the digest that its receipt will have, `digest` the
    value once the file is whole and checked. `redirected`: its link led elsewhere. `unit` is the unit that it was put
    into, or "". `verified` as in its receipt.
    """

    asset: AssetKey
    version: Version
    name: str
    kind: Literal["md5", "xxh3"]
    redirected: bool = False
    offset: int = 0
    digest: bytes = b""
    unit: str = ""
    verified: bool = True


class Stored(Struct, frozen=True):
    """The asset's bytes are in the sink, whole."""

    receipt: Receipt
    at: Literal["fetched", "kept"] = "fetched"


class Absent(Struct, frozen=True):
    """The origin does not have it: asked for (`assumed` False), or concluded from all items before it."""

    key: str
    assumed: bool = False


class Failed(Struct, frozen=True):
    """It did not arrive. `permanent` means that asking again in this run is pointless.

    `host` is the origin that answered (or did not), "" where nobody was asked; `status` is its HTTP status, or 0.
    `run` and `at_s` (the wall clock) say when it failed, where that is not now. `attempts` were made, its link was
    renewed `renewed` times, and `put_off` requests more brought nothing because of the host.
    """

    key: str
    kind: str
    message: str
    attempts: int
    permanent: bool = False
    host: str = ""
    run: int = 0
    at_s: float = 0.0
    status: int = 0
    renewed: int = 0
    put_off: int = 0


Outcome = Stored | Absent | Failed
"""How one transfer ended."""


class Unit(Struct, frozen=True):
    """What is staged and revealed as one: `folder` is its place below the target.

    `exclusive` means that nothing but this unit's files belongs in `folder`, so it can be renamed there at once.
    """

    id: str
    folder: str
    exclusive: bool = True


class Space(Struct, frozen=True):
    """What a target has free, or what a mirror takes. `free_inodes` is None where the file system counts none."""

    place: str
    free_bytes: int
    free_inodes: int | None
    block_bytes: int
