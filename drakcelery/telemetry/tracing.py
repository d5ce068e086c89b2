"""Traces: one for each analysis, over all its attempts, processes and hosts.

``analysis`` is the root, its children are ``ingress`` and each ``attempt``; an attempt's are its stages.
Nothing of it travels with the messages, since ids can be derived (:mod:`drakcelery.telemetry.spans`). A span
is sent once, when it is over, by the process that ended it. Times are by Redis' clock, as the ledger's are.

Off, and free, unless :func:`start` has found an endpoint in ``[tracing]``. Nothing here raises or waits.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ParamSpec

import structlog

from drakcelery import __version__
from drakcelery.errors import SettingsError, Superseded
from drakcelery.model.analysis import Failure, Stage, State, Step
from drakcelery.model.records import Record
from drakcelery.settings import Settings
from drakcelery.telemetry.spans import ROOT, Span, attempt_key, of_record

if TYPE_CHECKING:
    from drakcelery.telemetry.otlp import Spans

log = structlog.get_logger(__name__)

P = ParamSpec("P")
Read = Callable[[], Record | None]
"""Gets the record of an analysis from the ledger."""


@dataclass
class _Process:
    """The tracing of this process."""

    spans: Spans | None = None
    """What sends them; None if tracing is off."""


_PROCESS = _Process()


def start(settings: Settings) -> None:
    """Trace from now on in this process, and only in this one: a forked process starts for itself.

    Raises:
        SettingsError: ``[tracing]`` asks for it, and the extra is not installed.
    """
    _PROCESS.spans = None
    section = settings.tracing
    if section.endpoint is None:
        return
    try:
        from drakcelery.telemetry.otlp import Spans  # an extra brings what it needs
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("opentelemetry"):
            raise
        raise SettingsError(
            f"[tracing] endpoint = {section.endpoint}: traces need {error.name}; "
            "install it with: pip install 'drakcelery[tracing]'"
        ) from None
    host = settings.drakcelery.host
    resource = {"service.name": "drakcelery", "service.version": __version__, "host.name": host}
    _PROCESS.spans = Spans(section.endpoint, section.headers(), resource, ca_file=section.ca_file)


def stop() -> None:
    """Send the last spans of this process, within two seconds; what comes later is not traced."""
    spans, _PROCESS.spans = _PROCESS.spans, None
    if spans is not None:
        spans.close()


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[None]:
    """As :func:`start` and, at the end of the block, :func:`stop`."""
    start(settings)
    try:
        yield
    finally:
        stop()


# The events. A record is as it was before the event; *read* gets it as it is afterwards, with the times


def _guarded(function: Callable[P, None]) -> Callable[P, None]:
    """Do nothing if tracing is off, and only log errors, so that they do not affect the analysis."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        if _PROCESS.spans is None:
            return
        try:
            function(*args, **kwargs)
        except Exception:
            log.exception("span_not_made")

    return guarded


@_guarded
def accepted(read: Read, now: Callable[[], float]) -> None:
    """Ingress has sent an analysis on its way; *now* is Redis' clock."""
    record = read()
    if record is not None:
        _send(of_record(record, "ingress", ("ingress",), ROOT, start=record.received, end=now()))


@_guarded
def refused(task_uid: str, read: Read) -> None:
    """A Karton task became no analysis: its trace is one span that says why."""
    record = read()
    if record is None or record.task_uid != task_uid:  # another ingress dealt with it
        return
    at, why = record.received, record.error
    _send(
        of_record(record, "analysis", ROOT, None, start=at, end=at, failed=True, outcome="refused", error=why)
    )


@_guarded
def reused(record: Record) -> None:
    """An analysis was published from an earlier one: its trace is one span."""
    start, end = record.received, record.finished or record.received
    _send(of_record(record, "analysis", ROOT, None, start=start, end=end, outcome="reused"))


@_guarded
def attempt_failed(record: Record, failure: Failure, read: Read) -> None:
    """An attempt is over, and with it the analysis, if no other attempt follows."""
    after = read()
    if after is None or after.task_uid != record.task_uid:
        return
    end, final = after.failures[len(record.failures)].at, after.finished is not None
    host, slot = failure.host, failure.slot
    _over(record, end, final=final, outcome="failed", error=failure.error, host=host, slot=slot)


@_guarded
def attempt_replaced(record: Record, reason: str, read: Read) -> None:
    """An attempt that no worker had taken up was replaced by another."""
    after = read()
    if after is not None and State.QUEUED in after.entered:
        _over(record, after.entered[State.QUEUED], final=False, outcome="replaced", error=reason)


@_guarded
def cancelled(record: Record, reason: str, read: Read) -> None:
    """Somebody ended an analysis."""
    after = read()
    if after is not None and after.finished is not None:
        _over(record, after.finished, final=True, outcome="cancelled", error=reason)


@_guarded
def published(work: Work) -> None:
    """*work* was the last stage of an analysis."""
    _over(work.record, work.end, final=True, outcome="published", host=work.host, slot=work.step.slot)


@dataclass(kw_only=True)
class Work:
    """A delivery of a stage at work."""

    record: Record
    stage: Stage
    step: Step
    host: str
    token: str
    begun: float
    """UNIX time by Redis' clock."""
    since: float = field(default_factory=time.monotonic)

    @property
    def end(self) -> float:
        """Now, by the clock of :attr:`begun`."""
        return self.begun + time.monotonic() - self.since


@contextlib.contextmanager
def stage(work: Work) -> Iterator[None]:
    """The span of a stage: as long as the block, and failed if the block raises."""
    try:
        yield
    except Superseded as error:
        _stage_over(work, "superseded", str(error))
        raise
    except Exception as error:
        _stage_over(work, "failed", str(error) or type(error).__name__)
        raise
    _stage_over(work, "done", None)


@_guarded
def _stage_over(work: Work, outcome: str, error: str | None) -> None:
    name, attempt = work.stage.value, attempt_key(work.record.attempt)
    _send(
        of_record(
            work.record,
            name,
            (*attempt, name, work.token),
            attempt,
            start=work.begun,
            end=work.end,
            failed=outcome == "failed",
            attempt=work.record.attempts,
            number=work.record.attempt,
            stage=name,
            host=work.host,
            slot=work.step.slot,
            outcome=outcome,
            error=error,
        )
    )


def _over(
    record: Record,
    end: float,
    *,
    final: bool,
    outcome: str,
    error: str | None = None,
    host: str | None = None,
    slot: str | None = None,
) -> None:
    """The span of an attempt, if one was begun, and of the analysis, if that attempt was the last."""
    how = {"outcome": outcome, "error": error, "host": host or record.host, "slot": slot or record.slot}
    failed, number = outcome == "failed", record.attempt
    if record.attempts:
        start = record.entered.get(State.QUEUED, record.received)
        key, more = attempt_key(number), {"attempt": record.attempts, "number": number, **how}
        span = of_record(record, "attempt", key, ROOT, start=start, end=end, failed=failed, **more)
        _send(replace(span, links=(attempt_key(number - 1),) if number > record.first_attempt else ()))
    if final:
        start, more = record.received, {"attempts": record.attempts, **how}
        _send(of_record(record, "analysis", ROOT, None, start=start, end=end, failed=failed, **more))


def _send(span: Span) -> None:
    spans = _PROCESS.spans
    if spans is not None:  # it may have been stopped meanwhile
        spans.emit(span)
