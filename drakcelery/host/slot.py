"""What a slot is, and what it does: a row of the slot table."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from drakcelery.host import doubts
from drakcelery.host.doubts import Calls
from drakcelery.host.drains import Drain
from drakcelery.model.names import AttemptId
from drakcelery.model.slot_state import ReportedState

CANARY = ".canary"
"""The holder of a slot that a canary tries; no analysis can have this uid."""


class SlotState(enum.StrEnum):
    """What a slot does, as far as the table knows: an operator's orders and canaries stand beside it."""

    FREE = ReportedState.FREE.value
    PREPARING = ReportedState.PREPARING.value
    READY = ReportedState.READY.value
    RUNNING = ReportedState.RUNNING.value
    DIRTY = ReportedState.DIRTY.value
    QUARANTINED = ReportedState.QUARANTINED.value
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
    """Failed runs in a row that are charged to it, and failed tries to end its guest."""
    drain: Drain | None = None
    """Set if an operator keeps it out of use; it still finishes what it holds."""
    calls: Calls = doubts.NONE
    """The calls for a canary: its score has fallen, or an operator asked."""

    @property
    def log_fields(self) -> dict[str, str | int | None]:
        """The fields of each log line about it."""
        return {"uid": self.uid, "attempt": self.attempt, "slot": self.name}

    @property
    def holder(self) -> AttemptId | None:
        """The attempt that has the slot."""
        return (self.uid, self.attempt) if self.uid is not None and self.attempt is not None else None

    @property
    def is_canary(self) -> bool:
        """Whether a canary has it, and not a sample."""
        return self.uid == CANARY

    @property
    def is_vacant(self) -> bool:
        """Whether it is free and no operator keeps it out of use."""
        return self.state is SlotState.FREE and self.drain is None

    @property
    def is_open(self) -> bool:
        """Whether a sample may have it now."""
        return self.is_vacant and not self.awaits_canary

    @property
    def awaits_canary(self) -> bool:
        """Whether it is reserved for a canary, which will come at once."""
        return self.is_vacant and self.calls.keep(self.since)

    @property
    def status(self) -> ReportedState:
        """The status that people are shown: its state, or what an operator has ordered.

        ``draining`` while the last guest finishes, then ``drained`` or ``quarantined``; ``checking`` while a
        canary tries it, or is about to.
        """
        if self.is_canary or self.awaits_canary:
            return ReportedState.CHECKING
        if self.drain is None or self.state in (SlotState.DIRTY, SlotState.QUARANTINED):
            return ReportedState(self.state)
        return ReportedState.DRAINING if self.holder is not None else ReportedState(self.drain.kind)

    @property
    def status_since(self) -> float:
        """UNIX time of the last change of :attr:`status`; while something holds it, since when it does."""
        if self.drain is None or self.holder is not None:
            return self.since
        return max(self.since, self.drain.since)


def state_of(text: str) -> SlotState:
    """The state of that name; one that only a newer version knows counts as DIRTY."""
    try:
        return SlotState(text)
    except ValueError:
        return SlotState.DIRTY
