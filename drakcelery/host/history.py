"""What became of the runs in each slot: a table in the file of :mod:`drakcelery.host.slots`.

It outlives the worker, so that what a slot did is not forgotten. Each function works within the caller's
transaction. A failed run is *open* as long as its charge may still change (:mod:`drakcelery.host.charges`),
and *recent* until its slot has worked again. Failed runs that are charged and recent are the failures in a
row that put a slot aside.
"""

from __future__ import annotations

import enum
import sqlite3
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drakcelery.engines import Detonation
from drakcelery.errors import Blame
from drakcelery.model.analysis import Execution, Outcome
from drakcelery.model.text import storable

KEPT = 50
"""Runs of each slot."""
SCHEMA = """
create table if not exists runs (
    id integer primary key,
    slot text not null,
    uid text not null,
    attempt integer not null,
    at real not null,
    kind text not null,
    seconds real not null,
    restore_seconds real,
    blame text,
    charged integer not null,
    recent integer not null,
    open integer not null,
    snapshot text,
    log_size integer,
    pcap_size integer,
    traffic_due integer not null,
    error text
) strict
"""
_COLUMNS = (
    "id, slot, uid, attempt, at, kind, seconds, restore_seconds, blame, charged, open, snapshot, log_size, "
    "pcap_size, traffic_due, error"
)
_WRITTEN = (
    "slot, uid, attempt, at, kind, seconds, restore_seconds, blame, charged, recent, open, snapshot, "
    "log_size, pcap_size, traffic_due, error"
)


class Kind(enum.StrEnum):
    """What became of a run."""

    WORKED = "worked"
    FAILED = "failed"
    CANARY_WORKED = "canary_worked"
    CANARY_FAILED = "canary_failed"

    @property
    def is_canary(self) -> bool:
        """Whether it was a canary's run and not a sample's."""
        return self in (Kind.CANARY_WORKED, Kind.CANARY_FAILED)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a run left, as far as it got."""

    seconds: float = 0.0
    """From its beginning to its end."""
    restore_seconds: float | None = None
    """Seconds that the engine took to restore its VM."""
    snapshot: str | None = None
    """sha256 of what the VM was restored from."""
    log_size: int | None = None
    """Bytes of DRAKVUF's log."""
    pcap_size: int | None = None
    """Bytes of the recorded traffic; None if there is no such file."""
    traffic_due: bool = True
    """Whether there should be some: the sample was started, with a network, and for the whole time."""


UNKNOWN = Facts()


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run of a slot that is over."""

    number: int
    slot: str
    uid: str
    attempt: int
    at: float
    """When it ended: UNIX time, by this host's clock."""
    kind: Kind
    blame: Blame | None
    """What its error blames."""
    charged: bool
    """Whether it is charged to the slot so far."""
    open: bool
    """Whether that may still change."""
    facts: Facts
    error: str | None
    """Why it failed."""


def facts_of(
    job: Detonation, outcome: Outcome, *, seconds: float, restore_seconds: float | None = None
) -> Facts:
    """What a finished run left; anything that is not a plain file counts as missing."""
    return Facts(
        seconds=seconds,
        restore_seconds=restore_seconds,
        snapshot=outcome.snapshot.sha256,
        log_size=_size(job.log),
        pcap_size=_size(job.pcap),
        traffic_due=_is_traffic_due(job, outcome),
    )


def _is_traffic_due(job: Detonation, outcome: Outcome) -> bool:
    """A run that was stopped early may have had no time for traffic, which says nothing of its slot."""
    was_started = outcome.execution is not Execution.NOT_EXECUTED
    return job.net_enable is not False and was_started and not outcome.is_quiet_stop


