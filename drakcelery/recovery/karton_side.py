"""What Karton and the list of due times say about a live analysis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import structlog
from karton.core.task import TaskState

from drakcelery.errors import Unreadable
from drakcelery.karton import reading
from drakcelery.model.records import Record

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What else is known of a live analysis."""

    status: TaskState | None
    """The status of its Karton task; None if a collector has removed the task."""
    last_update: float
    is_due_later: bool
    """Whether it waits for its time to be sent."""

    @classmethod
    def of(cls, record: Record, text: str | None, due: float | None) -> Self:
        """Made from *record*, its Karton task as it is in Redis, and its time to be sent."""
        status, last_update = _karton_side(record, text)
        return cls(status=status, last_update=last_update, is_due_later=due is not None)


def _karton_side(record: Record, text: str | None) -> tuple[TaskState | None, float]:
    """(status, last update) of a live analysis' Karton task, whose JSON is *text*.

    A task that cannot be read any more is left alone: its analysis goes on, and ends by itself.
    """
    if text is None:
        return None, 0
    try:
        task = reading.read_task(text, record.task_uid)
    except Unreadable as error:
        log.warning("karton_task_unreadable", uid=record.uid, task=record.task_uid, error=str(error))
        return TaskState.STARTED, math.inf
    return task.status, task.last_update
