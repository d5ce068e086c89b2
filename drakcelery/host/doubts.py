"""Slots whose score has just fallen: a canary tries them before the next sample does.

A table in the file of :mod:`drakcelery.slots`; each function works within the caller's transaction. A doubt
lasts until a canary has the slot, or a sample where none came in time.
"""

from __future__ import annotations

import sqlite3

SCHEMA = """
create table if not exists doubts (slot text primary key) strict
"""
PATIENCE = 15.0
"""For so many seconds a slot that is free waits for its canary, which comes within one, as a rule."""


def add(database: sqlite3.Connection, holder: tuple[str, str, int]) -> None:
    """Doubt the slot of *holder* (slot, uid and attempt), unless another attempt has it by now."""
    database.execute(
        "insert into doubts select name from slots where name = ? and uid = ? and attempt = ? "
        "on conflict do nothing",
        holder,
    )


def read(database: sqlite3.Connection) -> frozenset[str]:
    """The slots that are doubted."""
    return frozenset(str(name) for (name,) in database.execute("select slot from doubts"))


def remove(database: sqlite3.Connection, slot: str) -> None:
    """Somebody has *slot* now."""
    database.execute("delete from doubts where slot = ?", (slot,))


def clear(database: sqlite3.Connection) -> None:
    """A worker starts."""
    database.execute("delete from doubts")
