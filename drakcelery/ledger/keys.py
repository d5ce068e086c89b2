"""Every key of ours in Karton's Redis; docs/keys.md says what each is, and for how long."""

from __future__ import annotations

from collections.abc import Mapping

from karton.core.backend import KARTON_TASK_NAMESPACE, KARTON_TASKS_QUEUE, KartonMetrics

from drakcelery.model.analysis import Place

LIVE = "drak:live"
DONE = "drak:done"
DUE = "drak:due"
INFLIGHT = "drak:inflight"
TURN = "drak:reconciled"
"""Set by who reconciles, for a while: nobody else does meanwhile what is done already."""
NOTICES_WANTED = "drak:notices:wanted"
NOTICES = "drak:notices"
NOTICE_COUNTS = "drak:notices:counts"
DEAD = "drak:notices:dead"
INBOX = "drak:inbox"
ASIDE = "drak:aside"
WAITING = "drak:waiting"
FLEET = "drak:fleet"
QUARANTINE = "drak:quarantine"
DEPLOYMENT = "drak:deployment"
WATCH = "drak:watch"
BROKER_WATCH = "drak:watch:broker"
FIXED: Mapping[str, str] = {
    "live": LIVE,
    "done": DONE,
    "due": DUE,
    "inflight": INFLIGHT,
    "inbox": INBOX,
    "aside": ASIDE,
    "waiting": WAITING,
    "notices_wanted": NOTICES_WANTED,
    "notices": NOTICES,
    "notice_counts": NOTICE_COUNTS,
    "notices_dead": DEAD,
    "quarantine": QUARANTINE,
    "deployment": DEPLOYMENT,
    "karton_tasks": KARTON_TASKS_QUEUE,
    "karton_consumed": KartonMetrics.TASK_CONSUMED.value,
    "karton_crashed": KartonMetrics.TASK_CRASHED.value,
    "karton_produced": KartonMetrics.TASK_PRODUCED.value,
}
"""Keys that scripts know by these names; of each there is one."""


def record_key(uid: str) -> str:
    """The record's key; the braces make it one hash slot per analysis."""
    return f"drak:analysis:{{{uid}}}"


def task_key(task_uid: str) -> str:
    """Karton's own key of a task."""
    return f"{KARTON_TASK_NAMESPACE}:{task_uid}"


def gaps_key(watch: str) -> str:
    """When :data:`WATCH` or :data:`BROKER_WATCH` was interrupted."""
    return f"{watch}:gaps"


def line_key(place: Place) -> str:
    """The line of a place."""
    return f"{WAITING}:{place}"


def host_key(host: str) -> str:
    """What a host last said of itself."""
    return f"drak:host:{host}"


def io_key(host: str) -> str:
    """That a host's io worker is alive."""
    return f"drak:io:{host}"


def lease_key(host: str) -> str:
    """Which machine has a host name."""
    return f"drak:lease:{host}"


def canary_key(profile: str) -> str:
    """What good canaries did in a profile."""
    return f"drak:canary:{profile}"


def durations_key(profile: str) -> str:
    """How long the newest analyses of a profile took."""
    return f"drak:durations:{profile}"
