"""The tables of a host's file, each of our shape, or made anew: another version may have made them."""

from __future__ import annotations

import contextlib
import sqlite3

import structlog

log = structlog.get_logger(__name__)


class Foreign(Exception):
    """A table is of another shape, and what is in it may not be lost."""


def ensure(database: sqlite3.Connection, table: str, schema: str, *, keep: bool = False) -> None:
    """Let there be *table*, in which this version can read and write.

    Columns of a newer version that need no value do no harm. One that is of another shape is made anew, with
    nothing in it. Raises :class:`Foreign` where it is to *keep* what it has.
    """
    database.execute(schema)
    theirs = _columns(database, table)
    with contextlib.closing(sqlite3.connect(":memory:")) as empty:
        empty.execute(schema)
        ours = _columns(empty, table)
    needs_more = any(is_needed for name, is_needed in theirs.items() if name not in ours)
    if ours.keys() <= theirs.keys() and not needs_more:
        return
    if keep:
        raise Foreign(f"its table {table} is another version's")
    log.warning("table_made_anew", table=table)
    database.execute(f"drop table {table}")
    database.execute(schema)


def _columns(database: sqlite3.Connection, table: str) -> dict[str, bool]:
    """Its columns, and whether each row has to give a value for one."""
    rows = database.execute(f"pragma table_info({table})").fetchall()
    return {str(name): bool(not_null) and default is None for _, name, _, not_null, default, _ in rows}
