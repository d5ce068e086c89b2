"""What operators do to analyses and hosts, from a terminal or from Flower's pages.

``by`` is the user who asks, such as ``alice@console``. It is kept in the reason of a cancelled analysis,
beside a slot that is out of use, and in the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from pydantic import TypeAdapter, ValidationError

from drakcelery.errors import StackError
from drakcelery.ledger import Ledger
from drakcelery.model.records import HostStatus, Record, SlotStatus
from drakcelery.model.slot_state import ReportedState
from drakcelery.operators import analyses
from drakcelery.stages import cancellation

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 5
"""Seconds to wait for a worker's answer, which normally takes milliseconds."""
_CALLS = TypeAdapter(dict[str, int])


def cancel_by_uid(ledger: Ledger, uid: str, *, by: str) -> Record:
    """End a live analysis, by any uid that it is known by; returns its record.

    Raises :class:`StackError` if there is none, or it is over.
    """
    record = analyses.find_record(ledger, uid)
    cancellation.cancel(ledger, record, by=by)
    return ledger.get(record.uid) or record


def drain(app: Celery, host: str, *, slot: str | None = None, by: str) -> HostStatus:
    """Let nothing new begin on a host, or in one slot of it; what runs there finishes. Survives a restart.

    Returns the host as it is then. Raises :class:`StackError` if it does not answer, or has no such slot.
    """
    return _steer(app, host, "drain", slot, by)


def undrain(app: Celery, host: str, *, slot: str | None = None, by: str) -> HostStatus:
    """End what :func:`drain` began. Slots that were drained one by one are undrained one by one."""
    return _steer(app, host, "undrain", slot, by)


def quarantine(app: Celery, host: str, *, slot: str, by: str) -> HostStatus:
    """Take a slot out of use until it is released. Survives a restart."""
    return _steer(app, host, "quarantine", slot, by)


def release(app: Celery, host: str, *, slot: str, by: str) -> HostStatus:
    """Use a slot again that is in quarantine, whoever put it there: an operator, or too many failures."""
    return _steer(app, host, "release", slot, by)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Canaries that :func:`canary` has asked for."""

    host: HostStatus
    """The host as it was just afterwards."""
    calls: Mapping[str, int]
    """The number of the call, for each slot that gets one."""


def canary(app: Celery, host: str, *, slot: str | None = None, by: str) -> Asked:
    """Try a slot, or all of a host that no operator keeps closed, as soon as no sample has it."""
    answer = _answer(app, host, "canary", slot, by)
    try:
        return Asked(
            host=HostStatus.model_validate(answer.get("ok")),
            calls=_CALLS.validate_python(answer.get("calls")),
        )
    except ValidationError:
        raise _other_version(host, answer) from None


def canary_found(slot: SlotStatus, call: int) -> str | None:
    """The result of a *call* for a canary in *slot*: ``good``, why the slot is not, or that it is not known.

    None if there is none yet, or if the host reported before it got the call.
    """
    canary = slot.canary
    if canary.called < call or slot.state is ReportedState.CHECKING:
        return None
    if canary.judged >= call:
        return canary.trouble or "good"
    if canary.begun >= call:
        return "not judged: the log of its vm worker says why"
    return f"not judged: {slot.closed_by} keeps it closed" if slot.closed_by else None


def _steer(app: Celery, host: str, command: str, slot: str | None, by: str) -> HostStatus:
    answer = _answer(app, host, command, slot, by)
    try:
        return HostStatus.model_validate(answer.get("ok"))
    except ValidationError:
        raise _other_version(host, answer) from None


def _answer(app: Celery, host: str, command: str, slot: str | None, by: str) -> dict[str, Any]:
    node = f"vm@{host}"
    answer = ask(app, node, command, timeout=ANSWER_SECONDS, slot=slot, by=by)
    if answer is None:
        raise StackError(
            f"{node} did not answer within {ANSWER_SECONDS} s, so it is not known that anything has changed: "
            "see `drakcelery hosts` for who is online; one that is starting answers seconds later"
        )
    return answer


def _other_version(host: str, answer: dict[str, Any]) -> StackError:
    return StackError(f"vm@{host} runs another version of drakcelery: it answers {answer!r:.200}")


def ask(
    app: Celery, node: str, command: str, *, timeout: int = ANSWER_SECONDS, **arguments: object
) -> dict[str, Any] | None:
    """The answer of the worker *node* to a remote-control command; None if there is none in time.

    Raises:
        StackError: it answers with an error, or the broker is away.
    """
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=timeout)
            replies = app.control.broadcast(
                command,
                arguments=arguments,
                destination=[node],
                connection=connection,
                reply=True,
                timeout=timeout,
            )
    except OperationalError as error:
        raise StackError(f"the broker does not answer: {error}") from None
    answer = replies[0][node] if replies else None
    if answer is not None and "error" in answer:
        raise StackError(str(answer["error"]))
    return answer
