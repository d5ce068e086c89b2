"""What is noted about the runs of a slot: which failed, and which of these are charged to it."""

from __future__ import annotations

import time

from drakcelery.errors import Blame
from drakcelery.host import history
from drakcelery.host.history import Facts, Kind, Run
from drakcelery.host.slot import SlotState
from drakcelery.host.slot_file import SlotFile


class SlotRuns(SlotFile):
    """The runs of each slot; too many failed ones in a row put it into quarantine."""

    def failed_in(self, uid: str, *, since: int = 0) -> frozenset[str]:
        """The slots in which an analysis has failed, in the attempt *since* or after it."""
        with self._transaction(writes=False) as database:
            return history.failed(database, uid, since=since)

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
    ) -> list[Run]:
        """Note a run that failed, unless another attempt has the slot by now; returns :meth:`history` with
        it.

        *charged*: it is charged to the slot. Unless that is *settled*, :meth:`settle_charge` may change it.
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
            return history.read(database)

    def worked(
        self, name: str, uid: str, attempt: int, *, facts: Facts = history.UNKNOWN, excused: bool = False
    ) -> list[Run]:
        """Note a run that went well, and forget earlier failures, unless another attempt has the slot by now.

        Returns :meth:`history` with it. *excused*: the sample is known to be to blame for what is missing in
        the run.
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
            return history.read(database)

    def put_aside(self, name: str, uid: str, attempt: int, *, most: int) -> bool:
        """Have the slot QUARANTINED as soon as it is given back.

        Not if *most* slots of its profile are already in quarantine, or will be once they are given back.
        True if it will be.
        """
        with self._transaction() as database:
            put = database.execute(
                "update slots set failures = max(failures, ?) where name = ? and uid = ? and attempt = ? "
                "and ? > (select count(*) from slots as other where other.name != slots.name "
                "and other.profile = slots.profile and (other.state = ? or other.failures >= ?))",
                (self._limit, name, uid, attempt, most, SlotState.QUARANTINED.value, self._limit),
            )
            return put.rowcount > 0

    def open_charges(self) -> list[Run]:
        """Failed runs whose charge may still change."""
        with self._transaction(writes=False) as database:
            return history.read(database, only_open=True)

    def history(self) -> list[Run]:
        """The last runs of each slot, oldest first."""
        with self._transaction(writes=False) as database:
            return history.read(database)

    def settle_charge(self, run: Run, *, charged: bool, settled: bool) -> None:
        """Note whether a failed run is charged to its slot, which may leave quarantine or enter it for
        that."""
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

    def forgive(self, name: str) -> bool:
        """Give a slot that failed too often another try, with a clean record. False if it had not."""
        with self._transaction() as database:
            changed = database.execute(
                "update slots set state = ?, since = ?, failures = 0 where name = ? and state = ?",
                (SlotState.DIRTY.value, time.time(), name, SlotState.QUARANTINED.value),
            )
            return changed.rowcount > 0
