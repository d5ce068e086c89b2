"""What ``status --json`` and ``find --json`` print: documented, and apart from what the ledger stores.

A later version may add fields; one that takes a field away, or changes what it means, has another
:data:`VERSION`. docs/status.schema.json is the JSON Schema; a test keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Self

from pydantic import Field

from drakcelery.forecast.backlog import Queued
from drakcelery.forecast.forecast import Forecast
from drakcelery.forecast.simulation import Estimate
from drakcelery.ledger.quarantine import Entry
from drakcelery.model.analysis import Analysis, Failure, ObjectRef, Place, State, Value
from drakcelery.model.records import Record
from drakcelery.model.result import Result
from drakcelery.model.second_look import SecondLook

VERSION = 1


class AnalysisStatus(Value):
    """One analysis. Times are UNIX times by Redis' clock; texts are as the sample's task and guest had them,
    as JSON escapes them."""

    uid: str
    task_uid: str = Field(description="its Karton task")
    root_uid: str
    state: State
    attempt: int = Field(description="number of the current attempt; those that were replaced count, too")
    attempts: int = Field(description="attempts that failed, and the current one")
    place: Place | None = Field(description="profile, and host if one was asked for")
    host: str | None = Field(description="the host that has, or had, it")
    slot: str | None
    sample: ObjectRef | None = Field(description="of a refused task, as far as it named one")
    analysis: Analysis | None = Field(description="how the sample is run; null if the task was refused")
    refusal: str | None = Field(description="why the task was refused")
    failures: tuple[Failure, ...]
    reason: str | None = Field(description="why it ended as it did; null if it simply was published")
    received: float
    updated: float
    finished: float | None
    entered: Mapping[State, float] = Field(description="when the current attempt entered each state")
    analysis_task_uid: str | None = Field(description="the analysis task in Karton, once it is published")
    result: Result | None
    retries: tuple[str, ...] = Field(description="analyses that repeat it, the newest last")
    variants: tuple[SecondLook, ...] = Field(description="second looks that it led to, with what they showed")
    estimate: Estimate | None = Field(description="null after the end, and where nothing can be foretold")

    @classmethod
    def of(cls, record: Record, estimate: Estimate | None = None) -> Self:
        """Of a record of the ledger."""
        own = set(AnalysisStatus.model_fields) - {"attempts", "sample", "reason", "estimate"}
        return cls(
            **{name: getattr(record, name) for name in own},
            attempts=record.attempts,
            sample=record.sample,
            reason=record.reason,
            estimate=estimate,
        )


class OneAnalysis(AnalysisStatus):
    """What ``status UID --json`` prints of an analysis."""

    version: int = VERSION


class OneQueued(Queued):
    """What ``status UID --json`` prints of a sample that still waits in Karton."""

    version: int = VERSION


class QuarantineEntry(Value):
    """An item that could not be dealt with, as ``isolated list --json`` has it."""

    where: str
    uid: str
    error: str
    count: int
    first: float
    next: float


class StatusDocument(Value):
    """What ``status --json`` prints: live analyses and the newest finished ones."""

    version: int = VERSION
    analyses: tuple[AnalysisStatus, ...]
    waiting: int = Field(description="how many samples wait in Karton beside the analyses")
    queued: tuple[Queued, ...] = Field(description="the first of those that wait, each with its estimate")
    quarantine: tuple[QuarantineEntry, ...]

    @classmethod
    def of(cls, records: Iterable[Record], forecast: Forecast, quarantine: Iterable[Entry]) -> Self:
        """All together."""
        return cls(
            analyses=tuple(AnalysisStatus.of(one, forecast.estimates.get(one.uid)) for one in records),
            waiting=len(forecast.queued) + forecast.behind,
            queued=forecast.queued,
            quarantine=tuple(QuarantineEntry(**asdict(entry)) for entry in quarantine),
        )
