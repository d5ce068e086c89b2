"""Which other analyses of its sample a task follows, and how many may follow it: fields of the payload.

And the task of a second look: made of the first one's, as Karton's services make a task of the one they got.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from karton.core.task import Task, TaskPriority, TaskState

from drakcelery.errors import BadTask
from drakcelery.karton.policy import Policy
from drakcelery.karton.startup_fields import RETRY_OF, Get, retry_of, wrong
from drakcelery.model.names import is_uid

VARIANT_OF = "variant_of"
VARIANT_WHY = "variant_why"
VARIANTS = "variants"
MOST_WORDS = 32
LONGEST_WORD = 400
"""Characters."""


def read(payload: Get, header: Get, policy: Policy) -> dict[str, Any]:
    """The fields of :class:`~drakcelery.model.analysis.Analysis` that say so. Raises :class:`BadTask`.

    Whether there is such a second look is not known here: ingress asks the ledger.
    """
    return {
        "retry_of": retry_of(payload),
        "variant_of": _variant_of(payload),
        "variant_why": _why(payload),
        "variants": _variants(payload, header, policy),
    }


def allowed_plugins(payload: Get, quality: str, policy: Policy) -> tuple[str, ...]:
    """What a task of *quality* may have: its list, and what hides a guest where it is a second look.

    The list is also what runs by default. Were hiding plugins in it, first looks would have them already.
    """
    hiding = policy.hiding_plugins if payload(VARIANT_OF) is not None else ()
    return tuple(dict.fromkeys((*policy.plugins_of(quality), *hiding)))


def _variant_of(payload: Get) -> str | None:
    uid = payload(VARIANT_OF)
    if uid is None or (isinstance(uid, str) and is_uid(uid)):
        return uid
    raise wrong(f"payload '{VARIANT_OF}'", uid, "the uid of the analysis whose second look this is")


def _why(payload: Get) -> tuple[str, ...]:
    words = payload(VARIANT_WHY)
    if words is None:
        return ()
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise wrong(f"payload '{VARIANT_WHY}'", words, "a list of texts")
    return tuple(word[:LONGEST_WORD] for word in words[:MOST_WORDS])


def _variants(payload: Get, header: Get, policy: Policy) -> int | None:
    given = payload(VARIANTS)
    if given is None:
        given = header(VARIANTS)
    if given is None:
        return None
    if isinstance(given, str) and given.isascii() and given.isdecimal() and len(given) < 4:
        given = int(given)  # headers are texts
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise wrong(f"payload '{VARIANTS}'", given, "how many second looks its root may have, or 0")
    if given > policy.most_variants:
        allowed = (
            f"at most {policy.most_variants} are allowed ([variants] max_per_root)"
            if policy.most_variants
            else "second looks are off ([variants] mode)"
        )
        raise BadTask(f"'{VARIANTS}' is {given}, but {allowed}")
    return given


def second_look_task(
    task: Task,
    *,
    of: str,
    uid: str,
    task_uid: str,
    identity: str,
    payload: Mapping[str, Any],
    why: Sequence[str],
) -> Task:
    """The sample task of the second look *uid* at the analysis *of*, that *task* had asked for.

    A child of *task*: its root, persistent headers, persistent payload and resources; its priority is low.
    It is for us alone, so it is never routed. *payload*: what is another than in *task*.
    """
    child = Task(
        headers={**task.headers, "receiver": identity, "origin": identity},
        headers_persistent=task.headers_persistent,
        payload=task.payload,
        payload_persistent=task.payload_persistent,
        priority=TaskPriority.LOW,
        parent_uid=task.uid,
        root_uid=task.root_uid,
        uid=task_uid,
    )
    child.status = TaskState.SPAWNED
    ours = {**payload, "override_uid": uid, VARIANT_OF: of, VARIANT_WHY: list(why), VARIANTS: 0}
    for name in (*ours, RETRY_OF):
        child.payload_persistent.pop(name, None)  # which would count instead
        child.payload.pop(name, None)
    child.payload.update(ours)
    return child
