"""Celery remote-control commands: ``celery -A drakcelery inspect slots``, ``control drain`` and the like.

A vm worker answers for its host. The others keep silent: an empty answer would only be noise, and if no vm
worker is alive, Celery's own "No nodes replied" is right. An error is a reply, ``{"error": …}``, as Celery's
own commands give it.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from celery.worker.control import control_command, inspect_command
from redis.exceptions import RedisError

from drakcelery import safe_files
from drakcelery.errors import StackError
from drakcelery.host.drains import Closed
from drakcelery.host.workspace import Workspace
from drakcelery.model.names import NAME_PATTERN, is_uid
from drakcelery.model.records import HostStatus, Record, SlotStatus
from drakcelery.operators import finding
from drakcelery.stages import cancellation
from drakcelery.stages.context import HostContext
from drakcelery.worker.bootstrap import is_io_worker, is_vm_worker
from drakcelery.worker.mailbox import SILENT, Reply, answered_by
from drakcelery.worker.report import host_status, in_redis_time

log = structlog.get_logger(__name__)

ANONYMOUS = "celery control"
"""Who asked, if the command does not say so."""
MOST_BY = 100
"""Characters of a name."""
MOST_LOG = 64 * 1024
"""Bytes of a log that one answer holds."""
Change = Callable[[HostContext, str | None], dict[str, Any] | None]


def _context(state: Any) -> HostContext:
    """The host of the worker that is asked; *state* is what Celery gives each command."""
    context: HostContext = state.app.runtime.context
    return context


# Looking


@inspect_command()
@answered_by(is_vm_worker)
def slots(state: Any) -> Reply:
    """Slots of each host: profile, state, analysis, sample, attempt, since."""
    context = _context(state)
    return [_slot_row(context, slot) for slot in _reported(context).slots]


@inspect_command(args=[("uid", str)], signature="<uid>")
@answered_by(is_vm_worker)
def analysis(state: Any, uid: object = "") -> Reply:
    """One analysis: state, attempt, host, slot, times, errors. Its host answers, or any if none has it."""
    context = _context(state)
    record = _record(context, uid)
    others = () if record.host == context.host else context.ledger.fleet.hosts()
    if record.host in {status.host for status in others}:
        return SILENT
    ours = record.analysis
    mine = [slot for slot in context.slots.all() if slot.uid == record.uid]
    return {
        "analysis": record.uid,
        "state": record.state.value,
        "sample": ours.sample_label if ours else None,
        "profile": ours.profile if ours else None,
        "attempt": record.attempts,
        "next_stage": record.following.value if record.following and not record.state.is_over else None,
        "host": record.host,
        "slot": record.slot,
        "slot_state": mine[0].status.value if mine else None,
        "received": _moment(record.received),
        "entered": {name.value: _moment(at) for name, at in record.entered.items()},
        "finished": _moment(record.finished) if record.finished else None,
        "errors": [failure.sentence() for failure in record.failures],
        "refusal": record.refusal,
        "published_as": record.analysis_task_uid,
    }


@inspect_command(
    args=[("uid", str), ("offset", int), ("attempt", int)], signature="<uid> [offset=0 [attempt=0]]"
)
@answered_by(is_vm_worker, is_io_worker)
def analysis_log(state: Any, uid: object = "", offset: object = 0, attempt: object = 0) -> Reply:
    """Lines of an analysis' log while its host has it, from a byte on; at most 64 KiB an answer.

    *offset* counts for *attempt* only; another one's log is read from its start.
    """
    context = _context(state)
    record = _record(context, uid)
    if record.host != context.host:
        return SILENT
    wanted, start = _count("attempt", attempt), _count("offset", offset)
    log_file = Workspace.of(context.settings.drakcelery.state_dir, record.uid, record.attempt).log
    lines, following = read_log(log_file, start if wanted == record.attempt else 0, MOST_LOG)
    return {"analysis": uid, "attempt": record.attempt, "offset": following, "lines": lines}


# Steering


@control_command(args=[("slot", str)], signature="[[host/]slot]")
@answered_by(is_vm_worker)
def drain(state: Any, slot: object = None, by: object = ANONYMOUS) -> Reply:
    """Let nothing new begin in a slot, or on the whole host; what runs finishes. Survives a restart."""
    return _steer(state, slot, functools.partial(_close, kind=Closed.DRAINED, by=_asker(by)))


@control_command(args=[("slot", str)], signature="[[host/]slot]")
@answered_by(is_vm_worker)
def undrain(state: Any, slot: object = None, by: object = ANONYMOUS) -> Reply:
    """End what drain began."""
    return _steer(state, slot, functools.partial(_undrain, by=_asker(by)))


@control_command(args=[("slot", str)], signature="<[host/]slot>")
@answered_by(is_vm_worker)
def quarantine(state: Any, slot: object = "", by: object = ANONYMOUS) -> Reply:
    """Take a slot out of use until it is released; what runs in it finishes."""
    return _steer(state, slot or "", functools.partial(_close, kind=Closed.QUARANTINED, by=_asker(by)))


@control_command(args=[("slot", str)], signature="<[host/]slot>")
@answered_by(is_vm_worker)
def release(state: Any, slot: object = "", by: object = ANONYMOUS) -> Reply:
    """Use a slot again that is in quarantine, whoever put it there."""
    return _steer(state, slot or "", functools.partial(_release, by=_asker(by)))


@control_command(args=[("slot", str)], signature="[[host/]slot]")
@answered_by(is_vm_worker)
def canary(state: Any, slot: object = None, by: object = ANONYMOUS) -> Reply:
    """Try a slot, or all of the host, with a canary as soon as no sample has it."""
    return _steer(state, slot, functools.partial(_ask_canary, by=_asker(by)))


@control_command(args=[("uid", str)], signature="<uid>")
@answered_by(is_vm_worker)
def cancel(state: Any, uid: object = "", by: object = ANONYMOUS) -> Reply:
    """End an analysis, waiting or running; nothing is published."""
    context, asker = _context(state), _asker(by)
    record, reason = _record(context, uid), cancellation.reason_of(_asker(by))
    # Every vm worker is asked, and one of them is the first
    if record.refusal != reason:
        try:
            cancellation.cancel(context.ledger, record, by=asker)
        except StackError:
            if _record(context, uid).refusal != reason:
                raise
        else:
            log.warning("cancelled", uid=record.uid, by=asker)
    return {"ok": f"cancelled {record.uid}"}


def _steer(state: Any, slot: object, change: Change) -> Reply:
    """Make a change to a slot, or the host, of this worker; the answer is what the host is then.

    And what *change* adds to it.
    """
    context = _context(state)
    host, name = _slot_name(slot, context.host)
    if host != context.host:
        return SILENT
    known = [one.name for one in context.slots.all()]
    if name is not None and name not in known:
        raise StackError(f"host {host} has no slot {name!r}; it has: {', '.join(known)}")
    said = change(context, name) or {}
    state.consumer.drak_gate.steer()
    return {"ok": _reported(context).model_dump(mode="json"), **said}


def _close(context: HostContext, name: str | None, *, kind: Closed, by: str) -> None:
    context.slots.close(name, kind, by=by)
    log.warning("slot_closed" if name else "host_closed", slot=name, closed=kind.value, by=by)


def _undrain(context: HostContext, name: str | None, *, by: str) -> None:
    if name is not None and any(drain.slot is None for drain in context.slots.closed()):
        raise StackError(f"host {context.host} is drained as a whole: undrain the host, not {name}")
    if context.slots.reopen(name, Closed.DRAINED):
        log.warning("slot_opened" if name else "host_opened", slot=name, by=by)


def _release(context: HostContext, name: str | None, *, by: str) -> None:
    opened = context.slots.reopen(name, Closed.QUARANTINED)
    for slot in context.slots.all():
        if slot.name == name and not (context.slots.forgive(slot.name) or opened):
            raise StackError(f"slot {name} of {context.host} is not in quarantine: it is {slot.status}")
    log.warning("slot_released", slot=name, by=by)


def _ask_canary(context: HostContext, name: str | None, *, by: str) -> dict[str, Any]:
    if not context.settings.canary.enabled:
        raise StackError(f"host {context.host} has [canary] enabled = 0")
    calls = context.slots.ask_canary(name)
    if not calls:
        wanted = [slot for slot in context.slots.all() if name in (None, slot.name)]
        closed = ", ".join(f"{slot.name} is {slot.status}" for slot in wanted)
        raise StackError(f"no canary comes to a slot that an operator keeps closed: {closed}")
    for slot in calls:
        log.warning("canary_asked", slot=slot, by=by)
    return {"calls": calls}


# Arguments and answers


def _slot_name(text: object, host: str) -> tuple[str, str | None]:
    """(host, slot) of ``slot`` or ``host/slot``; this *host* if none is named, None for all its slots."""
    if text is None:
        return host, None
    parts = text.split("/") if isinstance(text, str) else []
    if len(parts) not in (1, 2) or not all(re.fullmatch(NAME_PATTERN, part) for part in parts):
        raise StackError(f"slot {text!r:.80}: expected the name of a slot, such as vm-1 or {host}/vm-1")
    return (host, parts[0]) if len(parts) == 1 else (parts[0], parts[1])


def _asker(by: object) -> str:
    if not isinstance(by, str) or not by.isprintable() or not 0 < len(by) <= MOST_BY:
        raise StackError(f"by is {by!r:.80}; expected who asks, in at most {MOST_BY} printable characters")
    return by


def _count(name: str, value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 2**62:
        raise StackError(f"analysis_log: {name} is {value!r:.80}; expected a number from 0 on")
    return value


def _record(context: HostContext, uid: object) -> Record:
    if not isinstance(uid, str) or not is_uid(uid):
        raise StackError(f"uid {uid!r:.80}: expected that of an analysis, as `drakcelery status` shows it")
    record = finding.record_of(context.ledger, uid)
    if record is None:
        raise StackError(f"no analysis {uid} in the ledger: it waits in Karton still, or was forgotten")
    return record


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds")


def _reported(context: HostContext) -> HostStatus:
    """This host's own report; its times are by its own clock if Redis, which has the right time, is away."""
    status = host_status(context)
    try:
        return in_redis_time(context, status)
    except RedisError:
        return status  # what was changed is changed


def _slot_row(context: HostContext, slot: SlotStatus) -> dict[str, Any]:
    record = context.ledger.get(slot.uid) if slot.uid else None
    return {
        "slot": slot.name,
        "profile": slot.profile,
        "state": slot.state.value,
        "analysis": slot.uid,
        "sample": record.analysis.sample_label if record and record.analysis else None,
        "attempt": record.attempts if record else None,
        "since": _moment(slot.since),
        "closed_by": slot.closed_by,
        "score": slot.score,
        "reasons": list(slot.reasons),
    }


def read_log(path: Path, offset: int, most: int) -> tuple[list[str], int]:
    """Whole lines of a file from *offset* on, at most *most* bytes, and the offset of the next.

    A line longer than that comes in pieces. There are none if the file does not exist (yet, or any more).
    """
    try:
        descriptor = safe_files.open_regular(path)
    except OSError:
        return [], offset
    try:
        data = os.pread(descriptor, most, offset)
    finally:
        os.close(descriptor)
    end = data.rfind(b"\n") + 1
    if not end and len(data) == most:
        end = most
    return data[:end].decode(errors="replace").removesuffix("\n").split("\n") if end else [], offset + end
