"""The words that an analysis has: its stage, its state, its priority, and how it is started and watched.

They stand apart from the values that have them, so that the commands' help needs no pydantic.
"""

from __future__ import annotations

import enum
from typing import Literal

from drakcelery.model.word import Word

WatchMode = Literal["off", "shadow", "active"]
"""``shadow``: nothing is stopped, and it is noted when a run would have been. ``active``: it is stopped."""


class Stage(Word):
    """The five Celery tasks of an attempt."""

    PREPARE = "prepare"
    RUN = "run"
    COLLECT = "collect"
    UPLOAD = "upload"
    PUBLISH = "publish"


STAGES = tuple(Stage)
"""In their order."""
WITH_GUEST = (Stage.PREPARE, Stage.RUN)
"""The stages of a vm worker, which have a slot."""
WITH_FILES = (Stage.COLLECT, Stage.UPLOAD, Stage.PUBLISH)
"""The stages of an io worker, which go on from a finished run."""


class State(Word):
    """What the ledger says about an analysis."""

    QUEUED = "QUEUED"
    PREPARING = "PREPARING"
    RUNNING = "RUNNING"
    COLLECTING = "COLLECTING"
    UPLOADING = "UPLOADING"
    PUBLISHED = "PUBLISHED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_over(self) -> bool:
        """Whether the analysis is over."""
        return self in (State.PUBLISHED, State.FAILED, State.CANCELLED)


class Priority(enum.StrEnum):
    """Karton's task priorities (``karton.core.task.TaskPriority``)."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


StartMethod = Literal["createproc", "shellexec", "runas"]
"""How Windows starts a sample: CreateProcess, ShellExecute, or ShellExecute's verb runas (administrator)."""