def _size(path: Path) -> int | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def add(
    database: sqlite3.Connection,
    holder: tuple[str, str, int],
    kind: Kind,
    facts: Facts,
    *,
    blame: Blame | None = None,
    charged: bool = False,
    is_open: bool = False,
    error: str | None = None,
) -> None:
    """Note a run of *holder*: slot, uid and attempt. The oldest runs are forgotten."""
    values = (kind.value, facts.seconds, facts.restore_seconds, blame and blame.value, charged, True, is_open)
    files = (facts.snapshot, facts.log_size, facts.pcap_size, facts.traffic_due, error and storable(error))
    database.execute(
        f"insert into runs ({_WRITTEN}) values ({', '.join('?' * (1 + _WRITTEN.count(',')))})",  # noqa: S608 fixed words
        (*holder, time.time(), *values, *files),
    )
    database.execute(
        "delete from runs where slot = ? and id not in "
        "(select id from runs where slot = ? order by id desc limit ?)",
        (holder[0], holder[0], KEPT),
    )


def read(database: sqlite3.Connection, *, only_open: bool = False) -> list[Run]:
    """All runs, or the open ones, oldest first. Kinds that only a newer version knows are left out."""
    known = f"kind in ({_words(Kind)}) and (blame is null or blame in ({_words(Blame)}))"
    condition = f"where {known}{' and open' if only_open else ''}"
    rows = database.execute(f"select {_COLUMNS} from runs {condition} order by id")  # noqa: S608 fixed words
    return [_KNOWN.run(row) for row in rows] if only_open else _KNOWN.all(rows)


def _words(kinds: Iterable[enum.StrEnum]) -> str:
    return ", ".join(f"'{one.value}'" for one in kinds)


def failed(database: sqlite3.Connection, uid: str, *, since: int) -> frozenset[str]:
    """The slots in which runs of an analysis have failed, from the attempt *since* on."""
    rows = database.execute(
        "select distinct slot from runs where uid = ? and kind = ? and attempt >= ?",
        (uid, Kind.FAILED.value, since),
    )
    return frozenset(str(name) for (name,) in rows)


def settle(database: sqlite3.Connection, number: int, *, charged: bool, is_open: bool) -> int:
    """Note what became of a charge; returns by how much its slot's number of failures in a row changes."""
    row = database.execute("select charged, recent from runs where id = ?", (number,)).fetchone()
    if row is None:
        return 0
    was_charged, is_recent = row
    database.execute("update runs set charged = ?, open = ? where id = ?", (charged, is_open, number))
    return charged - was_charged if is_recent else 0


def forgive(database: sqlite3.Connection, slot: str) -> None:
    """*slot* has worked: its earlier failures are not recent any more."""
    database.execute("update runs set recent = 0 where slot = ? and recent", (slot,))


def begin(database: sqlite3.Connection, slots: Iterable[str]) -> None:
    """A worker starts with *slots*: each has a clean record, and others are forgotten."""
    database.execute("update runs set recent = 0")
    names = list(slots)
    database.execute(
        f"delete from runs where slot not in ({', '.join('?' * len(names))})",  # noqa: S608 only question marks
        names,
    )


def _run(row: tuple[Any, ...]) -> Run:
    number, slot, uid, attempt, at, kind, seconds, restore_seconds, blame, charged, is_open, *files, error = (
        row
    )
    snapshot, log_size, pcap_size, traffic_due = files
    return Run(
        number=number,
        slot=slot,
        uid=uid,
        attempt=attempt,
        at=at,
        kind=Kind(kind),
        blame=Blame(blame) if blame else None,
        charged=bool(charged),
        open=bool(is_open),
        facts=Facts(
            seconds=seconds,
            restore_seconds=restore_seconds,
            snapshot=snapshot,
            log_size=log_size,
            pcap_size=pcap_size,
            traffic_due=bool(traffic_due),
        ),
        error=error,
    )


class _Known:
    """The runs that this process read last, by their rows: a row says all there is of a run."""

    def __init__(self) -> None:
        self._runs: dict[tuple[Any, ...], Run] = {}

    def run(self, row: tuple[Any, ...]) -> Run:
        """That of a row."""
        return self._runs.get(row) or _run(row)

    def all(self, rows: Iterable[tuple[Any, ...]]) -> list[Run]:
        """Those of all *rows* there are; what is known of others is forgotten."""
        self._runs = {row: self.run(row) for row in rows}
        return [*self._runs.values()]


_KNOWN = _Known()
