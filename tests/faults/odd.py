"""Sample tasks with odd contents: what some Karton service, or somebody else's data, may make of a task.

Each is put straight onto the queue of the ingress, as karton-system would route it: some of them
karton-system itself would not get over. What is asked of drakcelery is the same for all: the odd one ends in
a way that people can see, and those beside it never notice.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

from karton.core.backend import KARTON_TASK_NAMESPACE
from karton.core.resource import LocalResource
from karton.core.task import TaskState

from drakcelery.karton import submit
from drakcelery.ledger.quarantine import Quarantine
from tests.faults.fleet import Fleet

Change = Callable[[dict[str, Any]], object]
"""Makes a task, as Karton has it in Redis, an odd one."""


def _payload(name: str, value: object) -> Change:
    return lambda task: task["payload"].update({name: value})


def _sample(name: str, value: object) -> Change:
    return lambda task: task["payload"]["sample"]["__karton_resource__"].update({name: value})


def _header(name: str, value: object) -> Change:
    return lambda task: task["headers"].update({name: value})


def _deep(levels: int) -> object:
    value: object = 0
    for _ in range(levels):
        value = [value]
    return value


CONTENTS: Mapping[str, Change] = {
    "surrogate in the payload": _payload("x", "\udc83"),
    "surrogate in the persistent payload": lambda task: task["payload_persistent"].update({"x": "\udc83"}),
    "surrogate in a header": _header("x", "\udc83"),
    "surrogate in a persistent header": lambda task: task["headers_persistent"].update({"x": "\udc83"}),
    "surrogate in the file name": _sample("name", "in\udc83voice.bat"),
    "NaN in the payload": _payload("score", float("nan")),
    "Infinity in the payload": _payload("score", float("inf")),
    "huge number": _payload("score", 10**400),
    "deep nesting": _payload("x", _deep(500)),
    "escape sequence in the file name": _sample("name", "\x1b[2J\x1b[31mred[/bold].bat"),
    "missing object": _sample("uid", "not-there"),
    "missing bucket": _sample("bucket", "no-such-bucket"),
    "climbing key": _sample("uid", "../../etc/passwd"),
    "sha256 that is none": _sample("sha256", "\x1b]0;x\x07"),
    "resource without fields": lambda task: task["payload"]["sample"].update(
        {"__karton_resource__": {"name": "a"}}
    ),
    "no sample": lambda task: task["payload"].pop("sample"),
    "timeout of another type": _payload("timeout", [600]),
    "override_uid of another type": _payload("override_uid", {"a": 1}),
    "root uid true": lambda task: task.update({"root_uid": True}),
    "parent uid a list": lambda task: task.update({"parent_uid": ["x"]}),
    "no headers but ours": lambda task: task.update({"headers": {"receiver": task["headers"]["receiver"]}}),
    "payload a list": lambda task: task.update({"payload": []}),
    "unknown status": lambda task: task.update({"status": "Pondering"}),
    "unknown priority": lambda task: task.update({"priority": "yesterday"}),
    "last update of another type": lambda task: task.update({"last_update": "soon"}),
}
"""By what is odd about them."""
UNREADABLE = "no JSON at all"
"""What no change of a task can make: the text in Karton's key is none of Karton's."""
ODD = (*CONTENTS, UNREADABLE)


def push_odd(fleet: Fleet, name: str, uid: str) -> str:
    """Put the odd task *name* onto the ingress' queue, for an analysis *uid*; returns its Karton uid."""
    sample = fleet.directory / f"{uid}.bat"
    sample.write_text(f"rem {uid}")
    task = submit.sample_task(sample)
    task.payload["override_uid"] = uid
    for resource in task.iterate_resources():
        assert isinstance(resource, LocalResource)
        resource.bucket = fleet.backend.default_bucket_name
        resource.upload(fleet.backend)
    routed = task.fork_task()
    routed.headers["receiver"] = fleet.ledger.identity
    fields = json.loads(routed.serialize())
    sample.unlink()
    if name != UNREADABLE:
        CONTENTS[name](fields)
    text = "{" if name == UNREADABLE else json.dumps(fields)
    with fleet.backend.redis.pipeline() as pipe:
        pipe.set(f"{KARTON_TASK_NAMESPACE}:{routed.uid}", text)
        pipe.rpush(fleet.backend.get_queue_name(fleet.ledger.identity, task.priority), routed.uid)
        pipe.execute()
    return str(routed.uid)


def outcomes(fleet: Fleet, uids: Collection[str]) -> dict[str, str]:
    """How each odd task (Karton uid) ended: ``published``, ``crashed``, ``quarantined``; else ``open``."""
    shut_away = {entry.uid for entry in Quarantine(fleet.ledger._redis).all()}
    found = {}
    for uid in uids:
        text = fleet.backend.redis.get(f"{KARTON_TASK_NAMESPACE}:{uid}")
        status, error = _status(text)
        if status == TaskState.FINISHED.value:
            found[uid] = "published"
        elif status == TaskState.CRASHED.value and error:
            found[uid] = "crashed"
        else:
            found[uid] = "quarantined" if uid in shut_away else "open"
    return found


def _status(text: bytes | str | None) -> tuple[str | None, object]:
    try:
        task = json.loads(text or "{}")
    except ValueError:
        return None, None
    return task.get("status"), task.get("error")


def count(names: Mapping[str, str], ended: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """By contents, how many ended in which way; *names*: of each Karton uid, *ended*: as :func:`outcomes`."""
    table: dict[str, Counter[str]] = {name: Counter() for name in sorted(set(names.values()))}
    for uid, name in names.items():
        table[name][ended[uid]] += 1
    return {name: dict(counts) for name, counts in table.items()}
