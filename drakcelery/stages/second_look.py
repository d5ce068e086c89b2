"""The second look at a sample: asked for as the first one is published, and compared with it afterwards."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import structlog
from karton.core.task import Task
from pydantic import ValidationError
from redis.exceptions import RedisError

from drakcelery.behaviour import report
from drakcelery.behaviour.report import Report
from drakcelery.errors import DrakceleryError
from drakcelery.host.workspace import Workspace
from drakcelery.karton.destination import destination
from drakcelery.karton.relations import second_look_task
from drakcelery.ledger.second_looks import Look, Verdict, Wanted
from drakcelery.model.analysis import Analysis, Outcome, Place, State
from drakcelery.model.clues import Clue
from drakcelery.model.manifest import Manifest
from drakcelery.model.records import Record
from drakcelery.model.second_look import Changes, Offer, VariantRules, plan
from drakcelery.settings import Settings
from drakcelery.stages.context import HostContext
from drakcelery.telemetry import metrics

log = structlog.get_logger(__name__)

MOST_REPORT = 64 * 1024**2
"""Bytes of a report that is compared: who looks twice did little."""


def first_report(context: HostContext, analysis: Analysis) -> Report | None:
    """The report of what *analysis* is a second look at; None if it is none, or there is no such report.

    Both are of one root and have the same persistent headers, and ingress has checked that this one was
    granted.
    """
    if analysis.variant_of is None:
        return None
    bucket, key = destination(context.settings, analysis).bucket, f"{analysis.variant_of}/{report.NAME}"
    try:
        found = context.storage.peek(bucket, key, MOST_REPORT)
        if found is None or found[0] > MOST_REPORT:
            log.warning("first_look_not_compared", first=analysis.variant_of, error="it has no such report")
            return None
        return Report.model_validate_json(found[1])
    except (DrakceleryError, ValidationError) as error:
        log.warning("first_look_not_compared", first=analysis.variant_of, error=str(error)[:500])
        return None


def look_of(
    context: HostContext, analysis: Analysis, manifest: Manifest, workspace: Workspace, task: Task
) -> Look | None:
    """What the publication of *analysis* has to do with second looks; None: nothing.

    *task* is its sample task.
    """
    ours = context.settings.variants
    if analysis.is_test or (ours.mode == "off" and analysis.variant_of is None):
        return None
    record = context.ledger.get(analysis.uid)
    outcome = workspace.load(Outcome)
    seconds = _slot_seconds(record, outcome)
    wanted = None
    if analysis.variant_of is None and ours.most_of(analysis.quality, analysis.variants) and manifest.clues:
        try:
            wanted = _wanted(context, analysis, manifest.clues, outcome, task, seconds)
        except (RedisError, DrakceleryError):
            raise
        except Exception:  # whatever it is, the first look is complete
            log.exception("second_look_failed")
    return Look(
        root=analysis.root_uid,
        seconds=seconds,
        first=analysis.variant_of,
        news=manifest.news_to_first,
        wanted=wanted,
    )


def _slot_seconds(record: Record | None, outcome: Outcome) -> float:
    """How long the slot was taken, from its claim until the guest was gone."""
    if record is not None:
        begun, over = (record.entered.get(one) for one in (State.PREPARING, State.COLLECTING))
        if begun is not None and over is not None and over > begun:
            return over - begun
    return max(0.0, float(outcome.finished - outcome.started))


def _wanted(
    context: HostContext,
    analysis: Analysis,
    clues: tuple[Clue, ...],
    outcome: Outcome,
    task: Task,
    seconds: float,
) -> Wanted | None:
    settings = context.settings
    changes = plan(clues, analysis, _offer(context, outcome), _rules(settings))
    if changes is None:
        _declined("nothing_to_change", clues)
        return None
    own = str(uuid.uuid5(uuid.NAMESPACE_URL, f"drakcelery:second-look:{analysis.task_uid}:{analysis.uid}"))
    task_uid = f"{{{analysis.root_uid}}}:{own}"
    ours = settings.variants
    child = second_look_task(
        task,
        of=analysis.uid,
        uid=own,
        task_uid=task_uid,
        identity=context.ledger.identity,
        payload=_payload(changes),
        why=(*(clue.kind for clue in clues), *changes.words),
    )
    child.last_update = context.ledger.now()
    timeout = changes.timeout or analysis.timeout
    return Wanted(
        uid=own,
        task_uid=task_uid,
        spawned=child.serialize(),
        most=ours.most_of(analysis.quality, analysis.variants),
        share=ours.max_share,
        stretch=timeout / analysis.timeout,
        longest=timeout + max(0.0, seconds - (outcome.finished - outcome.started)),
    )


def _offer(context: HostContext, outcome: Outcome) -> Offer:
    """What hosts with the same engine have; another one may not take the sample, or the changes."""
    hosts = [one for one in context.ledger.fleet.hosts() if _name(one.engine) == _name(outcome.engine)]
    return Offer(
        engine=outcome.engine,
        places=frozenset(
            {Place(profile=slot.profile, host=host.host) for host in hosts for slot in host.slots}
        ),
        hiding=context.settings.variants.plugin_names,
    )


def _name(engine: str) -> str:
    """The name of an engine, whose version follows."""
    return engine.partition(" ")[0]


def _rules(settings: Settings) -> VariantRules:
    ours = settings.variants
    return VariantRules(
        profiles=ours.profile_names,
        format_profiles=ours.format_profile_names,
        extra_timeout=ours.extra_timeout,
        longest=settings.drakcelery.hard_time_limit,
    )


def _payload(changes: Changes) -> Mapping[str, Any]:
    """The fields of the task that say so."""
    wanted = {
        "vm_profile": changes.profile,
        "plugins": list(changes.plugins) or None,
        "start_method": changes.start_method,
        "timeout": changes.timeout,
        "watch": "off" if changes.timeout is not None else None,  # else a quiet stop would end the wait
    }
    return {name: value for name, value in wanted.items() if value is not None}


def told(asked: Look, verdict: Verdict, clues: tuple[Clue, ...]) -> None:
    """Log and count what became of the second look that was asked for, because of *clues*.

    Nothing, if this turned out to be a second look itself.
    """
    if asked.wanted is None or not verdict:
        return
    if verdict != "granted":
        _declined(verdict, clues)
        return
    log.info("second_look_granted", second=asked.wanted.uid)
    metrics.second_look("granted")


def _declined(reason: str, clues: tuple[Clue, ...]) -> None:
    """There is none, although there are *clues*."""
    log.info("second_look_declined", reason=reason, clues=[clue.kind for clue in clues])
    metrics.second_look(reason)
