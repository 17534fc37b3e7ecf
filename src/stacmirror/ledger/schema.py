"""What the ledger file holds: tables, version, and the packed form of an item's receipts.

Used by the ledger only. Changing anything here means a new VERSION and a step in `migrate`.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence

import msgspec
import xxhash

from stacmirror.errors import TargetInUse
from stacmirror.model import Absent, ItemKey, Receipt

APPLICATION_ID = 0x53744D72  # "StMr": tells our files from other SQLite files
VERSION = 3

HELD, STAGED, COMMITTED, INCOMPLETE = range(4)
"""States of an item's row: assets failed, bytes stay staged; about to be revealed; there; there but for some assets."""

UNMET = -1
"""`item.page` of an item whose page must be walked again; NULL is an item that no page listed (a linked one)."""

DAMAGED = "damaged"
"""The kind of failure of what was there and is not whole any more: files that `verify` found, rows with a wrong sum."""
DAMAGED_ROW = "its row in the ledger was damaged"

TABLES = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE collection(n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE);
CREATE TABLE item(
  n INTEGER PRIMARY KEY,
  hash INTEGER NOT NULL,        -- of collection and id: a quarter of the size of an index over the ids
  collection INTEGER NOT NULL,
  id TEXT NOT NULL,
  state INTEGER NOT NULL,
  page INTEGER,
  run INTEGER NOT NULL,         -- the run that met or wrote it last
  at INTEGER NOT NULL DEFAULT 0,  -- seconds since the epoch: when it was committed, before that when it was written
  place INTEGER,                -- hash of the folded folder: two folders that differ only by case meet here
  exact INTEGER,                -- hash of the folder as it is
  folder TEXT,                  -- packed; while unrevealed, and for ever where it is not what the layout derives
  tailed INTEGER NOT NULL,      -- 1: the folder is not what the layout derives
  exclusive INTEGER NOT NULL,
  unit TEXT,                    -- staging folder while unrevealed
  stored INTEGER NOT NULL, absent INTEGER NOT NULL, assumed INTEGER NOT NULL, failed INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  receipts BLOB NOT NULL,
  sources TEXT,                 -- keys of linked items, a line each
  document INTEGER,             -- the block that holds the item's JSON
  crc INTEGER NOT NULL
);
CREATE INDEX item_hash ON item(hash);
CREATE INDEX item_place ON item(place) WHERE place IS NOT NULL;
CREATE INDEX item_unit ON item(unit) WHERE unit IS NOT NULL;
CREATE INDEX item_lacking ON item(n) WHERE failed > 0;
CREATE INDEX item_page ON item(page) WHERE page IS NOT NULL;
CREATE TABLE path(hash INTEGER PRIMARY KEY, item_hash INTEGER NOT NULL);  -- files outside folders of their own
CREATE TABLE failure(
  item INTEGER NOT NULL, key TEXT NOT NULL, kind TEXT NOT NULL, message TEXT NOT NULL,
  attempts INTEGER NOT NULL, permanent INTEGER NOT NULL, run INTEGER NOT NULL, at REAL NOT NULL,
  host TEXT NOT NULL DEFAULT '',
  PRIMARY KEY(item, key)
) WITHOUT ROWID;
CREATE TABLE page(
  number INTEGER PRIMARY KEY, cursor TEXT NOT NULL, kind TEXT NOT NULL,
  listed INTEGER NOT NULL, filtered INTEGER NOT NULL, duplicate INTEGER NOT NULL, queued INTEGER NOT NULL,
  partial INTEGER NOT NULL, settled INTEGER NOT NULL,
  last INTEGER NOT NULL         -- 1: it has no next page
);
CREATE INDEX page_open ON page(number) WHERE settled = 0;
CREATE TABLE missing(
  collection INTEGER NOT NULL, key TEXT NOT NULL, seen INTEGER NOT NULL, missing INTEGER NOT NULL,
  tripped INTEGER NOT NULL, PRIMARY KEY(collection, key)
) WITHOUT ROWID;
CREATE TABLE document(n INTEGER PRIMARY KEY, items INTEGER NOT NULL, block BLOB NOT NULL);
"""

UNVERIFIED = "CREATE TABLE IF NOT EXISTS unverified(item INTEGER PRIMARY KEY, assets INTEGER NOT NULL)"
"""How many assets of an item came without anything that shows that they are whole: rows for the few that have some."""


def create(connection: sqlite3.Connection) -> None:
    """Lay out an empty ledger."""
    connection.executescript(
        f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={VERSION}; BEGIN; {TABLES} {UNVERIFIED}; COMMIT;"
    )


PUT_FAILURE = (
    "INSERT OR REPLACE INTO failure(item, key, kind, message, attempts, permanent, run, at, host)"
    " VALUES(?,?,?,?,?,?,?,?,?)"
)
OF_KEY = "WHERE i.hash = ? AND i.id = ? AND c.id = ?"
"""Finds the row of one item (i) of a collection (c), by the values of `by_key`."""


class _Packed(msgspec.Struct, array_like=True):
    """Receipts of one item as they rest: names as patterns, digests end to end. About 9 + 16 bytes a receipt."""

    patterns: list[str]
    # Key, twice the pattern plus the digest's kind, size_bytes; the size's complement (negative) where unverified.
    receipts: list[tuple[str, int, int]]
    digests: bytes
    absent: list[str]
    assumed: list[str]


class _Lacks(msgspec.Struct, array_like=True):
    """The same, with only its end read: a tenth of the time."""

    patterns: msgspec.Raw
    receipts: msgspec.Raw
    digests: msgspec.Raw
    absent: list[str]
    assumed: list[str]


_KINDS = ("md5", "xxh3")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Packed)
_lacks_decoder = msgspec.msgpack.Decoder(_Lacks)


def pack(stored: Sequence[Receipt], absent: Sequence[Absent]) -> bytes:
    """Return the row's blob. A name that is the key with a suffix is kept as a pattern shared by all such names."""
    patterns: dict[str, int] = {}
    packed = [
        (
            receipt.key,
            2 * patterns.setdefault(receipt.name.replace(receipt.key, "\0"), len(patterns))
            + _KINDS.index(receipt.digest_kind),
            receipt.size_bytes if receipt.verified else ~receipt.size_bytes,
        )
        for receipt in stored
    ]
    digests = b"".join(receipt.digest for receipt in stored)
    asked = [outcome.key for outcome in absent if not outcome.assumed]
    assumed = [outcome.key for outcome in absent if outcome.assumed]
    return _encoder.encode(_Packed(list(patterns), packed, digests, asked, assumed))


