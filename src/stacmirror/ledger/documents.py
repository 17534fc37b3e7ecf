"""Read items' JSON back from the compressed blocks that they are kept in. Used by the reader."""

from __future__ import annotations

import sqlite3
import zlib
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from stacmirror.errors import TargetInUse
from stacmirror.ledger import schema
from stacmirror.model import ItemKey


class _Named(msgspec.Struct):
    id: str = ""
    collection: str = ""


_decoder = msgspec.json.Decoder(_Named)


def read_documents(connection: sqlite3.Connection, keys: Sequence[ItemKey]) -> dict[ItemKey, bytes]:
    """Return the documents of those of `keys` that have one; each block is read once. Raises: TargetInUse."""
    wanted: dict[int, list[ItemKey]] = defaultdict(list)
    for key in keys:
        row = connection.execute(
            "SELECT i.document FROM item i JOIN collection c ON c.n = i.collection"
            f" {schema.OF_KEY} AND i.document IS NOT NULL",
            schema.by_key(key),
        ).fetchone()
        if row is not None:
            wanted[row[0]].append(key)
    found: dict[ItemKey, bytes] = {}
    for number, mine in wanted.items():
        lines = _by_key(connection, number)
        for key in mine:
            document = lines.get((key.collection, key.id)) or lines.get(("", key.id))
            if document is not None:
                found[key] = document
    return found


def _by_key(connection: sqlite3.Connection, number: int) -> dict[tuple[str, str], bytes]:
    row = connection.execute("SELECT block FROM document WHERE n = ?", (number,)).fetchone()
    if row is None:
        return {}
    try:
        lines = zlib.decompress(row[0]).split(b"\n")
    except zlib.error as error:
        raise TargetInUse(
            f"block {number} of the ledger's documents is damaged", hint="restore the ledger from a copy"
        ) from error
    found: dict[tuple[str, str], bytes] = {}
    for line in lines:
        try:
            named = _decoder.decode(line)
        except msgspec.DecodeError:
            continue  # a document that was no JSON was kept as it was
        found[named.collection, named.id] = line
    return found
