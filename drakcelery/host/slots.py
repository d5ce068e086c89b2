"""The slot table of a host: who holds which slot. A small SQLite file, shared by the host's processes.

The vm worker's main process claims a slot for each prepare message, and its pool processes say when a guest
is gone; none of this needs the network. SQLite makes each change atomic and survives a kill -9 at any point.

What an operator has taken out of use is in a table of its own, which outlives the worker: a guest that runs
in such a slot finishes, and nothing new begins there.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from drakcelery.host import doubts, drains, history
from drakcelery.host.drains import Closed, Drain
from drakcelery.host.slot import SlotState
from drakcelery.host.slot_canaries import SlotCanaries
from drakcelery.host.slot_runs import SlotRuns
from drakcelery.model.text import natural

CLOCK_SECONDS = 60.0
"""A time that is more than this many seconds ahead was noted before this host's clock was set back: a machine
may start with a clock that is years ahead, until it has asked for the time."""


class SlotTable(SlotRuns, SlotCanaries):
    """The table of a host's slots: what its runs, its canaries and its operators do to it."""

    def define(self, slots: Mapping[str, str]) -> list[str]:
        """Make the table hold exactly *slots* (name to profile), each DIRTY, since nobody knows what runs in
        it.

        Called when a vm worker starts, or when its file was lost. Returns the names of slots that are not
        defined any more; their guests have to go as well. What operators have closed stays closed.
        """
        now = time.time()
        self.make()
        with self._transaction() as database:
            known = {str(name) for (name,) in database.execute("select name from slots")}
            database.execute("delete from slots")
            database.executemany(
                "insert into slots (name, profile, state, since) values (?, ?, ?, ?)",
                [(name, profile, SlotState.DIRTY.value, now) for name, profile in slots.items()],
            )
            drains.forget(database, known - set(slots))
            history.begin(database, slots)
            doubts.clear(database)
        return sorted(known - set(slots))

    def claim(
        self, profile: str, uid: str, attempt: int, *, among: Collection[str] | None = None
    ) -> str | None:
        """Take an open slot of *profile* for an attempt; returns its name, or None if there is none.

        *among*: only these may be taken. An attempt that already holds a slot (its message was delivered
        again) gets none.
        """
        with self._transaction() as database:
            held = database.execute("select 1 from slots where uid = ? and attempt = ?", (uid, attempt))
            if held.fetchone():
                return None
            free = database.execute(
                "select name from slots where profile = ? and state = ? "
                "and not exists (select 1 from closures where slot in (slots.name, ?)) "
                "and not exists (select 1 from canary_calls where slot = name and called > begun "
                "and abs(? - max(since, at)) < ?)",
                (profile, SlotState.FREE.value, drains.WHOLE_HOST, time.time(), doubts.PATIENCE),
            ).fetchall()
            names = [str(row[0]) for row in free if among is None or row[0] in among]
            if not names:
                return None
            name = min(names, key=natural)
            database.execute(
                "update slots set state = ?, uid = ?, attempt = ?, since = ? where name = ?",
                (SlotState.PREPARING.value, uid, attempt, time.time(), name),
            )
            return name

    def move(self, name: str, uid: str, attempt: int, *, origin: SlotState, to: SlotState) -> bool:
        """Change a slot's state; False if another holds it or it is not in *origin*."""
        with self._transaction() as database:
            changed = database.execute(
                "update slots set state = ?, since = ? "
                "where name = ? and uid = ? and attempt = ? and state = ?",
                (to.value, time.time(), name, uid, attempt, origin.value),
            )
            return changed.rowcount == 1

    def holds(self, name: str, uid: str, attempt: int) -> bool:
        """Whether the attempt has this slot."""
        with self._transaction(writes=False) as database:
            held = database.execute(
                "select 1 from slots where name = ? and uid = ? and attempt = ?", (name, uid, attempt)
            )
            return bool(held.fetchall())

    def probe(self, *, seconds: float) -> list[str]:
        """Give slots that were in quarantine for *seconds* another try; one more failure puts them back."""
        with self._transaction() as database:
            now = time.time()
            rows = database.execute(
                "update slots set state = ?, since = ?, failures = ? "
                "where state = ? and (since <= ? or since > ?) returning name",
                (
                    *(SlotState.DIRTY.value, now, self._limit - 1, SlotState.QUARANTINED.value),
                    *(now - seconds, now + CLOCK_SECONDS),
                ),
            )
            return [str(name) for (name,) in rows.fetchall()]

    def close(self, name: str | None, kind: Closed, *, by: str) -> None:
        """Let nothing new begin in a slot, or (None) on this host, until :meth:`reopen`."""
        with self._transaction() as database:
            drains.add(database, name, kind, by=by)

    def reopen(self, name: str | None, kind: Closed) -> bool:
        """Take back a :meth:`close`. False if there was none."""
        with self._transaction() as database:
            return drains.remove(database, name, kind)

    def closed(self) -> list[Drain]:
        """All that operators keep closed."""
        with self._transaction(writes=False) as database:
            return drains.read(database)

    def soil(self, uid: str, attempt: int) -> bool:
        """Make the slot that the attempt holds DIRTY. False if it holds none."""
        with self._transaction() as database:
            changed = database.execute(
                "update slots set state = ?, uid = null, attempt = null, since = ? "
                "where uid = ? and attempt = ?",
                (SlotState.DIRTY.value, time.time(), uid, attempt),
            )
            return changed.rowcount > 0

    def cleaned(self, name: str) -> bool:
        """Free a DIRTY slot, whose guest is gone."""
        return self._free("name = ? and state = ?", (name, SlotState.DIRTY.value))

    def survived(self, name: str) -> None:
        """Note that the guest in a DIRTY slot would not die; after too many times the slot is QUARANTINED."""
        with self._transaction() as database:
            database.execute(
                "update slots set failures = failures + 1, since = ?, "
                "state = case when failures + 1 >= ? then ? else state end where name = ? and state = ?",
                (time.time(), self._limit, SlotState.QUARANTINED.value, name, SlotState.DIRTY.value),
            )
