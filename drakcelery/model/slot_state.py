"""What a slot does, in the words of its host. They are in Redis, in metrics and on every page."""

from __future__ import annotations

from drakcelery.model.word import Word


class ReportedState(Word):
    """What a slot does, as its host reports it."""

    FREE = "free"
    PREPARING = "preparing"
    READY = "ready"
    """Restored; waits for its run."""
    RUNNING = "running"
    DIRTY = "dirty"
    """Its guest must be destroyed before it may be used again."""
    QUARANTINED = "quarantined"
    """It failed too often, or an operator says that something is wrong with it."""
    CHECKING = "checking"
    """A canary tries it, or is about to."""
    DRAINING = "draining"
    """An operator has closed it, and its last guest has yet to finish."""
    DRAINED = "drained"
    HALTED = "halted"
    """It would be free, but its host takes nothing (:attr:`drakcelery.model.records.HostStatus.halted`)."""


OUT_OF_USE = frozenset(
    {
        ReportedState.QUARANTINED,
        ReportedState.CHECKING,
        ReportedState.DRAINING,
        ReportedState.DRAINED,
        ReportedState.HALTED,
    }
)
"""States of slots that do not count as capacity."""
