"""How an analysis is cancelled: because somebody says so, or because Karton's task is cancelled."""

from __future__ import annotations

import structlog
from karton.core.task import TaskState

from drakcelery.errors import StackError
from drakcelery.ledger import Ledger
from drakcelery.model.records import Record
from drakcelery.telemetry import tracing

log = structlog.get_logger(__name__)


def reason_of(by: str) -> str:
    """The reason that the ledger and Karton give for an analysis that *by* has cancelled."""
    return f"cancelled by {by}"


def cancel(ledger: Ledger, record: Record, *, by: str) -> None:
    """End an analysis. A guest that runs is destroyed within seconds. Raises :class:`StackError`."""
    reason = reason_of(by)
    crashed = ledger.last_word(record.task_uid, [f"{reason}\n"])
    if not ledger.cancel(record, reason=reason, crashed=crashed):
        raise StackError(f"analysis {record.uid} is over already: {record.state.value}")
    tracing.cancelled(record, reason, lambda: ledger.get(record.uid))


def cancel_as_karton(ledger: Ledger, record: Record, status: TaskState | None) -> bool:
    """Cancel an analysis if its Karton task was cancelled. True if that has ended it.

    Karton-dashboard's cancel writes FINISHED; a collector may have removed the task (None).
    """
    if status in (TaskState.STARTED, TaskState.SPAWNED):
        return False
    reason = f"cancelled: its Karton task is {status.value if status else 'gone'}"
    if not cancel_quietly(ledger, record, reason=reason):
        return False
    log.warning("cancelled", reason=reason)
    return True


def cancel_quietly(ledger: Ledger, record: Record, *, reason: str) -> bool:
    """End a live analysis and leave its Karton task as it is. False if it is over already."""
    if not ledger.cancel(record, reason=reason, crashed=None):
        return False
    tracing.cancelled(record, reason, lambda: ledger.get(record.uid))
    return True
