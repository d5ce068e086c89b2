"""The file with a host's slots: how it is made, read, and changed in one step."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import structlog

from drakcelery import safe_files
from drakcelery.errors import SettingsError, SlotsBlocked, SlotsDamaged, SlotsLost
from drakcelery.host import doubts, drains, history, tables
from drakcelery.host import state_dir as directories
from drakcelery.host.slot import Slot, SlotState, state_of
from drakcelery.model.text import natural

log = structlog.get_logger(__name__)

_SCHEMA = """
create table if not exists slots (
    name text primary key,
    profile text not null,
    state text not null,
    uid text,
    attempt integer,
    since real not null,
    failures integer not null default 0
) strict
"""


def damage(state_dir: Path) -> str | None:
    """What is wrong with the file, which a worker may be using; None if it can be read or does not exist."""
    path = state_dir / "slots.sqlite"
    if not path.exists() or path.stat().st_size == 0:
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            (found,) = database.execute("pragma quick_check(1)").fetchone()
    except sqlite3.OperationalError:  # it is locked, or we may not read it
        return None
    except sqlite3.DatabaseError as error:
        return f"{path}: {error}"
    return None if found == "ok" else f"{path}: {found}"


class SlotFile:
    """``<state_dir>/slots.sqlite``.

    Only the vm worker uses the file, which is made when it is first needed. The other processes of a host
    have such an object as well, but never use it.
    """

    def __init__(
        self, state_dir: Path, *, quarantine_after: int, freed: Callable[[], None] = lambda: None
    ) -> None:
        """A slot is QUARANTINED after so many failed runs in a row that are charged to it.

        *freed* is called, in the process that gave it back, whenever a slot was given back through this
        object.
        """
        self._limit = quarantine_after
        self._freed = freed
        self._state_dir = state_dir
        self._path = state_dir / "slots.sqlite"
        self._made = False
        self._is_told = False

    def make(self) -> None:
        """Make the file if it does not exist; every other call does so as well.

        Raises :class:`SettingsError` if *state_dir* cannot be written, or others may change it.
        """
        directories.own(self._state_dir)
        try:
            with tables.left():
                # SQLite follows links, and the umask decides the mode of the files that it makes
                descriptor = safe_files.open_regular(self._path, os.O_RDWR | os.O_CREAT)
                try:
                    os.fchmod(descriptor, 0o600)
                finally:
                    os.close(descriptor)
            with tables.opened(self._path) as database:
                tables.ensure(database, "closures", drains.SCHEMA, keep=True)
                tables.ensure(database, "slots", _SCHEMA)
                tables.ensure(database, "runs", history.SCHEMA)
                tables.ensure(database, "canary_calls", doubts.SCHEMA)
        except (OSError, sqlite3.OperationalError) as error:
            raise SettingsError(
                f"[drakcelery] state_dir = {self._state_dir}: cannot be written: {error}"
            ) from None
        except (sqlite3.DatabaseError, tables.Foreign) as error:
            raise self._damage(error) from None
        self._made = True

    def _damage(self, error: Exception) -> SlotsDamaged:
        """The error to raise."""
        damaged = SlotsDamaged(
            f"[drakcelery] state_dir: {self._path}: {error}: remove it, and drain again what was drained"
        )
        if self._is_news():
            log.error("slots_damaged", error=str(damaged))
        return damaged

    def _block(self, error: sqlite3.OperationalError) -> SlotsBlocked:
        """The error to raise."""
        why = f": another process has kept it for {tables.PATIENCE} s" if tables.is_locked(error) else ""
        blocked = SlotsBlocked(f"[drakcelery] state_dir: {self._path}: {error}{why}: nothing begins here now")
        if self._is_news():
            log.error("slots_blocked", error=str(blocked))
        return blocked

    def _is_news(self) -> bool:
        """Whether an error is to be told: only the first is, since several threads meet it each second."""
        was_told, self._is_told = self._is_told, True
        return not was_told

    @contextlib.contextmanager
    def _transaction(self, *, writes: bool = True) -> Iterator[sqlite3.Connection]:
        if not self._made:
            self.make()
        try:
            with tables.opened(self._path, writes=writes) as database:
                before = database.total_changes
                yield database
                is_written = database.total_changes > before
            self._is_told &= not is_written  # it may be that it can be read only
        except sqlite3.DatabaseError as error:
            if tables.is_lost(self._path):
                raise SlotsLost(f"{self._path} is gone: drain again what was drained") from None
            if type(error) is sqlite3.DatabaseError or tables.lacks_ours(error):
                raise self._damage(error) from None
            if isinstance(error, sqlite3.OperationalError):
                raise self._block(error) from None
            raise  # it is about the statement

    def all(self) -> list[Slot]:
        """Every slot, by name."""
        with self._transaction(writes=False) as database:
            rows = database.execute(
                "select name, profile, state, uid, attempt, since, failures from slots"
            ).fetchall()
            closed = drains.read(database)
            calls = doubts.read(database)
        slots = [
            Slot(
                name=name,
                profile=profile,
                state=state_of(state),
                uid=uid,
                attempt=attempt,
                since=since,
                failures=failures,
                drain=next((one for one in closed if one.slot in (name, None)), None),
                calls=calls.get(name, doubts.NONE),
            )
            for name, profile, state, uid, attempt, since, failures in rows
        ]
        return sorted(slots, key=lambda slot: natural(slot.name))

    def release(self, name: str, uid: str, attempt: int) -> bool:
        """Free the slot, whose guest is gone. False if the attempt did not hold it."""
        return self._free("name = ? and uid = ? and attempt = ?", (name, uid, attempt))

    def _free(self, condition: str, values: tuple[str | int, ...]) -> bool:
        """FREE, or QUARANTINED if the slot has failed too often."""
        with self._transaction() as database:
            changed = database.execute(
                "update slots set state = case when failures >= ? then ? else ? end, "  # noqa: S608 the conditions are the two above
                f"uid = null, attempt = null, since = ? where {condition}",
                (self._limit, SlotState.QUARANTINED.value, SlotState.FREE.value, time.time(), *values),
            )
            freed = changed.rowcount > 0
        if freed:
            self._freed()
        return freed
