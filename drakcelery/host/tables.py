"""The file of a host's tables. A table that another version made with other columns is made anew."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

_in_transaction = threading.RLock()
"""Held while this process is in the file, and while it forks. SQLite keeps its locks in the process' memory:
a process forked during a transaction of another thread would take the file for locked, forever."""
os.register_at_fork(
    before=_in_transaction.acquire,
    after_in_parent=_in_transaction.release,
    after_in_child=_in_transaction.release,
)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A transaction in the file, which must exist: SQLite would make one with any mode, and no table."""
    place = f"{path.absolute().as_uri()}?mode=rw"
    with (
        _in_transaction,
        contextlib.closing(sqlite3.connect(place, uri=True, timeout=30, isolation_level=None)) as database,
    ):
        database.execute("begin immediate")
        try:
            yield database
        except BaseException:
            database.execute("rollback")
            raise
        database.execute("commit")


def is_lost(path: Path) -> bool:
    """Whether somebody has removed or emptied the file."""
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True
    except OSError:
        return False


class Foreign(Exception):
    """A table has other columns, and its content must not be lost."""


def ensure(database: sqlite3.Connection, table: str, schema: str, *, keep: bool = False) -> None:
    """Make sure that there is a *table* that this version can read and write.

    Columns of a newer version that need no value do no harm. Otherwise a table with other columns is made
    anew, and empty. Raises :class:`Foreign` instead if *keep*.
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
    """Its columns, and whether each row must have a value for them."""
    rows = database.execute(f"pragma table_info({table})").fetchall()
    return {str(name): bool(not_null) and default is None for _, name, _, not_null, default, _ in rows}
