"""Whether a task agrees to reuse, and under which conditions two tasks have one result. Pure.

Two analyses have the same conditions if nothing that the result depends on differs, and nothing that decides
who may see it: a result that is given to another task tells its producer that somebody had the sample before.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from karton.core.resource import ResourceBase
from karton.core.task import Task

from drakcelery import __version__
from drakcelery.karton.contract import payload
from drakcelery.karton.startup_fields import wrong
from drakcelery.model.analysis import Analysis
from drakcelery.model.reuse import LONGEST
from drakcelery.settings import Settings

REUSE = "reuse"
IRRELEVANT = frozenset(
    {"uid", "task_uid", "root_uid", "priority", "sample", "magic", "quality", "custom_hooks", REUSE}
)
"""Fields of an analysis on which its result does not depend; the sample and the hooks count by content. Any
other field is a condition, also one that a newer version adds."""
EXCLUDED: Any = {**dict.fromkeys(IRRELEVANT, True), "watch": {"measures"}}
"""The same for pydantic. Which runs are not stopped, to measure what is lost, is drawn by their uids."""
ROUTE = frozenset(
    {"type", "kind", "stage", "origin", "receiver", "platform", "extension", "quality", REUSE}
    | {"vm_profile", "target_host", "watch", "variants"}
)
"""Headers that say which way a task goes or what is wanted of it, if they are not persistent. What was
decided by them is in the analysis."""
WISHES = frozenset(
    {"sample", "custom_hooks", "override_uid", "retry_of", "testcase", "timeout", "file_name", "plugins"}
    | {REUSE, "watch", "variants"}
    | {"start_command", "start_method", "guest_working_directory", "net_enable", "vm_profile", "target_host"}
    | {"watch", "variants"}
)
"""Fields of a persistent payload that the analysis itself stands for."""
_DIGITS = re.compile(r"[0-9]{1,12}")


def agreed(task: Task) -> int | None:
    """How old, in seconds, an analysis may be that *task* takes instead of a run.

    0: it takes none; None: it says nothing. Raises :class:`BadTask`.
    """
    value = payload(task, REUSE)
    if value is None:
        value = task.headers.get(REUSE)
    if value is None:
        return None
    if isinstance(value, str) and _DIGITS.fullmatch(value):  # as headers often are
        value = int(value)
    if type(value) is not int or not 0 <= value <= LONGEST:
        raise wrong(
            f"'{REUSE}'",
            value,
            "how many seconds old an analysis may be that is given instead of a run, "
            f"at most {LONGEST}, or 0 for none",
        )
    return value


def wished_age(task: Task, analysis: Analysis, settings: Settings) -> int | None:
    """The same, by the first rule of the settings that matches if *task* says nothing; None: it takes none.

    Raises :class:`BadTask`.
    """
    seconds = agreed(task)
    if seconds is None:
        platform = str(task.headers.get("platform") or "")
        facts = {"extension": analysis.extension, "quality": analysis.quality, "magic": analysis.magic}
        seconds = settings.reuse_of({"platform": platform, **facts})
    return seconds or None


def may_be_shared(analysis: Analysis) -> bool:
    """Whether its result may be another's at all: of a test it may not, and a retry or a second look wants
    another run."""
    return not analysis.is_test and analysis.retry_of is None and analysis.variant_of is None


def conditions_of(task: Task, analysis: Analysis) -> str | None:
    """A digest of the conditions of *analysis*, which *task* asks for.

    None if its result is no other's: that of a test, a retry or a second look, or if nobody says what its
    files contain.
    """
    sample, hooks = analysis.sample.sha256, analysis.custom_hooks
    if not may_be_shared(analysis) or sample is None or (hooks is not None and hooks.sha256 is None):
        return None
    parts = {
        "version": __version__,
        "sample": sample.lower(),
        "hooks": None if hooks is None else str(hooks.sha256).lower(),
        "analysis": analysis.model_dump(mode="json", exclude=EXCLUDED),
        "visibility": visibility(task),
    }
    return hashlib.sha256(_canonical(parts)).hexdigest()


def visibility(task: Task) -> Mapping[str, Any]:
    """All that may say who sees the sample, or what becomes of it: headers, and what travels on with it."""
    persistent = {name: value for name, value in task.headers_persistent.items() if name != REUSE}
    return {
        "persistent": persistent,
        "headers": {
            name: value
            for name, value in task.headers.items()
            if name not in persistent and name not in ROUTE
        },
        "payload": {name: value for name, value in task.payload_persistent.items() if name not in WISHES},
    }


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_named).encode("ascii")


def _named(value: object) -> object:
    """A resource by its content if that is known, or else by its place."""
    if isinstance(value, ResourceBase):
        return {"sha256": value.sha256} if value.sha256 else {"bucket": value.bucket, "uid": value.uid}
    return repr(value)
