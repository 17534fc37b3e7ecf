"""Bring a ledger of an older version up to date: a table of steps, each from one version to the next.

Called by the store before anything else is read. All steps are one transaction: a kill leaves the older version, whole.
A step says what its version's file held in its own words, never by constants that move on with `schema`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from stacmirror.ledger import schema

STEPS: Mapping[int, tuple[str, ...]] = {
    # Items of a page are found by an index, so that a walk from the start costs no write an item.
    1: (
        "DROP INDEX item_unmet",
        "CREATE INDEX item_page ON item(page) WHERE page IS NOT NULL",
        "ALTER TABLE page RENAME TO page_1",
        "DROP INDEX page_open",
        """CREATE TABLE page(
          number INTEGER PRIMARY KEY, cursor TEXT NOT NULL, kind TEXT NOT NULL,
          listed INTEGER NOT NULL, filtered INTEGER NOT NULL, duplicate INTEGER NOT NULL, queued INTEGER NOT NULL,
          partial INTEGER NOT NULL, settled INTEGER NOT NULL,
          last INTEGER NOT NULL         -- 1: it has no next page
        )""",
        """INSERT INTO page SELECT number, cursor, kind, listed, filtered, duplicate, queued, partial, settled, last
          FROM page_1""",
        "DROP TABLE page_1",
        "CREATE INDEX page_open ON page(number) WHERE settled = 0",
    ),
    # When an item was committed, and which host a failure came from; no step reads all rows.
    2: (
        "ALTER TABLE item ADD COLUMN at INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE failure ADD COLUMN host TEXT NOT NULL DEFAULT ''",
    ),
    # What a host said, and what was tried besides attempts.
    3: tuple(
        f"ALTER TABLE failure ADD COLUMN {name} INTEGER NOT NULL DEFAULT 0" for name in ("status", "renewed", "put_off")
    ),
}
"""By the version that a step starts from: what leads to the next one."""


def migrate(connection: sqlite3.Connection) -> None:
    """Take every step from the file's version to this program's. A newer or foreign file is left as it is."""
    version = _version(connection)
    if not 0 < version < schema.VERSION or version not in STEPS:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in range(_version(connection), schema.VERSION):
            for statement in STEPS[step]:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {schema.VERSION}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _version(connection: sqlite3.Connection) -> int:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    return int(version) if application == schema.APPLICATION_ID else 0
