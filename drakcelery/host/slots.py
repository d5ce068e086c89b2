"""The slot table of a host: who holds which slot. A small SQLite file, shared by the host's processes.

The vm worker's main process claims a slot for each prepare message, its pool processes say when a guest is
gone; nothing of it needs the network. SQLite makes each change atomic and survives a kill -9 at any point.

What an operator has taken out of use is in a table of its own, which outlives the worker: a guest that runs
in such a slot finishes, and nothing new begins there.
"""

from __future__ import annotations

import contextlib
import enum
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from drakcelery import safe_files
from drakcelery.errors import Blame, SettingsError, SlotsLost
from drakcelery.host import doubts, drains, history, tables
from drakcelery.host import state_dir as directories
from drakcelery.host.doubts import Calls
from drakcelery.host.drains import Closed, Closure
from drakcelery.host.history import Facts, Kind, Run
from drakcelery.model.text import natural

CLOCK_SECONDS = 60.0
"""What was noted so far ahead was noted before this host's clock was set back: a machine that starts may be
years ahead until it has asked for the time."""

CANARY = ".canary"
"""What holds a slot that a canary tries; no analysis can be called so."""


class SlotState(enum.StrEnum):
    """What a slot does."""

    FREE = "free"
    PREPARING = "preparing"
    READY = "ready"
    """Restored; waits for its run."""
    RUNNING = "running"
    DIRTY = "dirty"
    """Its guest must be destroyed before anyone may have it."""
    QUARANTINED = "quarantined"
    """Failed too often in a row; tried again later."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A row of the table."""

    name: str
    profile: str
    state: SlotState
    uid: str | None
    attempt: int | None
    since: float
    """UNIX time of the last change, by this host's clock."""
    failures: int
    """Runs in a row that failed and are put down to it, and ends of guests that failed."""
    closure: Closure | None = None
    """Set where an operator keeps it out of use; it still finishes what it holds."""
    calls: Calls = doubts.NONE
    """Those for a canary: its score has fallen, or an operator asked."""

    @property
    def context(self) -> dict[str, str | int | None]:
        """What each line of a log about it says."""
        return {"uid": self.uid, "attempt": self.attempt, "slot": self.name}

    @property
    def holder(self) -> tuple[str, int] | None:
        """The attempt that has the slot."""
        return (self.uid, self.attempt) if self.uid is not None and self.attempt is not None else None

    @property
    def is_canary(self) -> bool:
        """Whether a canary tries it, and no sample has it."""
        return self.uid == CANARY

    @property
    def is_vacant(self) -> bool:
        """Whether nobody has it, and somebody may."""
        return self.state is SlotState.FREE and self.closure is None

    @property
    def is_open(self) -> bool:
        """Whether a sample may have it now."""
        return self.is_vacant and not self.awaits_canary

    @property
    def awaits_canary(self) -> bool:
        """Whether it is kept for a canary, which comes at once."""
        return self.is_vacant and self.calls.keep(self.since)

    @property
    def status(self) -> str:
        """What people are shown: the state, or what an operator made of it.

        ``draining`` while the last guest finishes, then ``drained`` or ``quarantined``; ``checking`` while a
        canary tries it, or is about to.
        """
        if self.is_canary or self.awaits_canary:
            return "checking"
        if self.closure is None or self.state in (SlotState.DIRTY, SlotState.QUARANTINED):
            return self.state.value
        return "draining" if self.holder is not None else self.closure.kind.value

    @property
    def status_since(self) -> float:
        """UNIX time of the last change of :attr:`status`; while something holds it, since when that does."""
        if self.closure is None or self.holder is not None:
            return self.since
        return max(self.since, self.closure.since)


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


