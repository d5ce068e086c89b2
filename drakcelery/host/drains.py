"""What operators have taken out of use on a host: a table in the file of :mod:`drakcelery.host.slots`.

It is separate from the slots' states, because a closed slot still finishes what it holds and because it
outlives the worker. Each function works within the caller's transaction.
"""

from __future__ import annotations

import enum
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass

from drakcelery.model.slot_state import ReportedState

SCHEMA = """
create table if not exists closures (
    slot text not null,
    kind text not null,
    by text not null,
    since real not null,
    primary key (slot, kind)
) strict
"""
WHOLE_HOST = ""
"""No slot has this name."""


class Closed(enum.StrEnum):
    """Why an operator has taken a slot, or its whole host, out of use."""

    DRAINED = ReportedState.DRAINED.value
    """For maintenance."""
    QUARANTINED = ReportedState.QUARANTINED.value
    """Something is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Drain:
    """An operator's order that nothing new may begin in a slot: a drain, or a quarantine."""

    slot: str | None
    """None: in no slot of this host."""
    kind: Closed
    by: str
    """The operator who gave the order."""
    since: float
    """UNIX time, by this host's clock."""


def read(database: sqlite3.Connection) -> list[Drain]:
    """All orders: a quarantine before a drain, the host before its slots."""
    rows = database.execute("select slot, kind, by, since from closures order by kind desc, slot").fetchall()
    return [Drain(slot=slot or None, kind=_kind(kind), by=by, since=since) for slot, kind, by, since in rows]


def _kind(text: str) -> Closed:
    """A slot that a newer version has closed for another reason stays closed here, too."""
    return Closed(text) if text in tuple(Closed) else Closed.DRAINED


def add(database: sqlite3.Connection, slot: str | None, kind: Closed, *, by: str) -> None:
    """Close a slot, or the host; if it is closed already, the first order stays."""
    database.execute(
        "insert into closures (slot, kind, by, since) values (?, ?, ?, ?) on conflict do nothing",
        (slot or WHOLE_HOST, kind.value, by, time.time()),
    )


def remove(database: sqlite3.Connection, slot: str | None, kind: Closed) -> bool:
    """Take the order back. False if there was no such order."""
    name = slot or WHOLE_HOST
    found = database.execute("select kind from closures where slot = ?", (name,)).fetchall()
    gone = [(name, text) for (text,) in found if _kind(text) is kind]
    database.executemany("delete from closures where slot = ? and kind = ?", gone)
    return bool(gone)


def forget(database: sqlite3.Connection, slots: Iterable[str]) -> None:
    """Remove the orders for slots that no longer exist."""
    database.executemany("delete from closures where slot = ?", [(slot,) for slot in slots])
