"""Which of the tasks that wait are to get another analysis's result, as far as their tasks alone tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from karton.core.task import Task

from drakcelery.karton.conditions import conditions_of, may_be_shared, wished_age
from drakcelery.ledger import Ledger
from drakcelery.ledger.inbox import Inbox
from drakcelery.model.analysis import Analysis, State
from drakcelery.model.records import Record
from drakcelery.model.reuse import Reuse
from drakcelery.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Reuses:
    """What is known of one that is to get a result."""

    twin: str | None
    """The uid of the analysis that it waits for; None if there is an earlier one."""


def with_wish(settings: Settings, task: Task, analysis: Analysis) -> Analysis:
    """*analysis* with what its task and the settings say about reuse, and no more than these tell.

    Raises :class:`BadTask`.
    """
    seconds = wished_age(task, analysis, settings)
    if not settings.reuse.enabled or not may_be_shared(analysis):
        return analysis
    wish = Reuse(seconds=seconds, conditions=conditions_of(task, analysis))
    return analysis.model_copy(update={"reuse": wish})


def reuses_of(
    settings: Settings, ledger: Ledger, inbox: Inbox, waiting: Mapping[str, Analysis]
) -> dict[str, Reuses]:
    """Those of *waiting*, which are in their order, that are not to be run."""
    asked = sorted(
        {
            one.reuse.conditions
            for one in waiting.values()
            if one.reuse.seconds is not None and one.reuse.conditions is not None
        }
    )
    if not asked:
        return {}
    known = dict(zip(asked, inbox.twins.known(asked), strict=True))
    origins = {
        record.uid: record for record in ledger.records([uid for _, uid in known.values() if uid is not None])
    }
    leaders = {conditions: live for conditions, (live, _) in known.items() if live is not None}
    now, found = ledger.now(), dict[str, Reuses]()
    for task_uid, analysis in waiting.items():
        conditions, seconds = analysis.reuse.conditions, analysis.reuse.seconds
        if conditions is None:
            continue
        if seconds is not None:
            origin = origins.get(known[conditions][1] or "")
            if _is_fresh(origin, analysis, now - min(seconds, settings.reuse_age)):
                found[task_uid] = Reuses(twin=None)
                continue
            if leaders.get(conditions, analysis.uid) != analysis.uid:
                found[task_uid] = Reuses(twin=leaders[conditions])
                continue
        leaders.setdefault(conditions, analysis.uid)
    return found


def _is_fresh(origin: Record | None, analysis: Analysis, since: float) -> bool:
    return (
        origin is not None
        and origin.uid != analysis.uid
        and origin.state is State.PUBLISHED
        and origin.finished is not None
        and origin.finished >= since
    )


def followers(inbox: Inbox, *, most: int) -> tuple[dict[str, str], int]:
    """(by Karton uid of those that wait for a twin the uid of that one, the longest waiting first; how many
    more there are). At most *most*."""
    waiting = sorted(inbox.twins.waiting(), key=lambda one: one.since)
    named = {one.task_uid: one.waits_for for one in waiting if one.waits_for is not None}
    return dict(list(named.items())[:most]), max(0, len(named) - most)
