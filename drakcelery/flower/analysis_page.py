"""What the Analysis page shows: one analysis over all its attempts, and its artifacts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from drakcelery.broker import routing
from drakcelery.flower.rows import LABEL, SENTENCE, Row, row
from drakcelery.forecast.simulation import Range
from drakcelery.model.analysis import WITH_GUEST, Stage, State, Value
from drakcelery.model.records import Record
from drakcelery.model.result import Result
from drakcelery.model.text import clean

_STAGE_OF = {
    State.PREPARING: Stage.PREPARE,
    State.RUNNING: Stage.RUN,
    State.COLLECTING: Stage.COLLECT,
    State.UPLOADING: Stage.UPLOAD,
}


class Event(Value):
    """One line of the timeline."""

    at: float
    """UNIX time by Redis' clock."""
    what: str
    """``received``, the name of a state in small letters, or ``attempt failed``."""
    attempt: int | None = None
    """Which try of this analysis, from 1."""
    host: str | None = None
    slot: str | None = None
    stage: Stage | None = None
    task: str | None = None
    """id of the Celery task that did it."""
    error: str | None = None
    fault: str | None = None


class Stored(Value):
    """An artifact in the bucket."""

    name: str
    size: int
    """Bytes."""


class AnalysisView(Value):
    """The whole page."""

    now: float
    """UNIX time by Redis' clock."""
    row: Row
    task_uid: str
    """Karton's task that brought the sample."""
    root_uid: str
    analysis_task_uid: str | None
    """Karton's task that carries the analysis."""
    magic: str | None
    size: int | None
    """Bytes of the sample."""
    runs_as: str | None
    """Its name in the guest."""
    start_command: str | None
    timeout: int | None
    """Seconds."""
    priority: str | None
    quality: str | None
    plugins: tuple[str, ...]
    execution: str | None
    """As in ``metadata``, like the next three; None if nothing was published, or by an older version."""
    complete: bool | None
    reason: str | None
    watched: str | None
    """What became of watching it for news."""
    missing_functions: tuple[str, ...]
    """With how often each was called."""
    timeline: tuple[Event, ...]
    artifacts: tuple[Stored, ...]
    trouble: str | None
    """Why the artifacts cannot be listed."""
    may_cancel: bool
    may_retry: bool
    no_retry: str | None
    """Why it cannot be asked for again, if it is over."""

    def linking(self, is_known: Callable[[str], bool]) -> Self:
        """The same, with those Celery tasks only that *is_known* holds for: Flower has not seen every one."""
        timeline = tuple(
            one if one.task is None or is_known(one.task) else one.model_copy(update={"task": None})
            for one in self.timeline
        )
        return self.model_copy(update={"timeline": timeline})


def analysis_view(
    record: Record,
    artifacts: Mapping[str, int],
    *,
    now: float,
    start: Range | None = None,
    trouble: str | None = None,
    no_retry: str | None = None,
) -> AnalysisView:
    """Put the page together.

    *artifacts*: sizes in bytes by name; *trouble*: why they cannot be told; *start*: when it is expected to
    begin; *no_retry*: why it cannot be asked for again.
    """
    analysis = record.analysis
    return AnalysisView(
        now=now,
        row=row(record, start),
        task_uid=record.task_uid,
        root_uid=record.root_uid,
        analysis_task_uid=record.analysis_task_uid,
        magic=clean(analysis.magic) if analysis else None,
        size=record.sample.size if record.sample else None,
        runs_as=f"{analysis.file_name}.{analysis.extension}" if analysis else None,
        start_command=clean(analysis.start_command) if analysis and analysis.start_command else None,
        timeout=analysis.longest if analysis else None,
        priority=analysis.priority.value if analysis else None,
        quality=clean(analysis.quality) if analysis else None,
        plugins=analysis.plugins if analysis else (),
        **_result(record.result),
        timeline=tuple(sorted(_events(record), key=_when)),
        artifacts=tuple(Stored(name=name, size=size) for name, size in sorted(artifacts.items())),
        trouble=trouble,
        may_cancel=not record.state.is_over,
        may_retry=record.state.is_over and no_retry is None,
        no_retry=clean(no_retry, SENTENCE) if no_retry and record.state.is_over else None,
    )


def _result(result: Result | None) -> dict[str, Any]:
    return {
        "execution": clean(result.execution.value) if result else None,
        "complete": result.complete if result else None,
        "reason": clean(result.reason, SENTENCE) if result and result.reason else None,
        "watched": clean(result.watch.words, SENTENCE) if result and result.watch else None,
        "missing_functions": tuple(
            f"{clean(one.name, LABEL)} ({one.count})" for one in (result.missing_functions if result else ())
        ),
    }


def _when(event: Event) -> tuple[float, float]:
    """By attempts first: the time of a failure is less exact than the others (cjson has 14 digits)."""
    if event.what == "received":
        return 0, event.at
    return event.attempt or float("inf"), event.at


def _events(record: Record) -> Iterator[Event]:
    """Of earlier attempts the ledger keeps how they ended, of the last one the time of each state too."""
    yield Event(at=record.received, what="received")
    for failure in record.failures:
        yield Event(
            at=failure.at,
            what="attempt failed",
            attempt=failure.attempt,
            host=failure.host,
            slot=failure.slot,
            stage=failure.stage,
            task=routing.task_id(record.uid, failure.number, failure.stage) if failure.number else None,
            error=clean(failure.error, SENTENCE),
            fault=failure.fault.value,
        )
    for state, at in record.entered.items():
        stage = _STAGE_OF.get(state)
        yield Event(
            at=at,
            what=state.value.lower(),
            attempt=record.attempts,
            host=record.host if stage else None,
            slot=record.slot if stage in WITH_GUEST else None,
            stage=stage,
            task=routing.task_id(record.uid, record.attempt, stage) if stage else None,
        )
    if record.finished is not None:
        refusal = clean(record.refusal, SENTENCE) if record.refusal else None
        published = record.state is State.PUBLISHED
        yield Event(
            at=record.finished,
            what=record.state.value.lower(),
            error=refusal,
            stage=Stage.PUBLISH if published else None,
            task=routing.task_id(record.uid, record.attempt, Stage.PUBLISH) if published else None,
        )
