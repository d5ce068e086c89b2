"""How a canary gets a slot and gives it back, and how one is asked for."""

from __future__ import annotations

import time
from dataclasses import replace

from drakcelery.host import doubts, history
from drakcelery.host.history import Facts, Kind
from drakcelery.host.slot import CANARY, Slot, SlotState
from drakcelery.host.slot_file import SlotFile


class SlotCanaries(SlotFile):
    """The slots that a canary has, or is to try."""

    def doubt(self, name: str, uid: str | None = None, attempt: int | None = None) -> None:
        """Let a canary try the slot before the next sample, once *uid*, or whatever has it, has given it
        back."""
        with self._transaction() as database:
            doubts.add(database, (name, uid, attempt))

    def ask_canary(self, name: str | None) -> dict[str, int]:
        """Let a canary try a slot, or (None) each one, as soon as it is free (:func:`.doubts.ask`)."""
        with self._transaction() as database:
            return doubts.ask(database, name)

    def borrow(self, name: str) -> Slot | None:
        """Take a slot that is free or in quarantine for a canary; returns it as it was, and the canary's
        number.

        None if it is neither, or an operator has closed it.
        """
        number = int(time.time())
        slot = next((one for one in self.all() if one.name == name), None)
        if slot is None or slot.drain is not None:
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
        """Note whether the slot works, by its canary: a clean record, or quarantine. *gone*: its guest is
        gone.

        False if it does not hold the slot any more.
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
            doubts.answer(database, name)
        self._end_canary(name, number, gone=gone)
        return True

    def give_back(self, name: str, number: int, *, was: SlotState, gone: bool) -> None:
        """A canary could not be judged: put the slot back as it *was*."""
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
        with self._transaction() as database:  # not soil(): canaries that began together share a number
            database.execute(
                "update slots set state = ?, uid = null, attempt = null, since = ? "
                "where name = ? and uid = ? and attempt = ?",
                (SlotState.DIRTY.value, time.time(), name, CANARY, number),
            )