class SlotTable:
    """The table at ``<state_dir>/slots.sqlite``. Keeps no connection between calls.

    The file is the vm worker's alone, and is made when it is first asked for: the other processes of a host
    have such an object as well, and never ask.
    """

    def __init__(
        self, state_dir: Path, *, quarantine_after: int, freed: Callable[[], None] = lambda: None
    ) -> None:
        """A slot is QUARANTINED after so many failed runs in a row, as far as they are put down to it.

        *freed* is called whenever a slot was given back here, in the process that did it.
        """
        self._limit = quarantine_after
        self._freed = freed
        self._state_dir = state_dir
        self._path = state_dir / "slots.sqlite"
        self._made = False

    def make(self) -> None:
        """Make the file where it is not there; any other call does it as well.

        Raises :class:`SettingsError` where *state_dir* cannot be written, or others may change it.
        """
        directories.own(self._state_dir)
        try:
            # SQLite follows links, and gives what it makes a mode by the umask
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
            raise SettingsError(self._broken(error)) from None
        self._made = True

    def _broken(self, error: Exception) -> str:
        return f"[drakcelery] state_dir: {self._path}: {error}: remove it, and drain anew what was drained"

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if not self._made:
            self.make()
        try:
            with tables.opened(self._path) as database:
                yield database
        except sqlite3.DatabaseError as error:
            if tables.is_lost(self._path):
                raise SlotsLost(f"{self._path} is gone: drain anew what was drained") from None
            if type(error) is not sqlite3.DatabaseError:  # it is about what was asked, or the file is locked
                raise
            raise SettingsError(self._broken(error)) from None

    def define(self, slots: Mapping[str, str]) -> list[str]:
        """Make the table hold just *slots* (name to profile), each DIRTY: nobody knows what runs in it.

        Called by a vm worker that starts, or whose file was lost. Returns the names of slots that are not
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

    def all(self) -> list[Slot]:
        """Every slot, by name."""
        with self._transaction() as database:
            rows = database.execute(
                "select name, profile, state, uid, attempt, since, failures from slots"
            ).fetchall()
            closed = drains.read(database)
            calls = doubts.read(database)
        slots = [
            Slot(
                name=name,
                profile=profile,
                state=_state(state),
                uid=uid,
                attempt=attempt,
                since=since,
                failures=failures,
                closure=next((one for one in closed if one.slot in (name, None)), None),
                calls=calls.get(name, doubts.NONE),
            )
            for name, profile, state, uid, attempt, since, failures in rows
        ]
        return sorted(slots, key=lambda slot: natural(slot.name))

    def failed_in(self, uid: str, *, since: int = 0) -> frozenset[str]:
        """The slots in which an analysis has failed, in the attempt *since* or after it."""
        with self._transaction() as database:
            return history.failed(database, uid, since=since)

    def claim(
        self, profile: str, uid: str, attempt: int, *, among: Collection[str] | None = None
    ) -> str | None:
        """Take an open slot of *profile* for an attempt; the name, or None where there is none.

        *among*: only one of these. An attempt that holds one already (a message delivered again) gets none.
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
        """Change a slot's state; False where another holds it or it is not in *origin*."""
        with self._transaction() as database:
            changed = database.execute(
                "update slots set state = ?, since = ? "
                "where name = ? and uid = ? and attempt = ? and state = ?",
                (to.value, time.time(), name, uid, attempt, origin.value),
            )
            return changed.rowcount == 1

    def holds(self, name: str, uid: str, attempt: int) -> bool:
        """Whether the attempt has this slot."""
        return any(slot.name == name and slot.holder == (uid, attempt) for slot in self.all())

    def failed(
        self,
        name: str,
        uid: str,
        attempt: int,
        *,
        blame: Blame = Blame.SLOT,
        charged: bool = True,
        settled: bool = False,
        facts: Facts = history.UNKNOWN,
        error: str | None = None,
    ) -> None:
        """Note a run that failed, unless another attempt has the slot by now.

        *charged*: it is put down to the slot; unless that is *settled*, until :meth:`judge` finds otherwise.
        """
        with self._transaction() as database:
            counted = database.execute(
                "update slots set failures = failures + ? where name = ? and uid = ? and attempt = ?",
                (charged, name, uid, attempt),
            )
            if counted.rowcount:
                history.add(
                    database,
                    (name, uid, attempt),
                    Kind.FAILED,
                    facts,
                    blame=blame,
                    charged=charged,
                    is_open=not settled,
                    error=error,
                )

    def worked(
        self, name: str, uid: str, attempt: int, *, facts: Facts = history.UNKNOWN, excused: bool = False
    ) -> None:
        """A run went well: earlier failures are forgotten, unless another attempt has the slot by now.

        *excused*: what it did not leave is known to be the sample's doing.
        """
        with self._transaction() as database:
            held = database.execute(
                "update slots set failures = 0 where name = ? and uid = ? and attempt = ?",
                (name, uid, attempt),
            )
            if held.rowcount:
                history.forgive(database, name)
                blame = Blame.SAMPLE if excused else None
                history.add(database, (name, uid, attempt), Kind.WORKED, facts, blame=blame)

    def put_aside(self, name: str, uid: str, attempt: int, *, most: int) -> bool:
        """Whatever its next runs would say: once it is given back, the slot is QUARANTINED.

        Not where *most* slots of its profile are already, or are about to be: their guests end together.
        """
        with self._transaction() as database:
            put = database.execute(
                "update slots set failures = max(failures, ?) where name = ? and uid = ? and attempt = ? "
                "and ? > (select count(*) from slots as other where other.name != slots.name "
                "and other.profile = slots.profile and (other.state = ? or other.failures >= ?))",
                (self._limit, name, uid, attempt, most, SlotState.QUARANTINED.value, self._limit),
            )
            return put.rowcount > 0

    def doubt(self, name: str, uid: str | None = None, attempt: int | None = None) -> None:
        """Once *uid*, or whoever has it, gives it back, a canary tries it before another sample does."""
        with self._transaction() as database:
            doubts.add(database, (name, uid, attempt))

    def ask_canary(self, name: str | None) -> dict[str, int]:
        """A canary tries a slot, or (None) each one, as soon as nobody has it (:func:`.doubts.ask`)."""
        with self._transaction() as database:
            return doubts.ask(database, name)

    def open_charges(self) -> list[Run]:
        """Failed runs of which it is not settled yet whom they are put down to."""
        with self._transaction() as database:
            return history.read(database, only_open=True)

    def history(self) -> list[Run]:
        """The last runs of each slot, oldest first."""
        with self._transaction() as database:
            return history.read(database)

    def judge(self, run: Run, *, charged: bool, settled: bool) -> None:
        """Say whom a failed run is put down to: its slot may come back for it, or be put aside."""
        now = time.time()
        with self._transaction() as database:
            change = history.settle(database, run.number, charged=charged, is_open=not settled)
            if not change:
                return
            database.execute(
                "update slots set failures = max(0, failures + ?) where name = ?", (change, run.slot)
            )
            database.execute(
                "update slots set state = ?, since = ? where name = ? and state = ? and failures < ?",
                (SlotState.DIRTY.value, now, run.slot, SlotState.QUARANTINED.value, self._limit),
            )
            database.execute(
                "update slots set state = ?, since = ? where name = ? and state = ? and failures >= ?",
                (SlotState.QUARANTINED.value, now, run.slot, SlotState.FREE.value, self._limit),
            )

    def borrow(self, name: str) -> Slot | None:
        """Take a slot for a canary, be it free or in quarantine; as it was, with the canary's number.

        None where it is neither, or an operator has closed it.
        """
        number = int(time.time())
        slot = next((one for one in self.all() if one.name == name), None)
        if slot is None or slot.closure is not None:
            return None
        with self._transaction() as database:
            taken = database.execute(
                "update slots set state = ?, uid = ?, attempt = ?, since = ? "
                "where name = ? and state = ? and uid is null and state in (?, ?)",
                (
                    *(SlotState.RUNNING.value, CANARY, number, time.time(), name, slot.state.value),
                    *(SlotState.FREE.value, SlotState.QUARANTINED.value),
                ),
            )
            if not taken.rowcount:
                return None
            doubts.begin(database, name)
            return replace(slot, uid=CANARY, attempt=number)

    def tried(self, name: str, number: int, *, facts: Facts, trouble: str | None, gone: bool) -> bool:
        """A canary says whether the slot works: a clean record, or quarantine. *gone*: its guest is.

        False where it does not hold the slot any more.
        """
        with self._transaction() as database:
            failures = "0" if trouble is None else "max(failures, ?)"
            held = database.execute(
                f"update slots set failures = {failures} where name = ? and uid = ? and attempt = ?",  # noqa: S608 the two above
                (*(() if trouble is None else (self._limit,)), name, CANARY, number),
            )
            if not held.rowcount:
                return False
            kind = Kind.CANARY_WORKED if trouble is None else Kind.CANARY_FAILED
            history.forgive(database, name)
            history.add(database, (name, CANARY, number), kind, facts, error=trouble)
            doubts.judge(database, name)
        self._end_canary(name, number, gone=gone)
        return True

    def give_back(self, name: str, number: int, *, was: SlotState, gone: bool) -> None:
        """A canary could not be judged: the slot is what it *was*."""
        if was is SlotState.QUARANTINED:
            with self._transaction() as database:
                database.execute(
                    "update slots set failures = max(failures, ?) where name = ? and uid = ? and attempt = ?",
                    (self._limit, name, CANARY, number),
                )
        self._end_canary(name, number, gone=gone)

    def _end_canary(self, name: str, number: int, *, gone: bool) -> None:
        if gone:
            self.release(name, CANARY, number)
            return
        with self._transaction() as database:  # not as soil: canaries that began together have one number
            database.execute(
                "update slots set state = ?, uid = null, attempt = null, since = ? "
                "where name = ? and uid = ? and attempt = ?",
                (SlotState.DIRTY.value, time.time(), name, CANARY, number),
            )

    def probe(self, *, seconds: float) -> list[str]:
        """Give slots another try that were in quarantine for *seconds*; one more failure puts them back."""
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
        """Take back what :meth:`close` said. False where nobody had said it."""
        with self._transaction() as database:
            return drains.remove(database, name, kind)

    def closed(self) -> list[Closure]:
        """All that operators keep closed."""
        with self._transaction() as database:
            return drains.read(database)

    def forgive(self, name: str) -> bool:
        """Give a slot another try that failed too often, with a clean record. False where it had not."""
        with self._transaction() as database:
            changed = database.execute(
                "update slots set state = ?, since = ?, failures = 0 where name = ? and state = ?",
                (SlotState.DIRTY.value, time.time(), name, SlotState.QUARANTINED.value),
            )
            return changed.rowcount > 0

    def release(self, name: str, uid: str, attempt: int) -> bool:
        """The guest is gone: anyone may have the slot. False where the attempt did not hold it."""
        return self._free("name = ? and uid = ? and attempt = ?", (name, uid, attempt))

    def soil(self, uid: str, attempt: int) -> bool:
        """Whatever slot the attempt holds is DIRTY from now on. False where it holds none."""
        with self._transaction() as database:
            changed = database.execute(
                "update slots set state = ?, uid = null, attempt = null, since = ? "
                "where uid = ? and attempt = ?",
                (SlotState.DIRTY.value, time.time(), uid, attempt),
            )
            return changed.rowcount > 0

    def cleaned(self, name: str) -> bool:
        """The guest that was left in a DIRTY slot is gone."""
        return self._free("name = ? and state = ?", (name, SlotState.DIRTY.value))

    def survived(self, name: str) -> None:
        """The guest that was left in a DIRTY slot would not die: QUARANTINED where that happens too often."""
        with self._transaction() as database:
            database.execute(
                "update slots set failures = failures + 1, since = ?, "
                "state = case when failures + 1 >= ? then ? else state end where name = ? and state = ?",
                (time.time(), self._limit, SlotState.QUARANTINED.value, name, SlotState.DIRTY.value),
            )

    def _free(self, condition: str, values: tuple[str | int, ...]) -> bool:
        """FREE, or QUARANTINED where the slot has failed too often."""
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


def _state(text: str) -> SlotState:
    """What a newer version calls otherwise is to be cleaned before anyone has it."""
    try:
        return SlotState(text)
    except ValueError:
        return SlotState.DIRTY
