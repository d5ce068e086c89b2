"""Slots that a canary tries before the next sample does: their score has fallen, or an operator asked.

A table in the file of :mod:`drakcelery.host.slots`; each function works within the caller's transaction.
Calls for canaries are numbered, so that a caller can tell the answer to its call from earlier ones. A call
lasts until a canary has the slot.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass

from drakcelery.host import drains

SCHEMA = """
create table if not exists canary_calls (
    slot text primary key,
    called integer not null,
    begun integer not null,
    judged integer not null,
    why text not null,
    at real not null
) strict
"""
PATIENCE = 15.0
"""Seconds that a free slot waits for its canary, which normally comes within one second."""


@dataclass(frozen=True, kw_only=True)
class Calls:
    """The calls for a canary in a slot, by their numbers."""

    called: int = 0
    """The last one."""
    begun: int = 0
    """The last one for which a canary has begun, or for which nobody waits any more."""
    judged: int = 0
    """The last one that a canary has answered."""
    why: str = ""
    """What the last one was for: ``score`` or ``asked``."""
    at: float = 0.0
    """When that was: UNIX time, by this host's clock."""

    @property
    def is_due(self) -> bool:
        """Whether a canary has yet to come."""
        return self.called > self.begun

    def keep(self, since: float) -> bool:
        """Whether a slot that has been free *since* then still waits for its canary."""
        # A time in the future was noted before the clock was set back
        return self.is_due and abs(time.time() - max(since, self.at)) < PATIENCE


NONE = Calls()


def add(database: sqlite3.Connection, holder: tuple[str, str | None, int | None]) -> None:
    """Call for a canary in the slot of *holder* (slot, uid and attempt; None: any), unless another attempt
    has it."""
    held = database.execute(
        "select 1 from slots where name = ? and uid is coalesce(?, uid) and attempt is coalesce(?, attempt)",
        holder,
    )
    if held.fetchone():
        _call(database, holder[0], "score")


def ask(database: sqlite3.Connection, slot: str | None) -> dict[str, int]:
    """Call for a canary in *slot*, or (None) in each one, for an operator; returns the numbers of the calls.

    No call is made for a slot that an operator keeps closed, since no canary comes there.
    """
    rows = database.execute(
        "select name from slots where name = coalesce(?, name) "
        "and not exists (select 1 from closures where slot in (slots.name, ?))",
        (slot, drains.WHOLE_HOST),
    ).fetchall()
    return {str(name): _ask(database, name) for (name,) in rows}


def _ask(database: sqlite3.Connection, slot: str) -> int:
    _call(database, slot, "asked")
    database.execute("update canary_calls set why = 'asked' where slot = ?", (slot,))
    row = database.execute("select called from canary_calls where slot = ?", (slot,)).fetchone()
    return int(row[0])


def _call(database: sqlite3.Connection, slot: str, why: str) -> None:
    """A call that is due already is used again."""
    database.execute(
        "insert into canary_calls (slot, called, begun, judged, why, at) values (?, 1, 0, 0, ?, ?) "
        "on conflict do update set called = called + 1, why = excluded.why, at = excluded.at "
        "where begun = called",
        (slot, why, time.time()),
    )


def read(database: sqlite3.Connection) -> dict[str, Calls]:
    """The calls of all slots, by name."""
    rows = database.execute("select slot, called, begun, judged, why, at from canary_calls")
    return {
        str(slot): Calls(called=called, begun=begun, judged=judged, why=why, at=at)
        for slot, called, begun, judged, why, at in rows
    }


def begin(database: sqlite3.Connection, slot: str) -> None:
    """A canary has *slot* now."""
    database.execute("update canary_calls set begun = called where slot = ?", (slot,))


def answer(database: sqlite3.Connection, slot: str) -> None:
    """The canary that has *slot* says whether it works."""
    database.execute("update canary_calls set judged = begun where slot = ?", (slot,))


def clear(database: sqlite3.Connection) -> None:
    """A worker starts: nobody waits for a canary."""
    database.execute("update canary_calls set begun = called")
