"""The file of a host's tables. A table that another version made with other columns is made anew."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

PATIENCE = 30
"""Seconds to wait for a process that has the file. Transactions take milliseconds."""
USUAL_SECONDS = 1.0
"""A transaction that lasts longer waits for somebody."""


class _Kept:
    """The connection that this process keeps from one transaction to the next: to open a file, and to read
    its schema, takes longer than most transactions.

    It is closed before a fork: SQLite keeps its locks in the process' memory. A process forked during a
    transaction of another thread would take the file for locked, forever.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        """Held while this process is in the file, and while it forks."""
        self.begun: float | None = None
        """When the transaction under way has begun; None if there is none."""
        self._file: tuple[Path, int, int] | None = None
        self._connection: sqlite3.Connection | None = None

    def connection(self, path: Path) -> sqlite3.Connection:
        """To the file that has this name now: somebody may have replaced it."""
        file = _file(path)
        if self._connection is None or file is None or file != self._file:
            self.close()
            place = f"{path.absolute().as_uri()}?mode=rw"
            self._file = file
            self._connection = sqlite3.connect(
                place, uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False
            )
            # Each transaction's journal stays, and is overwritten: to make and remove a file, or to change
            # its size, takes longer
            self._connection.execute("pragma journal_mode=persist")
        return self._connection

    def close(self) -> None:
        """Look anew at the file next time. A transaction that is not over is undone."""
        kept, self._connection = self._connection, None
        if kept is not None:
            with contextlib.suppress(sqlite3.Error), contextlib.closing(kept):
                # Whoever still has a statement keeps a closed connection open, and with it what it locked
                kept.rollback()

    def before_fork(self) -> None:
        """Let no process inherit what is in the file."""
        self.lock.acquire()
        self.close()


_KEPT = _Kept()
os.register_at_fork(
    before=_KEPT.before_fork, after_in_parent=_KEPT.lock.release, after_in_child=_KEPT.lock.release
)


def _file(path: Path) -> tuple[Path, int, int] | None:
    """Which file this is; None if it cannot be told. One that is open keeps its inode to itself."""
    try:
        status = path.stat()
    except OSError:
        return None
    return path, status.st_dev, status.st_ino


@contextlib.contextmanager
def opened(path: Path, *, writes: bool = True) -> Iterator[sqlite3.Connection]:
    """A transaction in the file, which must exist: SQLite would make one with any mode, and no table.

    One that *writes* is the only one in the file from its beginning; others read side by side.
    """
    with _KEPT.lock:
        _KEPT.begun = time.monotonic()
        try:
            database = _KEPT.connection(path)
            database.execute("begin immediate" if writes else "begin")
            yield database
            database.execute("commit")
        except BaseException:  # wherever a signal's handler raises it: this process must not keep the lock
            _KEPT.close()
            raise
        finally:
            _KEPT.begun = None


def is_waited_for() -> bool:
    """Whether this process waits for another one that has the file."""
    begun = _KEPT.begun
    return begun is not None and time.monotonic() - begun > USUAL_SECONDS


@contextlib.contextmanager
def left() -> Iterator[None]:
    """Nobody in this process is in the file, which may be opened without SQLite; it is read anew afterwards.

    Whoever closes a file gives up all that its process has locked in it (POSIX), and what is known of the
    file may hide that it was damaged since.
    """
    with _KEPT.lock:
        _KEPT.close()
        yield


def is_lost(path: Path) -> bool:
    """Whether somebody has removed or emptied the file."""
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True
    except OSError:
        return False


def is_locked(error: sqlite3.OperationalError) -> bool:
    """Whether another process did not let go of the file."""
    return _code(error) == sqlite3.SQLITE_BUSY


def lacks_ours(error: sqlite3.DatabaseError) -> bool:
    """Whether the file can be read, but is none of ours: it has no such table or column, or no text in it."""
    return isinstance(error, sqlite3.OperationalError) and _code(error) == sqlite3.SQLITE_ERROR


def _code(error: sqlite3.Error) -> int:
    """SQLite's, without the step at which it failed; what Python's module finds itself has none."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


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