def unpack(blob: bytes) -> tuple[list[Receipt], list[Absent]]:
    """Return what `pack` was given. Raises: TargetInUse when the blob is damaged."""
    try:
        packed = _decoder.decode(blob)
    except msgspec.DecodeError as error:
        raise _damaged() from error
    stored = [
        Receipt(
            key,
            packed.patterns[form // 2].replace("\0", key),
            size_bytes if size_bytes >= 0 else ~size_bytes,
            "xxh3" if form % 2 else "md5",
            packed.digests[16 * index : 16 * index + 16],
            size_bytes >= 0,
        )
        for index, (key, form, size_bytes) in enumerate(packed.receipts)
    ]
    absent = [Absent(key) for key in packed.absent] + [Absent(key, assumed=True) for key in packed.assumed]
    return stored, absent


def unpack_absent(blob: bytes) -> tuple[list[str], list[str]]:
    """Return the keys that were asked for in vain and those assumed absent. Raises: TargetInUse."""
    try:
        lacks = _lacks_decoder.decode(blob)
    except msgspec.DecodeError as error:
        raise _damaged() from error
    return lacks.absent, lacks.assumed


def pack_folder(folder: str, key: ItemKey) -> str:
    """Return the folder as it rests: marks for the key's ids. Rows that shrink at commit would leave holes for ever."""
    packed = folder.replace(key.id, "\0").replace(key.collection, "\1") if key.id and key.collection else folder
    return packed if unpack_folder(packed, key) == folder else folder


def unpack_folder(packed: str, key: ItemKey) -> str:
    """Return what `pack_folder` was given: layouts give no folder that holds the marks."""
    return packed.replace("\1", key.collection).replace("\0", key.id)


def key_hash(key: ItemKey) -> int:
    """Return a signed 64-bit hash of an item's identity; rows with the same hash are told apart by the identity."""
    return signed_hash(f"{key.collection}\0{key.id}")


def signed_hash(text: str) -> int:
    """Return a 64-bit hash as SQLite keeps integers: signed."""
    value = xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))
    return value - (1 << 64) if value >= 1 << 63 else value


def by_key(key: ItemKey) -> tuple[int, str, str]:
    """Return the values for `OF_KEY`."""
    return key_hash(key), key.id, key.collection


def clash_mark(key: ItemKey) -> str:
    """Return what is put into the name of the second of two files or folders that differ only by case."""
    return f"~{key_hash(key) & 0xFFFFFFFF:08x}"


def checksum(key: ItemKey, receipts: bytes, sources: str | None) -> int:
    """Return the row's checksum: it covers the identity too, so that no blob passes under another item's id."""
    crc = zlib.crc32(f"{key.collection}\0{key.id}\0{sources or ''}".encode("utf-8", "surrogatepass"))
    return zlib.crc32(receipts, crc)


def text(content: bytes) -> str:
    """Return a text of the ledger; one that is damaged must not hide the rows behind it."""
    return content.decode("utf-8", "replace")


def is_sound(key: ItemKey, receipts: object, sources: object, crc: object) -> bool:
    """Return whether a row is as it was written. SQLite's pages have no checksum of their own."""
    if not isinstance(receipts, bytes) or not (sources is None or isinstance(sources, str)):
        return False
    return checksum(key, receipts, sources) == crc


def source_pairs(packed: object) -> list[tuple[int, str]]:
    """Return the (collection number, id) pairs of a row's `sources`."""
    return msgspec.json.decode(packed, type=list[tuple[int, str]]) if isinstance(packed, str) else []


def _damaged() -> TargetInUse:
    return TargetInUse("a row of the ledger is damaged", hint="restore the ledger from a copy")
